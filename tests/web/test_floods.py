"""Much too much on one connection: it is refused, or closed, and the others hardly notice.

`MILLRACE_FLOOD_S=10` floods for that long where others are measured; `-s` shows the figures.
"""

import asyncio
import json
import os
import select
import socket
import statistics
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from millrace.wire import limits
from tests.support.processes import server_process
from tests.support.raw_http import UPGRADE
from tests.support.server import Running
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import TERMINALS, WireClient, check_response, round_trips, wire_client

FLOOD_S = float(os.environ.get("MILLRACE_FLOOD_S", "1.5"))
MEBIBYTE = 2**20


async def read_out(client: WireClient) -> tuple[list[dict[str, Any]], int | None]:
    """Return what comes up to the close, and its code."""
    events: list[dict[str, Any]] = []
    with suppress(ConnectionClosed):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                events.append(json.loads(await client.connection.recv()))
    return events, client.connection.close_code


@pytest.mark.parametrize(
    "bad", ["{", '{"type":"no"}', '{"type":"response.create"}', '{"type":"response.cancel","response_id":"x"}']
)
async def test_hardly_anything_but_bad_frames_is_closed(millrace: Running, bad: str) -> None:
    """Each is answered with an error until then; what runs meanwhile is ended, and others are not."""
    async with wire_client(millrace.ws_url, max_queue=None) as client, wire_client(millrace.ws_url) as other:
        await client.create("talk [tokens=900] [rate=5]", model="small")
        await other.create("other [tokens=20] [rate=20]", model="small")
        await until(lambda: millrace.small.stats.running == 2)
        with suppress(ConnectionClosed):
            for _ in range(2 * limits.MAX_REFUSED):
                await client.send(bad)
        events, code = await read_out(client)
        assert code == 1008
        errors = sum(event["type"] == "error" for event in events)
        assert limits.MAX_REFUSED <= errors < limits.MAX_REFUSED + 100
        await until(lambda: millrace.small.stats.aborted == 1)
        assert check_response(await other.until(*TERMINALS))["status"] == "completed"


async def test_fewer_bad_frames_are_only_answered(millrace: Running) -> None:
    """One less, and the connection is as good as before."""
    async with wire_client(millrace.ws_url, max_queue=None) as client:
        for _ in range(limits.MAX_REFUSED - 1):
            await client.send("{")
        for _ in range(limits.MAX_REFUSED - 1):
            assert (await client.next())["error"]["code"] == "invalid_json"
        check_response(await client.ask("hello"))


async def test_a_flood_of_requests_fills_its_own_queue(millrace: Running) -> None:
    """What is too much is refused with a time to come back, and what had a place gets its turn."""
    asked = 400
    room = limits.MAX_RUNNING + limits.MAX_QUEUED
    async with wire_client(millrace.ws_url, max_queue=None) as client, wire_client(millrace.ws_url) as other:
        for number in range(asked):
            lane = f"lane-{number % limits.MAX_RUNNING}"
            await client.create(f"{number} [tokens=3] [ttft=1.5]", model="small", stream_id=lane)
        check_response(await other.ask("hello", model="small"))
        assert millrace.small.stats.finished < room  # it did not wait for all of them
        ends: Counter[str] = Counter()
        while ends.total() < asked:
            event = await client.next()
            if event["type"] == "error":
                assert event["error"]["code"] == "queue_full"
                assert event["error"]["retry_after_ms"] > 0
            if event["type"] in (*TERMINALS, "error"):
                ends[event["type"]] += 1
    assert ends["error"] >= asked - 2 * room  # some may have been done before the last was asked
    assert ends["response.completed"] == asked - ends["error"] >= room


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("[" * 65_536, "invalid_json"),
        ('{"type":"response.create","input":' + "[" * 32_768 + "]" * 32_768 + "}", "invalid_json"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "invalid_json"),
        (json.dumps({"type": "response.create", "model": "small", "input": [[]] * 20_000}), "invalid_request"),
        ("x" * MEBIBYTE, "invalid_json"),
        (
            json.dumps({"type": "response.create", "input": "hello", "metadata": {"a": "b" * 900_000}}),
            "invalid_request",
        ),
    ],
)
async def test_large_and_deep_frames_are_answered(millrace: Running, frame: str, code: str) -> None:
    """Quickly, one after another, and the connection goes on."""
    async with wire_client(millrace.ws_url) as client, wire_client(millrace.ws_url) as other:
        began = time.thread_time()
        for _ in range(10):
            await client.send(frame)
        for _ in range(10):
            assert (await client.next())["error"]["code"] == code
        check_response(await other.ask("hello"))
        assert time.thread_time() - began < 5
        check_response(await client.ask("hello"))


def flood(url: str, payload: bytes, stop: threading.Event) -> int:
    """Send a frame as often as it fits through a connection, and swallow what comes; return how often it was."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(UPGRADE.format(host=f"{host}:{port}").encode())
        assert b" 101 " in connection.recv(4096)
        connection.setblocking(False)
        together = max(1, 65_536 // len(payload))
        waiting, sent = b"", 0
        while not stop.is_set():
            if not waiting:
                waiting, sent = masked(payload) * together, sent + together
            readable, writable, _ = select.select([connection], [connection], [], 0.1)
            if writable:
                waiting = waiting[connection.send(waiting) :]
            if readable:
                assert connection.recv(MEBIBYTE), "closed"
        return sent


def masked(payload: bytes) -> bytes:
    """Return a text frame as a client sends it; the mask is zero."""
    if len(payload) < 126:
        return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload
    return b"\x81\xff" + len(payload).to_bytes(8) + bytes(4) + payload


FLOODS = {
    "small": {"type": "millrace.ping", "t": 1},
    "huge": {"type": "millrace.ping", "t": 1, "more": "x" * (MEBIBYTE - 100)},
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_frames_does_not_slow_others_down(tmp_path: Path, kind: str) -> None:
    """As many as fit through: everyone has a turn between them."""
    stop = threading.Event()
    async with server_process(tmp_path, 0) as running, wire_client(running.ws_url, negotiated=True) as other:
        quiet = await round_trips(other, 0.5)
        payload = json.dumps(FLOODS[kind]).encode()
        flooding = asyncio.create_task(asyncio.to_thread(flood, running.url, payload, stop))
        await asyncio.sleep(0.2)
        loud = await round_trips(other, FLOOD_S)
        stop.set()
        sent = await flooding
    ratio = statistics.median(loud) / statistics.median(quiet)
    print(  # noqa: T201 - figures for whoever asks
        f"\n{kind}: {sent / FLOOD_S:.0f} frames/s; a pong to others takes {statistics.median(quiet) * 1e3:.2f} ms, "
        f"{statistics.median(loud) * 1e3:.2f} ms in the flood ({ratio:.1f} times), at most {max(loud) * 1e3:.0f} ms"
    )
    assert sent > {"small": 100, "huge": 10}[kind]
    assert statistics.median(loud) < 0.1
