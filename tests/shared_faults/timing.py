"""What requests and tokens wait for Redis and PostgreSQL: `python -m tests.shared_faults.timing --pairs 7`.

Two servers share a Redis and a PostgreSQL, and every request counts on a budget. In each pair:

- new questions come at a steady rate with Redis, then without it, killed just before: the time to the first token;
- answers run while Redis is stopped (SIGSTOP), and then PostgreSQL: the time between two frames of an answer, beside
  that of the seconds before.

Exits with 1 if the first token takes more than 1.5 times as long at p99, or frames come later; medians of all pairs.
"""

import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect

from millrace import log
from tests.bench import questions as benched
from tests.shared_faults.place import Place, placed
from tests.support.http_client import RESPONSES
from tests.support.wire_client import TERMINALS

MOST_FIRST, MOST_GAP = 1.5, 1.1
LEAST_S = 0.002  # a difference below this is of the machine
FIRST = "[ttft=0.05] [tokens=3] [rate=0]"
STREAMS, RATE = 16, 50  # answers at once, and tokens a second of each
PHASE_S = 2.5
REST_S = 6.0  # until replicas have told a new Redis what they have
ENDS_S = 60.0


@dataclass(slots=True)
class Pair:
    """What one pair has shown: seconds at p99."""

    first: float = 0.0  # to the first token, with Redis
    first_gone: float = 0.0
    gap: float = 0.0  # between two frames
    gap_redis: float = 0.0  # while Redis is stopped
    gap_postgres: float = 0.0
    refused: int = 0


@dataclass(slots=True)
class Gaps:
    """When frames have come, of one answer after the other."""

    at: list[float] = field(default_factory=list)

    def between(self, began: float, ended: float) -> list[float]:
        """Return the gaps between frames that ended within a time."""
        return [later - one for one, later in pairwise(self.at) if began < later <= ended]


class Clients:
    """Connections to all replicas, in turn."""

    def __init__(self, place: Place, seed: int) -> None:
        self._place = place
        self._questions = benched.new(f"timing {seed}")
        self._chance = Random(f"timing {seed}")
        self.refused = 0

    async def first(self, count: int, per_s: float) -> float:
        """Ask so many new questions, at such a rate; return the p99 of the seconds to the first token."""
        loop = asyncio.get_running_loop()
        asking, due = [], loop.time()
        async with AsyncExitStack() as parts:
            sockets = [await self._socket(parts, number) for number in range(8)]
            turns = [asyncio.Lock() for _ in sockets]
            for number in range(count):
                due += self._chance.expovariate(per_s)
                await asyncio.sleep(max(0.0, due - loop.time()))
                at = number % len(sockets)
                asking.append(asyncio.create_task(self._first(sockets[at], turns[at])))
            async with asyncio.timeout(ENDS_S):
                waits = await asyncio.gather(*asking)
        return p99([wait for wait in waits if wait is not None])

    async def _first(self, socket: ClientConnection, turn: asyncio.Lock) -> float | None:
        async with turn:
            began, found = asyncio.get_running_loop().time(), None
            await self._create(socket, FIRST)
            async for frame in socket:
                event = json.loads(frame)
                if event["type"] == "response.output_text.delta" and found is None:
                    found = asyncio.get_running_loop().time() - began
                if event["type"] in (*TERMINALS, "error"):
                    break
            self.refused += found is None
            return found

    async def gaps(self, seconds: float) -> list[Gaps]:
        """Let answers run for so long; return when their frames came."""
        async with AsyncExitStack() as parts:
            sockets = [await self._socket(parts, number) for number in range(STREAMS)]
            return await asyncio.gather(*(self._gaps(socket, seconds) for socket in sockets))

    async def _gaps(self, socket: ClientConnection, seconds: float) -> Gaps:
        found = Gaps()
        await self._create(socket, f"[ttft=0] [tokens={int(seconds * RATE)}] [rate={RATE}]")
        async with asyncio.timeout(ENDS_S + seconds):
            async for frame in socket:
                event = json.loads(frame)
                if event["type"] == "response.output_text.delta":
                    found.at.append(asyncio.get_running_loop().time())
                if event["type"] in (*TERMINALS, "error"):
                    self.refused += event["type"] != "response.completed"
                    break
        return found

    async def _create(self, socket: ClientConnection, how: str) -> None:
        asked = {"type": "response.create", "input": f"{next(self._questions)} {how}", "model": "small", "user": "ann"}
        await socket.send(json.dumps(asked))

    async def _socket(self, parts: AsyncExitStack, number: int) -> ClientConnection:
        replica = self._place.replicas[number % len(self._place.replicas)]
        head = {"Authorization": f"Bearer {self._place.keys[0]}"}
        url = f"{replica.url.replace('http', 'ws', 1)}{RESPONSES}"
        return await parts.enter_async_context(
            connect(url, additional_headers=head, compression=None, open_timeout=ENDS_S)
        )


def p99(values: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(values, n=100)[98]


async def measure(pairs: int, count: int, per_s: float, seed: int) -> list[Pair]:
    """Measure all pairs."""
    found = []
    with tempfile.TemporaryDirectory(prefix="millrace-timing-") as folder, Progress() as progress:
        task = progress.add_task("pairs", total=pairs)
        async with placed(Path(folder), 2, budget="1000") as place:
            clients = Clients(place, seed)
            await clients.first(count // 4, per_s)  # what is loaded at first
            for _ in range(pairs):
                found.append(await _pair(place, clients, count, per_s))
                progress.advance(task)
    return found


async def _pair(place: Place, clients: Clients, count: int, per_s: float) -> Pair:
    pair, loop = Pair(), asyncio.get_running_loop()
    clients.refused = 0
    pair.first = await clients.first(count, per_s)
    await asyncio.to_thread(place.redis.kill)
    pair.first_gone = await clients.first(count, per_s)
    await asyncio.to_thread(place.redis.start)
    await asyncio.sleep(REST_S)
    running = asyncio.create_task(clients.gaps(4 * PHASE_S))
    await asyncio.sleep(PHASE_S / 2)
    times = [loop.time()]
    await asyncio.sleep(PHASE_S)
    for server in (place.redis, place.postgres):
        times.append(loop.time())
        server.hang()
        await asyncio.sleep(PHASE_S)
        server.go_on()
    times.append(loop.time())
    gaps = await running
    pair.gap, pair.gap_redis, pair.gap_postgres = [
        p99([gap for each in gaps for gap in each.between(began, ended)]) for began, ended in pairwise(times)
    ]
    pair.refused = clients.refused
    await asyncio.sleep(REST_S)
    return pair


@click.command(help=__doc__)
@click.option("--pairs", default=7, show_default=True, type=click.IntRange(1))
@click.option("--count", default=200, show_default=True, help="Questions of each half of a pair.")
@click.option("--rate", default=30.0, show_default=True, help="Questions a second.")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all of it there too.")
def main(pairs: int, count: int, rate: float, seed: int, output: Path | None) -> None:
    """See above."""
    log.configure(level="error")
    found = asyncio.run(measure(pairs, count, rate, seed))
    table = Table("pair", "first token", "Redis gone", "frame gap", "Redis stopped", "PostgreSQL stopped", "refused")
    for number, each in enumerate(found, 1):
        times = (each.first, each.first_gone, each.gap, each.gap_redis, each.gap_postgres)
        table.add_row(str(number), *(f"{1000 * time:.1f} ms" for time in times), str(each.refused))
    console = Console(width=120)
    console.print(table)
    first = statistics.median(each.first_gone / each.first for each in found)
    checks = [("first token, Redis gone", first, first <= MOST_FIRST)]
    for name, late in (("Redis stopped", "gap_redis"), ("PostgreSQL stopped", "gap_postgres")):
        ratio = statistics.median(getattr(each, late) / each.gap for each in found)
        more_s = statistics.median(getattr(each, late) - each.gap for each in found)
        checks.append((f"frame gap, {name}", ratio, ratio <= MOST_GAP or more_s <= LEAST_S))
    checks.append(("refused", sum(each.refused for each in found), not any(each.refused for each in found)))
    for name, value, holds in checks:
        console.print(
            f"{name}: {value:.2f}{'' if name == 'refused' else 'x'} ({'holds' if holds else 'does not hold'})"
        )
    if output is not None:
        output.write_text(json.dumps([asdict(each) for each in found], indent=1), "utf-8")
    sys.exit(not all(holds for _, _, holds in checks))


if __name__ == "__main__":
    main()
