"""What must hold of a request whose model has failed in one way at one place, whoever asked and whoever helped."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from millrace.stores.ledger_json import Call
from millrace.types import Outcome
from tests.fire.models import FAULTY, SOUND_ONE, Fault, Kind, Line, is_clean
from tests.fire.stage import Row, nanodollars
from tests.fire.streams import INPUT, OUTPUT, SOUND, TEXT, Position, stream_of
from tests.fire.talk import Told

ALONE, POOL = "alone", "pool"
STRATEGIES = {ALONE: "small", POOL: "large", "cascade": "cascade", "race": "race", "hedge": "hedge"}
REFUSALS = (Kind.LIMITED, Kind.BROKEN, Kind.OVERLOADED)
INSIDE = (Position.DELTA, Position.CHARACTER, Position.JSON)
BREAKS = (Line.HOLE_UP, Line.HOLE_DOWN, Line.RESET_UP, Line.RESET_DOWN, Line.END_DOWN)  # of the line
BROKEN = {"upstream_error", "upstream_truncated"}
CODES: dict[Kind | Line, set[str]] = {  # of a request that this fault has ended
    Kind.STALL: {"upstream_timeout"},
    Line.HOLE_UP: {"upstream_timeout"},
    Line.HOLE_DOWN: {"upstream_timeout"},
    Kind.LIMITED: {"rate_limit_exceeded", "rate_limit_error"},
    Kind.BROKEN: {"upstream_error", "server_error", "api_error"},
    Kind.OVERLOADED: {"upstream_overloaded", "overloaded_error"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What a call with a fault may come to. Several ways are right where the standards leave it open."""

    may_answer: bool  # with all of the text
    must_answer: bool
    said: str  # all text that it can have sent, if it does not answer
    reported: bool  # its usage, if it answers


def due(api: str, fault: Fault) -> Due:
    """Return what a call may come to."""
    if fault.position is Position.LINE:
        is_whole = fault.kind not in BREAKS
        return Due(may_answer=True, must_answer=is_whole, said=TEXT, reported=True)
    chance = random.Random(fault.seed)
    _, said = stream_of(api).place(fault.position, chance)
    at, kind = fault.position, fault.kind
    has_finish = api == "openai" and at is Position.USAGE  # in the other APIs the usage comes with the end
    is_whole = kind is Kind.DRIP or (kind is Kind.DOUBLED and at in (Position.HEAD, Position.LAST, Position.USAGE))
    if has_finish and not is_whole:
        answers = kind is Kind.STALL or is_clean(fault)
        is_open = kind in (*REFUSALS, Kind.MALFORMED, Kind.WRONG_TYPE)
        return Due(may_answer=answers or is_open, must_answer=answers, said=said, reported=False)
    return Due(may_answer=is_whole, must_answer=is_whole, said=said, reported=True)


def faults_of(api: str, fault: Fault, way: str, told: Told, asked: list[str]) -> list[str]:
    """Return what is wrong with what a client was told, and with whom the models were asked."""
    wanted = due(api, fault)
    is_early = fault.kind is Kind.DOUBLED and fault.position is Position.FIRST  # the model says that it says nothing
    found = []
    if told.status == "completed":
        whole = {TEXT} if wanted.may_answer else set()
        whole |= {TEXT if api == "responses" else ""} if is_early else set()  # in that API the end has all of the text
        if told.text not in whole | ({SOUND} if way != ALONE else set()):
            found.append(f"completed with {told.text!r}")
    elif told.status == "failed":
        found += _of_failed(wanted, fault, way, told, is_early=is_early)
    else:
        found.append(f"ended as {told.status}")
    is_for_sound = fault.position in (Position.HEAD, Position.FIRST) and not wanted.may_answer and not is_early
    stale = [FAULTY] if fault.kind in (Kind.RESET, Kind.END) else []  # a connection that was kept open may be
    if way == POOL and is_for_sound and asked not in ([FAULTY, SOUND_ONE], [FAULTY, *stale, SOUND_ONE]):
        found.append(f"{asked} were asked")
    if FAULTY not in asked and fault.position is not Position.LINE:
        found.append(f"the fault did not strike: {asked} were asked")
    return found


def _of_failed(wanted: Due, fault: Fault, way: str, told: Told, *, is_early: bool) -> Iterator[str]:
    if not wanted.said.startswith(told.text):
        yield f"failed, having shown {told.text!r}"
    if way != ALONE:
        if not told.text:
            yield f"failed with {told.code}, nothing was shown, and another one would have answered"
        return
    if wanted.must_answer:
        yield f"failed with {told.code}, and its model has answered"
    codes = CODES.get(fault.kind, BROKEN)
    if fault.position in INSIDE and fault.kind in REFUSALS:
        codes = codes | BROKEN  # half an event comes before the error
    if told.code not in codes and not is_early:
        yield f"its code is {told.code}"


def faults_of_bill(api: str, fault: Fault, told: Told, rows: list[Row]) -> list[str]:
    """Return what is wrong with the ledger's row of a request."""
    if len(rows) != 1:
        return [f"{len(rows)} rows"]
    (row,) = rows
    found = []
    if row.status != told.status or (told.status == "failed" and row.code != told.code):
        found.append(f"told {told.status}, {told.code}; the ledger has {row.status}, {row.code}")
    if told.cost is not None and round(told.cost * 1e9) != row.cost:
        found.append(f"told {told.cost} dollars, the ledger has {row.cost} nanodollars")
    if row.cost != sum(call.cost_nanodollars for call in row.calls):
        found.append("its calls do not add up")
    if told.text and not any(call.output_tokens for call in row.calls):
        found.append(f"{told.text!r} was shown, and no word is charged")
    return [*found, *(each for call in row.calls for each in _of_call(due(api, fault), fault, call))]


def _of_call(wanted: Due, fault: Fault, call: Call) -> Iterator[str]:
    if call.cost_nanodollars != nanodollars(call):
        yield f"{call.cost_nanodollars} nanodollars for {call.input_tokens} and {call.output_tokens} tokens"
    is_faulty = call.deployment != "2"
    if call.outcome is Outcome.ANSWERED:
        reported = not is_faulty or wanted.reported
        if reported and (call.input_tokens, call.output_tokens, call.estimated) != (INPUT, OUTPUT, False):
            yield f"its model has reported {INPUT} and {OUTPUT}, and it is charged {call}"
        if not reported and not call.estimated:
            yield "an estimate is not marked"
    elif is_faulty and fault.position is Position.HEAD and fault.kind in REFUSALS and call.cost_nanodollars:
        yield f"a refusal is charged {call.cost_nanodollars}"
    elif call.output_tokens > len(TEXT):
        yield f"{call.output_tokens} tokens are charged"
