"""SIGHUP at a server of its own process: a reload, unless it says that the terminal has closed."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY
from tests.support.processes import ENVIRONMENT

CONFIG = """
[server]
port = 0
data_dir = ":memory:"
[models.small]
upstream = "openai"
base_url = "http://127.0.0.1:9/v1"
model = "small-model"
price = {{ input = "1", output = "{output}" }}
[models.large]
upstream = "openai"
base_url = "http://127.0.0.1:9/v1"
model = "large-model"
price = {{ input = "1", output = "2" }}
"""
ENTER = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
arguments = sys.argv[1:]
if arguments[0] == "-":  # as `nohup` does
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    del arguments[0]
os.execv(sys.executable, [sys.executable, *arguments])
"""
ENOUGH_S = 60.0


class InTerminal:
    """A server in a terminal of its own, and what it has printed."""

    def __init__(self, config: Path, *, ignores: bool) -> None:
        self.terminal, inner = pty.openpty()

        command = [sys.executable, "-c", ENTER, *(("-",) if ignores else ()), str(REPOSITORY / "server"), "serve"]
        self.process = subprocess.Popen(
            [*command, "--config", str(config)],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        os.close(inner)
        self.printed = ""

    async def prints(self, words: str) -> None:
        """Wait until it has printed something."""
        async with asyncio.timeout(ENOUGH_S):
            while words not in self.printed:
                self.printed += (await asyncio.to_thread(os.read, self.terminal, 4096)).decode()

    async def reloads(self) -> None:
        """Have it reload, again and again until it has begun to heed that."""
        os.set_blocking(self.terminal, False)
        async with asyncio.timeout(ENOUGH_S):
            while "configuration read" not in self.printed:
                self.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.2)
                try:
                    self.printed += os.read(self.terminal, 4096).decode()
                except BlockingIOError:
                    continue


@contextmanager
def in_terminal(folder: Path, *, ignores: bool = False) -> Iterator[InTerminal]:
    config = folder / "millrace.toml"
    config.write_text(CONFIG.format(output="2"))
    server = InTerminal(config, ignores=ignores)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("ignores", [False, True])
async def test_a_terminal_that_closes_stops_a_server_unless_it_was_told_not_to_heed_that(
    tmp_path: Path, ignores: bool
) -> None:
    with in_terminal(tmp_path, ignores=ignores) as server:
        await server.prints("ws://")
        (tmp_path / "millrace.toml").write_text(CONFIG.format(output="3"))
        await server.reloads()
        os.close(server.terminal)
        if ignores:
            server.process.send_signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                await asyncio.to_thread(server.process.wait, 2.0)
        else:
            assert await asyncio.to_thread(server.process.wait, ENOUGH_S) == -signal.SIGTERM
