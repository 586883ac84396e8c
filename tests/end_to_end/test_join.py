"""Single flight: identical requests share one generation, from its first word, and leave it one by one."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from millrace.wire import limits
from millrace_client import Client, Reply
from tests.support.server import Running, Start, answers_up_to, paused_at
from tests.support.waiting import until
from tests.support.wire_client import TERMINALS, check_response, small_buffer_socket, wire_client

CROWD = 100


def keeping(folder: Path) -> Callable[[dict[str, Any]], None]:
    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(folder)

    return change


def rows(folder: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "millrace.sqlite3")) as connection:
        return connection.execute("SELECT status, cache, cost_nanodollars, calls FROM entries").fetchall()


async def crowd(url: str, prompt: str, clients: AsyncExitStack, is_led: Callable[[], bool] = lambda: True) -> list[Any]:
    """Ask the same a hundred times, over ten connections; return the streams.

    All are asked at once, but for the first one where `is_led` tells that it has begun.
    """
    streams: list[Any] = []
    for _ in range(10):
        client = await clients.enter_async_context(Client(url))
        for _ in range(CROWD // 10):
            streams.append(client.stream(prompt, strategy="small"))
            if len(streams) == 1:
                await until(is_led)
    return streams


async def test_a_hundred_at_once_are_one_call(millrace: Running) -> None:
    """A hundred complete answers, one upstream call, one that pays."""
    async with AsyncExitStack() as clients:
        streams = await crowd(millrace.url, "talk [tokens=40] [ttft=1.5] [rate=200]", clients)
        replies: list[Reply] = await asyncio.gather(*(stream.reply() for stream in streams))
    assert millrace.calls == 1
    assert len({reply.text for reply in replies}) == 1
    assert {reply.status for reply in replies} == {"completed"}
    caches = [reply.cache for reply in replies]
    assert (caches.count("miss"), caches.count("joined")) == (1, CROWD - 1)
    assert sum(reply.cost_usd > 0 for reply in replies) == 1
    assert all(reply.saved_usd > 0 for reply in replies)
    assert {reply.output_tokens for reply in replies} == {40}


@pytest.mark.parametrize("moment", range(10))
async def test_when_the_leader_leaves_the_others_get_everything(start: Start, tmp_path: Path, moment: int) -> None:
    """At ten moments: never a second call, 99 whole answers, and the rows add up to what the model sent."""
    async with start(keeping(tmp_path)) as running:
        async with AsyncExitStack() as clients:
            small = running.small.stats
            streams = await crowd(
                running.url, "talk [tokens=40] [ttft=0.3] [rate=100]", clients, lambda: small.started == 1
            )
            await until(lambda: running.small.stats.tokens_sent >= moment * 4)
            leader = streams[0]
            leader.cancel()
            assert (await leader.reply()).status == "cancelled"
            replies = await asyncio.gather(*(stream.reply() for stream in streams[1:]))
        assert {reply.status for reply in replies} == {"completed"}
        assert len({reply.text for reply in replies}) == 1
        assert running.calls == 1
        sent = running.small.stats.tokens_sent
    entries = rows(tmp_path)
    assert len(entries) == CROWD
    charged = sum(call["output_tokens"] for _, _, _, calls in entries for call in json.loads(calls))
    assert charged == sent == 40
    paying = [status for status, _, cost, _ in entries if cost > 0]
    assert sorted(paying) in (["cancelled", "completed"], ["cancelled"])  # at the very end nothing is left to pay


async def test_when_all_leave_the_call_stops(millrace: Running) -> None:
    """With the last one; the next request starts a call of its own."""
    async with Client(millrace.url) as client:
        streams = [client.stream("talk [ttft=30]") for _ in range(5)]
        await until(lambda: millrace.small.stats.running == 1)
        for stream in streams:
            assert millrace.small.stats.running == 1
            stream.cancel()
            assert (await stream.reply()).status == "cancelled"
        await until(lambda: millrace.small.stats.aborted == 1)
        again = client.stream("talk [ttft=30]")
        await until(lambda: millrace.small.stats.started == 2)
        again.cancel()
        assert (await again.reply()).status == "cancelled"


async def test_a_late_one_gets_it_from_the_first_word(millrace: Running) -> None:
    """Plain beside negotiated, in different deliveries; the same words for all."""
    prompt = "talk [tokens=100] [rate=40]"
    async with wire_client(millrace.ws_url, negotiated=True) as leading, wire_client(millrace.ws_url) as late:
        await leading.create(prompt, model="small")
        begun = await leading.until("response.output_text.delta")
        await until(lambda: millrace.small.stats.tokens_sent > 10)
        joined = check_response(await late.ask(prompt, model="small"))
        led = check_response(begun + await leading.until(*TERMINALS), negotiated=True)
    assert joined["metadata"]["millrace.cache"] == "joined"
    assert joined["output"][0]["content"][0]["text"] == led["output"][0]["content"][0]["text"]
    assert joined["usage"]["cost_usd"] == 0
    assert joined["usage"]["attempts"] == []
    assert millrace.calls == 1


async def test_a_revise_reaches_everyone_who_may_see_it(millrace: Running) -> None:
    """Negotiated followers see the words taken back, one that waits for the answer never saw them; one escalation."""
    prompt = "Prove that the square root of 2 is irrational. [rate=100]"
    async with (
        wire_client(millrace.ws_url, negotiated=True) as one,
        wire_client(millrace.ws_url, negotiated=True) as two,
        wire_client(millrace.ws_url) as waiting,
    ):
        await one.create(prompt)
        await two.create(prompt)
        await waiting.create(prompt, millrace={"delivery": "commit"})
        answers = [await listener.until(*TERMINALS) for listener in (one, two, waiting)]
    assert (millrace.small.stats.started, millrace.large.stats.started) == (1, 1)
    for events, negotiated in zip(answers, (True, True, False), strict=True):
        assert check_response(events, negotiated=negotiated)["metadata"]["millrace.route"] == "large"
        assert sum(event["type"] == "millrace.revise" for event in events) == negotiated


async def test_nobody_is_bound_by_anothers_early_commit(millrace: Running) -> None:
    """A plain client's words stand after forty tokens; who waits for the whole answer does not share that flight."""
    prompt = "talk [tokens=90] [rate=300]"
    async with wire_client(millrace.ws_url) as plain, wire_client(millrace.ws_url) as whole:
        await plain.create(prompt, max_output_tokens=70)
        await until(lambda: millrace.small.stats.started == 1)
        judged = check_response(await whole.ask(prompt, max_output_tokens=70, millrace={"delivery": "commit"}))
        early = check_response(await plain.until(*TERMINALS))
    assert (early["metadata"]["millrace.route"], early["metadata"]["millrace.check"]) == ("small", "cut_off")
    assert (judged["metadata"]["millrace.route"], judged["metadata"]["millrace.check"]) == ("large", "cut_off")


@pytest.mark.parametrize("strategy", ["cascade", "race"])
async def test_an_heir_pays_on_through_an_escalation(start: Start, tmp_path: Path, strategy: str) -> None:
    """Whoever leaves, whenever: the rows add up to what both models sent."""
    async with start(keeping(tmp_path)) as running, Client(running.url) as client:
        prompt = "[weak] x [rate.large=60] [ttft.large=0.2]"
        streams = [client.stream(prompt, strategy=strategy, delivery="commit") for _ in range(3)]
        await until(lambda: running.large.stats.tokens_sent > 2)
        streams[0].cancel()
        assert (await streams[0].reply()).status == "cancelled"
        replies = [await stream.reply() for stream in streams[1:]]
        assert {reply.route for reply in replies} == {"large"}
        await until(lambda: running.large.stats.running == 0)
        sent = running.large.stats.tokens_sent
    calls = [call for _, _, _, made in rows(tmp_path) for call in json.loads(made)]
    if strategy == "cascade":
        assert sum(call["output_tokens"] for call in calls if call["tier"] == "large") == sent
    assert "running" not in {call["outcome"] for call in calls}


async def test_a_healthy_joiner_is_not_starved_by_a_slow_leader(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    """The leader's full socket paused the model; who comes aboard with an empty one gets it going again."""
    monkeypatch.setattr(limits, "HEARTBEAT_S", 600.0)  # it answers a ping only when it has read what came before
    tokens = 6000
    async with (
        start(answers_up_to(tokens)) as running,
        wire_client(running.ws_url, max_queue=1, sock=small_buffer_socket(running.url)) as slow,
        wire_client(running.ws_url) as quick,
    ):
        prompt = f"flood [tokens={tokens}]"
        await slow.create(prompt, model="small")
        assert await paused_at(running) < tokens
        joined = check_response(await quick.ask(prompt, model="small"))
        assert joined["metadata"]["millrace.cache"] == "joined"
        check_response(await slow.until(*TERMINALS))


async def test_a_failure_is_everyones(millrace: Running) -> None:
    """One call, the same error for all who rode."""
    async with Client(millrace.url) as client:
        streams = [client.stream("talk [ttft=0.2] [fault=error]", strategy="small") for _ in range(3)]
        outcomes = await asyncio.gather(*(stream.reply() for stream in streams), return_exceptions=True)
    assert {getattr(outcome, "code", None) for outcome in outcomes} == {"upstream_error"}
    assert millrace.calls == 1


@pytest.mark.parametrize("cache", ["off", "refresh"])
async def test_only_requests_with_the_cache_on_join(millrace: Running, cache: str) -> None:
    """The others asked for a generation of their own."""
    async with Client(millrace.url) as client:
        await asyncio.gather(*(client.ask("talk [ttft=0.2]", cache=cache) for _ in range(2)))
    assert millrace.calls == 2
