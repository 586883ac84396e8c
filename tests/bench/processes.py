"""The processes of the benchmark: started, pinned to a core, measured, and ended."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.paths import REPOSITORY

TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, OTHER_CORES = {CORES[0]}, set(CORES[1:]) or {CORES[0]}
START_S = 60.0
QUIET_S = 1.0  # of which a process that rests uses at most a tenth


class Measured:
    """A process and its children, as the kernel counts them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU time, of children that have ended too."""
        return sum(sum(map(int, _stat(pid)[11:15])) for pid in tree(self.process.pid)) / TICKS

    @property
    def kib(self) -> int:
        """KiB of memory, shared pages in proportion (PSS)."""
        return sum(map(pss, tree(self.process.pid)))

    async def rests(self) -> None:
        """Wait until it does nothing: what it began in idle time, such as an index, is done."""
        before = -1.0
        while self.cpu_s - before > 0.1 * QUIET_S:
            before = self.cpu_s
            await asyncio.sleep(QUIET_S)


def tree(pid: int) -> Iterator[int]:
    """Yield a process and all its children that live."""
    waiting = [pid]
    while waiting:
        pid = waiting.pop()
        yield pid
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                waiting += map(int, task.read_text().split())


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 20


def pss(pid: int) -> int:
    """Return the KiB of memory of one process, shared pages in proportion."""
    return _kib(pid, "Pss:")


def rss(pid: int) -> int:
    """Return the KiB of memory of one process, shared pages in full."""
    return _kib(pid, "Rss:")


def _kib(pid: int, which: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(which))


@asynccontextmanager
async def started(
    *arguments: str, cores: set[int], stdin: int | None = None, stdout: int = subprocess.PIPE, stderr: int | None = None
) -> AsyncIterator[Measured]:
    """Start a Python program on some cores, and kill it at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=REPOSITORY,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={name: value for name, value in os.environ.items() if not name.startswith("MILLRACE")},
        limit=2**24,
    )
    os.sched_setaffinity(process.pid, cores)
    try:
        yield Measured(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def port_of(measured: Measured) -> int:
    """Return the port that a program prints as its first line."""
    assert measured.process.stdout is not None, "it is piped"
    async with asyncio.timeout(START_S):
        return int(await measured.process.stdout.readline())


async def listening(port: int, patience_s: float = START_S) -> None:
    """Wait until a port is listened on."""
    async with asyncio.timeout(patience_s):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


class Clients:
    """The generator's process."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured

    async def do(self, what: str, **job: Any) -> dict[str, Any]:
        """Have it do a job; return the result. Raises RuntimeError with what went wrong."""
        process = self.measured.process
        assert process.stdin is not None, "it is piped"
        assert process.stdout is not None, "it is piped"
        process.stdin.write(json.dumps({"do": what, **job}).encode() + b"\n")
        await process.stdin.drain()
        result: dict[str, Any] = json.loads(await process.stdout.readline())
        if "error" in result:
            raise RuntimeError(f"{what}: {result['error']}")
        return result
