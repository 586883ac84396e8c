"""Compressed bodies of requests: read like plain ones, bounded by what they inflate to, and hardly felt by others."""

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from millrace.wire import limits
from tests.support.http_client import CHAT, RESPONSES, body_of
from tests.support.server import Running

MEBIBYTE = 2**20
JSON = {"Content-Type": "application/json"}


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    " GZip ": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "identity": bytes,
    "": bytes,
}


@pytest.fixture
async def http(millrace: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(millrace.url, skip_auto_headers=["Content-Encoding"]) as session:
        yield session


async def post(http: aiohttp.ClientSession, path: str, data: bytes, encoding: str) -> tuple[int, Any, Any]:
    """Send bytes under a label; return the status, the headers and the body."""

    async def pieces() -> AsyncIterator[bytes]:  # or aiohttp would compress them itself
        yield data

    sent = JSON | ({"Content-Encoding": encoding} if encoding else {})
    async with http.post(path, data=pieces(), headers=sent, compress=None) as answer:
        return answer.status, answer.headers, await answer.json()


@pytest.mark.parametrize("padding", [0, 100_000, 3 * MEBIBYTE], ids=["short", "long", "very long"])
@pytest.mark.parametrize("path", [RESPONSES, CHAT])
@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_compressed_body_is_read(encoding: str, path: str, padding: int, http: aiohttp.ClientSession) -> None:
    """Of any length, in each encoding, however it is written."""
    data = json.dumps(body_of(path, "What is 2 + 2?") | {"include": ["x" * padding]}).encode()
    status, _, answer = await post(http, path, ENCODINGS[encoding](data), encoding)
    assert status == 200
    assert "4" in json.dumps(answer)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "*", "\u00fc"])
async def test_an_unknown_encoding_is_refused_by_its_header(encoding: str, http: aiohttp.ClientSession) -> None:
    """415, with what can be sent instead."""
    status, headers, answer = await post(http, RESPONSES, b"whatever", encoding)
    assert (status, answer["error"]["code"]) == (415, "unsupported_encoding")
    assert answer["error"]["param"] == "Content-Encoding"
    assert answer["error"]["message"].startswith("Content-Encoding: ")
    assert headers["Accept-Encoding"] == "gzip, deflate"
    assert headers["X-Should-Retry"] == "false"


WHOLE = gzip.compress(json.dumps(body_of(RESPONSES, "Hello")).encode())
BROKEN = {
    "no gzip": b'{"input": "Hello"}',
    "nothing": b"",
    "cut": WHOLE[:-9],
    "without its end": WHOLE[:-4],
    "a wrong checksum": WHOLE[:-8] + bytes(8),
    "more behind it": WHOLE + b"more",
    "one behind another": WHOLE + WHOLE,
}


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("broken", BROKEN)
async def test_a_body_that_cannot_be_inflated_is_refused(
    broken: str, encoding: str, http: aiohttp.ClientSession, millrace: Running
) -> None:
    status, _, answer = await post(http, RESPONSES, BROKEN[broken], encoding)
    assert (status, answer["error"]["code"]) == (400, "invalid_request")
    assert f"the body is not {encoding}" in answer["error"]["message"]
    assert millrace.calls == 0


@pytest.mark.parametrize("path", [RESPONSES, CHAT, "/v1/tickets"])
async def test_a_body_is_bounded_by_what_it_inflates_to(path: str, http: aiohttp.ClientSession) -> None:
    """A small one that is a thousand times longer inside, too."""
    bomb = gzip.compress(b'{"input":"' + b"a" * limits.MAX_MESSAGE_BYTES + b'"}')
    assert len(bomb) < 50_000
    if path == "/v1/tickets":
        bomb = gzip.compress(b'{"origin":"' + b"a" * 5000 + b'"}')
    status, _, answer = await post(http, path, bomb, "gzip")
    assert (status, answer["error"]["code"]) == (413, "message_too_big")


async def test_a_body_as_long_as_allowed_is_read(http: aiohttp.ClientSession) -> None:
    data = json.dumps(body_of(RESPONSES, "What is 2 + 2?") | {"include": [""]}).encode()
    data = data.replace(b'""', b'"' + b"x" * (limits.MAX_MESSAGE_BYTES - len(data)) + b'"')
    assert len(data) == limits.MAX_MESSAGE_BYTES
    status, _, answer = await post(http, RESPONSES, gzip.compress(data), "gzip")
    assert status == 200
    assert answer["status"] == "completed"


async def test_bombs_are_inflated_one_after_the_other_and_off_the_loop(http: aiohttp.ClientSession) -> None:
    """Others are answered meanwhile."""
    bomb = gzip.compress(b'{"input":"' + b"a" * limits.MAX_MESSAGE_BYTES + b'"}')
    bombs = [asyncio.create_task(post(http, RESPONSES, bomb, "gzip")) for _ in range(20)]
    longest = 0.0
    while not all(task.done() for task in bombs):
        began = time.thread_time()
        async with http.get("/healthz") as answer:
            assert answer.status == 200
        longest = max(longest, time.thread_time() - began)
    assert {task.result()[0] for task in bombs} == {413}
    assert longest < 1.0
