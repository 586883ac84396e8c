"""Fills the caches of a server before the benchmark: earlier questions, each with an answer."""

import asyncio
from pathlib import Path

from rich.progress import Progress

from tests.bench.pace import Pace
from tests.bench.processes import Clients
from tests.bench.rounds import set_pace
from tests.bench.targets import Target, serving

BATCH_S = 1.0
CONNECTIONS = 16
FILLING = Target(name="filling", caches=True, fields={"model": "auto"})  # as it is asked later: one scope


async def fill(folder: Path, count: int, provider_port: int, clients: Clients, progress: Progress) -> Path:
    """Ask so many new questions of a server of its own; return the data_dir that it leaves."""
    task = progress.add_task("filling the caches", total=count)
    await asyncio.to_thread(folder.mkdir)
    await set_pace(provider_port, Pace(5))
    async with serving(FILLING, provider_port, folder) as (server, port):
        asked = 0
        while asked < count:
            # The clients answer no pings, so their connections must not grow old.
            await clients.do("open", port=port, connections=CONNECTIONS, negotiated=False)
            asking = {"seed": f"stored {asked}", "fields": FILLING.fields}
            asked += int((await clients.do("burst", seconds=BATCH_S, asking=asking))["asked"])
            await clients.do("close")
            progress.update(task, completed=asked)
        await server.rests()
        server.process.terminate()
        await server.process.wait()
    return folder / "data"
