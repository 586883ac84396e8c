"""What `serve --workers N` costs and holds: `python -m tests.measure_workers`. Takes six minutes of two quiet cores.

At one paced load: the CPU of a token with one process, with several workers, and with as many servers of one process
that know nothing of each other, one after the other, children and supervisor included; how connections are divided; and
what a kill -9 of a worker takes along. Exits with 1 where a bound is passed, or where nothing could be measured.

A process that has less to do takes more for a token: it sleeps more often, and wakes up cold. The servers that know
nothing of each other show how much that is; what workers take more than these is what they cost by being workers.

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
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
ONE, WORKERS, APART = "one process", "workers", "servers apart"
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


def cpu_s(servers: Sequence[Measured]) -> float:
    """Return the CPU that servers have taken."""
    return sum(server.cpu_s for server in servers)


async def paced(
    what: str, number: str, clients: Clients, provider: Measured, provider_port: int, chosen: argparse.Namespace
) -> Spent:
    """Warm servers up, let them rest, look at them while they are idle, then at what a paced load costs."""
    processes = 1 if what == ONE else chosen.workers
    async with AsyncExitStack() as stack:
        each, count = (1, processes) if what == APART else (processes, 1)
        found = [await stack.enter_async_context(serving(each, provider_port, chosen)) for _ in range(count)]
        servers, (port, *others) = [server for server, _ in found], [port for _, port in found]
        to = {"port": port, "others": others, "negotiated": False}
        fields = {"model": "small"}
        await set_pace(provider_port, Pace(20))
        await clients.do("open", **to, connections=64)
        await clients.do("burst", seconds=WARM_S * processes, asking={"seed": f"{number} warm", "fields": fields})
        await clients.do("close")
        await set_pace(provider_port, Pace(chosen.tokens, chosen.rate, TTFT_S))
        await clients.do("open", **to, connections=chosen.streams)
        for server in servers:
            await server.rests()
        before = cpu_s(servers)
        await asyncio.sleep(IDLE_S)
        idle_ms = 1e3 * (cpu_s(servers) - before) / IDLE_S
        before, beside = cpu_s(servers), provider.cpu_s
        pace = {"tokens": chosen.tokens, "rate": chosen.rate, "ttft_s": TTFT_S, "ramp_s": RAMP_S}
        seen = await clients.do("paced", **pace, asking={"seed": f"{number} paced", "fields": fields})
        spent, beside = cpu_s(servers) - before, provider.cpu_s - beside
        await clients.do("close")
    return Spent(
        token_us=1e6 * spent / seen["tokens"],
        idle_ms=idle_ms,
        delivered=seen["delivered"],
        cores=spent / seen["lasted_s"],
        others=beside / seen["lasted_s"] + seen["generator_share"],
    )


async def rounds(chosen: argparse.Namespace, progress: Progress) -> tuple[list[dict[str, Spent]], int]:
    """Return what each has spent, in rounds in which all was delivered, and how many were void."""
    found: list[dict[str, Spent]] = []
    void = 0
    task = progress.add_task("paced", total=chosen.rounds)
    async with (
        started("-m", "tests.bench.upstream", cores={*CORES}) as provider,
        started("-m", "tests.bench.generator", cores={*CORES}, stdin=subprocess.PIPE) as generator,
    ):
        port, clients = await port_of(provider), Clients(generator)
        for turn in range(chosen.rounds):
            for attempt in range(TRIES):
                spent: dict[str, Spent] = {}
                for what in (ONE, APART, WORKERS) if turn % 2 else (WORKERS, APART, ONE):
                    number = f"{chosen.seed} {turn} {attempt} {what}"
                    spent[what] = await paced(what, number, clients, provider, port, chosen)
                    if chosen.verbose:
                        progress.console.print(f"{what}: {spent[what]}")
                if min(each.delivered for each in spent.values()) >= DELIVERED:
                    found.append(spent)
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
        found, void = await rounds(chosen, progress)
        task = progress.add_task("kill -9", total=1)
        seen, victim = await killed(chosen.workers)
        progress.advance(task)
    shares = [count / seen.connections.total() for count in seen.connections.values()]
    only_own = set(seen.cut) <= {victim} and seen.cut[victim] == seen.connections[victim]
    fair = len(shares) == chosen.workers and all(
        LEAST_SHARE * 2 / chosen.workers <= share <= MOST_SHARE * 2 / chosen.workers for share in shares
    )

    def each(name: str, digits: int) -> str:
        values = (median([getattr(spent[what], name) for spent in found]) for what in (WORKERS, APART, ONE))
        return " : ".join(f"{value:.{digits}f}" for value in values)

    load = f"{chosen.streams} streams of {chosen.rate:g} tokens a second, caches {'on' if chosen.caches else 'off'}"
    what = f"{chosen.workers} workers : as many servers apart : one process"
    table = Table("what", what, "bound", "holds", title=load)
    title = f"CPU of a token, µs, median of {len(found)} rounds ({void} void)"
    table.add_row(title, each("token_us", 1), "", "")
    ratios = {other: [spent[WORKERS].token_us / spent[other].token_us for spent in found] for other in (APART, ONE)}
    ratio = median(ratios[ONE])
    for other, bound in ((APART, None), (ONE, MOST_CPU)):
        all_of_them = ", ".join(f"{value:.3f}" for value in ratios[other])
        holds = ("", "") if bound is None else (f"<= {bound}x", str(ratio <= bound))
        table.add_row(f"workers to {other}", f"{median(ratios[other]):.3f}x of {all_of_them}", *holds)
    table.add_row("CPU when idle, ms a second", each("idle_ms", 1), "", "")
    table.add_row("cores of the servers", each("cores", 2), "", "")
    table.add_row("cores of clients and provider", each("others", 2), "", "")
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="of the questions")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for a server to start")
    parser.add_argument("--verbose", action="store_true", help="print each run")
    chosen = parser.parse_args()
    random.seed(chosen.seed)
    uvloop.install()
    sys.exit(0 if asyncio.run(measured(chosen, Console())) else 1)


if __name__ == "__main__":
    main()
