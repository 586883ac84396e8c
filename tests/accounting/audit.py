"""Compares a ledger to what clients have asked and to what the simulated models have counted."""

import json
import sqlite3
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.accounting.kinds import Ask
from tests.accounting.recorder import RecordedCall

Call = dict[str, Any]
NOTHING = (0, 0, 0)
LOOK_BACK_S = 2.0
AROUND_S = 0.25  # PROTOCOL.md, What always holds, 7


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger."""

    tag: str
    status: str
    cache: str
    cost: int  # nanodollars
    calls: list[Call]


@dataclass(frozen=True, slots=True)
class Around:
    """How long before the end of a call its last words may have been sent that Millrace has not read.

    A machine with too much to do keeps either process from its work: as long as a ping took in the two seconds before.
    """

    seconds: float
    pings: Sequence[tuple[float, float]] = ()  # when each was sent, and how long it took, in order

    def of(self, call: RecordedCall) -> float:
        """Return the seconds for one call."""
        first = bisect_left(self.pings, (call.ended_at - LOOK_BACK_S, 0.0))
        last = bisect_left(self.pings, (call.ended_at, 0.0))
        return self.seconds + max((took for _, took in self.pings[first:last]), default=0.0)


AT_ONCE = Around(AROUND_S)


@dataclass(slots=True)
class Audit:
    """What was compared, and all that does not agree."""

    rows: int = 0
    exact_calls: int = 0  # with reported usage
    estimated_calls: int = 0
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)  # kind, and how it ended in the ledger
    deviations: list[str] = field(default_factory=list)
    around: list[int] = field(default_factory=list)  # of each question with estimates: how many tokens it may be off

    def add(self, other: "Audit") -> None:
        """Add another one."""
        self.rows += other.rows
        self.exact_calls += other.exact_calls
        self.estimated_calls += other.estimated_calls
        self.ends += other.ends
        self.deviations += other.deviations
        self.around += other.around


def read(file: Path) -> list[Row]:
    """Read a ledger."""
    query = "SELECT tag, status, cache, cost_nanodollars, calls FROM entries"
    with closing(sqlite3.connect(file)) as database:
        return [Row(tag, status, cache, cost, json.loads(calls)) for tag, status, cache, cost, calls in
                database.execute(query)]  # fmt: skip


def audit(
    asks: Iterable[Ask],
    unsent: frozenset[int],
    rows: list[Row],
    recorded: dict[str, list[RecordedCall]],
    around: Around = AT_ONCE,
) -> Audit:
    """Compare all. `recorded` is by tier. `unsent` are the numbers of requests that may have had no chance of a row.

    `around` is how long before the model saw an abort Millrace may have read its last word.
    """
    found = Audit(rows=len(rows))
    by_tag: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_tag[row.tag].append(row)
    of_question: defaultdict[int, list[Row]] = defaultdict(list)
    names: dict[int, str] = {}
    for ask in asks:
        own = by_tag.pop(ask.tag, [])
        _one_each(ask, own, found, may_lack=ask.number in unsent)
        of_question[ask.question] += own
        names.setdefault(ask.question, ask.kind.name)
    found.deviations += [f"a row that nobody asked for: {tag!r}" for tag in by_tag]
    for tier, calls in recorded.items():
        theirs: defaultdict[int, list[RecordedCall]] = defaultdict(list)
        for call in calls:
            theirs[call.question].append(call)
        for question, own in of_question.items():
            ours = [call for row in own for call in row.calls if call["tier"] == tier]
            said = f"question {question} ({names[question]}), {tier}"
            _compare(said, ours, theirs.pop(question, []), found, around)
        found.deviations += [f"{tier}: calls of question {question}, and no row" for question in theirs]
    return found


def mispriced(rows: Iterable[Row], prices: Mapping[str, tuple[int, int, int]]) -> list[str]:
    """Return the calls whose cost is not that of their tokens.

    `prices` are nanodollars of a token of input, of cached input and of output, by tier.
    """
    found = []
    for row in rows:
        for call in row.calls:
            entered, cached, left = _tokens(call)
            plain, read, written = prices[call["tier"]]
            cost = (entered - cached) * plain + cached * read + left * written
            if cost != call["cost_nanodollars"]:
                found.append(f"{row.tag}: a call costs {call['cost_nanodollars']}, its tokens {cost} nanodollars")
    return found


def _one_each(ask: Ask, own: list[Row], found: Audit, *, may_lack: bool) -> None:
    wanted = 0 if ask.kind.is_refused else 1
    for row in own:
        how = row.cache if row.cache != "miss" else " ".join(sorted({call["outcome"] for call in row.calls})) or "none"
        found.ends[ask.kind.name, f"{row.status}: {how}"] += 1
        if row.status in ("open", "killed"):
            found.deviations.append(f"{ask.tag} ({ask.kind.name}) is {row.status}")
        if row.cost != sum(call["cost_nanodollars"] for call in row.calls):
            found.deviations.append(f"{ask.tag} ({ask.kind.name}): its cost is not the sum of its calls'")
    if not own:
        found.ends[ask.kind.name, "no row"] += 1
    if len(own) != wanted and not (may_lack and not own):
        found.deviations.append(f"{ask.tag} ({ask.kind.name}) has {len(own)} rows, not {wanted}")


def _compare(said: str, ours: list[Call], theirs: list[RecordedCall], found: Audit, around: Around) -> None:
    """Compare what the ledger has of one question at one model to what that has counted.

    Each call with reported usage is one that came to its end at the model, to the token. If what is left was estimated,
    it lies between what the model had sent a while before it saw the end, and all that it has sent. The shares of
    those who have paid for one call together have its output, to the token, if its usage was reported.
    """
    exact = [call for call in ours if not call["estimated"] and _tokens(call) != NOTHING]
    estimated = [call for call in ours if call["estimated"]]
    found.exact_calls += len(exact)
    found.estimated_calls += len(estimated)
    left, last_shares = [*theirs], list[Call]()
    for call in exact:
        if (same := next((each for each in left if each.reports and each.tokens == _tokens(call)), None)) is not None:
            left.remove(same)
        elif estimated:
            last_shares.append(call)
        else:
            found.deviations.append(f"{said}: {_tokens(call)} tokens in the ledger, {_known(left)} at the model")
    if not estimated:
        if paid := [each for each in left if each.tokens != NOTHING]:
            found.deviations.append(f"{said}: {_known(paid)} tokens at the model, nothing in the ledger")
        return
    counted = sum(call["output_tokens"] for call in (*estimated, *last_shares))
    most = sum(each.most for each in left)
    least = most if last_shares else sum(each.least(around.of(each)) for each in left)
    found.around.append(most - counted)
    if not least <= counted <= most:
        found.deviations.append(f"{said}: {counted} output tokens in the ledger, {least} to {most} at the model")


def _known(calls: list[RecordedCall]) -> str:
    return ", ".join(f"{each.tokens} ({each.how})" for each in calls) or "nothing"


def _tokens(call: Call) -> tuple[int, int, int]:
    return call["input_tokens"], call["cached_input_tokens"], call["output_tokens"]
