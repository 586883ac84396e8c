"""What a connection leaves behind when it is closed: nothing that only the garbage collector would find.

Else a server keeps what thousands of closed connections held, until the collector looks at what is old.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
import pytest

from millrace.web.websocket import CLOSE_TIMEOUT_S
from tests.fire.idle import Idle
from tests.support.server import Running, Start
from tests.support.waiting import until

TIMES = 3


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Let nobody collect garbage."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _alive() -> Counter[str]:
    """Return how many objects there are that a connection is made of, by type."""
    types = (type(each) for each in gc.get_objects())
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in types)
    return Counter(name for name in names if name.startswith(("millrace.web.", "uvicorn.", "h11.", "websockets.")))


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
        before = _alive()
        for visit in VISITS * TIMES:
            await visit(running)
        await until(lambda: not running.connections)
        await asyncio.sleep(CLOSE_TIMEOUT_S)  # for which a timer keeps each, to abort it
        assert not _alive() - before
