"""uvicorn with a drain before its shutdown, and the event loop it runs in."""

import asyncio
import importlib.util
import socket
from types import FrameType

import uvicorn

from millrace.web.drain import POLL_S, drain


class Server(uvicorn.Server):
    """uvicorn, except that the first signal drains before the sockets are closed, and a second one stops now."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal; uvicorn looks at these flags."""
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close. During the drain new connections are refused and health checks answered."""
        draining = asyncio.create_task(drain(self.lifespan.state["process"]))
        while not draining.done() and not self.force_exit:
            await asyncio.wait((draining,), timeout=POLL_S)
        draining.cancel()
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn skips it then, but what was spent must still be written
            await self.lifespan.shutdown()


def new_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that a server is meant to run in: uvloop, on the platforms that have it."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not everywhere

    return uvloop.new_event_loop()
