"""A request that waits for its schemas: a cancel, its deadline and its client's end reach it; and the wait has a bound.

The process that compiles them is stopped by a signal, as if it had something slow to do.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.schemas import SchemaProcess, process as module
from millrace.stores.database import FILE
from tests.support.http_client import CHAT, RESPONSES, body_of
from tests.support.server import AT_ONCE_S, Running, Start, process_of
from tests.support.stopped_schemas import stopped
from tests.support.waiting import until, within
from tests.support.wire_client import TERMINALS, check_response, wire_client

SLACK_S = 0.5  # of a busy machine


def schema(number: int) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"const": number}}, "required": ["a"], "additionalProperties": False}


def form(number: int) -> dict[str, Any]:
    return {"format": {"type": "json_schema", "name": "s", "schema": schema(number)}}


def schemas_of(running: Running) -> SchemaProcess:
    schemas: SchemaProcess = process_of(running).intake._schemas  # type: ignore[assignment]
    return schemas


def has_work(session: Any) -> bool:
    return not session._jobs.is_empty


@pytest.fixture
async def slow(start: Start, tmp_path: Path) -> AsyncIterator[Running]:
    """A server whose schema process is stopped."""
    async with (
        start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as running,
        wire_client(running.ws_url) as client,
    ):
        check_response(await client.ask("hello", text=form(0)))
        with stopped(schemas_of(running)):
            yield running


def rows(folder: Path) -> list[str]:
    """Return how the requests of the ledger ended, but the first."""
    with closing(sqlite3.connect(folder / FILE)) as database:
        return [status for (status,) in database.execute("SELECT status FROM entries ORDER BY rowid")][1:]


async def test_a_cancel_ends_it_at_once(slow: Running) -> None:
    """With its first event and its terminal; so do those behind it in its lane. The connection goes on."""
    async with wire_client(slow.ws_url) as client:
        for number in (1, 2):
            await client.create("hello", stream_id="a", text=form(number))
        await until(lambda: schemas_of(slow)._waiting_bytes == 0 and any(map(has_work, process_of(slow).sessions)))
        await asyncio.sleep(0.1)
        async with within(AT_ONCE_S + SLACK_S):
            await client.send({"type": "response.cancel", "stream_id": "a"})
            for _ in range(2):
                events = await client.until(*TERMINALS)
                assert check_response(events)["status"] == "cancelled"
        check_response(await client.ask("hello", stream_id="a"))
        await client.send({"type": "response.cancel", "stream_id": "a"})  # nothing is left to be cancelled
    await until(lambda: schemas_of(slow)._waiting_bytes == 0)
    assert slow.calls == 2


@pytest.mark.parametrize("door", ["websocket", RESPONSES, CHAT])
async def test_its_deadline_ends_it(slow: Running, door: str) -> None:
    """As it ends one that runs, before any model was asked."""
    began = time.monotonic()
    options = {"millrace": {"deadline_ms": 300}}
    async with within(0.3 + SLACK_S):
        if door == "websocket":
            async with wire_client(slow.ws_url) as client:
                events = await client.ask("hello", text=form(1), **options)
                assert check_response(events)["error"]["code"] == "deadline_exceeded"
        else:
            shape = form(1)["format"]
            field = {"text": {"format": shape}} if door == RESPONSES else {}
            if door == CHAT:
                field = {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema(1)}}}
            async with (
                aiohttp.ClientSession() as http,
                http.post(slow.url + door, json=body_of(door, "hello", **field, **options)) as answer,
            ):
                assert (answer.status, (await answer.json())["error"]["code"]) == (408, "deadline_exceeded")
    assert time.monotonic() - began > 0.29
    assert slow.calls == 1


@pytest.mark.parametrize("door", ["websocket", RESPONSES])
async def test_who_goes_away_is_not_waited_for(slow: Running, tmp_path: Path, door: str) -> None:
    """It has its row in the ledger all the same, and nothing of it is held."""
    before = process_of(slow).memory.requests.used
    if door == "websocket":
        async with wire_client(slow.ws_url) as client:
            await client.create("hello", text=form(1))
            await until(lambda: process_of(slow).memory.requests.used > before)
            client.connection.transport.abort()
    else:
        host, port = slow.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({"input": "hello", "text": form(1)})
        writer.write(f"POST {door} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await until(lambda: process_of(slow).memory.requests.used > before)
        writer.transport.abort()
    async with within(AT_ONCE_S + SLACK_S):
        await until(lambda: process_of(slow).memory.requests.used == before)
    await until(lambda: rows(tmp_path) == ["cancelled"])
    assert slow.calls == 1


async def test_what_it_waits_for_too_long_is_not_checked(slow: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model is asked all the same, and the client is told; what is held for it is counted all the time."""
    monkeypatch.setattr(module, "MAX_TURN_S", 0.5)
    memory = process_of(slow).memory
    seen: list[int] = []

    async def watch() -> None:
        while True:
            seen.append(memory.requests.used)
            await asyncio.sleep(0.01)

    async with wire_client(slow.ws_url, negotiated=True) as one, wire_client(slow.ws_url, negotiated=True) as two:
        await one.create("hello", text=form(1))  # it has its turn, which takes its time
        await until(lambda: memory.requests.used > 0)
        await asyncio.sleep(0.1)
        alone = memory.requests.used
        await two.create("hello [tokens=50] [rate=100]", strategy="small", text=form(2), millrace={"checks": []})
        await until(lambda: memory.requests.used > alone)
        watching = asyncio.create_task(watch())
        events = await two.until("millrace.route", *TERMINALS)
        watching.cancel()
        assert events[-1]["unchecked"] == ["text.format.schema"]
        await two.until(*TERMINALS)
    assert min(seen) > 5000


async def test_a_long_frame_is_counted_until_its_run_has_begun(slow: Running) -> None:
    """Through the thread that reads it, its lane, and its schemas; then by its run. All is given back at the end."""
    memory = process_of(slow).memory
    async with wire_client(slow.ws_url) as client:
        size = 300_000
        await client.create("hello " + "x " * (size // 2), text=form(3))
        await until(lambda: memory.requests.used > size)
        for _ in range(50):
            assert memory.requests.used > size
            await asyncio.sleep(0.005)
        await client.send({"type": "response.cancel"})
        await client.until(*TERMINALS)
        await until(lambda: memory.requests.used == 0)
