"""Starting a server on a free port: real sockets, real SQLite, two simulated models over real HTTP."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from millrace import app, settings
from millrace.settings.changes import Source
from millrace.simulator import LARGE, SMALL, Simulator
from millrace.web.process import Process
from millrace.web.websocket import BatchingWebSocket
from tests.support.waiting import PATIENCE_S

PRICES = {
    "small": {"input": "0.15", "cached_input": "0.075", "output": "0.60"},
    "large": {"input": "2.50", "cached_input": "1.25", "output": "10.00"},
}


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


def configuration_for(small_url: str, large_url: str, **server: Any) -> dict[str, Any]:
    """Return a whole configuration; `server` goes into its [server]. Nothing is asked again by chance."""
    models = {
        name: {"upstream": "openai", "base_url": url, "model": f"{name}-model", "price": dict(PRICES[name])}
        for name, url in (("small", small_url), ("large", large_url))
    }
    return {
        "server": {"port": 0, "data_dir": ":memory:"} | server,
        "models": models,
        "funnel": {"hedge_share": 0},
        "checks": {"repair": False},
        "evidence": {"judged": False},
    }


@contextlib.asynccontextmanager
async def serving(
    configuration: dict[str, Any],
    ws: Any = BatchingWebSocket,
    connections: set[Any] | None = None,
    environ: Mapping[str, str] = MappingProxyType({}),
    port: int = 0,
) -> AsyncIterator[str]:
    """Run a server in this loop; yield its URL. `ws` is uvicorn's choice of a WebSocket protocol.

    A reload reads what `configuration` holds then.
    """
    source = Source("configuration", lambda: settings.build(configuration, environ))
    server = app.server(source.read(), source=source)
    stopped = asyncio.Event()
    patched: Any = server
    patched.main_loop = stopped.wait  # its own looks ten times a second
    if connections is not None:
        server.server_state.connections = connections
    server.config.ws = ws
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
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


def process_of(running: Running) -> Process:
    """Return the process of a server that has a connection."""
    process: Process = next(iter(running.connections)).app_state["process"]
    return process


Start = Callable[..., contextlib.AbstractAsyncContextManager[Running]]


@contextlib.asynccontextmanager
async def started(
    change: Callable[[dict[str, Any]], None] = lambda _: None, environ: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Running]:
    """Run a server; `change` edits its configuration. The models answer at once unless a prompt says otherwise."""
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        configuration = configuration_for(small.base_url, large.base_url)
        change(configuration)
        connections: set[Any] = set()
        async with serving(configuration, connections=connections, environ=environ) as url:
            yield Running(url, small, large, connections)


def answers_up_to(tokens: int, **server: Any) -> Callable[[dict[str, Any]], None]:
    """Edit a configuration: the small model answers with up to `tokens`; `server` goes into its [server]."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["models"]["small"]["max_output_tokens"] = tokens
        configuration["server"] |= server

    return change


STILL = 30  # looks at what does not move, one after another; where the machine stands still, that is one of them


async def paused_at(running: Running) -> int:
    """Wait until the small model can send no more; return how many tokens it has sent."""
    sent = still = 0
    async with asyncio.timeout(PATIENCE_S):
        while still < STILL:
            await asyncio.sleep(0.01)
            before, sent = sent, running.small.stats.tokens_sent
            still = still + 1 if sent == before > 0 else 0
    return sent


def without_delays(profile: Any) -> Any:
    """Return a profile that answers at once."""
    return replace(profile, ttft_s=0.0, tokens_per_s=0.0)


AT_ONCE_S = 0.25  # PROTOCOL.md, What always holds, 7
