"""Frames and bodies up to the limit: accepted at every door, in order, and hardly felt by others."""

import asyncio
import json
import threading
from typing import Any

import aiohttp
import pytest

from millrace.wire import limits, reading, requests
from tests.support.http_client import CHAT, RESPONSES
from tests.support.server import Running
from tests.support.wire_client import TERMINALS, check_response, wire_client

MEBIBYTE = 2**20
PADDED = limits.MAX_MESSAGE_BYTES - 200  # characters of padding that fit


async def test_the_longest_frame_is_served(millrace: Running) -> None:
    """Twenty mebibytes, also in fragments; one byte more closes."""
    body = {"type": "response.create", "model": "small", "input": "hello", "padding": "x" * PADDED}
    async with wire_client(millrace.ws_url) as client:
        check_response(await client.ask("hello", model="small", padding="x" * PADDED))
        text = json.dumps(body)
        await client.connection.send(text[at : at + MEBIBYTE] for at in range(0, len(text), MEBIBYTE))
        check_response(await client.until(*TERMINALS))


@pytest.mark.parametrize("path", [RESPONSES, CHAT])
async def test_the_longest_body_is_served_and_a_longer_one_refused(millrace: Running, path: str) -> None:
    """At every endpoint."""
    field: dict[str, Any] = {"input": "hello"}
    if path == CHAT:
        field = {"messages": [{"role": "user", "content": "hello"}]}
    async with aiohttp.ClientSession() as http:
        for padding, status in ((PADDED, 200), (limits.MAX_MESSAGE_BYTES, 413)):
            data = json.dumps({"model": "small", **field}).encode() + b" " * padding
            async with http.post(millrace.url + path, data=_pieces(data)) as answer:
                assert answer.status == status
                if status == 413:
                    assert (await answer.json())["error"]["code"] == "message_too_big"


async def _pieces(data: bytes) -> Any:
    for at in range(0, len(data), MEBIBYTE):
        yield data[at : at + MEBIBYTE]


async def test_a_long_prompt_reaches_its_model_whole(millrace: Running) -> None:
    """Media are not counted as tokens, so an image may have megabytes."""
    url = "data:image/png;base64," + "A" * 3 * MEBIBYTE
    parts = [{"type": "input_text", "text": "what is it?"}, {"type": "input_image", "image_url": url}]
    async with wire_client(millrace.ws_url) as client:
        events = await client.ask([{"role": "user", "content": parts}], model="small")
    assert check_response(events)["status"] == "completed"


async def test_frames_behind_a_long_one_wait_for_it(millrace: Running) -> None:
    """A cancel behind a long request cancels it, and what is asked next is answered next."""
    async with wire_client(millrace.ws_url) as client:
        await client.create("talk [tokens=900] [rate=5]", model="small", padding="x" * 2 * MEBIBYTE)
        await client.send({"type": "response.cancel"})
        await client.create("hello", model="small")
        assert (await client.until(*TERMINALS))[-1]["response"]["status"] == "cancelled"
        check_response(await client.until(*TERMINALS))


@pytest.mark.parametrize("size", [10, reading.LONG, MEBIBYTE])
async def test_a_long_frame_that_is_not_utf8_closes(millrace: Running, size: int) -> None:
    """Like a short one."""
    async with wire_client(millrace.ws_url) as client:
        await client.connection.send(b'{"type":"' + b"\xff" * size + b'"}', text=True)
        await client.connection.wait_closed()
        assert client.connection.close_code == 1007


@pytest.mark.parametrize("size", [10, reading.LONG, MEBIBYTE])
async def test_a_long_frame_that_is_refused_is_answered_on_its_lane(millrace: Running, size: int) -> None:
    """With its ids, and the connection goes on."""
    async with wire_client(millrace.ws_url) as client:
        await client.create(None, stream_id="a", event_id="e", padding="x" * size)
        refused = await client.next()
        assert (refused["type"], refused["stream_id"], refused["event_id"]) == ("error", "a", "e")
        assert refused["error"]["param"] == "input"
        await client.send("x" * size)
        assert (await client.next())["error"]["code"] == "invalid_json"
        check_response(await client.ask("hello"))


async def test_too_many_values_are_refused(millrace: Running) -> None:
    """Wherever they are."""
    async with wire_client(millrace.ws_url) as client:
        events = await client.ask("hello", junk=[0] * (limits.MAX_VALUES + 1))
        assert events[-1]["error"]["code"] == "invalid_request"
        check_response(await client.ask("hello"))


@pytest.mark.parametrize(
    ("padding", "thread"),
    [(10, "MainThread"), (reading.LONG, "millrace-long"), (2 * MEBIBYTE, "millrace-very-long")],
)
@pytest.mark.parametrize("door", ["websocket", "http"])
async def test_long_requests_are_read_off_the_loop(
    millrace: Running, monkeypatch: pytest.MonkeyPatch, door: str, padding: int, thread: str
) -> None:
    """Those over a mebibyte one at a time."""
    readers: list[str] = []

    def read(*arguments: Any) -> requests.Create:
        readers.append(threading.current_thread().name.rpartition("_")[0] or threading.current_thread().name)
        return read_create(*arguments)

    read_create = requests.read_create
    monkeypatch.setattr(requests, "read_create", read)
    if door == "websocket":
        async with wire_client(millrace.ws_url) as client:
            check_response(await client.ask("hello", padding="x" * padding))
    else:
        async with aiohttp.ClientSession() as http:
            body = json.dumps({"input": "hello", "padding": "x" * padding}).encode()
            async with http.post(millrace.url + RESPONSES, data=_pieces(body)) as answer:
                assert answer.status == 200
    assert readers == [thread]


HUGE: dict[str, Any] = {
    "values": {"padding": [0] * (limits.MAX_VALUES - 100)},
    "keys": {"padding": {f"k{number}": 0 for number in range(limits.MAX_VALUES - 100)}},
    "tools": {
        "tools": [
            {"type": "function", "name": f"t{number}", "parameters": {"description": "x" * 20_000}}
            for number in range(100)
        ]
    },
}


@pytest.mark.parametrize("kind", HUGE)
async def test_others_are_served_while_a_huge_frame_is_read(millrace: Running, kind: str) -> None:
    """Again and again; `bench_floods` has the figures."""
    async with (
        wire_client(millrace.ws_url, max_size=None) as client,
        wire_client(millrace.ws_url, negotiated=True) as other,
    ):
        asking, pongs = asyncio.create_task(client.ask("hello", model="small", **HUGE[kind])), 0
        while not asking.done():
            await other.send({"type": "millrace.ping"})
            await other.until("millrace.pong")
            pongs += 1
        check_response(await asking)
    assert pongs > 10
