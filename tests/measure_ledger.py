"""What the ledger on disk costs: CPU time of a request with it in a file, beside one that has it in memory.

    python -m tests.measure_ledger [--pairs 7] [--seconds 4] [--json FILE]

Two servers in turn, each in a process of its own with caches off, are asked as fast as they answer by the clients of
`tests.bench`; the model answers at once. Pairs are interleaved, and their order changes from pair to pair. CPU time is
what the kernel counts, of all threads: the one that writes too.
"""

import asyncio
import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.bench.pace import Pace
from tests.bench.processes import OTHER_CORES, Clients, port_of, started
from tests.bench.rounds import set_pace
from tests.bench.targets import configuration, millrace
from tests.support.ports import free_port

MOST = 1.05  # times as much
CONNECTIONS, TOKENS, WARM_S = 32, 20, 1.0
IN_MEMORY = ":memory:"


async def one(data_dir: str, folder: Path, clients: Clients, provider: int, seconds: float, seed: str) -> float:
    """Return the µs of CPU time of a request to a server with this data_dir."""
    await asyncio.to_thread(folder.mkdir)
    port = free_port()
    config = configuration(folder, port, provider, caches=False)
    text = await asyncio.to_thread(config.read_text, "utf-8")
    replaced = text.replace(f'data_dir = "{folder}/data"', f'data_dir = "{data_dir}"')
    await asyncio.to_thread(config.write_text, f"{replaced}[evidence]\njudged = false\n", "utf-8")
    async with millrace(config, port) as server:
        await clients.do("open", port=port, connections=CONNECTIONS, negotiated=False)
        asking: dict[str, Any] = {"fields": {"model": "large"}, "again": None}
        await clients.do("burst", seconds=WARM_S, asking=asking | {"seed": f"{seed} warm"})
        before = server.cpu_s
        found = await clients.do("burst", seconds=seconds, asking=asking | {"seed": seed})
        spent = server.cpu_s - before
        await clients.do("close")
    return float(1e6 * spent / found["asked"])


async def measure(pairs: int, seconds: float, console: Console) -> list[tuple[float, float]]:
    """Return the µs of a request on disk and in memory, of each pair."""
    found = []
    with tempfile.TemporaryDirectory() as name, Progress(console=console) as progress:
        task = progress.add_task("pairs", total=2 * pairs)
        async with (
            started("-m", "tests.bench.upstream", cores=OTHER_CORES) as provider,
            started("-m", "tests.bench.generator", cores=OTHER_CORES, stdin=subprocess.PIPE) as generator,
        ):
            port, clients = await port_of(provider), Clients(generator)
            await set_pace(port, Pace(TOKENS))
            for number in range(pairs):
                microseconds = {}
                for where in ("disk", "memory")[:: 1 if number % 2 else -1]:
                    folder = Path(name) / f"{number} {where}"
                    data_dir = str(folder / "data") if where == "disk" else IN_MEMORY
                    microseconds[where] = await one(data_dir, folder, clients, port, seconds, f"{number} {where}")
                    progress.advance(task)
                found.append((microseconds["disk"], microseconds["memory"]))
    return found


@click.command(help=__doc__)
@click.option("--pairs", default=7, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=4.0, show_default=True, help="Of each burst.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all figures there too.")
def main(pairs: int, seconds: float, output: Path | None) -> None:
    """See above."""
    uvloop.install()
    found = asyncio.run(measure(pairs, seconds, Console(stderr=True)))
    ratios = [disk / memory for disk, memory in found]
    table = Table("pair", "on disk, µs a request", "in memory", "ratio")
    for number, (disk, memory) in enumerate(found, start=1):
        table.add_row(str(number), f"{disk:.0f}", f"{memory:.0f}", f"{disk / memory:.3f}")
    Console().print(table)
    median = statistics.median(ratios)
    Console().print(f"median of the ratios: {median:.3f} (at most {MOST})")
    if output is not None:
        output.write_text(json.dumps({"pairs": found, "median": median}, indent=1), "utf-8")
    if median > MOST:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
