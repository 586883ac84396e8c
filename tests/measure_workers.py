"""What `serve --workers N` costs and holds: `python -m tests.measure_workers`. Takes four minutes of two quiet cores.

At one paced load: the CPU of a token with one process and with several, in pairs one after the other, children and
supervisor included; how connections are divided; and what a kill -9 of a worker takes along. Exits with 1 where a bound
is passed, or where nothing could be measured.

The load is 600 streams of 20 tokens a second. One process is well used by it (some two thirds of a core) and delivers
all; clients and provider, processes of their own as in `make bench`, need half a core more. Starts are spread over a
second, so tokens come evenly, as those of users who do not know each other. With far less, what a process does while
nobody asks it (shown as idle) is much of what is measured; with more, or where all speak at once, tokens pile up
before one process, which carries them in heaps, cheaply and late. A run in which a token in a hundred is late is void,
and repeated.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.bench.pace import Pace
from tests.bench.processes import CORES, Clients, Measured, listening, port_of, started
from tests.bench.rounds import RAMP_S, TTFT_S, set_pace
from tests.bench.targets import configuration
from tests.support.ports import free_port
from tests.support.processes import server_process

MOST_CPU, LEAST_SHARE, MOST_SHARE = 1.1, 0.35, 0.65
DELIVERED = 0.99  # of the tokens, in time: a run with less is void
TRIES = 3
IDLE_S = 5.0
WARM_S = 2.0  # for each process: code that has run little is slow
KILL_STREAMS, KILL_TOKENS, KILL_RATE, KILL_S = 300, 40, 10, 6.0  # a light load: what is counted is streams


class Spent(NamedTuple):
    """What one run of the paced load has cost."""

    token_us: float  # CPU
    idle_ms: float  # CPU of a second in which nobody asks
    delivered: float  # the share of the tokens that came in time
    cores: float  # that the server took, paced
    others: float  # that clients and provider took, paced


@dataclass(slots=True)
class Seen:
    """What the clients of a killed worker have seen."""

    ended: int = 0  # streams
    cut: Counter[str] = field(default_factory=Counter)  # streams whose connection has gone, by epoch
    connections: Counter[str] = field(default_factory=Counter)  # by epoch


@asynccontextmanager
async def serving(workers: int, provider_port: int, chosen: argparse.Namespace) -> AsyncIterator[tuple[Measured, int]]:
    """Run a server on all cores; yield it and its port."""
    silent, port = subprocess.DEVNULL, free_port()
    with tempfile.TemporaryDirectory(prefix="millrace-measure-") as folder:
        config = configuration(Path(folder), port, provider_port, caches=chosen.caches)
        arguments = ("server", "serve", "--config", str(config), "--workers", str(workers))
        async with started(*arguments, cores={*CORES}, stdout=silent, stderr=silent) as server:
            await listening(port, chosen.patience)
            async with asyncio.timeout(chosen.patience):
                await all_listen(port, workers)
            yield server, port
            server.process.send_signal(signal.SIGINT)
            await server.process.wait()


async def all_listen(port: int, workers: int) -> None:
    """Connect until each worker has answered."""
    epochs = set[str]()
    while len(epochs) < workers:
        client, epoch = await connected(f"ws://127.0.0.1:{port}")
        await client.close()
        epochs.add(epoch)


async def paced(
    workers: int, number: str, clients: Clients, provider: Measured, provider_port: int, chosen: argparse.Namespace
) -> Spent:
    """Warm a server up, let it rest, look at it while it is idle, then at what a paced load costs."""
    async with serving(workers, provider_port, chosen) as (server, port):
        fields = {"model": "small"}
        await set_pace(provider_port, Pace(20))
        await clients.do("open", port=port, connections=64, negotiated=False)
        await clients.do("burst", seconds=WARM_S * workers, asking={"seed": f"{number} warm", "fields": fields})
        await clients.do("close")
        await set_pace(provider_port, Pace(chosen.tokens, chosen.rate, TTFT_S))
        await clients.do("open", port=port, connections=chosen.streams, negotiated=False)
        await server.rests()
        before = server.cpu_s
        await asyncio.sleep(IDLE_S)
        idle_ms = 1e3 * (server.cpu_s - before) / IDLE_S
        before, others = server.cpu_s, provider.cpu_s
        pace = {"tokens": chosen.tokens, "rate": chosen.rate, "ttft_s": TTFT_S, "ramp_s": RAMP_S}
        seen = await clients.do("paced", **pace, asking={"seed": f"{number} paced", "fields": fields})
        spent, others = server.cpu_s - before, provider.cpu_s - others
        await clients.do("close")
    return Spent(
        token_us=1e6 * spent / seen["tokens"],
        idle_ms=idle_ms,
        delivered=seen["delivered"],
        cores=spent / seen["lasted_s"],
        others=others / seen["lasted_s"] + seen["generator_share"],
    )


async def pairs(chosen: argparse.Namespace, progress: Progress) -> tuple[list[tuple[Spent, Spent]], int]:
    """Return what one process and several have spent, in pairs in which all was delivered, and how many were not."""
    found: list[tuple[Spent, Spent]] = []
    void = 0
    task = progress.add_task("paced", total=chosen.pairs)
    async with (
        started("-m", "tests.bench.upstream", cores={*CORES}) as provider,
        started("-m", "tests.bench.generator", cores={*CORES}, stdin=subprocess.PIPE) as generator,
    ):
        port, clients = await port_of(provider), Clients(generator)
        for pair in range(chosen.pairs):
            for attempt in range(TRIES):
                of_pair = {}
                for workers in (1, chosen.workers) if pair % 2 else (chosen.workers, 1):
                    number = f"{chosen.seed} {pair} {attempt} {workers}"
                    spent = await paced(workers, number, clients, provider, port, chosen)
                    if chosen.verbose:
                        progress.console.print(f"{workers} process(es): {spent}")
                    of_pair[workers] = spent
                if min(each.delivered for each in of_pair.values()) >= DELIVERED:
                    found.append((of_pair[1], of_pair[chosen.workers]))
                    break
                void += 1
            progress.advance(task)
    return found, void


async def talk(client: ClientConnection, epoch: str, seen: Seen, until: float) -> None:
    """Ask for one answer after the other."""
    number = 0
    try:
        while time.monotonic() < until:
            number += 1
            text = f"go on {id(client)} {number} [tokens={KILL_TOKENS}] [rate={KILL_RATE}]"
            asked = {"type": "response.create", "input": text, "model": "small", "cache": "off"}
            await client.send(json.dumps(asked))
            while True:
                event = json.loads(await client.recv())
                if event["type"] in {"response.completed", "response.failed", "response.incomplete", "error"}:
                    seen.ended += event["type"] == "response.completed"
                    break
    except ConnectionClosed:
        seen.cut[epoch] += 1


async def connected(url: str) -> tuple[ClientConnection, str]:
    """Connect, and learn whose connection it is."""
    client = await connect(f"{url}/v1/responses", subprotocols=[Subprotocol("millrace.v1")], compression=None)
    return client, json.loads(await client.recv())["epoch"]


async def killed(workers: int) -> tuple[Seen, str]:
    """Kill one worker amid its streams; return what was seen, and the epoch of that worker."""
    seen = Seen()
    with tempfile.TemporaryDirectory(prefix="millrace-measure-") as folder:
        async with server_process(Path(folder), 1.0, workers=workers) as running:
            assert running.process.stderr is not None
            log = asyncio.create_task(asyncio.to_thread(running.process.stderr.read))  # or it would wait for a reader
            clients = [await connected(running.ws_url) for _ in range(KILL_STREAMS)]
            seen.connections.update(epoch for _, epoch in clients)
            until = time.monotonic() + KILL_S
            talks = [asyncio.create_task(talk(client, epoch, seen, until)) for client, epoch in clients]
            await asyncio.sleep(KILL_S / 2)
            victim = clients[0][1]
            os.kill(pid_of(folder, victim), signal.SIGKILL)
            await asyncio.gather(*talks)
            await asyncio.gather(*(client.close() for client, _ in clients))
            running.stop()
            await running.exited()
            await log
    return seen, victim


def pid_of(folder: str, epoch: str) -> int:
    """Return the pid of the process that has locked the file of an epoch."""
    inode = Path(folder, f"process-{epoch}.lock").stat().st_ino
    for line in Path("/proc/locks").read_text("ascii").splitlines():
        _, kind, _, _, pid, place, *_ = line.split()
        if kind == "FLOCK" and place.endswith(f":{inode}"):
            return int(pid)
    raise LookupError(epoch)


def median(values: list[float]) -> float:
    """Return the median; not a number of none."""
    return statistics.median(values) if values else float("nan")


async def measured(chosen: argparse.Namespace, console: Console) -> bool:
    """Measure, and print a table; whether all bounds hold."""
    with Progress(console=console, transient=True) as progress:
        found, void = await pairs(chosen, progress)
        task = progress.add_task("kill -9", total=1)
        seen, victim = await killed(chosen.workers)
        progress.advance(task)
    one, many = [first for first, _ in found], [second for _, second in found]
    ratio = median([second.token_us / first.token_us for first, second in found])
    shares = [count / seen.connections.total() for count in seen.connections.values()]
    only_own = set(seen.cut) <= {victim} and seen.cut[victim] == seen.connections[victim]
    fair = len(shares) == chosen.workers and all(
        LEAST_SHARE * 2 / chosen.workers <= share <= MOST_SHARE * 2 / chosen.workers for share in shares
    )

    def both(name: str, digits: int) -> str:
        values = (median([getattr(each, name) for each in runs]) for runs in (many, one))
        return " : ".join(f"{value:.{digits}f}" for value in values)

    load = f"{chosen.streams} streams of {chosen.rate:g} tokens a second, caches {'on' if chosen.caches else 'off'}"
    table = Table("what", f"{chosen.workers} workers : one process", "bound", "holds", title=load)
    title = f"CPU of a token, µs, median of {len(found)} pairs ({void} void)"
    table.add_row(title, f"{both('token_us', 1)}, {ratio:.3f}x", f"<= {MOST_CPU}x", str(ratio <= MOST_CPU))
    ratios = ", ".join(f"{second.token_us / first.token_us:.3f}" for first, second in found)
    table.add_row("of each pair", ratios, "", "")
    table.add_row("CPU when idle, ms a second", both("idle_ms", 1), "", "")
    table.add_row("cores of the server", both("cores", 2), "", "")
    table.add_row("cores of clients and provider", both("others", 2), "", "")
    table.add_row("connections of each", ", ".join(f"{share:.0%}" for share in shares), "35-65 %", str(fair))
    lost = f"{seen.cut.total()} of {seen.connections.total()} streams cut, {seen.connections[victim]} were its own"
    table.add_row("kill -9 of one", lost, "its own", str(only_own))
    console.print(table)
    return ratio <= MOST_CPU and fair and only_own


def main() -> None:
    """Read the options, measure."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.measure_workers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--streams", type=int, default=600)
    parser.add_argument("--rate", type=float, default=20.0, help="tokens a second of a stream")
    parser.add_argument("--tokens", type=int, default=200, help="of an answer; each stream asks for one")
    parser.add_argument("--caches", action="store_true", help="with both caches on; every question is new")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="of the questions")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for a server to start")
    parser.add_argument("--verbose", action="store_true", help="print each run")
    chosen = parser.parse_args()
    random.seed(chosen.seed)
    uvloop.install()
    sys.exit(0 if asyncio.run(measured(chosen, Console())) else 1)


if __name__ == "__main__":
    main()
