"""Faults, aborts and the count of calls, seen on a bare socket."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from millrace.simulator import LARGE, SMALL, Kind, Profile, Simulator, Stats
from tests.support.waiting import PATIENCE_S, within

TERMINATOR = b"\r\n0\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SMALL) as simulator:
        yield simulator


async def send(simulator: Simulator, prompt: str, *, stream: bool = True) -> Connection:
    """Open a connection and put a question on it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    body = json.dumps({"messages": [{"role": "user", "content": prompt}], "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: simulator\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    return reader, writer


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def read_to_end(simulator: Simulator, prompt: str, *, stream: bool = True) -> bytes:
    """All that comes until the server closes, on a connection that would otherwise stay open."""
    reader, writer = await send(simulator, prompt, stream=stream)
    async with asyncio.timeout(PATIENCE_S):
        received = await reader.read()
    await leave(writer)
    return received


async def read_until(reader: asyncio.StreamReader, mark: bytes) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return await reader.readuntil(mark)


async def quiet_after(reader: asyncio.StreamReader) -> bytes:
    """What comes before the server falls silent for some turns of the loop, with the socket still open."""
    received = b""
    while True:
        reading = asyncio.create_task(reader.read(4096))
        for _ in range(15):
            await asyncio.wait([reading], timeout=0.01)
        if not reading.done():
            reading.cancel()
            return received
        assert reading.result(), "the server closed the connection"
        received += reading.result()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- counters have no event to wait for
            await asyncio.sleep(0.001)


def tokens(received: bytes) -> int:
    return len(re.findall(rb'"delta":\{"content":"[^"]', received))


def adds_up(stats: Stats) -> bool:
    return stats.started == stats.finished + stats.aborted + stats.failed + stats.running


# --- faults before the answer


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("error", 500, "internal_error"),
        ("429", 429, "rate_limit_exceeded"),
        ("overloaded", 529, "overloaded"),
        ("unauthorized", 401, "invalid_api_key"),
    ],
)
async def test_refusals(simulator: Simulator, fault: str, status: int, code: str, *, stream: bool) -> None:
    body = {"messages": [{"role": "user", "content": f"[fault={fault}]"}], "stream": stream}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{simulator.base_url}/chat/completions", json=body) as response,
    ):
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (status, code)
        assert set(error) == {"message", "type", "param", "code"}
        assert response.headers.get("Retry-After") == ("2" if status == 429 else None)
    assert (simulator.stats.failed, simulator.stats.tokens_sent) == (1, 0)


async def test_all_calls_fail_from_now_on(simulator: Simulator) -> None:
    """Until it is told that they do not; a call that asks for a fault of its own gets that."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{simulator.port}") as http:

        async def status(prompt: str) -> int:
            body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 1}
            async with http.post("/v1/chat/completions", json=body) as answer:
                return answer.status

        for fault, first, second in (("429", 429, 529), ("error", 500, 529), ("", 200, 529)):
            async with http.post("/fault", data=fault) as answer:
                assert answer.status == 200
            assert (await status("Hello. [ttft=0]"), await status("Hello. [fault=overloaded]")) == (first, second)
        async with http.post("/fault", data="sunspots") as answer:
            assert (answer.status, "unknown fault" in await answer.text()) == (400, True)


async def test_a_refusal_can_be_slow(simulator: Simulator) -> None:
    start = time.monotonic()
    reader, writer = await send(simulator, "[fault=error] [ttft=0.2]")
    assert (await read_until(reader, b"\r\n\r\n")).startswith(b"HTTP/1.1 500")
    assert time.monotonic() - start >= 0.2
    await leave(writer)


async def test_html(simulator: Simulator) -> None:
    reader, writer = await send(simulator, "[fault=html]")
    head = await read_until(reader, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"Content-Type: text/html" in head
    assert (await reader.readexactly(15)) == b"<!doctype html>"
    await leave(writer)
    assert simulator.stats.failed == 1


async def test_silent_accepts_and_says_nothing(simulator: Simulator) -> None:
    reader, writer = await send(simulator, "[fault=silent]")
    await eventually(lambda: simulator.stats.running == 1)
    assert await quiet_after(reader) == b""
    await leave(writer)
    await eventually(lambda: simulator.stats.aborted == 1)


# --- faults in mid-stream


async def test_error_in_mid_stream(simulator: Simulator) -> None:
    received = await read_to_end(simulator, "[ttft=0] [rate=0] [fault=error@2]")
    assert received.startswith(b"HTTP/1.1 200")
    assert tokens(received) == 2
    assert b'data: {"error":{"message":' in received
    assert received.endswith(TERMINATOR)
    assert b"[DONE]" not in received
    assert b'"finish_reason":"' not in received


async def test_hangup_lacks_the_terminator(simulator: Simulator) -> None:
    received = await read_to_end(simulator, "[ttft=0] [rate=0] [fault=hangup@5]")
    assert tokens(received) == 5
    assert not received.endswith(TERMINATOR)
    assert b"[DONE]" not in received


async def test_reset_is_a_reset(simulator: Simulator) -> None:
    reader, writer = await send(simulator, "[ttft=0.05] [rate=0] [fault=reset@1]")
    with pytest.raises(ConnectionResetError):
        await read_until(reader, TERMINATOR)
    writer.close()
    assert (simulator.stats.failed, simulator.stats.tokens_sent) == (1, 1)


async def test_end_is_well_formed_but_too_early(simulator: Simulator) -> None:
    reader, writer = await send(simulator, "[ttft=0] [rate=0] [fault=end@4]")
    received = await read_until(reader, TERMINATOR)
    await leave(writer)
    assert tokens(received) == 4
    assert b"[DONE]" not in received
    assert b'"finish_reason":"' not in received


async def test_malformed_event(simulator: Simulator) -> None:
    received = await read_to_end(simulator, "[ttft=0] [rate=0] [fault=malformed@1]")
    assert tokens(received) == 1
    last_event = received.removesuffix(TERMINATOR).rpartition(b"data: ")[2]
    with pytest.raises(json.JSONDecodeError):
        json.loads(last_event)


async def test_stall_keeps_the_socket_open(simulator: Simulator) -> None:
    reader, writer = await send(simulator, "[ttft=0] [rate=0] [fault=stall@2]")
    await eventually(lambda: simulator.stats.tokens_sent == 2)
    assert tokens(await quiet_after(reader)) == 2
    assert simulator.stats.running == 1
    await leave(writer)
    await eventually(lambda: simulator.stats.aborted == 1)


async def test_nousage_never_tells_usage(simulator: Simulator) -> None:
    url = f"{simulator.base_url}/chat/completions"
    question = {"messages": [{"role": "user", "content": "[ttft=0] [rate=0] [fault=nousage]"}]}
    streamed = {**question, "stream": True, "stream_options": {"include_usage": True}}
    async with aiohttp.ClientSession() as session:
        for body in (question, streamed):
            async with session.post(url, json=body) as response:
                assert "usage" not in await response.text()
    assert simulator.stats.finished == 2


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("hangup", False), ("end", True), ("malformed", True)],
)
async def test_a_whole_answer_breaks_off_in_its_document(simulator: Simulator, fault: str, *, expected: bool) -> None:
    reader, writer = await send(simulator, f"[ttft=0] [rate=0] [fault={fault}]", stream=False)
    received = await (read_until(reader, TERMINATOR) if expected else reader.read())
    await leave(writer)
    assert received.startswith(b"HTTP/1.1 200")
    assert received.endswith(TERMINATOR) is expected
    assert b'{"id":"chatcmpl-small-1"' in received
    assert b'"finish_reason"' not in received


async def test_a_whole_answer_with_a_late_error_is_refused(simulator: Simulator) -> None:
    start = time.monotonic()
    reader, writer = await send(simulator, "[ttft=0] [rate=20] [fault=error@3]", stream=False)
    assert (await read_until(reader, b"\r\n")).startswith(b"HTTP/1.1 500")
    assert time.monotonic() - start >= 3 / 20
    await leave(writer)


@pytest.mark.parametrize(("written", "after"), [("hangup", 3), ("hangup@0", 0), ("hangup@9", 9)])
async def test_where_a_fault_strikes(simulator: Simulator, written: str, after: int) -> None:
    assert tokens(await read_to_end(simulator, f"[ttft=0] [rate=0] [fault={written}]")) == after


async def test_a_fault_strikes_a_short_answer_at_its_end(simulator: Simulator) -> None:
    received = await read_to_end(simulator, "What is 2 + 2? [ttft=0] [rate=0] [fault=hangup@50]")
    assert tokens(received) == 8
    assert b"[DONE]" not in received
    assert simulator.stats.failed == 1


async def test_a_fault_can_be_for_one_profile(simulator: Simulator) -> None:
    prompt = "[ttft=0] [rate=0] [fault.large=hangup@1]"
    async with Simulator(LARGE) as large:
        assert b"[DONE]" not in await read_to_end(large, prompt)
    reader, writer = await send(simulator, prompt)
    assert b"[DONE]" in await read_until(reader, TERMINATOR)
    await leave(writer)


# --- clients that leave


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [
        ("[ttft=60]", 0),
        ("[ttft=0] [rate=0.01]", 1),
        ("[ttft=0] [rate=0] [fault=stall@4]", 4),
        ("[fault=silent]", 0),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_abort_is_noticed_at_once(simulator: Simulator, prompt: str, sent: int, *, stream: bool) -> None:
    sent = sent if stream else 0
    _reader, writer = await send(simulator, prompt, stream=stream)
    await eventually(lambda: simulator.stats.running == 1 and simulator.stats.tokens_sent == sent)
    left_at = time.time()
    async with within(0.2):  # it takes a millisecond
        await leave(writer)
        await eventually(lambda: simulator.stats.aborted == 1)
    stats = simulator.stats
    assert stats.last_abort_at is not None
    assert stats.last_abort_at >= left_at
    assert stats.last_abort_tokens == sent
    assert (stats.running, adds_up(stats)) == (0, True)


async def test_an_abort_is_noticed_when_the_client_reads_nothing(simulator: Simulator) -> None:
    _reader, writer = await send(simulator, "[ttft=0] [rate=0] [tokens=100000]")
    await eventually(lambda: simulator.stats.tokens_sent > 0)
    writer.transport.abort()
    await eventually(lambda: simulator.stats.aborted == 1)
    assert simulator.stats.last_abort_tokens == simulator.stats.tokens_sent < 100_000


async def test_one_clients_leaving_is_nothing_to_the_others(simulator: Simulator) -> None:
    staying, writer = await send(simulator, "[ttft=0.1] [rate=200] [tokens=20]")
    _reader, leaving = await send(simulator, "[ttft=60]")
    await eventually(lambda: simulator.stats.running == 2)
    await leave(leaving)
    assert tokens(await read_until(staying, TERMINATOR)) == 20
    await leave(writer)
    assert (simulator.stats.finished, simulator.stats.aborted) == (1, 1)


# --- counting and stopping


async def test_stats_always_add_up(simulator: Simulator) -> None:
    prompts = [f"[ttft=0] [rate=0] [fault={kind}]" for kind in Kind] + ["Hello [ttft=0]", "[ttft=60]"]
    connections = [await send(simulator, prompt) for prompt in prompts]
    stats = simulator.stats
    failing = len(set(Kind) - {Kind.STALL, Kind.SILENT, Kind.NO_USAGE})
    await eventually(lambda: adds_up(stats) and stats.failed == failing and stats.finished == 2)
    assert (stats.started, stats.running) == (len(prompts), 3)
    for _reader, writer in connections:
        writer.transport.abort()
    await eventually(lambda: stats.running == 0)
    assert (stats.aborted, adds_up(stats)) == (3, True)


async def test_stats_over_http(simulator: Simulator) -> None:
    root = f"http://127.0.0.1:{simulator.port}"
    reader, writer = await send(simulator, "[ttft=0] [rate=0] [fault=stall@2]")
    await read_until(reader, b"data: ")
    await eventually(lambda: simulator.stats.tokens_sent == 2)
    async with aiohttp.ClientSession() as session:
        before = await fetch(session, "GET", f"{root}/stats")
        after = await fetch(session, "POST", f"{root}/stats/reset")
    assert before == {
        "profile": "small",
        "model": "small-fast-model",
        "started": 1,
        "finished": 0,
        "aborted": 0,
        "failed": 0,
        "running": 1,
        "tokens_sent": 2,
        "input_tokens": 13,
        "last_abort_at": None,
        "last_abort_tokens": None,
    }
    assert after == {**before, "tokens_sent": 0, "input_tokens": 0}
    await leave(writer)
    await eventually(lambda: simulator.stats.aborted == 1)
    assert adds_up(simulator.stats)


async def fetch(session: aiohttp.ClientSession, method: str, url: str) -> Any:
    async with session.request(method, url) as response:
        return await response.json()


async def test_stop_cuts_running_streams_at_once() -> None:
    simulator = Simulator(Profile("slow", "slow-model", ttft_s=0, tokens_per_s=0.01))
    await simulator.start()
    prompts = ["hm"] * 5 + ["[ttft=60]", "[fault=silent]", "[fault=stall@1] [rate=0]"]
    connections = [await send(simulator, prompt) for prompt in prompts]
    await eventually(lambda: simulator.stats.running == len(prompts))
    async with within(1.0):
        await simulator.stop()
    assert (simulator.stats.running, adds_up(simulator.stats)) == (0, True)
    for reader, writer in connections:
        assert not (await reader.read()).endswith(TERMINATOR)
        await leave(writer)


async def test_a_port_that_is_taken_is_an_error(simulator: Simulator) -> None:
    second = Simulator(LARGE)
    with pytest.raises(OSError, match="address already in use"):
        await second.start(port=simulator.port)
    with pytest.raises(RuntimeError, match="already started"):
        await simulator.start()
