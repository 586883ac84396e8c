"""Scripted model servers over real HTTP: what all of them remember, how they write a stream, and how they run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiohttp import web

Fields = dict[str, Any]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedServer:
    """One server. It remembers what it was asked."""

    def __init__(self) -> None:
        self.url = ""  # with /v1, as a configuration has it
        self.asked: list[Fields] = []  # bodies that were taken
        self.bodies: list[bytes] = []  # and all bodies as they came
        self.heads: list[Any] = []  # and their headers
        self.refused: list[str] = []
        self.pause_before = -1  # the number of the event that waits for `go_on`
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()  # all events before it are written
        self.left_at: float | None = None  # when a client was seen to have closed in mid-answer

    async def body_of(self, request: web.Request) -> Fields:
        """Read the body of a request."""
        self.bodies.append(await request.read())
        body: Fields = await request.json()
        return body

    async def stream(self, request: web.Request, events: Iterable[bytes]) -> web.StreamResponse:
        """Answer with server-sent events."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        try:
            for number, event in enumerate(events):
                if number == self.pause_before:
                    self.begun.set()
                    await self.go_on.wait()
                await response.write(event)
        except (ConnectionError, asyncio.CancelledError):
            self.left_at = asyncio.get_running_loop().time()
            raise
        return response


S = TypeVar("S", bound=ScriptedServer)


@asynccontextmanager
async def serving(server: S, routes: dict[str, Answer]) -> AsyncIterator[S]:
    """Run a server on a free port, with what answers a POST to each path."""
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
