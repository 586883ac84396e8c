"""Millrace in processes of its own, as `python server ...` and `python client ...` from a checkout."""

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from millrace.simulator import LARGE, SMALL, Simulator
from millrace.stores.database import FILE
from tests.support.paths import REPOSITORY
from tests.support.server import without_delays
from tests.support.waiting import PATIENCE_S

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE")}
ENVIRONMENT |= {"PYTHONUTF8": "1", "NO_COLOR": "1", "COLUMNS": "200"}


def spawn(program: str, *arguments: str, cwd: Path = REPOSITORY, **pipes: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(REPOSITORY / program) if cwd != REPOSITORY else program, *arguments]
    return subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, text=True, encoding="utf-8", **pipes)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server in a process of its own, and the small model that it calls."""

    process: subprocess.Popen[str]
    url: str
    small: Simulator
    folder: Path

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal; return when."""
        self.process.send_signal(number)
        return time.monotonic()

    async def exited(self) -> int:
        """Wait for the end of the process; return its exit status."""
        return await asyncio.to_thread(self.process.wait, PATIENCE_S)

    def rows(self) -> list[tuple[str, str | None, int]]:
        """Return status, code and cost of every request, once the process has ended."""
        with closing(sqlite3.connect(self.folder / FILE)) as file:
            return file.execute("SELECT status, code, cost_nanodollars FROM entries").fetchall()


@asynccontextmanager
async def server_process(
    folder: Path, drain_s: float, evidence: str = "judged = false", workers: int = 1
) -> AsyncIterator[ServerProcess]:
    """Run `python server serve` on a free port; `evidence` is its [evidence], so that nothing is asked by chance."""
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        models = "".join(
            f'[models.{name}]\nupstream = "openai"\nbase_url = "{simulator.base_url}"\nmodel = "{name}-model"\n'
            'price = { input = "1", output = "2" }\nmax_output_tokens = 100000\n'
            for name, simulator in (("small", small), ("large", large))
        )
        config = folder / "millrace.toml"
        server = f'[server]\nport = 0\ndata_dir = "{folder}"\ndrain_s = {drain_s}\n'
        config.write_text(f"{server}{models}[evidence]\n{evidence}\n")
        arguments = ("serve", "--config", str(config), "--workers", str(workers))
        with spawn("server", *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            try:
                yield ServerProcess(process, await asyncio.to_thread(address, process), small, folder)
            finally:
                process.kill()


def address(process: subprocess.Popen[str]) -> str:
    """Return the address that a server prints."""
    assert process.stderr is not None
    printed = ""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", printed)):
        line = process.stderr.readline()
        assert line, f"it ended: {printed}"
        printed += line
    return found[0]
