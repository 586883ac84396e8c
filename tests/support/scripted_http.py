"""Runs scripted model servers over real HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Scripted(Protocol):
    """A server's script: where it runs, and what lets go whoever waits."""

    url: str
    go_on: asyncio.Event


S = TypeVar("S", bound=Scripted)


@asynccontextmanager
async def serving(server: S, routes: dict[str, Answer]) -> AsyncIterator[S]:
    """Run a server on a free port, with what answers a POST to each path; its URL is that of a configuration."""
    application = web.Application(client_max_size=32 * 2**20)
    for path, answer in routes.items():
        application.router.add_post(path, answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = "http://{}:{}/v1".format(*runner.addresses[0])
        yield server
    finally:
        server.go_on.set()
        await runner.cleanup()
