"""What the commands that serve share: a listening socket, an event loop, an end by Ctrl-C."""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import click
import uvicorn

from millrace import app, assembly
from millrace.cli import configuration
from millrace.ports import Claim
from millrace.settings import Fault, ServerSettings

BACKLOG = 2048
COLLECT_AFTER = 10_000, 3, 20  # new objects, and collections of the younger generations


def until_interrupted(running: Coroutine[Any, Any, None]) -> None:
    """Run until it ends or Ctrl-C, which is no error."""
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=app.new_loop) as runner:
        runner.run(running)


def survive_hang_ups() -> None:
    """Have a SIGHUP that comes before the server heeds it do nothing: it is about to begin by the newest settings."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
        signal.signal(hangup, lambda *_: None)


def claim(server: ServerSettings) -> Claim:
    """Take the right to serve data_dir, or exit with 1 and one line that names the server that has it."""
    try:
        return assembly.claim(server.data_dir)
    except OSError as error:
        click.echo(f"cannot serve: {error}", err=True)
        sys.exit(1)


def listen(server: ServerSettings) -> socket.socket:
    """Bind and listen before the server is built: a taken port is reported at once, and port 0 gets its number."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((server.host, server.port))
        listener.listen(BACKLOG)  # from here on, early clients wait in the backlog and are not refused
    except OSError as error:
        listener.close()
        configuration.exit_with_faults(
            [Fault("server.port", f"{server.host}:{server.port}: {error.strerror}; name another port with --port")],
            "cannot listen",
        )
    return listener


def address(listener: socket.socket) -> str:
    """Return host and port of a listening socket, in the form of a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def run(server: uvicorn.Server, listener: socket.socket) -> None:
    """Run a server on a socket. Exits with 1 if it does not start."""
    tune_collector()
    await server.serve(sockets=[listener])
    if not server.started:
        sys.exit(1)  # uvicorn has logged the reason


def tune_collector() -> None:
    """Have the garbage collector look at less, and less often; it stops all streams while it looks.

    What the imports have made lives as long as the process. Frozen, it is not looked at in each full collection, which
    would take 25 ms. Most of what a request makes goes away without the collector, if it comes late enough.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
