"""What the commands that serve share: a listening socket, an event loop, an end by Ctrl-C."""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from typing import Any

import click
import uvicorn

from millrace import app, assembly, heap, log
from millrace.cli import configuration
from millrace.ports import Claim
from millrace.settings import Fault, ServerSettings

BACKLOG = 2048
MAY_SHARE_PORT = sys.platform == "linux"  # elsewhere SO_REUSEPORT gives all connections to one
GIVE_BACK_EVERY_S, GIVE_BACK_PART = 10.0, 2000  # at least, and one part of so many of the time at most
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
    listener = _socket(server.host)
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


def reserve(server: ServerSettings) -> socket.socket:
    """Bind the port for workers. Where they can bind it, too, it does not listen: each does, and the kernel divides.

    Elsewhere it listens, and they inherit it.
    """
    listener = listen(server)  # also sees that nobody else has the port
    if not MAY_SHARE_PORT:
        return listener
    port = listener.getsockname()[1]
    listener.close()
    return shared(server.host, port)


def shared(host: str, port: int) -> socket.socket:
    """Bind a port that others have bound, too."""
    listener = _socket(host)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener


def private() -> socket.socket:
    """Bind a port of this machine alone, at which the other workers reach this one."""
    listener = _socket("127.0.0.1")
    listener.bind(("127.0.0.1", 0))
    return listener


def _socket(host: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return listener


def address(listener: socket.socket) -> str:
    """Return host and port of a listening socket, in the form of a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def run(server: uvicorn.Server, *listeners: socket.socket) -> None:
    """Run a server on sockets. Exits with 1 if it does not start."""
    tune_collector()
    tidying = asyncio.create_task(_tidy())
    try:
        await server.serve(sockets=[*listeners])
    finally:
        tidying.cancel()
    if not server.started:
        sys.exit(1)  # uvicorn has logged the reason


async def _tidy() -> None:
    """Give back what has been freed, again and again: after a burst that is a tenth of all memory, else kept.

    It takes half a millisecond, but more of a heap in many pieces; then it is done so much more seldom.
    """
    took = 0.0
    while True:
        await asyncio.sleep(max(GIVE_BACK_EVERY_S, GIVE_BACK_PART * took))
        began = time.monotonic()
        try:
            await asyncio.to_thread(heap.give_back)
        except Exception as error:  # a thread too many, say: next time
            log.get().error("heap not given back", exc_info=error)
        took = time.monotonic() - began


def tune_collector() -> None:
    """Have the garbage collector look at less, and less often; it stops all streams while it looks.

    What the imports have made lives as long as the process. Frozen, it is not looked at in each full collection, which
    would take 40 ms, nor now: hardly anything of it is garbage. Most of what a request makes goes away without the
    collector, if it comes late enough.
    """
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
