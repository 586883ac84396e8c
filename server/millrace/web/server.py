"""uvicorn with a drain before its shutdown, and the event loop it runs in."""

import asyncio
import importlib.util
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from types import FrameType

import uvicorn

from millrace.web.drain import POLL_S, drain

REPLACE = b"r"  # what a supervisor sends to a worker in whose place it has started another


class Server(uvicorn.Server):
    """uvicorn, except that the first signal drains before the sockets are closed, and a second one stops now."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and read the configuration anew at each SIGHUP, on platforms that have it."""
        hangup = getattr(signal, "SIGHUP", None)
        self._reloads: set[asyncio.Task[object]] = set()
        self._is_reload_due = False
        if hangup is not None and threading.current_thread() is threading.main_thread():
            self._heeds_terminal = signal.getsignal(hangup) is not signal.SIG_IGN and has_terminal()  # `nohup` ignores
            asyncio.get_running_loop().add_signal_handler(hangup, self._hang_up)
        await super().startup(sockets)
        elsewhere = self.lifespan.state["process"].elsewhere if self.started else None
        if elsewhere is not None and elsewhere.siblings is not None:
            await elsewhere.siblings.announce()
            self._heed_supervisor()
        if self._is_reload_due and self.started:
            self._hang_up()

    def _heed_supervisor(self) -> None:
        """Stop once the supervisor has gone, or wants another worker in the place of this one."""
        supervisor = sys.stdin.fileno()
        os.set_blocking(supervisor, False)

        def heed() -> None:
            with suppress(BlockingIOError):
                if os.read(supervisor, 1) == REPLACE:
                    self.servers[0].close()  # the others take what comes from now on
                asyncio.get_running_loop().remove_reader(supervisor)
                self.handle_exit(signal.SIGTERM, None)

        asyncio.get_running_loop().add_reader(supervisor, heed)

    def _hang_up(self) -> None:
        """Reload. If it was the terminal that has hung up, stop as at any other signal."""
        if self._heeds_terminal and not has_terminal():
            self.handle_exit(signal.SIGTERM, None)
        elif not self.started:
            self._is_reload_due = True
        else:
            settings = self.lifespan.state["process"].settings
            reload = asyncio.get_running_loop().create_task(settings.reload(tells=False))
            self._reloads.add(reload)
            reload.add_done_callback(self._reloads.discard)

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


def has_terminal() -> bool:
    """Whether the process has a terminal that can close."""
    try:
        os.close(os.open(os.ctermid(), os.O_RDWR | os.O_NOCTTY))
    except (OSError, AttributeError):
        return False
    return True


def new_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that a server is meant to run in: uvloop, on the platforms that have it."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not everywhere

    return uvloop.new_event_loop()
