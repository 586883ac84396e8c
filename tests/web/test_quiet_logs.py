"""What strangers send is no news: no traceback, and at most one line a second of a kind."""

import asyncio
import gc
import logging
import os
import random
import socket
import struct
import time
from collections import Counter
from contextlib import closing, suppress
from typing import Any

import pytest

from millrace import log
from millrace.log import Throttle
from tests.support.clock import ManualClock
from tests.support.logs import CapturedLogs, captured_logs
from tests.support.mutants import mutants
from tests.support.provider import says, scripted_provider
from tests.support.server import Running, configuration_for, serving
from tests.support.waiting import until
from tests.support.wire_client import check_response, wire_client

COUNT = int(os.environ.get("MILLRACE_MUTANTS", "3000"))
AT_ONCE = 40


async def test_nothing_a_stranger_sends_is_a_traceback_or_a_flood_of_lines(millrace: Running) -> None:
    """Thousands of broken requests and frames, each on a connection of its own, which then goes one way or another."""
    sent = iter(mutants(7, COUNT))
    began = time.monotonic()
    with captured_logs() as logs:
        async with asyncio.TaskGroup() as strangers:
            for number in range(AT_ONCE):
                strangers.create_task(_send_each(millrace, sent, random.Random(number)))
        await until(lambda: not any(stats.running for stats in (millrace.small.stats, millrace.large.stats)))
        await asyncio.sleep(0.1)
    seconds = time.monotonic() - began + 1
    assert_quiet(logs, seconds)
    async with wire_client(millrace.ws_url) as client:
        assert check_response(await client.ask("And now?"))["status"] == "completed"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIP = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")


@pytest.mark.parametrize("head", [HEAD, GZIP])
@pytest.mark.parametrize(
    "answer", [b"data: {nonsense\n\n", b"data: \xff\xfe\n\n", b'data: {"choices": 3}\n\n', b"\x1f\x8bnot gzip"]
)
async def test_nothing_a_provider_sends_is_a_traceback(head: bytes, answer: bytes) -> None:
    """However often; each request ends as failed. The log has one line that the model fails, and why."""
    sent = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer), answer)
    async with (
        scripted_provider(says(sent)) as provider,
        serving(configuration_for(provider.upstream.endpoint.base_url, "http://127.0.0.1:9/v1")) as url,
        wire_client(url.replace("http", "ws", 1)) as client,
    ):
        with captured_logs() as logs:
            for _ in range(10):
                events = await client.ask("Hi", model="small", millrace={"cache": "off"})
                assert check_response(events)["status"] == "failed"
            gc.collect()
            await asyncio.sleep(0.05)
    (line,) = logs.from_millrace.getvalue().splitlines()
    assert '"model failed"' in line
    logs.from_millrace.truncate(0)
    assert_quiet(logs, 1)


def assert_quiet(logs: CapturedLogs, seconds: float) -> None:
    """Assert that there is no traceback, and at most one grave line a second of each place that logs."""
    assert "Traceback" not in logs.text
    assert not [record for record in logs.records if record.exc_info or record.exc_text]
    grave = [record for record in logs.records if record.levelno >= logging.WARNING]
    assert not [record.getMessage() for record in grave if "\n" in record.getMessage()]
    kinds = Counter((record.pathname, record.lineno) for record in grave)
    assert all(lines <= seconds for lines in kinds.values()), kinds
    assert not logs.from_millrace.getvalue(), logs.from_millrace.getvalue()[:2000]
    assert {record.getMessage().partition(" (and")[0] for record in grave} <= {
        "Invalid HTTP request received.",
        "Unsupported upgrade request.",
        "No supported WebSocket library detected.",
    }


async def _send_each(running: Running, sent: Any, rng: random.Random) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    for data in sent:
        with suppress(OSError):  # the server was first
            reader, writer = await asyncio.open_connection(host, int(port))
            with closing(writer):
                writer.write(data)
                await _leave(reader, writer, rng.randrange(5))


async def _leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int) -> None:
    """Leave at once, by RST, by half a close, after a word of the answer, or after all of it that comes soon."""
    if way == 0:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    elif way == 1:
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 0.05)
    elif way == 2:
        await asyncio.wait_for(reader.read(1), 0.05)
        writer.transport.abort()
    elif way == 3:
        await asyncio.wait_for(reader.read(), 0.05)


def test_a_throttle_lets_one_line_of_a_kind_through_a_second_and_counts_the_others() -> None:
    clock = ManualClock()
    throttle = Throttle(clock)
    assert throttle.passes("a") == 0
    assert throttle.passes("b") == 0
    assert [throttle.passes("a") for _ in range(3)] == [None] * 3
    clock.now += 1.0
    assert throttle.passes("a") == 3
    clock.now += 1.0
    assert throttle.passes("a") == 0


def test_a_throttle_is_bounded() -> None:
    """However many kinds there are."""
    throttle = Throttle(ManualClock())
    for kind in range(10_000):
        assert throttle.passes(kind) == 0
    assert len(throttle._kinds) <= log.KINDS


def test_a_fault_of_a_library_is_one_line_without_its_message() -> None:
    """Its type, its place, and no key."""
    log.quiet_others()
    with captured_logs() as logs:
        try:
            raise ValueError("said in a prompt")
        except ValueError:
            logging.getLogger("asyncio").exception("Task exception was never retrieved\nfuture: said in a prompt")
    (line,) = logs.warnings
    assert line.startswith("Task exception was never retrieved: ValueError at test_quiet_logs.py:")
    assert "prompt" not in logs.text
