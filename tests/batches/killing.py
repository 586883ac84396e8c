"""A batch whose server is killed (-9) again and again: `python -m tests.batches.killing --lines 2000`."""

import asyncio
import sqlite3
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import click

from millrace.simulator import LARGE, SMALL, Simulator
from millrace.stores.database import FILE
from tests.support.batches import chat, client_of, ended, rows, started
from tests.support.processes import address, spawn
from tests.support.server import without_delays
from tests.support.tables import print_figures
from tests.support.waiting import PATIENCE_S

SLOW = "[tokens=20] [rate=200]"  # a tenth of a second, so that a kill strikes some on their way
IN_FLIGHT = 16


@asynccontextmanager
async def serving(config: Path) -> AsyncIterator[tuple[subprocess.Popen[str], str]]:
    """Run a server in a process of its own; yield it and its URL. It is killed at the end."""
    arguments = ("serve", "--config", str(config))
    with spawn("server", *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            url = await asyncio.to_thread(address, process)
            reading = asyncio.create_task(asyncio.to_thread(process.stderr.read))  # type: ignore[union-attr]
            yield process, url
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
            await reading


def configured(folder: Path, small: Simulator, large: Simulator, more: str = "") -> Path:
    """Return the configuration of a server with its data in a folder."""
    models = "".join(
        f'[models.{name}]\nupstream = "openai"\nbase_url = "{simulator.base_url}"\nmodel = "{name}-model"\n'
        'price = { input = "1", output = "2" }\n'
        for name, simulator in (("small", small), ("large", large))
    )
    server = f'[server]\nport = 0\ndata_dir = "{folder}"\ndrain_s = 5\n[evidence]\njudged = false\n'
    config = folder / "millrace.toml"
    config.write_text(f"{server}[batch]\nin_flight = {IN_FLIGHT}\n{more}\n{models}", "utf-8")
    return config


async def killed(folder: Path, lines: int, kills: int) -> dict[str, float]:
    """Run a batch and kill its server at equal parts of it; return what became of it, in figures."""
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        config = configured(folder, small, large)
        batch_id = ""
        for kill in range(kills + 1):
            async with serving(config) as (_, url), client_of(url) as client:
                if not batch_id:
                    asked = [chat(f"row-{number}", f"Tell {number} {SLOW}", model="small") for number in range(lines)]
                    batch_id = (await started(client, asked)).id
                if kill < kills:
                    await _until(url, batch_id, lines * (kill + 1) // (kills + 1))
                    continue  # it is killed
                batch = await ended(client, await client.batches.retrieve(batch_id), PATIENCE_S + lines)
                assert batch.status == "completed", batch
                answers = await rows(client, batch.output_file_id)
                assert batch.error_file_id is None
        times = Counter(row["custom_id"] for row in answers)
        calls = small.stats.started + large.stats.started
    with closing(sqlite3.connect(folder / FILE)) as file:
        states = Counter(
            dict(file.execute("SELECT status, count(*) FROM entries WHERE batch = ? GROUP BY status", (batch_id,)))
        )
    return {
        "lines": lines,
        "kills": kills,
        "answers": len(answers),
        "answered once": sum(count == 1 for count in times.values()),
        "calls": calls,
        "paid again": calls - lines,
        "at most": kills * IN_FLIGHT,
        "rows in the ledger": states.total(),
        "completed": states["completed"],
        "killed": states["killed"],
    }


async def _until(url: str, batch_id: str, completed: int) -> None:
    done = 0
    async with asyncio.timeout(PATIENCE_S + completed), client_of(url) as client:
        while done < completed:
            await asyncio.sleep(0.01)
            counts = (await client.batches.retrieve(batch_id)).request_counts
            done = 0 if counts is None else counts.completed


@click.command()
@click.option("--lines", default=2000, show_default=True)
@click.option("--kills", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(*, lines: int, kills: int, as_json: bool) -> None:
    """Kill a server in the middle of a batch; show that each line has one answer, and what was paid again."""
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(killed(Path(folder), lines, kills))
    print_figures({"killed": figures}, as_json=as_json)


if __name__ == "__main__":
    main()
