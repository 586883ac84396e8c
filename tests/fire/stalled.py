"""Readers that stall beside readers that read: what they cost, when they are closed, and what the others feel of it.

    python -m tests.fire.stalled --pairs 7

Each pair is a run without stalled readers and one with them, in turns. A stalled reader asks for a long answer and then
reads nothing, on a socket with a small buffer. Once all of them are stuck, the healthy ones ask, and stream until all
stalled ones are closed. Five of these read on when their requests have ended, and so see the close code. Server,
provider and healthy readers are processes of their own; a ratio is the healthy readers' p99 gap between two tokens,
with stalled readers and without.
"""

import asyncio
import fcntl
import json
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.bench.pace import Pace
from tests.bench.processes import OTHER_CORES, Clients, port_of, rss, started
from tests.bench.rounds import set_pace
from tests.bench.streams import text_frame
from tests.bench.targets import configuration, millrace
from tests.support.ports import free_port
from tests.support.raw_http import UPGRADE
from tests.support.slow_client import SMALL_BUFFER
from tests.support.waiting import PATIENCE_S

MOST_KIB = 512.0
LATER_S = 5.0  # than the setting by which a stuck reader is given up, at most
MOST_RATIO = 1.25
FLOOD = Pace(tokens=20_000, letters=500)  # of the answers that stalled readers do not read: no socket holds 10 MB
RATE, TTFT_S, RAMP_S = 20.0, 0.05, 1.0  # of the answers that healthy readers read
READ_ON = 5  # stalled readers that do, at last: fewer than threads, so that none waits for another
LOOK_S = 0.05
ESTABLISHED = 1  # a state of TCP, as Linux numbers them
TRY_AGAIN_LATER = 1013
_RESPONSE = re.compile(rb"resp_[0-9a-f]+")
SETTLED_S = 40.0  # until all are stuck, at most


class Stalled:
    """One reader that asks and stops to read."""

    def __init__(self, port: int, number: int) -> None:
        self.stuck_at = 0.0  # when its socket was seen to take nothing more
        self.closed_at: float | None = None
        self.code: int | None = None
        self._waiting = -1
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self._socket.settimeout(10)
        self._socket.connect(("127.0.0.1", port))
        self._port = self._socket.getsockname()[1]
        self._socket.sendall(UPGRADE.format(host="127.0.0.1").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._socket.recv(1)
        create = {"type": "response.create", "model": "large", "input": f"flood {number}"}
        self._socket.sendall(text_frame(json.dumps(create).encode()))

    @property
    def response_id(self) -> str:
        """The id of its response, which stands in what it has not read."""
        found = _RESPONSE.search(self._socket.recv(SMALL_BUFFER, socket.MSG_PEEK))
        assert found, "the first event is not there"
        return found[0].decode()

    @property
    def is_stuck(self) -> bool:
        """Whether its socket is full, and has been for a while."""
        return self._waiting > SMALL_BUFFER // 2 and time.monotonic() - self.stuck_at >= 1

    def look(self) -> None:
        """Note since when nothing comes any more."""
        waiting = int.from_bytes(_waiting_bytes(self._socket), sys.byteorder)
        if waiting != self._waiting:
            self._waiting, self.stuck_at = waiting, time.monotonic()

    def look_at(self, open_ports: set[int]) -> None:
        """Note when the server has closed the connection."""
        if self.closed_at is None and self._port not in open_ports:
            self.closed_at = time.monotonic()

    def read_on(self) -> None:
        """Read what came, to the close frame. Called in a thread."""
        data = bytearray()
        with suppress(OSError):
            while got := self._socket.recv(2**16):
                data += got
        if len(data) > 4 and (at := data.rfind(b"\x88", max(len(data) - 200, 0))) >= 0:
            self.code = struct.unpack("!H", data[at + 2 : at + 4])[0]

    def close(self) -> None:
        """Close it, whatever the server has done."""
        self._socket.close()


def _waiting_bytes(connection: socket.socket) -> bytes:
    return fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(4))


def _open_ports(port: int) -> set[int]:
    """Return the ports of those whose connections to a port its server has not closed.

    They cannot tell themselves: what tells them waits behind what they do not read.
    """
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {
        int(there.rpartition(":")[2], 16)
        for _, here, there, state, *_ in lines
        if int(here.rpartition(":")[2], 16) == port and int(state, 16) == ESTABLISHED
    }


@dataclass(slots=True)
class Run:
    """What a run has found."""

    gap_p99_ms: float
    delivered: float  # of the tokens that were due
    kib: float = 0.0  # a stalled reader
    closed_s: list[float] = field(default_factory=list)  # after it was stuck
    codes: list[int | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stage:
    """A server, a provider and the process of the healthy readers."""

    port: int
    pid: int
    provider_port: int
    clients: Clients
    stuck_s: float

    async def run(self, healthy: int, stalled: int, seed: str) -> Run:
        """Let healthy readers stream beside some stalled ones until these are closed."""
        url = f"http://127.0.0.1:{self.port}"
        await self.clients.do("open", port=self.port, connections=healthy, negotiated=False)
        async with aiohttp.ClientSession(url) as http:
            before = rss(self.pid)
            readers = await self._stuck(stalled)
            kib = (rss(self.pid) - before) / stalled if stalled else 0.0
            seconds = self.stuck_s + LATER_S + 1
            await set_pace(self.provider_port, Pace(int(RATE * seconds), RATE, TTFT_S))
            asking = {"seed": seed, "fields": {"model": "large"}, "again": None}
            watching = asyncio.create_task(self._watch(readers, http))
            streamed = await self.clients.do(
                "paced", tokens=int(RATE * seconds), rate=RATE, ttft_s=TTFT_S, ramp_s=RAMP_S, asking=asking
            )
            await watching
        await self.clients.do("close")
        for reader in readers:
            reader.close()
        closed = [(reader.closed_at or float("inf")) - reader.stuck_at for reader in readers]
        codes = [reader.code for reader in readers[:READ_ON]]
        return Run(streamed["gap_p99_ms"], streamed["delivered"], kib, closed, codes)

    async def _stuck(self, count: int) -> list[Stalled]:
        """Return readers once all of them take nothing more."""
        await set_pace(self.provider_port, FLOOD)
        readers: list[Stalled] = []
        over = time.monotonic() + SETTLED_S
        while (len(readers) < count or not all(each.is_stuck for each in readers)) and time.monotonic() < over:
            if len(readers) < count:
                readers.append(await asyncio.to_thread(Stalled, self.port, len(readers)))
            else:
                await asyncio.sleep(LOOK_S)
            for reader in readers:
                reader.look()
        return readers

    async def _watch(self, readers: list[Stalled], http: aiohttp.ClientSession) -> None:
        """See when they are closed; have some read on as soon as their requests have ended."""
        if not readers:
            return
        over = time.monotonic() + self.stuck_s + PATIENCE_S
        waiting = readers[:READ_ON]
        reading: list[asyncio.Task[None]] = []
        while any(reader.closed_at is None for reader in readers) and time.monotonic() < over:
            open_ports = _open_ports(self.port)
            for reader in readers:
                reader.look_at(open_ports)
            for reader in [*waiting]:
                is_near = time.monotonic() > reader.stuck_at + self.stuck_s - 1
                if is_near and await _has_ended(http, reader.response_id):
                    waiting.remove(reader)
                    reading.append(asyncio.create_task(asyncio.to_thread(reader.read_on)))
            await asyncio.sleep(LOOK_S)
        await asyncio.gather(*reading)


async def _has_ended(http: aiohttp.ClientSession, response_id: str) -> bool:
    async with http.get(f"/v1/responses/{response_id}") as answer:
        status: str = (await answer.json())["status"]
        return status != "in_progress"


@asynccontextmanager
async def staged(folder: Path, stuck_s: float) -> AsyncIterator[Stage]:
    """Start all."""
    generator = started("-m", "tests.bench.generator", cores=OTHER_CORES, stdin=subprocess.PIPE)
    async with started("-m", "tests.bench.upstream", cores=OTHER_CORES) as provider, generator as clients:
        provider_port, port = await port_of(provider), free_port()
        config = configuration(folder, port, provider_port, caches=False)
        text = config.read_text("utf-8").replace("[server]\n", f"[server]\nstuck_s = {stuck_s}\n")
        config.write_text(f"{text}[metrics]\nopen = true\n[evidence]\njudged = false\n", "utf-8")
        async with millrace(config, port) as server:
            yield Stage(port, server.process.pid, provider_port, Clients(clients), stuck_s)


@dataclass(frozen=True, slots=True)
class Pair:
    """A run without stalled readers, and one with them."""

    without: Run
    beside: Run

    @property
    def ratio(self) -> float:
        """How much longer the p99 gap is beside them."""
        return self.beside.gap_p99_ms / self.without.gap_p99_ms


async def measure(pairs: int, healthy: int, stalled: int, stuck_s: float, seed: int, step: Any) -> list[Pair]:
    """Run pairs; each begins with the other kind."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        async with staged(Path(folder), stuck_s) as stage:
            for number in range(pairs):
                runs = {}
                for count in (0, stalled) if number % 2 == 0 else (stalled, 0):
                    runs[count] = await stage.run(healthy, count, f"{seed} {number} {count}")
                    step()
                found.append(Pair(runs[0], runs[stalled]))
    return found


def wrong(pairs: list[Pair], stuck_s: float) -> list[str]:
    """Return what is not as it must be."""
    faults = []
    kib = max(pair.beside.kib for pair in pairs)
    closed = [seconds for pair in pairs for seconds in pair.beside.closed_s]
    codes = {code for pair in pairs for code in pair.beside.codes}
    if kib > MOST_KIB:
        faults.append(f"a stalled reader costs {kib:.0f} KiB")
    if min(closed) < stuck_s - 1 or max(closed) > stuck_s + LATER_S:
        faults.append(f"stalled readers are closed after {min(closed):.1f} to {max(closed):.1f} s")
    if codes != {TRY_AGAIN_LATER}:
        faults.append(f"they are closed with {codes}")
    if (ratio := statistics.median(pair.ratio for pair in pairs)) > MOST_RATIO:
        faults.append(f"healthy readers wait {ratio:.2f} times as long")
    return faults


@click.command(help=__doc__)
@click.option("--pairs", default=7, show_default=True)
@click.option("--healthy", default=400, show_default=True)
@click.option("--stalled", default=100, show_default=True)
@click.option("--stuck-s", default=30.0, show_default=True, help="The server's setting.")
@click.option("--seed", default=1, show_default=True)
def main(*, pairs: int, healthy: int, stalled: int, stuck_s: float, seed: int) -> None:
    """Print a table; exit with 1 if something is not as it must be."""
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("runs", total=2 * pairs)
        found = asyncio.run(measure(pairs, healthy, stalled, stuck_s, seed, lambda: progress.advance(bar)))
    title = f"{stalled} stalled readers beside {healthy} healthy ones"
    columns = ("pair", "p99 gap without, ms", "beside, ms", "ratio", "tokens in time", "KiB a stalled one")
    table = Table(*columns, "closed after, s", "codes", title=title)
    for number, pair in enumerate(found, 1):
        beside = pair.beside
        closed = f"{min(beside.closed_s):.1f} to {max(beside.closed_s):.1f}"
        codes = ", ".join(sorted({str(code) for code in beside.codes}))
        gaps = f"{pair.without.gap_p99_ms:.1f}", f"{beside.gap_p99_ms:.1f}", f"{pair.ratio:.2f}"
        table.add_row(str(number), *gaps, f"{beside.delivered:.1%}", f"{beside.kib:.0f}", closed, codes)
    table.caption = f"median ratio {statistics.median(pair.ratio for pair in found):.3f}"
    console = Console(width=140)
    console.print(table)
    faults = wrong(found, stuck_s)
    for fault in faults:
        console.print(f"[red]{fault}[/]")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
