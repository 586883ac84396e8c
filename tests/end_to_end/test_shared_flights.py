"""Identical requests at two replicas share one generation; each goes on alone where the other, or Redis, is gone."""

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from redis.asyncio import Redis

from millrace.web.http1 import TimedHttp
from millrace_client import Client, Reply
from tests.support.processes import ServerProcess
from tests.support.replica_processes import replica_processes
from tests.support.replicas import replicas
from tests.support.server import Running
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import TERMINALS, check_response, wire_client

CROWD = 100
SHORT = "talk [tokens=40] [ttft=1.5] [rate=200]"
LONG = "talk [tokens=60] [ttft=0.5] [rate=40]"
CACHE = {"semantic": False}


class Pair(NamedTuple):
    """Two replicas, and a client at each."""

    one: Running
    two: Running
    leading: Client
    following: Client


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


async def leased(client: "Redis", name: str) -> None:
    """Wait until Redis knows who leads."""
    async with asyncio.timeout(PATIENCE_S):
        while not await client.keys(f"{name}:flight1:*"):  # noqa: ASYNC110 - it cannot tell us
            await asyncio.sleep(0.02)


async def has_words(stream: Any) -> None:
    """Read until its first word has come."""
    async with asyncio.timeout(PATIENCE_S):
        async for _ in stream:
            if stream.text:
                return


async def is_led(one: Running | ServerProcess) -> None:
    """Wait until a replica leads a flight, and the model has begun to answer."""
    await until(lambda: one.small.stats.tokens_sent > 4)


@asynccontextmanager
async def pair(redis: SharedServer, name: str, folder: Path | None = None) -> AsyncIterator[Pair]:
    """Two replicas of a service, with a client at each."""
    async with (
        replicas(2, {"redis": redis.url, "name": name}, folder=folder, cache=CACHE) as (one, two),
        Client(one.url) as leading,
        Client(two.url) as following,
    ):
        yield Pair(one, two, leading, following)


async def both_ask(found: Pair, prompt: str) -> tuple[Any, Any]:
    """Return the stream of the client at the replica that leads, and of the other one, which has words of it."""
    led = found.leading.stream(prompt, strategy="small")
    await is_led(found.one)
    joined = found.following.stream(prompt, strategy="small")
    await has_words(joined)
    return led, joined


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
    async with pair(redis, "failed") as found:
        streams = [
            each.stream("talk [ttft=0.5] [fault=error]", strategy="small") for each in (found.leading, found.following)
        ]
        outcomes = await asyncio.gather(*(stream.reply() for stream in streams), return_exceptions=True)
        assert {getattr(outcome, "code", None) for outcome in outcomes} == {"upstream_error"}
        assert found.one.calls == 1


async def test_a_follower_that_leaves_costs_the_leader_nothing(redis: SharedServer, tmp_path: Path) -> None:
    async with pair(redis, "leaves", tmp_path) as found:
        led, joined = await both_ask(found, LONG)
        joined.cancel()
        assert (await joined.reply()).status == "cancelled"
        reply = await led.reply()
        assert (reply.status, reply.output_tokens, found.one.calls) == ("completed", 60, 1)
    assert [entry["cost_nanodollars"] for entry in rows(tmp_path, 1)] == [0]
    assert paid_tokens(rows(tmp_path, 0)) == 60


async def test_when_the_leader_leaves_the_other_pays_the_rest(redis: SharedServer, tmp_path: Path) -> None:
    """One call, one whole answer. The rest is paid in a row at the replica that calls, under the follower's key."""
    async with pair(redis, "left", tmp_path) as found:
        led, joined = await both_ask(found, LONG)
        led.cancel()
        assert (await led.reply()).status == "cancelled"
        reply = await joined.reply()
        assert (reply.status, reply.output_tokens, reply.cost_usd, found.one.calls) == ("completed", 60, 0, 1)
    at_one = rows(tmp_path, 0)
    assert [entry["status"] for entry in at_one] == ["cancelled", "cancelled"]
    assert sorted(entry["cache"] for entry in at_one) == ["joined", "miss"]
    assert all(entry["cost_nanodollars"] > 0 for entry in at_one)
    assert paid_tokens(at_one) == 60
    assert [(entry["cache"], entry["cost_nanodollars"]) for entry in rows(tmp_path, 1)] == [("joined", 0)]


async def test_when_all_leave_the_call_stops(redis: SharedServer) -> None:
    async with pair(redis, "all") as found:
        led, joined = await both_ask(found, LONG)
        for stream in (led, joined):
            stream.cancel()
            assert (await stream.reply()).status == "cancelled"
        await until(lambda: found.one.small.stats.aborted == 1)
        assert found.one.calls == 1


async def test_a_redis_that_is_emptied_costs_a_call_at_most(redis: SharedServer) -> None:
    """Those who follow go on. Soon the leader has its lease again, and who comes then follows, too."""
    async with pair(redis, "emptied") as found, Redis.from_url(redis.url) as client:
        prompt = "talk [tokens=200] [ttft=0.3] [rate=40]"
        led, joined = await both_ask(found, prompt)
        await client.flushall()
        await leased(client, "emptied")
        async with Client(found.two.url) as late:
            replies = await asyncio.gather(led.reply(), joined.reply(), late.ask(prompt, strategy="small"))
        assert {(reply.status, reply.output_tokens) for reply in replies} == {("completed", 200)}
        assert found.one.calls == 1


async def test_without_redis_each_replica_has_its_own_flights(redis: SharedServer) -> None:
    async with pair(redis, "away") as found:
        await asyncio.to_thread(redis.kill)
        try:
            asked = [
                each.ask(SHORT, strategy="small")
                for each in (found.leading, found.leading, found.following, found.following)
            ]
            replies = await asyncio.gather(*asked)
        finally:
            await asyncio.to_thread(redis.start)
        assert sorted(str(reply.cache) for reply in replies) == ["joined", "joined", "miss", "miss"]
        assert found.one.calls == 2


async def test_a_leader_that_hangs_or_is_killed_is_replaced(redis: SharedServer, tmp_path: Path) -> None:
    """Who follows it, and has been promised no word of it, gets a whole answer from a call of the other replica."""
    short, prompt = "talk [tokens=20] [ttft=3]", "talk [tokens=100] [ttft=0.5] [rate=20]"
    async with (
        replica_processes(2, redis.url, "killed", tmp_path, "[cache]\nsemantic = false") as (one, two),
        wire_client(one.ws_url, negotiated=True, ping_interval=None) as leading,
        wire_client(two.ws_url, negotiated=True, ping_interval=None) as following,
        aiohttp.ClientSession(two.url) as http,
    ):
        small = one.small.stats
        await leading.create(short, model="small")
        await until(lambda: small.started == 1)
        one.stop(signal.SIGSTOP)
        alone = check_response(await following.ask(short, model="small"), negotiated=True)
        one.stop(signal.SIGCONT)
        assert (alone["metadata"]["millrace.cache"], small.started) == ("miss", 2)
        await leading.until(*TERMINALS)

        sent = small.tokens_sent
        await leading.create(prompt, model="small")
        await until(lambda: small.tokens_sent > sent + 4)
        whole = asyncio.create_task(answered(http, {"input": prompt, "model": "small", "stream": False}))
        await following.create(prompt, model="small")
        events = await following.until("response.output_text.delta")
        assert small.started == 3
        one.process.kill()
        events += await following.until(*TERMINALS)
        final = check_response(events, negotiated=True)
        assert final["usage"]["output_tokens"] == 100
        assert "millrace.revise" in {event["type"] for event in events}
        assert (await whole)["output"][0]["content"] == final["output"][0]["content"]
        assert small.started == 4


async def answered(http: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    async with http.post("/v1/responses", json=body) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def test_words_that_stay_end_with_their_leader(redis: SharedServer) -> None:
    """A client that was promised that its words stay is told that they end here; it may ask again."""
    async with (
        replicas(2, {"redis": redis.url, "name": "stays"}, cache=CACHE) as (one, two),
        wire_client(one.ws_url, negotiated=True) as leading,
        wire_client(two.ws_url) as following,
    ):
        await leading.create(LONG, model="small")
        await is_led(one)
        await following.create(LONG, model="small")
        await following.until("response.output_text.delta")
        assert one.calls == 1
        for connection in [each for each in one.connections if isinstance(each, TimedHttp)]:
            connection.abort()
        ended = (await following.until(*TERMINALS))[-1]["response"]
        assert (ended["status"], ended["error"]["code"]) == ("failed", "upstream_truncated")
        again = (await following.ask(LONG, model="small"))[-1]["response"]
        assert (again["status"], one.calls) == ("completed", 1)


async def test_only_replicas_may_follow(redis: SharedServer) -> None:
    """Without a token that Redis has, there is no flight; nobody learns whether there is one."""
    async with (
        replicas(1, {"redis": redis.url, "name": "guarded"}, cache=CACHE) as (one,),
        aiohttp.ClientSession(one.url) as http,
    ):
        async with http.get("/healthz") as health:
            place = (await health.json())["epoch"][:8]
        bodies = [b"", b"{", b'{"form": 1, "token": "guess"}', b'{"form": 2, "token": "guess"}', b"x" * 5000]
        for path in (place, "0" * 8):
            for body in bodies:
                async with http.post(f"/replicas/flights/{path}", data=body) as answer:
                    assert (answer.status, await answer.read()) == (404, b"")
