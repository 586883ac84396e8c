"""Requests over HTTP on their way: from the first byte of their body until their run has begun.

The sweeper looks at each: whether the body comes too slowly, and whether the client is still there.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from millrace.errors import MillraceError
from millrace.memory import Hold
from millrace.web.http1 import TimedHttp
from millrace.web.process import Process
from millrace.web.websocket import EXTENSION
from millrace.wire import limits
from millrace.wire.reading import LONG


class Arrival:
    """One request, and what is held for it. `interrupt` ends its wait; the error is raised where it waits."""

    def __init__(self, request: Request, process: Process, held: Hold) -> None:
        self.held = held
        self.waiting: asyncio.Timeout | None = None
        self.error: Exception | None = None  # why it was interrupted
        self._request = request
        self._connection: TimedHttp | None = request.scope.get("extensions", {}).get(EXTENSION)
        self._began_at = process.clock()
        self._stuck_s = process.stuck_s
        self._come = 0  # bytes of the body
        self._is_whole = False

    async def body(self, limit: int) -> bytes:
        """Return the request's body; raise `message_too_big` before more than the limit, in bytes, is kept.

        Raises `overloaded` if it does not fit into what its tenant may hold, `request_timeout` if it comes too slowly.
        A short one always fits.
        """
        body = bytearray()
        async for piece in self._request.stream():
            body += piece
            self._come = len(body)
            if self._come > limit:
                raise MillraceError("message_too_big", f"the body is longer than {limit} bytes")
            if self._come > LONG:
                self.held.resize(self._come)
            else:
                self.held.count(self._come)
        self._is_whole = True
        return bytes(body)

    async def pieces(self, limit: int) -> AsyncIterator[bytes]:
        """Yield the pieces of a body that is not kept in memory; raise as `body` does."""
        async for piece in self._request.stream():
            self._come += len(piece)
            if self._come > limit:
                raise MillraceError("message_too_big", f"the body is longer than {limit} bytes")
            if piece:
                yield piece
        self._is_whole = True

    def sweep(self, now: float) -> None:
        """Give up a body that is late, and a request whose client has gone. Called by the sweeper."""
        if not self._is_whole:
            if now - self._began_at > self._stuck_s + self._come / limits.LEAST_RATE:
                rate = f"{limits.LEAST_RATE // 1024} KiB a second"
                message = f"the body came too slowly; send it within {self._stuck_s:g} s, or at {rate} at least"
                self._interrupt(MillraceError("request_timeout", message))
        elif self._connection is not None and self._connection.is_gone:
            self._interrupt(ClientDisconnect())

    def _interrupt(self, error: Exception) -> None:
        if self.error is None and self.waiting is not None:
            self.error = error
            self.waiting.reschedule(0)


@asynccontextmanager
async def arriving(request: Request, process: Process) -> AsyncIterator[Arrival]:
    """Watch over a request. What is held for it by then is given back at the end."""
    arrival = Arrival(request, process, process.memory.hold(request.state.principal.tenant))
    process.arrivals.add(arrival)
    try:
        async with asyncio.timeout(None) as arrival.waiting:
            yield arrival
    except TimeoutError:
        if arrival.error is None:
            raise
        raise arrival.error from None
    finally:
        arrival.waiting = None
        process.arrivals.discard(arrival)
        arrival.held.close()
