"""Resume: whatever is cut off, and wherever, what was missed comes again byte for byte, or the server says it cannot.

`MILLRACE_CUTS=5` cuts at each of the first 200 events, five times, in each delivery mode, instead of at every 20th.
"""

import asyncio
import json
import os
from typing import Any

import aiohttp
import pytest

from millrace.funnel import breaker
from millrace.wire import limits
from tests.support.byte_client import ByteClient, byte_client, is_last
from tests.support.server import AT_ONCE_S, Running, Start, answers_up_to, paused_at
from tests.support.waiting import until, within
from tests.support.wire_client import TERMINALS, Event, check_response, small_buffer_socket, text_of

ROUNDS = int(os.environ.get("MILLRACE_CUTS", "0"))
EVENTS = 200  # the first so many may be the last that was seen
CUTS = [cut for cut in range(1, EVENTS + 1) for _ in range(ROUNDS)] or [*range(1, EVENTS + 1, 20)]
AT_A_TIME = 8  # conversations
STREAMED = "[reason=8] [tokens=260] [rate=4000]"  # the 40 words of a prefix are one event
AT_ITS_END = "[reason=450] [tokens=20] [rate=800]"  # all words are one event, those of one read one thought
WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}


def events_of(frames: list[str]) -> list[Event]:
    return [json.loads(frame) for frame in frames]


def id_of(frames: list[str]) -> str:
    response_id: str = json.loads(frames[0])["response"]["id"]
    return response_id


async def cut_and_resume(
    running: Running, cut: int, asked: str, *, negotiated: bool, cancel_at: int | None = None, **fields: Any
) -> list[Event]:
    """Cut a connection after so many events, resume on another; return what its uncut twin got, which is the same."""
    async with byte_client(running, negotiated=negotiated) as twin:
        async with byte_client(running, negotiated=negotiated) as first:
            await first.create(asked, stream_id="a", **fields)
            seen = [await first.frame()]
            await twin.resume(id_of(seen))
            while len(seen) < cut and not is_last(seen[-1]):
                seen.append(await first.frame())
                if len(seen) == cancel_at:
                    await first.send("response.cancel", response_id=id_of(seen))
            first.cut()
        async with byte_client(running, negotiated=negotiated) as second:
            rest = await second.rest(id_of(seen), len(seen) - 1, ended=is_last(seen[-1]))
        whole = await twin.to_the_end()
        if negotiated:
            assert json.loads(whole.pop(0))["type"] == "millrace.resumed"
    assert seen + rest == whole
    events = events_of(whole)
    check_numbers(events)
    return events


def check_numbers(events: list[Event]) -> None:
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert sum(event["type"] in TERMINALS for event in events) == 1
    assert {event["stream_id"] for event in events} == {"a"}


@pytest.mark.timeout(60 if not ROUNDS else 1800)
@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize("delivery", ["speculate", "prefix", "commit", "final"])
async def test_a_cut_at_any_event_loses_nothing(millrace: Running, delivery: str, *, negotiated: bool) -> None:
    """At each of the first 200 events; the twin was never cut."""
    asked = STREAMED if delivery in ("speculate", "prefix") else AT_ITS_END
    free = asyncio.Semaphore(AT_A_TIME)

    async def one(cut: int) -> int:
        async with free:
            options = {"delivery": delivery}
            events = await cut_and_resume(millrace, cut, f"go on {asked}", negotiated=negotiated, millrace=options)
            check_response(events, negotiated=negotiated)
            return len(events)

    assert min(await asyncio.gather(*map(one, CUTS))) > EVENTS


ENDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "escalated": ("[tokens=40] [fault.small=hangup@12] [rate=4000]", {}, "completed"),
    "weak": ("[weak]", {}, "completed"),
    "refused": ("[refuse]", {"model": "large"}, "completed"),
    "called": ("[tool=get_weather] [reason=5]", {"tools": [WEATHER]}, "completed"),
    "cut short": ("[tokens=90] [rate=4000]", {"max_output_tokens": 12, "model": "small"}, "incomplete"),
    "failed at once": ("[fault=error]", {}, "failed"),
    "failed": ("[tokens=40] [fault=hangup@12] [rate=4000]", {"model": "small"}, "failed"),
    "late": ("[tokens=9] [ttft=5]", {"millrace": {"deadline_ms": 100}}, "failed"),
    "warmed up": ("x", {"generate": False}, "completed"),
    "too dear": ("[tokens=900]", {"millrace": {"max_cost_usd": 0.00001}}, "incomplete"),
}


@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize("name", ENDS)
async def test_however_it_ends_it_is_told_again(
    millrace: Running, monkeypatch: pytest.MonkeyPatch, name: str, *, negotiated: bool
) -> None:
    """Revised, with thoughts and calls, refused, broken, late, over its budget."""
    monkeypatch.setattr(breaker, "FAILURES", 100)  # else the small model, which breaks each time, is left alone
    directives, fields, status = ENDS[name]
    if name == "escalated" and not negotiated:
        fields = {"millrace": {"delivery": "commit"}}  # else its words stand when the small model breaks
    for cut in (1, 2, 4, 7, 12, 19, 33):
        events = await cut_and_resume(millrace, cut, f"go on {directives}", negotiated=negotiated, **fields)
        assert events[-1]["response"]["status"] == status
        if name in ("escalated", "weak") and negotiated:
            assert "millrace.revise" in [event["type"] for event in events]


@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize("cut", [3, 8, 30])
async def test_a_cancelled_one_is_told_again(millrace: Running, cut: int, *, negotiated: bool) -> None:
    asked = "go on [tokens=2000] [rate=400]"
    speculate = {"delivery": "speculate"}
    at = min(cut, 8) - 1
    events = await cut_and_resume(
        millrace, cut, asked, negotiated=negotiated, cancel_at=at, model="small", millrace=speculate
    )
    assert events[-1]["response"]["status"] == "cancelled"


@pytest.mark.parametrize("negotiated", [False, True])
async def test_a_cached_and_a_joined_one_are_told_again(millrace: Running, *, negotiated: bool) -> None:
    """Their words are another's; their events are their own."""
    on = {"cache": "on"}
    asked = "go on [tokens=30] [ttft=0.1]"
    joined = await asyncio.gather(
        *(cut_and_resume(millrace, cut, asked, negotiated=negotiated, millrace=on) for cut in (2, 5, 6))
    )
    cached = await cut_and_resume(millrace, 4, asked, negotiated=negotiated, millrace=on)
    marks = {events[-1]["response"]["metadata"]["millrace.cache"] for events in joined}
    assert marks == {"miss", "joined"}
    assert cached[-1]["response"]["metadata"]["millrace.cache"] == "exact"
    assert len({text_of(events) for events in (*joined, cached)}) == 1


@pytest.mark.parametrize("negotiated", [False, True])
async def test_merged_words_are_told_again_as_they_were_merged(start: Start, *, negotiated: bool) -> None:
    """A reader that stops gets merged frames; cut in the midst of them, it gets the same ones again."""
    tokens = 6000
    async with start(answers_up_to(tokens)) as running:
        async with byte_client(
            running, negotiated=negotiated, max_queue=1, sock=small_buffer_socket(running.url)
        ) as slow:
            await slow.create(f"flood [tokens={tokens}]", model="small", stream_id="a")
            seen = [await slow.frame() for _ in range(50)]
            await paused_at(running)
            while not any(len(frame) > 5000 for frame in seen[50:]):
                seen.append(await slow.frame())
            slow.cut()
        async with byte_client(running, negotiated=negotiated) as second:
            rest = await second.rest(id_of(seen), len(seen) - 1)
            assert seen + rest == await second.rest(id_of(seen), -1)
    events = events_of(seen + rest)
    check_numbers(events)
    response = check_response(events, negotiated=negotiated)
    assert response["usage"]["output_tokens"] == tokens


@pytest.mark.parametrize("negotiated", [False, True])
async def test_the_old_connection_may_still_be_there(millrace: Running, *, negotiated: bool) -> None:
    """Several listen, each from where it likes, and one twice; the response is one, and so is its call."""
    async with (
        byte_client(millrace, negotiated=negotiated) as first,
        byte_client(millrace, negotiated=negotiated) as second,
        byte_client(millrace, negotiated=negotiated) as third,
    ):
        await first.create("go on [tokens=60] [rate=300]", stream_id="a")
        seen = [await first.frame() for _ in range(8)]
        again, *others = await asyncio.gather(
            second.rest(id_of(seen), 3), third.rest(id_of(seen), -1), first.to_the_end()
        )
        whole = seen + others[1]
        assert others[0] == whole
        assert again == whole[4:]
        for after in (-1, 0, 17, len(whole) - 2, len(whole) - 1):  # it has ended
            ended = after == len(whole) - 1
            assert await second.rest(id_of(seen), after, ended=ended) == whole[after + 1 :]
            assert await first.rest(id_of(seen), after, ended=ended) == whole[after + 1 :]
    assert millrace.calls == 1


async def test_one_connection_may_listen_twice(millrace: Running) -> None:
    """The second time comes after the first: a lane is a lane."""
    async with byte_client(millrace, negotiated=False) as reader:
        await reader.create("go on [tokens=30] [rate=300]", stream_id="a")
        seen = [await reader.frame()]
        await reader.resume(id_of(seen))
        seen += await reader.to_the_end()
        assert await reader.to_the_end() == seen


async def test_who_listens_twice_is_one_who_does_not_read(start: Start) -> None:
    """A connection that takes nothing is given up, however often the response was to be told on it."""
    async with start(answers_up_to(100_000, stuck_s=0.5)) as running:
        async with byte_client(running, negotiated=False, max_queue=1, sock=small_buffer_socket(running.url)) as reader:
            await reader.create("flood [tokens=100000] [rate=20000]", model="small", stream_id="a")
            response_id = id_of([await reader.frame()])
            await reader.resume(response_id)
            await until(lambda: running.small.stats.aborted == 1)
            reader.cut()
        async with byte_client(running, negotiated=False) as second:
            ended = check_response(events_of(await second.rest(response_id, -1)))
    assert (ended["status"], ended["incomplete_details"]) == ("incomplete", {"reason": "slow_consumer"})


@pytest.mark.parametrize("negotiated", [False, True])
async def test_what_cannot_be_told_again_is_refused(
    millrace: Running, monkeypatch: pytest.MonkeyPatch, *, negotiated: bool
) -> None:
    """Another process's, one that never was, more than was sent, another negotiation, too long; nothing else ends."""

    async def code(reader: ByteClient, response_id: str, **fields: Any) -> str:
        await reader.resume(response_id, **fields)
        error = await reader.event()
        assert (error["type"], "stream_id" in error) == ("error", False)
        return f"{error['error']['code']} {error['status']}"

    async with (
        byte_client(millrace, negotiated=negotiated) as reader,
        byte_client(millrace, negotiated=not negotiated) as stranger,
    ):
        await reader.create("go on [tokens=30]", stream_id="a")
        seen = await reader.to_the_end()
        known = id_of(seen)
        assert await code(reader, known, epoch="another") == "resume_expired 410"
        assert await code(reader, "resp_" + "0" * 32) == "resume_expired 410"
        assert await code(reader, known, after=len(seen)) == "resume_gap 409"
        assert await code(reader, known, after=2**53) == "resume_gap 409"
        assert await code(reader, known, after=-2) == "invalid_request 400"
        assert await code(stranger, known) == "resume_gap 409"
        assert await reader.rest(known, 3) == seen[4:]
        monkeypatch.setattr(limits, "REPLAY_BYTES", 1000)
        assert await code(reader, known, after=3) == "resume_gap 409"
        async with aiohttp.ClientSession() as http, http.get(f"{millrace.url}/v1/responses/{known}?stream=1") as got:
            assert (got.status, (await got.json())["error"]["code"]) == (409, "resume_gap")


async def test_a_response_that_is_told_to_nobody_in_this_way_is_refused(millrace: Running) -> None:
    """Numbers of one negotiation mean nothing in the other; over HTTP it is told anew, from the beginning only."""
    async with byte_client(millrace, negotiated=True) as reader:
        await reader.create("go on [tokens=30]", stream_id="a")
        seen = await reader.to_the_end()
        url = f"{millrace.url}/v1/responses/{id_of(seen)}?stream=true"
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}&starting_after=2") as refused:
                assert (refused.status, (await refused.json())["error"]["code"]) == (409, "resume_gap")
            async with http.get(url) as got:
                lines = [line[6:].decode().strip() async for line in got.content if line.startswith(b"data: ")]
        check_response(events_of(lines))


async def test_by_default_a_cut_is_a_cancel(millrace: Running) -> None:
    """The model stops within 250 ms; who comes back is told so, with what it cost."""
    async with byte_client(millrace, negotiated=False) as first:
        await first.create("go on [tokens=3000] [rate=100]", {"on_disconnect": "cancel"}, stream_id="a")
        seen = [await first.frame() for _ in range(4)]
        async with within(AT_ONCE_S):
            first.cut()
            await until(lambda: millrace.small.stats.aborted == 1)
    async with byte_client(millrace, negotiated=False) as second:
        whole = seen + await second.rest(id_of(seen), 3)
    assert check_response(events_of(whole))["status"] == "cancelled"


async def test_it_is_cancelled_when_the_last_has_gone(millrace: Running) -> None:
    """Not before; and a detached one not even then."""
    async with byte_client(millrace, negotiated=False) as second:
        async with byte_client(millrace, negotiated=False) as first:
            await first.create("go on [tokens=3000] [rate=100]", {"on_disconnect": "cancel"}, stream_id="a")
            seen = [await first.frame() for _ in range(6)]
            await second.resume(id_of(seen))
            assert [await second.frame() for _ in range(6)] == seen
            first.cut()
        assert json.loads(await second.frame())["sequence_number"] == 6
        for _ in range(10):
            await second.frame()
        assert millrace.small.stats.running == 1
        second.cut()
    await until(lambda: millrace.small.stats.aborted == 1)


@pytest.mark.parametrize("named", ["response", "lane"])
async def test_a_resumed_one_can_be_cancelled(millrace: Running, named: str) -> None:
    """By its id and by its lane, while it is told and while its replay still waits behind another in the lane."""
    async with byte_client(millrace, negotiated=True) as first:
        await first.create("go on [tokens=3000] [rate=100]", stream_id="a")
        seen = [await first.frame() for _ in range(8)]
        first.cut()
    target = {"response_id": id_of(seen)} if named == "response" else {"stream_id": "a"}
    async with byte_client(millrace, negotiated=True) as second:
        await second.resume(id_of(seen), 7)
        assert json.loads(await second.frame())["type"] == "millrace.resumed"
        await second.frame()
        async with within(AT_ONCE_S):
            await second.send("response.cancel", **target)
            await until(lambda: millrace.small.stats.aborted == 1)
        last = json.loads((await second.to_the_end())[-1])
        assert last["response"]["status"] == "cancelled"


async def test_a_replay_that_waits_can_be_cancelled(millrace: Running) -> None:
    """Its model stops at once; its end is told when its turn has come."""
    async with byte_client(millrace, negotiated=False) as first:
        await first.create("go on [tokens=3000] [rate=100]", stream_id="a")
        seen = [await first.frame() for _ in range(8)]
        first.cut()
    async with byte_client(millrace, negotiated=False) as second:
        await second.create("wait [ttft=1] [tokens=5]", model="large", stream_id="a")
        await second.resume(id_of(seen))
        async with within(AT_ONCE_S):
            await second.send("response.cancel", response_id=id_of(seen))
            await until(lambda: millrace.small.stats.aborted == 1)
        before = check_response(events_of(await second.to_the_end()))
        assert before["status"] == "completed"
        assert check_response(events_of(await second.to_the_end()))["status"] == "cancelled"


async def test_a_replay_that_waits_is_someone_who_listens(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The response is not given up as one that nobody came back for."""
    monkeypatch.setattr(limits, "DETACHED_S", 0.3)
    async with byte_client(millrace, negotiated=False) as first:
        await first.create("go on [ttft=1] [tokens=5]", stream_id="a")
        seen = [await first.frame()]
        first.cut()
    async with byte_client(millrace, negotiated=False) as second:
        await second.create("wait [ttft=1] [tokens=5]", model="large", stream_id="a")
        await second.resume(id_of(seen))
        assert check_response(events_of(await second.to_the_end()))["status"] == "completed"
        assert check_response(events_of(await second.to_the_end()))["status"] == "completed"


async def test_nobody_came_back(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detached response is given up after a while; a replay that was cut while it waited does not keep it."""
    monkeypatch.setattr(limits, "DETACHED_S", 0.3)
    async with byte_client(millrace, negotiated=False) as first:
        await first.create("go on [ttft=30] [tokens=5]", stream_id="a")
        seen = [await first.frame()]
        first.cut()
    async with byte_client(millrace, negotiated=False) as second:
        await second.create("wait [ttft=30]", model="large", stream_id="a")
        await second.resume(id_of(seen))
        await until(lambda: millrace.large.stats.running == 1)
        second.cut()
    await until(lambda: millrace.small.stats.aborted == 1)


async def test_a_resumed_one_keeps_its_place_in_its_lane(millrace: Running) -> None:
    """What is asked there after it begins when it has ended."""
    async with byte_client(millrace, negotiated=False) as first:
        await first.create("go on [tokens=60] [rate=200]", stream_id="a")
        seen = [await first.frame() for _ in range(8)]
        first.cut()
    async with byte_client(millrace, negotiated=False) as second:
        await second.resume(id_of(seen), 7)
        await second.create("and then?", stream_id="a", previous_response_id=id_of(seen))
        events = events_of(seen + await second.to_the_end())
        assert check_response(events)["id"] == id_of(seen)
        after = check_response(events_of(await second.to_the_end()))
    assert after["previous_response_id"] == id_of(seen)
    assert after["status"] == "completed"
