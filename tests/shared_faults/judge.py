"""What must hold after a fault: answers are right, each request has its row everywhere, once, and its right cost."""

import asyncio
import json
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from typing import Any

import aiohttp
import psycopg

from millrace.simulator import LARGE, SMALL, Simulator
from tests.shared_faults.load import Asked
from tests.shared_faults.place import FITS, NAME, OUTPUT, TOKENS, Place
from tests.support.server import without_delays

CATCHES_UP_S = 60.0  # for all rows to be in PostgreSQL
EVERY_S = 0.2
PRICES = {"small": 1, "large": OUTPUT}  # dollars of a million tokens
NANO = 1000  # nanodollars of a token of one dollar a million


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a ledger."""

    id: str
    tag: str
    status: str
    code: str | None
    cost: int
    calls: list[dict[str, Any]]


@dataclass(slots=True)
class Ledgers:
    """What all ledgers have in the end."""

    local: list[Row]  # of the replicas
    shared: list[Row]  # in PostgreSQL
    caught_up_s: float


async def ledgers(place: Place) -> Ledgers:
    """Wait until PostgreSQL has what the replicas have, and return both; as far as they are, if it does not come."""
    began_at = time.monotonic()
    while True:
        local = await asyncio.to_thread(lambda: [row for each in place.replicas for row in _local(each.database)])
        shared = await asyncio.to_thread(_shared, place.postgres.url)
        took_s = time.monotonic() - began_at
        is_settled = all(row.status != "open" for row in local) and len(shared) >= len(local)
        if is_settled or took_s > CATCHES_UP_S:
            return Ledgers(local, shared, took_s)
        await asyncio.sleep(EVERY_S)


async def wrong(place: Place, asked: list[Asked], found: Ledgers, *, kills: bool) -> list[str]:
    """Return what is wrong with answers and ledgers. `kills`: a replica has died, with what it ran."""
    said = await _said(asked)
    return [
        *_answers(asked, said),
        *_rows(asked, found.local),
        *_twice(found),
        *_bills(asked, found.local, said),
        *_calls(place, found.local, kills=kills),
        *_budget(place, found.local),
    ]


def _answers(asked: list[Asked], said: dict[tuple[str, str], tuple[str, int]]) -> Iterable[str]:
    for each in asked:
        if each.told is not None and each.told.status == "completed":
            if each.told.text != (right := said[each.model, each.question][0]):
                yield f"{each.tag}: {each.told.text!r} is not {right!r}"
        elif each.told is not None and not said.get((each.model, each.question), ("", 0))[0].startswith(each.told.text):
            yield f"{each.tag}: {each.told.text!r} was shown"


def _rows(asked: list[Asked], rows: list[Row]) -> Iterable[str]:
    """Compare what clients were told to the rows."""
    by_tag: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_tag[row.tag].append(row)
    for each in asked:
        own, told = by_tag.pop(each.tag, []), each.told
        if told is None or told.status == "failed":
            if len(own) > 1:
                yield f"{each.tag}: {len(own)} rows"
        elif len(own) != 1:
            yield f"{each.tag}: told {told.status}, and there are {len(own)} rows"
        elif own[0].status != told.status:
            yield f"{each.tag}: told {told.status}, and its row is {own[0].status}"
        elif told.cost is not None and round(told.cost * 1e9) != own[0].cost:
            yield f"{each.tag}: told {told.cost} dollars, and its row has {own[0].cost} nanodollars"
    yield from (f"{tag}: a row, and nobody has asked" for tag in by_tag)
    yield from (f"{row.tag}: open for ever" for row in rows if row.status == "open")


def _twice(found: Ledgers) -> Iterable[str]:
    """Compare the rows of the replicas to those in PostgreSQL."""
    yield from (f"{id_}: {count} rows in PostgreSQL" for id_, count in _ids(found.shared).items() if count > 1)
    local, shared = {row.id: row for row in found.local}, {row.id: row for row in found.shared}
    yield from (f"{shared[id_].tag}: in PostgreSQL alone" for id_ in shared.keys() - local.keys())
    for id_, row in local.items():
        if id_ not in shared:
            yield f"{row.tag} ({row.status}) did not arrive in PostgreSQL"
        elif shared[id_] != row:
            yield f"{row.tag}: {row} is {shared[id_]} in PostgreSQL"


def _ids(rows: Iterable[Row]) -> Counter[str]:
    return Counter(row.id for row in rows)


def _bills(asked: list[Asked], rows: list[Row], said: dict[tuple[str, str], tuple[str, int]]) -> Iterable[str]:
    """Compare each call that was answered to what the model counts."""
    questions = {each.tag: each for each in asked}
    for row in rows:
        if row.cost != sum(call["cost_nanodollars"] for call in row.calls):
            yield f"{row.tag}: {row.cost} nanodollars are not the sum of its calls"
        for call in row.calls:
            if call["outcome"] == "answered" and row.tag in questions:
                each = questions[row.tag]
                due = said[each.model, each.question][1] * PRICES[each.model] * NANO
                if call["cost_nanodollars"] != due:
                    yield f"{row.tag}: a call costs {call['cost_nanodollars']} nanodollars, not {due}"


def _calls(place: Place, rows: list[Row], *, kills: bool) -> Iterable[str]:
    """Compare the calls in the ledgers to those that the models count. One that was cut off may not have come."""
    booked = [(row, call) for row in rows for call in row.calls]
    surely = sum(row.status != "killed" and call["outcome"] == "answered" for row, call in booked)
    counted = place.small.stats.started + place.large.stats.started
    if surely > counted or (len(booked) < counted and not kills):
        yield f"{len(booked)} calls are in the ledgers, {surely} were answered, and the models count {counted}"


def _budget(place: Place, rows: list[Row]) -> Iterable[str]:
    most = FITS * TOKENS
    if (sent := place.large.stats.tokens_sent) > most:
        yield f"{sent} tokens were sent for a budget of {most}"
    spent = sum(call["cost_nanodollars"] for row in rows for call in row.calls if call["model"] == "large-model")
    if spent > most * OUTPUT * NANO:
        yield f"{spent} nanodollars are booked on a budget of {most * OUTPUT * NANO}"


async def _said(asked: list[Asked]) -> dict[tuple[str, str], tuple[str, int]]:
    """Return what the models say to each question, in how many tokens: they are asked once more, by themselves."""
    found: dict[tuple[str, str], tuple[str, int]] = {}
    async with AsyncExitStack() as parts:
        http = await parts.enter_async_context(aiohttp.ClientSession())
        models = {
            profile.name: await parts.enter_async_context(Simulator(without_delays(profile)))
            for profile in (SMALL, LARGE)
        }
        for each in asked:
            if (each.model, each.question) not in found:
                body = {"model": "any", "messages": [{"role": "user", "content": each.question}]}
                url = f"{models[each.model].base_url}/chat/completions"
                async with http.post(url, json=body, headers={"X-Simulate": "rate=0"}) as answer:
                    document = await answer.json()
                text = document["choices"][0]["message"]["content"]
                found[each.model, each.question] = text, document["usage"]["completion_tokens"]
    return found


_QUERY = "SELECT request_id, tag, status, code, cost_nanodollars, calls FROM {}"


def _local(path: Any) -> list[Row]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as file:
        return [_row(*row) for row in file.execute(_QUERY.format("entries")).fetchall()]


def _shared(url: str) -> list[Row]:
    with psycopg.connect(url, autocommit=True) as connection:
        return [_row(*row) for row in connection.execute(_QUERY.format(f"{NAME}.entries")).fetchall()]


def _row(id_: str, tag: str, status: str, code: str | None, cost: int, calls: str) -> Row:
    return Row(id_, tag, status, code, cost, json.loads(calls))
