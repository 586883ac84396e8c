"""What closed connections and forgotten responses leave behind: nothing that only the garbage collector would find.

Else a server keeps what thousands of them held, until the collector looks at what is old.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from millrace.web.websocket import CLOSE_TIMEOUT_S
from tests.fire.idle import Idle
from tests.support.server import Running, Start, process_of
from tests.support.waiting import until

TIMES = 3


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Let nobody collect garbage."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


CONNECTIONS = ("millrace.web.", "uvicorn.", "h11.", "websockets.")
RESPONSES = ("millrace.runs.", "millrace.dialects.", "millrace.funnel.response_log.", "millrace.funnel.facts.")


def _alive(rooms: tuple[str, ...]) -> Counter[str]:
    """Return how many objects of some rooms there are, by type."""
    types = (type(each) for each in gc.get_objects())
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in types)
    return Counter(name for name in names if name.startswith(rooms))


async def _socket(running: Running, kind: str, *, asks: bool) -> None:
    host, port = "127.0.0.1", int(running.url.rpartition(":")[2])
    _, client = await asyncio.get_running_loop().create_connection(lambda: Idle(kind, f"{host}:{port}"), host, port)
    await client.is_open
    if asks:
        client.ask()
        await client.answered
    client.close()
    await until(lambda: client.closed is not None)


async def _streamed(running: Running, *, leaves: bool) -> None:
    body = {
        "model": "small",
        "stream": True,
        "input": "Tell me [tokens=50] [rate=200]" if leaves else "What is a mill?",
    }
    async with aiohttp.ClientSession(running.url) as http, http.post("/v1/responses", json=body) as answer:
        await answer.content.readany()
        if not leaves:
            await answer.read()


Visit = Callable[[Running], Awaitable[None]]
VISITS: tuple[Visit, ...] = (
    lambda running: _socket(running, "responses", asks=False),
    lambda running: _socket(running, "responses", asks=True),
    lambda running: _socket(running, "chats", asks=True),
    lambda running: _streamed(running, leaves=False),
    lambda running: _streamed(running, leaves=True),
)


@pytest.mark.usefixtures("no_collections")
async def test_closed_connections_are_freed_at_once(start: Start) -> None:
    async with start() as running:
        for visit in VISITS:  # what is made once
            await visit(running)
        await until(lambda: not running.connections)
        before = _alive(CONNECTIONS)
        for visit in VISITS * TIMES:
            await visit(running)
        await until(lambda: not running.connections)
        await asyncio.sleep(CLOSE_TIMEOUT_S)  # for which a timer keeps each, to abort it
        assert not _alive(CONNECTIONS) - before


async def _asked(running: Running, path: str, **body: Any) -> None:
    async with aiohttp.ClientSession(running.url) as http, http.post(path, json={"model": "auto", **body}) as answer:
        await answer.read()


SAID = [{"role": "user", "content": "What is a mill?"}]
ASKED: tuple[Visit, ...] = (
    *VISITS[1:],
    lambda running: _asked(running, "/v1/responses", input="What is a mill?"),
    lambda running: _asked(running, "/v1/responses", input="Who mills? [fail]", millrace={"strategy": "race"}),
    lambda running: _asked(running, "/v1/responses", input="Who mills?", stream=True, millrace={"strategy": "race"}),
    lambda running: _asked(running, "/v1/chat/completions", messages=SAID, stream=True),
    lambda running: _asked(running, "/v1/messages", messages=SAID, max_tokens=50, stream=True),
    lambda running: _asked(running, "/v1/responses", input="", max_output_tokens=0),
)


@pytest.mark.usefixtures("no_collections")
async def test_forgotten_responses_are_freed_at_once(start: Start) -> None:
    """In every dialect, whole, cut off, answered from a cache, raced and refused."""
    async with start() as running:
        async with aiohttp.ClientSession(running.url) as http, http.get("/healthz"):
            runs = process_of(running).runs

        async def visited(visits: tuple[Visit, ...]) -> None:
            for visit in visits:
                await visit(running)
            await until(lambda: not runs.running and not running.connections)
            for response_id in [*runs.kept._items]:
                runs.kept.forget(response_id)

        await visited(ASKED)  # what is made once
        before = _alive(RESPONSES)
        await visited(ASKED * TIMES)
        await until(lambda: not _alive(RESPONSES) - before)  # the sweep's round may have one in its hand until its turn
