"""Memory over sockets: what waits is bounded in bytes, what has ended is freed, what does not fit is refused."""

import asyncio
import gc
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import aiohttp
import pytest

from millrace.runs.run import SENT_COPIES
from millrace.types import Prompt
from millrace.wire import limits
from tests.support.http_client import CHAT, RESPONSES, body_of
from tests.support.server import Running, Start, answers_up_to, process_of
from tests.support.slow_client import slow_client
from tests.support.waiting import until
from tests.support.wire_client import TERMINALS, wire_client

BIG = "z" * 900_000


def big_prompts() -> int:
    """Count the long prompts that are alive in this process. The collector knows them; it does not look at messages."""
    return sum(isinstance(each, Prompt) and each.size > 500_000 for each in gc.get_objects())


async def test_requests_that_wait_are_bounded_in_bytes(millrace: Running) -> None:
    """One alone may be as long as a frame may; small ones still find room; all is given back when they have gone."""
    async with wire_client(millrace.ws_url) as client:
        await client.create("talk [ttft=20]", stream_id="busy", millrace={"cache": "off"})
        process = process_of(millrace)
        for _ in range(8):
            await client.create(BIG, stream_id="busy", millrace={"cache": "off"})
        refused = await client.until("error")
        assert refused[-1]["error"]["code"] == "queue_full"
        await client.create("small", stream_id="busy")
        holding = 1 + SENT_COPIES
        await until(lambda: 3 * len(BIG) < process.memory.requests.used / holding <= limits.QUEUED_BYTES)
    await until(lambda: process.memory.requests.used == 0)


@pytest.mark.parametrize("cache", ["on", "off"])
@pytest.mark.parametrize("asked", [BIG, f"talk [ttft=20] {BIG[:400_000]} {BIG[:100_001]}"])
async def test_what_a_request_held_is_freed_when_its_client_goes(start: Start, cache: str, asked: str) -> None:
    """Refused as too long, or stopped in the middle: nothing waits for the collector, which comes late."""
    gc.collect()
    gc.disable()
    try:
        async with start() as running:
            async with wire_client(running.ws_url) as client:
                for number in range(4):
                    await client.create(f"{number} {asked}", stream_id=f"{number % 2}", millrace={"cache": cache})
                await until(lambda: big_prompts() > 0 or asked == BIG)
                await asyncio.sleep(0.3)
            await until(lambda: big_prompts() == 0, 20)  # a thread may still count
    finally:
        gc.enable()


@pytest.mark.parametrize("path", [RESPONSES, CHAT])
async def test_without_memory_a_request_is_refused_before_it_is_one(
    millrace: Running, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Over HTTP and WebSockets; what runs goes on."""
    async with wire_client(millrace.ws_url) as client, aiohttp.ClientSession() as http:
        await client.create("talk [ttft=0.5]", stream_id="runs", millrace={"cache": "off"})
        await until(lambda: millrace.calls == 1)
        monkeypatch.setattr(process_of(millrace).memory, "limit", 1)
        await client.create("more", stream_id="more")
        assert (await client.until("error"))[-1]["error"]["code"] == "overloaded"
        async with http.post(f"{millrace.url}{path}", json=body_of(path, "more")) as answer:
            document: dict[str, Any] = await answer.json()
            assert (answer.status, document["error"]["code"]) == (503, "overloaded")
            assert answer.headers["Retry-After"] == "1"
        assert (await client.until(*TERMINALS))[-1]["type"] == "response.completed"
    assert millrace.calls == 1


async def test_a_stalled_reader_of_many_small_deltas_costs_half_a_mebibyte_at_most(start: Start) -> None:
    """Each delta is a small object in several lists: they are counted, not their letters alone."""
    async with start(answers_up_to(80_000)) as running, slow_client(running.url) as peer:
        peer.create("flood [tokens=80000]", millrace={"strategy": "small", "cache": "off"})
        await until(lambda: any(run.response.paused for run in process_of(running).runs.running))
        (run,) = process_of(running).runs.running
        await asyncio.sleep(0.3)
        facts = len(run.response.facts)
        assert facts < 10_000
        assert facts * 110 + limits.SOCKET_BYTES < 512 * 1024


async def test_frames_that_come_in_part_are_bounded_for_the_process(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that does not fit is closed with a code to come back; those that go give their bytes back."""
    head = bytes((0x81, 0xFF)) + (900_000).to_bytes(8) + bytes(4)
    async with start() as running, wire_client(running.ws_url) as bystander, AsyncExitStack() as clients:
        process = process_of(running)
        monkeypatch.setattr(process.memory, "limit", process.memory.used + 4_000_000)
        for held in (600_000, 1_200_000, 1_800_000, None, None):
            one = await clients.enter_async_context(slow_client(running.url))
            one.writer.write(head + b"x" * 600_000)
            if held is not None:
                await until(partial(lambda size: process.memory.requests.used >= size, held))
            else:
                assert (await one.rest())[-1] == 1013
            assert process.memory.requests.used < 2_050_000
            check = await bystander.ask("hello", millrace={"cache": "off"})
            assert check[-1]["type"] == "response.completed"
        await clients.aclose()
        await until(lambda: process.memory.requests.used == 0)
