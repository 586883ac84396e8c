"""What `serve --workers N` costs and holds: `python -m tests.measure_workers`. Takes two minutes of two quiet cores.

At one paced load: the CPU of a token with one process and with several, in pairs one after the other; how connections
are divided; and what a kill -9 of a worker takes along. Exits with 1 where a bound is passed.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.support.processes import ServerProcess, server_process

MOST_CPU, LEAST_SHARE, MOST_SHARE = 1.1, 0.35, 0.65
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Seen:
    """What the clients of one run have seen."""

    tokens: int = 0
    ended: int = 0  # streams
    cut: Counter[str] = field(default_factory=Counter)  # streams whose connection has gone, by epoch
    connections: Counter[str] = field(default_factory=Counter)  # by epoch


def tree_of(pid: int) -> list[int]:
    """Return a process and all that it has started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text("ascii").split():
            found += tree_of(int(child))
    return found


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of all that it has started."""
    total = 0
    for each in tree_of(pid):
        fields = Path(f"/proc/{each}/stat").read_text("utf-8").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


async def talk(client: ClientConnection, epoch: str, seen: Seen, tokens: int, rate: int, until: float) -> None:
    """Ask for one answer after the other."""
    number = 0
    try:
        while time.monotonic() < until:
            number += 1
            text = f"go on {id(client)} {number} [tokens={tokens}] [rate={rate}]"
            asked = {"type": "response.create", "input": text, "model": "small", "cache": "off"}
            await client.send(json.dumps(asked))
            while True:
                event = json.loads(await client.recv())
                seen.tokens += event["type"] == "response.output_text.delta"
                if event["type"] in {"response.completed", "response.failed", "response.incomplete", "error"}:
                    seen.ended += event["type"] == "response.completed"
                    break
    except ConnectionClosed:
        seen.cut[epoch] += 1


async def connected(running: ServerProcess, seen: Seen) -> tuple[ClientConnection, str]:
    """Connect, and learn whose connection it is."""
    url = f"{running.ws_url}/v1/responses"
    client = await connect(url, subprotocols=[Subprotocol("millrace.v1")], compression=None)
    epoch = json.loads(await client.recv())["epoch"]
    seen.connections[epoch] += 1
    return client, epoch


async def run(workers: int, chosen: argparse.Namespace, *, kills: bool = False) -> tuple[Seen, float, str]:
    """Return what was seen, the CPU seconds of the server meanwhile, and the epoch of the worker that was killed."""
    seen, killed = Seen(), ""
    with tempfile.TemporaryDirectory(prefix="millrace-measure-") as folder:
        async with server_process(Path(folder), 1.0, workers=workers) as running:
            assert running.process.stderr is not None
            log = asyncio.create_task(asyncio.to_thread(running.process.stderr.read))  # or it would wait for a reader
            clients = [await connected(running, seen) for _ in range(chosen.streams)]
            began, until = cpu_s(running.process.pid), time.monotonic() + chosen.seconds
            talks = [
                asyncio.create_task(talk(client, epoch, seen, chosen.tokens, chosen.rate, until))
                for client, epoch in clients
            ]
            if kills:
                await asyncio.sleep(chosen.seconds / 2)
                killed = clients[0][1]
                os.kill(pid_of(folder, killed), signal.SIGKILL)
            await asyncio.gather(*talks)
            spent = cpu_s(running.process.pid) - began
            await asyncio.gather(*(client.close() for client, _ in clients))
            running.stop()
            await running.exited()
            await log
    return seen, spent, killed


def pid_of(folder: str, epoch: str) -> int:
    """Return the pid of the process that has locked the file of an epoch."""
    inode = Path(folder, f"process-{epoch}.lock").stat().st_ino
    for line in Path("/proc/locks").read_text("ascii").splitlines():
        _, kind, _, _, pid, place, *_ = line.split()
        if kind == "FLOCK" and place.endswith(f":{inode}"):
            return int(pid)
    raise LookupError(epoch)


async def measured(chosen: argparse.Namespace, console: Console) -> bool:
    """Measure, and print a table; whether all bounds hold."""
    ratios, one_us, many_us = [], [], []
    together = Seen()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=2 * chosen.pairs + 1)
        for pair in range(chosen.pairs):
            of_pair = {}
            for workers in (1, chosen.workers) if pair % 2 else (chosen.workers, 1):
                seen, spent, _ = await run(workers, chosen)
                of_pair[workers] = spent / max(1, seen.tokens) * 1e6
                if workers > 1:
                    together.connections.update(seen.connections)
                    shares = [count / seen.connections.total() for count in seen.connections.values()]
                progress.advance(task)
            one_us.append(of_pair[1])
            many_us.append(of_pair[chosen.workers])
            ratios.append(of_pair[chosen.workers] / of_pair[1])
        seen, _, killed = await run(chosen.workers, chosen, kills=True)
        progress.advance(task)
    ratio = statistics.median(ratios)
    only_own = set(seen.cut) <= {killed} and seen.cut[killed] == seen.connections[killed]
    fair = len(shares) == chosen.workers and all(
        LEAST_SHARE * 2 / chosen.workers <= share <= MOST_SHARE * 2 / chosen.workers for share in shares
    )
    table = Table("what", "found", "bound", "holds", title=f"{chosen.workers} workers, {chosen.streams} streams")
    cpu = f"{statistics.median(many_us):.1f} µs, one process {statistics.median(one_us):.1f} µs: {ratio:.2f}x"
    table.add_row("CPU of a token", cpu, f"<= {MOST_CPU}x", str(ratio <= MOST_CPU))
    table.add_row("connections of each", ", ".join(f"{share:.0%}" for share in shares), "35-65 %", str(fair))
    lost = f"{seen.cut.total()} of {seen.connections.total()} streams cut, {seen.connections[killed]} were its own"
    table.add_row("kill -9 of one", lost, "its own", str(only_own))
    console.print(table)
    return ratio <= MOST_CPU and fair and only_own


def main() -> None:
    """Read the options, measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.measure_workers", description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--tokens", type=int, default=200, help="of an answer")
    parser.add_argument("--rate", type=int, default=40, help="tokens a second of a stream")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    random.seed(chosen.seed)
    sys.exit(0 if asyncio.run(measured(chosen, Console())) else 1)


if __name__ == "__main__":
    main()
