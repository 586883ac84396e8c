"""What the commands that serve have in common: a socket that listens, a loop, an end by Ctrl-C."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import uvicorn

from millrace import app
from millrace.cli import configuration
from millrace.settings import Fault, ServerSettings

BACKLOG = 2048


def until_interrupted(running: Coroutine[Any, Any, None]) -> None:
    """Run until it ends. Ctrl-C is the ordinary way to end it, and is no error."""
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=app.new_loop) as runner:
        runner.run(running)


def listen(server: ServerSettings) -> socket.socket:
    """Bind before anything is built, so that a taken port is said at once and port 0 has a number."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((server.host, server.port))
        listener.listen(BACKLOG)  # from here on nobody is turned away, however early
    except OSError as error:
        listener.close()
        configuration.complain(
            [Fault("server.port", f"{server.host}:{server.port}: {error.strerror}; name another with --port")],
            "cannot listen",
        )
    return listener


def address(listener: socket.socket) -> str:
    """Return where a socket listens, as it stands in a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def run(server: uvicorn.Server, listener: socket.socket) -> None:
    """Run a server on a socket; exit with 1 where it does not start."""
    await server.serve(sockets=[listener])
    if not server.started:
        sys.exit(1)  # uvicorn has said why
