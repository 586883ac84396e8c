"""A client that closes its side of the connection has gone, over HTTP and over a WebSocket (PROTOCOL.md)."""

import asyncio
import json

import pytest

from tests.support.http_client import CHAT, RESPONSES, body_of
from tests.support.raw_http import UPGRADE
from tests.support.server import Running
from tests.support.slow_client import SlowClient
from tests.support.waiting import until, within

SOON_S = 2.0  # PROTOCOL.md promises 250 ms; a test takes longer to run
NEXT = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def opened(running: Running, sent: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = running.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent.format(host=f"{host}:{port}").encode() if "{host}" in sent else sent.encode())
    return reader, writer


async def assert_gone(running: Running, writer: asyncio.StreamWriter) -> None:
    """Close one side, and see the model let go and the connection forgotten."""
    writer.write_eof()
    async with within(SOON_S):
        await until(lambda: running.small.stats.running == 0)
    assert running.small.stats.aborted == 1
    await until(lambda: not running.connections)
    writer.transport.abort()


@pytest.mark.parametrize("moment", ["before the first token", "in mid-answer"])
@pytest.mark.parametrize("behind", ["", NEXT], ids=["nothing behind", "another request behind"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [RESPONSES, CHAT])
async def test_a_request_over_http_ends(
    path: str, moment: str, behind: str, millrace: Running, *, stream: bool
) -> None:
    """Whatever waits to be read behind it."""
    pace = "[ttft=30]" if moment == "before the first token" else "[tokens=900] [rate=20]"
    body = json.dumps(body_of(path, f"talk {pace}", model="small", stream=stream))
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await opened(millrace, head + body + behind)
    await until(lambda: millrace.small.stats.running == 1)
    if moment == "in mid-answer":
        await until(lambda: millrace.small.stats.tokens_sent > 3)
        if stream:
            await reader.readuntil(b"delta")
    await assert_gone(millrace, writer)


@pytest.mark.parametrize("moment", ["before the first token", "in mid-answer"])
async def test_a_request_over_a_websocket_ends(moment: str, millrace: Running) -> None:
    """An end of the stream is no close, and needs none."""
    pace = "[ttft=30]" if moment == "before the first token" else "[tokens=900] [rate=20]"
    reader, writer = await opened(millrace, UPGRADE)
    await reader.readuntil(b"\r\n\r\n")
    SlowClient(reader, writer).create(f"talk {pace}")
    await until(lambda: millrace.small.stats.running == 1)
    if moment == "in mid-answer":
        await until(lambda: millrace.small.stats.tokens_sent > 3)
    await assert_gone(millrace, writer)
