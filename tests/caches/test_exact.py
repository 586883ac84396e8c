"""The exact cache, through the wire and by itself."""

import asyncio
import sqlite3
import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.caches import exact
from millrace.caches.exact import SqliteExactCache
from millrace.stores.database import SqliteDatabase
from millrace.types import Answer, Model, Price, Tier, Usage
from tests.support.looks import look
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import check_response, output_of, wire_client

QUESTION = "What is a millrace?"


async def test_a_repeat_is_free(millrace: Running) -> None:
    """No upstream call, cost 0, the stored token counts, the same text; also from another connection."""
    async with wire_client(millrace.ws_url) as client:
        first = check_response(await client.ask(QUESTION))
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask(QUESTION, metadata={"other": "ids"}, millrace={"delivery": "commit"})
    again = check_response(events, negotiated=True)
    assert millrace.calls == 1
    assert again["metadata"]["millrace.cache"] == "exact"
    assert again["metadata"]["millrace.route"] == "cache"
    assert output_of(again) == output_of(first)
    assert again["usage"]["cost_usd"] == 0
    assert again["usage"]["saved_usd"] > first["usage"]["saved_usd"] > 0
    assert again["usage"]["total_tokens"] == first["usage"]["total_tokens"]
    route = next(event for event in events if event["type"] == "millrace.route")
    assert route["cache"] == "exact"
    assert route["age_s"] >= 0


SAME: list[dict[str, Any]] = [
    {"input": f"  {QUESTION}\n"},
    {"input": [{"role": "user", "content": QUESTION}]},
    {"input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION}]}]},
    {"max_output_tokens": 128_000},
    {"text": {"format": {"type": "text"}}},
    {"model": "auto", "user": "someone", "store": False},
]
OTHER: list[dict[str, Any]] = [
    {"temperature": 0.1},
    {"top_p": 0.5},
    {"instructions": "Be brief."},
    {"model": "large"},
    {"model": "small-model"},
    {"millrace": {"strategy": "small"}},
    {"millrace": {"strategy": "large"}},
    {"max_output_tokens": 500},
    {"text": {"format": {"type": "json_object"}}},
    {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}},
    {"input": "What is a mill pond?"},
    {"reasoning": {"effort": "low"}},
]


@pytest.mark.parametrize("fields", SAME)
async def test_what_does_not_change_the_request_hits(millrace: Running, fields: dict[str, Any]) -> None:
    """Spelling of the frame, outer white space, defaults filled in."""
    async with wire_client(millrace.ws_url) as client:
        await client.ask(QUESTION)
        await client.send({"type": "response.create", "input": QUESTION, **fields})
        response = check_response(await client.until("response.completed"))
    assert response["metadata"]["millrace.cache"] == "exact"


@pytest.mark.parametrize("fields", OTHER)
async def test_what_changes_the_request_misses(millrace: Running, fields: dict[str, Any]) -> None:
    """A different parameter, system prompt, model, strategy or schema asks a model."""
    async with wire_client(millrace.ws_url) as client:
        await client.ask(QUESTION)
        calls = millrace.calls
        await client.send({"type": "response.create", "input": QUESTION, **fields})
        response = check_response(await client.until("response.completed"))
    assert response["metadata"]["millrace.cache"] == "miss"
    assert millrace.calls > calls


async def test_cache_modes(millrace: Running) -> None:
    """`off` neither reads nor writes, `refresh` only writes, `only` never asks a model."""
    async with wire_client(millrace.ws_url) as client:

        async def ask(mode: str) -> tuple[str, int]:
            before = millrace.calls
            events = await client.ask(QUESTION, millrace={"cache": mode})
            response = check_response(events)
            code = response["error"]["code"] if response["error"] else response["metadata"]["millrace.cache"]
            return code, millrace.calls - before

        assert await ask("only") == ("response_not_found", 0)
        assert await ask("off") == ("miss", 1)
        assert await ask("only") == ("response_not_found", 0)
        assert await ask("refresh") == ("miss", 1)
        assert await ask("only") == ("exact", 0)
        assert await ask("refresh") == ("miss", 1)
        assert await ask("off") == ("miss", 1)
        assert await ask("on") == ("exact", 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "x [fault=hangup]", "millrace": {"strategy": "small"}},
        {"input": "x [tokens=30]", "max_output_tokens": 10},
        {"input": "x [tokens=30]", "max_output_tokens": 10, "millrace": {"strategy": "small"}},
        {"input": "x [tokens=30]", "max_output_tokens": 10, "millrace": {"strategy": "large"}},
        {"input": "[weak] x", "millrace": {"strategy": "cascade"}, "max_output_tokens": 2},
    ],
)
async def test_what_is_not_a_whole_good_answer_is_not_stored(millrace: Running, fields: dict[str, Any]) -> None:
    """Failed, cut or refused answers are asked for again."""
    async with wire_client(millrace.ws_url) as client:
        for _ in range(2):
            before = millrace.calls
            await client.send({"type": "response.create", **fields})
            await client.until("response.completed", "response.failed", "response.incomplete")
            assert millrace.calls > before


async def test_an_escalated_answer_is_stored_as_the_large_models(millrace: Running) -> None:
    """What comes back from the cache is what stood, not what was taken back."""
    async with wire_client(millrace.ws_url) as client:
        first = check_response(await client.ask("Prove that the square root of 2 is irrational."))
        again = check_response(await client.ask("Prove that the square root of 2 is irrational."))
    assert output_of(again) == output_of(first)
    assert again["model"] == "large-model"
    assert again["usage"]["cost_usd"] == 0


async def test_answers_outlive_the_process(start: Start, tmp_path: Path) -> None:
    """With a data_dir they come back from SQLite."""

    def keep(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path / "data")
        for tier in ("small", "large"):  # the models' addresses are a part of the key
            configuration["models"][tier]["base_url"] = urls.setdefault(tier, configuration["models"][tier]["base_url"])

    urls: dict[str, str] = {}
    async with start(keep) as running, wire_client(running.ws_url) as client:
        check_response(await client.ask(QUESTION))
    async with start(keep) as running, wire_client(running.ws_url) as client:
        response = check_response(await client.ask(QUESTION))
        assert response["metadata"]["millrace.cache"] == "exact"
        assert running.calls == 0


async def test_the_cache_can_be_switched_off(start: Start) -> None:
    """[cache] exact = false."""

    def off(configuration: dict[str, Any]) -> None:
        configuration["cache"] = {"exact": False, "semantic": False}

    async with start(off) as running, wire_client(running.ws_url) as client:
        for _ in range(2):
            check_response(await client.ask(QUESTION))
        assert running.calls == 2


PRICE = Price(input=Decimal(1), output=Decimal(1))
MODEL = Model(tier=Tier.SMALL, id="m", address="a", price=PRICE, context_window=1, max_output_tokens=1)


def answer(text: str) -> Answer:
    return Answer(text=text, model=MODEL, usage=Usage(input_tokens=1, output_tokens=2), check="passed")


class Wall:
    """A clock turned by hand."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def cache(database: SqliteDatabase, wall: Wall, **limits: int) -> SqliteExactCache:
    bounds = {"memory_bytes": 10_000, "disk_bytes": 100_000} | limits
    return SqliteExactCache(database, ttl_s=60, wall=wall, **bounds)


async def size_of(database: SqliteDatabase) -> int:
    size: int = (await look(database, lambda db: db.execute("SELECT sum(size) FROM answers").fetchone()))[0]
    return size


async def test_ttl_in_memory_and_on_disk() -> None:
    """An answer is gone when its time is up, wherever it is."""
    database, wall = SqliteDatabase(":memory:"), Wall()
    tier = cache(database, wall)
    tier.store(b"k", "t", answer("x"))
    other = cache(database, wall)
    wall.now += 59
    assert tier.peek(b"k") is not None
    assert other.peek(b"k") is None
    assert (found := await other.find(b"k")) is not None
    assert (found.text, found.usage.output_tokens) == ("x", 2)
    assert other.peek(b"k") == found
    wall.now += 2
    assert tier.peek(b"k") is None
    assert other.peek(b"k") is None
    assert await cache(database, wall).find(b"k") is None
    await asyncio.to_thread(database.close)


async def test_memory_is_bounded_and_the_least_recent_goes_first() -> None:
    """What leaves memory is still on disk."""
    database, wall = SqliteDatabase(":memory:"), Wall()
    tier = cache(database, wall, memory_bytes=4_000)
    for key in (b"a", b"b", b"c"):
        tier.store(key, "t", answer("x" * 500))
    assert tier.peek(b"a") is not None
    tier.store(b"d", "t", answer("x" * 500))
    assert tier.peek(b"b") is None
    assert tier.peek(b"a") is not None
    assert await tier.find(b"b") is not None
    await asyncio.to_thread(database.close)


async def test_uses_within_a_second_are_one_on_disk() -> None:
    """What is asked again and again is not written again and again; a later use is."""
    database, wall = SqliteDatabase(":memory:"), Wall()
    tier = cache(database, wall)
    tier.store(b"k", "t", answer("x"))

    async def used_at() -> float:
        used: float = (await look(database, lambda db: db.execute("SELECT used_at FROM answers").fetchone()))[0]
        return used

    first = wall.now
    for passed, seen in ((0.25, 0.0), (0.25, 0.0), (0.5, 1.0), (0.5, 1.0), (2.0, 3.5), (-3.0, 0.5)):
        wall.now += passed
        assert tier.peek(b"k") is not None
        assert await used_at() == first + seen
    await asyncio.to_thread(database.close)


async def test_disk_is_bounded() -> None:
    """Past disk_bytes the least recently used rows are deleted, by a tenth at a time, or each store would evict."""
    database, wall = SqliteDatabase(":memory:"), Wall()
    tier = cache(database, wall, memory_bytes=1, disk_bytes=50_000)
    for number in range(256):  # all at once: much more than the bound is queued
        wall.now += 0.1
        tier.store(b"%d" % number, "t", answer("x" * 1_000))
    while (size := await size_of(database)) > 50_000:
        pass
    assert size > 40_000
    assert await tier.find(b"0") is None
    assert await tier.find(b"255") is not None
    await asyncio.to_thread(database.close)


async def test_the_bound_on_disk_is_of_bytes_not_of_stores() -> None:
    """Few large answers: it is held after each."""
    database, wall = SqliteDatabase(":memory:"), Wall()
    tier = cache(database, wall, memory_bytes=1, disk_bytes=100_000)
    sizes = []
    for number in range(20):
        wall.now += 0.1
        tier.store(b"%d" % number, "t", answer("x" * 20_000))
        await database.ready()
        sizes.append(await size_of(database))
    assert max(sizes) <= 100_000
    assert sizes[-1] > 50_000
    assert await tier.find(b"19") is not None
    await asyncio.to_thread(database.close)


async def test_a_database_that_is_late_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the deadline of a lookup, not of the disk."""
    database = SqliteDatabase(str(tmp_path))
    tier = cache(database, Wall(), memory_bytes=1)
    tier.store(b"k", "t", answer("x"))
    await database.ready()
    gate = threading.Event()
    hanging = asyncio.create_task(database.read(lambda _: gate.wait(PATIENCE_S), within_s=PATIENCE_S))
    await asyncio.sleep(0)
    with monkeypatch.context() as hasty:
        hasty.setattr(exact, "LOOKUP_S", 0.1)
        assert await tier.find(b"k") is None
    assert not hanging.done()
    gate.set()
    await hanging
    assert await tier.find(b"k") is not None
    await asyncio.to_thread(database.close)


async def test_a_row_that_cannot_be_read_is_a_miss_and_goes() -> None:
    """Of another version, or damaged: it must not fail its request for as long as it lives."""
    database, wall = SqliteDatabase(":memory:"), Wall()
    tier = cache(database, wall)
    tier.store(b"k", "t", answer("x"))
    database.write(lambda connection: connection.execute("UPDATE answers SET answer = X'00'"))
    assert await cache(database, wall).find(b"k") is None
    assert await look(database, lambda connection: connection.execute("SELECT count(*) FROM answers").fetchone()) == (
        0,
    )
    await asyncio.to_thread(database.close)


async def test_reasoning_comes_back_and_a_row_without_it_is_read() -> None:
    """Rows of a version that kept none are answers all the same."""
    database, wall = SqliteDatabase(":memory:"), Wall()
    cache(database, wall).store(b"k", "t", replace(answer("x"), reasoning="because"))
    assert (found := await cache(database, wall).find(b"k")) is not None
    assert (found.text, found.reasoning) == ("x", "because")

    def forget(connection: sqlite3.Connection) -> None:
        fields = msgspec.json.decode(connection.execute("SELECT answer FROM answers").fetchone()[0])
        del fields["reasoning"]
        connection.execute("UPDATE answers SET answer = ?", (msgspec.json.encode(fields),))

    database.write(forget)
    assert await cache(database, wall).find(b"k") == replace(found, reasoning="")
    await asyncio.to_thread(database.close)


async def test_a_stored_answer_keeps_what_was_said_of_it(millrace: Running) -> None:
    """Under `small` nothing is judged, and the repeat does not claim that it was."""
    async with wire_client(millrace.ws_url) as client:
        for cached in ("miss", "exact"):
            response = check_response(await client.ask(QUESTION, model="small"))
            assert response["metadata"]["millrace.cache"] == cached
            assert "millrace.check" not in response["metadata"]
