"""Replicas of one service in processes of their own, that call the same two simulated models."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from millrace.simulator import LARGE, SMALL, Simulator
from tests.support.processes import ServerProcess, address, spawn
from tests.support.server import without_delays
from tests.support.shared_servers import free_port


@asynccontextmanager
async def replica_processes(
    count: int, redis_url: str, name: str, folder: Path, more: str = ""
) -> AsyncIterator[list[ServerProcess]]:
    """Run so many replicas, each with a data_dir of its own in `folder`; `more` is added to their configuration."""
    async with AsyncExitStack() as parts:
        small, large = [
            await parts.enter_async_context(Simulator(without_delays(profile))) for profile in (SMALL, LARGE)
        ]
        models = "".join(
            f'[models.{called}]\nupstream = "openai"\nbase_url = "{simulator.base_url}"\nmodel = "{called}-model"\n'
            'price = { input = "1", output = "2" }\n'
            for called, simulator in (("small", small), ("large", large))
        )
        rest = f"{models}[funnel]\nhedge_share = 0\n[evidence]\njudged = false\n{more}\n"
        running = []
        for number in range(count):
            own = folder / f"replica{number}"
            own.mkdir(parents=True)
            port = free_port()
            shared = f'[shared]\nredis = "{redis_url}"\nname = "{name}"\naddress = "http://127.0.0.1:{port}"\n'
            config = own / "millrace.toml"
            config.write_text(f'[server]\nport = {port}\ndata_dir = "{own}"\n{shared}{rest}', encoding="utf-8")
            process = parts.enter_context(_killed_at_the_end(config))
            running.append(ServerProcess(process, await asyncio.to_thread(address, process), small, own))
        yield running


@contextmanager
def _killed_at_the_end(config: Path) -> Iterator[subprocess.Popen[str]]:
    arguments = ("serve", "--config", str(config))
    with spawn("server", *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()
