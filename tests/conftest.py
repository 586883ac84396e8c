"""A whole Millrace on free ports: real sockets, real SQLite, two simulated models over real HTTP."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from millrace import app, log, settings
from millrace.simulator import LARGE, SMALL, Simulator
from millrace.web.websocket import JoinedWebSocket

REPOSITORY = Path(__file__).parent.parent
PRICES = {
    "small": {"input": "0.15", "cached_input": "0.075", "output": "0.60"},
    "large": {"input": "2.50", "cached_input": "1.25", "output": "10.00"},
}

log.configure(level="critical")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """Run tests in the loop that servers run in."""
    return {"server": app.new_loop}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped anything, where nothing may be missing."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("MILLRACE_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs, and the two models behind it."""

    url: str
    small: Simulator
    large: Simulator
    connections: set[Any]  # uvicorn's protocols

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    @property
    def calls(self) -> int:
        """How many upstream calls were started until now."""
        return self.small.stats.started + self.large.stats.started


def tree(small_url: str, large_url: str, **server: Any) -> dict[str, Any]:
    """Return a whole configuration; `server` goes into its [server]."""
    models = {
        name: {"upstream": "openai", "base_url": url, "model": f"{name}-model", "price": dict(PRICES[name])}
        for name, url in (("small", small_url), ("large", large_url))
    }
    return {"server": {"port": 0, "data_dir": ":memory:"} | server, "models": models}


@contextlib.asynccontextmanager
async def serving(
    configuration: dict[str, Any], ws: Any = JoinedWebSocket, connections: set[Any] | None = None
) -> AsyncIterator[str]:
    """Run a server in this loop; yield its URL. `ws` is uvicorn's choice of a WebSocket protocol."""
    server = app.server(settings.build(configuration, {}))
    stopped = asyncio.Event()
    patched: Any = server
    patched.main_loop = stopped.wait  # its own looks ten times a second
    if connections is not None:
        server.server_state.connections = connections
    server.config.ws = ws
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            assert not task.done(), "the server did not start"
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            stopped.set()
            await task


Start = Callable[..., contextlib.AbstractAsyncContextManager[Running]]


@pytest.fixture
def start() -> Start:
    """A starter of servers, for `async with`; its argument edits the configuration before it is read."""

    @contextlib.asynccontextmanager
    async def started(change: Callable[[dict[str, Any]], None] = lambda _: None) -> AsyncIterator[Running]:
        """The models answer at once unless a prompt asks for a pace: `[ttft=0.5]`, `[rate=20]`."""
        async with Simulator(at_once(SMALL)) as small, Simulator(at_once(LARGE)) as large:
            configuration = tree(small.base_url, large.base_url)
            change(configuration)
            connections: set[Any] = set()
            async with serving(configuration, connections=connections) as url:
                yield Running(url, small, large, connections)

    return started


@pytest.fixture
async def millrace(start: Start) -> AsyncIterator[Running]:
    """A server with nothing special."""
    async with start() as running:
        yield running


def at_once(profile: Any) -> Any:
    """Return a profile without a pace of its own."""
    return replace(profile, ttft_s=0.0, tokens_per_s=0.0)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition of this process; fail when it does not come."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what it looks at cannot tell us
            await asyncio.sleep(0.002)
