"""Replicas of one service in processes of their own, that call the same two simulated models."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from millrace.simulator import LARGE, SMALL, Simulator
from tests.support.ports import free_port
from tests.support.processes import ServerProcess, spawn
from tests.support.server import without_delays
from tests.support.waiting import PATIENCE_S


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
            running.append(ServerProcess(process, f"http://127.0.0.1:{port}", small, own))
        for server in running:
            await _answers(server)
        yield running


@contextmanager
def _killed_at_the_end(config: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a replica. What it logs goes into a file beside its configuration, since nobody reads a pipe."""
    with config.with_name("log").open("wb") as log:
        output = log.fileno()
        with spawn("server", "serve", "--config", str(config), stdout=output, stderr=output) as process:
            try:
                yield process
            finally:
                process.kill()


async def _answers(server: ServerProcess) -> None:
    """Wait until a replica listens."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            assert server.process.poll() is None, (server.folder / "log").read_text("utf-8")
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.url).port)
                writer.close()
                return
            await asyncio.sleep(0.05)
