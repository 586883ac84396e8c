"""Frames that are longer than allowed: each is refused on its lane, and the other lanes go on where that can be."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from millrace.errors import MillraceError
from millrace.web.slices import BEGINNING, MAX_DROPPED
from millrace.wire import limits, requests
from millrace_client import Client
from tests.support.server import Running, Start
from tests.support.wire_client import TERMINALS, Event, WireClient, check_response, wire_client

LONGEST = 64 * 1024


@pytest.fixture
async def strict(start: Start) -> AsyncIterator[Running]:
    """A server that takes short messages only."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["max_message_bytes"] = LONGEST

    async with start(change) as running:
        yield running


def too_long(size: int = LONGEST + 1, **ids: Any) -> str:
    text = json.dumps({"type": "response.create", **ids, "input": ""})
    return text[:-2] + "x" * (size - len(text)) + text[-2:]


async def send(client: WireClient, text: str, way: str) -> None:
    """Send a message as one frame, or in fragments that are too long together, or of which one is."""
    step = {"whole": 0, "fragments": LONGEST // 3, "a long fragment": LONGEST + 1}[way]
    pieces = [text[at : at + step] for at in range(0, len(text), step)] if step else []
    await client.connection.send(pieces if step else text)


async def closed_with(client: WireClient) -> tuple[Event, int | None]:
    """Return the last event and the code of the close behind it."""
    events: list[Event] = []
    with suppress(ConnectionClosed):
        while True:
            events.append(await client.next())
    return events[-1], client.connection.close_code


@pytest.mark.parametrize("ids", [{"stream_id": "b", "event_id": "e"}, {"stream_id": "b"}, {"event_id": "e"}, {}])
@pytest.mark.parametrize("way", ["whole", "fragments", "a long fragment"])
async def test_it_is_refused_and_the_connection_goes_on(way: str, ids: Event, strict: Running) -> None:
    """With the ids that stand at its beginning, while another request runs; then the next one is served."""
    async with wire_client(strict.ws_url) as client:
        lane = {"stream_id": "a"} if ids else {}
        await client.create("talk [tokens=40] [rate=100]", model="small", **lane)
        running = await client.until("response.output_text.delta")
        await send(client, too_long(2 * LONGEST, **ids), way)
        events = await client.until("error")
        error = events.pop()
        assert (error["status"], error["error"]["code"]) == (413, "message_too_big")
        assert str(LONGEST) in error["error"]["message"]
        assert {name: error[name] for name in ("stream_id", "event_id") if name in error} == ids
        check_response([*running, *events, *await client.until(*TERMINALS)])
        check_response(await client.ask("What is 2 + 2?", **ids))


@pytest.mark.parametrize("way", ["whole", "fragments"])
async def test_it_closes_where_nobody_can_know_whose_it_is(way: str, strict: Running) -> None:
    """Its ids stand behind its text, and there are lanes. What had ended before is not lost; the client is told why."""
    text = json.dumps({"type": "response.create", "input": "x" * LONGEST, "stream_id": "b", "event_id": "e"})
    async with wire_client(strict.ws_url) as client:
        check_response(await client.ask("What is 2 + 2?", stream_id="a"))
        await send(client, text, way)
        error, code = await closed_with(client)
        assert error["error"]["code"] == "message_too_big"
        assert code == 1009


@pytest.mark.parametrize("size", [MAX_DROPPED * LONGEST, MAX_DROPPED * LONGEST + 1])
async def test_what_is_dropped_is_bounded(size: int, strict: Running) -> None:
    """A frame that is far too long ends the connection, after its refusal."""
    async with wire_client(strict.ws_url) as client:
        with suppress(ConnectionClosed):
            await client.connection.send(too_long(size, stream_id="b"))
        if size == MAX_DROPPED * LONGEST:
            assert (await client.next())["error"]["code"] == "message_too_big"
            check_response(await client.ask("What is 2 + 2?"))
        else:
            error, code = await closed_with(client)
            assert (error["error"]["code"], error["stream_id"], code) == ("message_too_big", "b", 1009)


async def test_many_in_a_row_are_abuse(strict: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts as a refused frame."""
    monkeypatch.setattr(limits, "MAX_REFUSED", 10)
    async with wire_client(strict.ws_url) as client:
        with suppress(ConnectionClosed):
            for _ in range(20):
                await client.connection.send(too_long(event_id="e"))
        _, code = await closed_with(client)
        assert code == 1008


async def test_the_longest_frame_is_no_longer_than_allowed(strict: Running) -> None:
    """To the byte."""
    async with wire_client(strict.ws_url) as client:
        for size, kind in ((LONGEST, "response.created"), (LONGEST + 1, "error")):
            await client.send(too_long(size))
            assert (await client.next())["type"] == kind
            if kind != "error":
                await client.until(*TERMINALS)


async def test_others_are_served_while_one_is_dropped(strict: Running) -> None:
    """It comes in slowly, and never as a whole."""
    async with wire_client(strict.ws_url) as client, wire_client(strict.ws_url) as other:
        transport = client.connection.transport
        header = b"\x81\xff" + (2 * LONGEST).to_bytes(8) + bytes(4)
        beginning = too_long(event_id="e").encode()[:BEGINNING]
        transport.write(header + beginning)
        assert (await client.next())["event_id"] == "e"
        check_response(await other.ask("What is 2 + 2?"))
        rest = 2 * LONGEST - len(beginning)
        for _ in range(4):
            transport.write(b"x" * (rest // 4))
            await asyncio.sleep(0)
        transport.write(b"x" * (rest % 4))
        check_response(await client.ask("What is 2 + 2?"))


async def test_the_python_client_is_told(strict: Running) -> None:
    """Its request raises; another one on the same connection is answered."""
    async with Client(f"{strict.ws_url}") as client:
        with pytest.raises(MillraceError) as refused:
            await client.ask("x" * LONGEST)
        assert refused.value.code == "message_too_big"
        assert (await client.ask("What is 2 + 2?")).text


BEGINNINGS = [
    (b'{"type":"response.create","stream_id":"a","event_id":"e","input":"x', ("response.create", "a", "e")),
    (b' {\n "event_id" : "e" , "model": null, "x": [1, {"stream_id": "no"}], "stream_id": "a"', ("", "a", "e")),
    (b'{"stream_id":"a","input":[{"event_id":"e"', ("", "a", None)),
    (b'{"input":"\\"stream_id\\":\\"a\\"","stream_id":"b"', ("", "b", None)),
    (b'{"stream\\u005fid":"a","type":7,"event_id":', ("", "a", None)),
    (b'{"stream_id":"not one!","event_id":"' + b"e" * 513 + b'"', ("", None, None)),
    (b'{"stream_id":"a', ("", None, None)),
    (b'{"stream_id":"\xc3\xa9","event_id":"\xc3\xa9\xff"', ("", None, "\u00e9")),
    (b'["stream_id","a"]', ("", None, None)),
    (b"[" * 4096, ("", None, None)),
    (b'{"a":' + b"[" * 4096, ("", None, None)),
    (b"\xff\xfe", ("", None, None)),
    (b"", ("", None, None)),
]


@pytest.mark.parametrize(("raw", "found"), BEGINNINGS, ids=range(len(BEGINNINGS)))
def test_the_ids_at_a_beginning_are_found(raw: bytes, found: tuple[str, str | None, str | None]) -> None:
    """Those of the frame itself, where they are whole and valid; whatever else stands there is no fault."""
    envelope = requests.open_beginning(raw)
    assert (envelope.type, envelope.stream_id, envelope.event_id) == found
