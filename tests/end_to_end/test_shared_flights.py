"""Identical requests at two replicas share one generation, and each goes on alone where the other, or Redis, is gone."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from millrace_client import Client, Reply
from tests.support.replicas import replicas
from tests.support.server import Running
from tests.support.shared_servers import SharedServer, redis_server
from tests.support.waiting import until
from tests.support.wire_client import TERMINALS, check_response, wire_client

PATIENCE_S = 30
CROWD = 100
SHORT = "talk [tokens=40] [ttft=1.5] [rate=200]"
LONG = "talk [tokens=60] [ttft=0.5] [rate=40]"
CACHE = {"semantic": False}


@pytest.fixture(scope="module")
def redis() -> Iterator[SharedServer]:
    with redis_server() as server:
        yield server


def rows(folder: Path, number: int) -> list[dict[str, Any]]:
    """Return the rows of a replica's ledger, those that have paid first."""
    with closing(sqlite3.connect(folder / f"replica{number}" / "millrace.sqlite3")) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute(
            "SELECT status, cache, cost_nanodollars, calls FROM entries ORDER BY cost_nanodollars DESC"
        )
        return [dict(row) for row in found]


def paid_tokens(entries: list[dict[str, Any]]) -> int:
    return sum(call["output_tokens"] for entry in entries for call in json.loads(entry["calls"]))


async def is_led(one: Running) -> None:
    """Wait until a replica leads a flight, and the model has begun to answer."""
    await until(lambda: one.small.stats.tokens_sent > 4, PATIENCE_S)


async def test_a_hundred_over_two_replicas_are_one_call(redis: SharedServer, tmp_path: Path) -> None:
    """Half of them at each: one upstream call, one row that pays, a hundred whole answers and rows."""
    shared = {"redis": redis.url, "name": "crowd"}
    async with replicas(2, shared, folder=tmp_path, cache=CACHE) as running:
        async with AsyncExitStack() as clients:
            streams: list[Any] = []
            for each in running * 5:
                client = await clients.enter_async_context(Client(each.url))
                streams += [client.stream(SHORT, strategy="small") for _ in range(CROWD // 10)]
            replies: list[Reply] = await asyncio.gather(*(stream.reply() for stream in streams))
        assert running[0].calls == 1
    assert len({reply.text for reply in replies}) == 1
    assert {reply.status for reply in replies} == {"completed"}
    caches = [reply.cache for reply in replies]
    assert (caches.count("miss"), caches.count("joined")) == (1, CROWD - 1)
    assert sum(reply.cost_usd > 0 for reply in replies) == 1
    assert all(reply.saved_usd > 0 for reply in replies)
    assert {reply.output_tokens for reply in replies} == {40}
    entries = rows(tmp_path, 0) + rows(tmp_path, 1)
    assert len(entries) == CROWD
    assert paid_tokens(entries) == 40
    assert sum(entry["cache"] == "joined" for entry in entries) == CROWD - 1


async def test_who_comes_late_gets_it_from_the_first_word(redis: SharedServer) -> None:
    """While the leader still writes, in every delivery; then the answer is known at both."""
    async with (
        replicas(2, {"redis": redis.url, "name": "late"}, cache=CACHE) as (one, two),
        wire_client(one.ws_url, negotiated=True) as leading,
        wire_client(two.ws_url, negotiated=True) as speculating,
        wire_client(two.ws_url) as waiting,
    ):
        await leading.create(LONG, model="small")
        begun = await leading.until("response.output_text.delta")
        await speculating.create(LONG, model="small")
        first_words = await speculating.until("response.output_text.delta")
        assert one.small.stats.running == 1, "they come while the model writes"
        whole = check_response(await waiting.ask(LONG, model="small"))
        joined = check_response(first_words + await speculating.until(*TERMINALS), negotiated=True)
        led = check_response(begun + await leading.until(*TERMINALS), negotiated=True)
        assert [each["metadata"]["millrace.cache"] for each in (led, joined, whole)] == ["miss", "joined", "joined"]
        texts = {each["output"][0]["content"][0]["text"] for each in (led, joined, whole)}
        assert len(texts) == 1
        assert joined["usage"]["cost_usd"] == 0
        assert joined["usage"]["output_tokens"] == led["usage"]["output_tokens"] == 60
        assert one.calls == 1


async def test_a_revise_reaches_the_other_replica(redis: SharedServer) -> None:
    """The words of the small model are taken back there, too; one escalation."""
    prompt = "Prove that the square root of 2 is irrational. [rate=100] [ttft=0.3]"
    async with (
        replicas(2, {"redis": redis.url, "name": "revised"}, cache=CACHE) as (one, two),
        wire_client(one.ws_url, negotiated=True) as leading,
        wire_client(two.ws_url, negotiated=True) as following,
    ):
        await leading.create(prompt)
        await until(lambda: one.small.stats.started == 1)
        events = await following.ask(prompt)
        joined = check_response(events, negotiated=True)
        led = check_response(await leading.until(*TERMINALS), negotiated=True)
    assert "millrace.revise" in {event["type"] for event in events}
    assert joined["output"][0]["content"] == led["output"][0]["content"]
    assert joined["metadata"]["millrace.route"] == "large"
    assert (one.small.stats.started, one.large.stats.started) == (1, 1)


async def test_an_error_of_the_model_is_that_of_all(redis: SharedServer) -> None:
    async with (
        replicas(2, {"redis": redis.url, "name": "failed"}, cache=CACHE) as (one, two),
        Client(one.url) as leading,
        Client(two.url) as following,
    ):
        streams = [each.stream("talk [ttft=0.5] [fault=error]", strategy="small") for each in (leading, following)]
        outcomes = await asyncio.gather(*(stream.reply() for stream in streams), return_exceptions=True)
        assert {getattr(outcome, "code", None) for outcome in outcomes} == {"upstream_error"}
        assert one.calls == 1


async def test_a_follower_that_leaves_costs_the_leader_nothing(redis: SharedServer, tmp_path: Path) -> None:
    async with (
        replicas(2, {"redis": redis.url, "name": "leaves"}, folder=tmp_path, cache=CACHE) as (one, two),
        Client(one.url) as leading,
        Client(two.url) as following,
    ):
        led = leading.stream(LONG, strategy="small")
        await is_led(one)
        joined = following.stream(LONG, strategy="small")
        await anext(aiter(joined))
        joined.cancel()
        assert (await joined.reply()).status == "cancelled"
        reply = await led.reply()
        assert (reply.status, reply.output_tokens, one.calls) == ("completed", 60, 1)
    assert [entry["cost_nanodollars"] for entry in rows(tmp_path, 1)] == [0]
    assert paid_tokens(rows(tmp_path, 0)) == 60


async def test_when_the_leader_leaves_the_other_pays_the_rest(redis: SharedServer, tmp_path: Path) -> None:
    """One call, one whole answer. The rest is paid in a row at the replica that calls, under the follower's key."""
    async with (
        replicas(2, {"redis": redis.url, "name": "left"}, folder=tmp_path, cache=CACHE) as (one, two),
        Client(one.url) as leading,
        Client(two.url) as following,
    ):
        led = leading.stream(LONG, strategy="small")
        await is_led(one)
        joined = following.stream(LONG, strategy="small")
        await anext(aiter(joined))
        led.cancel()
        assert (await led.reply()).status == "cancelled"
        reply = await joined.reply()
        assert (reply.status, reply.output_tokens, reply.cost_usd, one.calls) == ("completed", 60, Decimal(0), 1)
    at_one = rows(tmp_path, 0)
    assert [entry["status"] for entry in at_one] == ["cancelled", "cancelled"]
    assert sorted(entry["cache"] for entry in at_one) == ["joined", "miss"]
    assert all(entry["cost_nanodollars"] > 0 for entry in at_one)
    assert paid_tokens(at_one) == 60
    assert [(entry["cache"], entry["cost_nanodollars"]) for entry in rows(tmp_path, 1)] == [("joined", 0)]


async def test_when_all_leave_the_call_stops(redis: SharedServer) -> None:
    async with (
        replicas(2, {"redis": redis.url, "name": "all"}, cache=CACHE) as (one, two),
        Client(one.url) as leading,
        Client(two.url) as following,
    ):
        led = leading.stream(LONG, strategy="small")
        await is_led(one)
        joined = following.stream(LONG, strategy="small")
        await anext(aiter(joined))
        for stream in (led, joined):
            stream.cancel()
            assert (await stream.reply()).status == "cancelled"
        await until(lambda: one.small.stats.aborted == 1, PATIENCE_S)
        assert one.calls == 1


async def test_a_redis_that_is_emptied_costs_a_call_at_most(redis: SharedServer) -> None:
    """Those who follow go on. Soon the leader has its lease again, and who comes then follows, too."""
    async with (
        replicas(2, {"redis": redis.url, "name": "emptied"}, cache=CACHE) as (one, two),
        Client(one.url) as leading,
        Client(two.url) as following,
        Redis.from_url(redis.url) as client,
    ):
        prompt = "talk [tokens=200] [ttft=0.3] [rate=40]"
        led = leading.stream(prompt, strategy="small")
        await is_led(one)
        joined = following.stream(prompt, strategy="small")
        await anext(aiter(joined))
        await client.flushall()
        async with asyncio.timeout(PATIENCE_S):
            while not await client.keys("emptied:flight1:*"):
                await asyncio.sleep(0.02)
        async with Client(two.url) as late:
            replies = await asyncio.gather(led.reply(), joined.reply(), late.ask(prompt, strategy="small"))
        assert {(reply.status, reply.output_tokens) for reply in replies} == {("completed", 200)}
        assert one.calls == 1


async def test_without_redis_each_replica_has_its_own_flights(redis: SharedServer) -> None:
    async with (
        replicas(2, {"redis": redis.url, "name": "away"}, cache=CACHE) as (one, two),
        Client(one.url) as leading,
        Client(two.url) as following,
    ):
        await asyncio.to_thread(redis.kill)
        try:
            asked = [each.ask(SHORT, strategy="small") for each in (leading, leading, following, following)]
            replies = await asyncio.gather(*asked)
        finally:
            await asyncio.to_thread(redis.start)
        assert sorted(reply.cache for reply in replies) == ["joined", "joined", "miss", "miss"]
        assert one.calls == 2
