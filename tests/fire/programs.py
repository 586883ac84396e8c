"""A server and two simulated models, each a process of its own on a port of its own, which can be killed and come back.

What they print goes to a file beside the database.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Role
from millrace.stores.database import FILE
from tests.bench.processes import listening
from tests.support.paths import REPOSITORY
from tests.support.ports import free_port
from tests.support.processes import ENVIRONMENT
from tests.support.server import PRICES

TENANTS = ("acme", "brook", "creek")  # each has a key of its own
START_S = 180.0  # for a process to listen, on a machine with much else to do
END_S = 60.0  # for a process to end by itself


class Program:
    """A program that listens on a port."""

    def __init__(self, name: str, log: Path, port: int, *arguments: str) -> None:
        self.name = name
        self.port = port
        self._log = log
        self._arguments = (*arguments, "--port", str(port))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether its process has ended by itself."""
        return self._process is not None and self._process.returncode is not None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self._arguments, cwd=REPOSITORY, env=ENVIRONMENT,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        await listening(self.port, START_S)
        timeout = aiohttp.ClientTimeout(total=START_S)
        async with aiohttp.ClientSession(self.url, timeout=timeout) as http, http.get("/v1/models") as answer:
            await answer.read()  # a server listens before it has opened its database

    async def kill(self) -> None:
        """Kill it (-9), and wait for its end."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """Tell it to end (SIGTERM); kill it if it does not."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), END_S)
            except TimeoutError:
                await self.kill()

    def printed(self, word: str) -> int:
        """Return how many lines of what it printed have a word."""
        return sum(word in line for line in self._log.read_text("utf-8", "replace").splitlines())


@dataclass(frozen=True, slots=True)
class Place:
    """A server, its models, and where its data is."""

    server: Program
    models: Sequence[Program]
    folder: Path
    keys: tuple[str, ...]  # of tenants, all admins; none: no key is needed

    @property
    def config(self) -> Path:
        """The file of the configuration."""
        return self.folder / "millrace.toml"

    @property
    def database(self) -> Path:
        """The file of the database."""
        return self.folder / FILE

    @property
    def programs(self) -> tuple[Program, ...]:
        """All of them; the server is the last."""
        return (*self.models, self.server)


def configuration(models: Sequence[Program], folder: Path, more: str = "", server: str = "") -> str:
    """Return the text of a configuration. `server` are lines of its [server], `more` are other sections."""
    sections = [f"[server]\ndata_dir = {json.dumps(str(folder))}\n{server}", "[metrics]\nopen = true\n", more]
    for model in models:
        price = ", ".join(f'{kind} = "{dollars}"' for kind, dollars in PRICES[model.name].items())
        sections.append(
            f'[models.{model.name}]\nupstream = "openai"\nbase_url = "{model.url}/v1"\nmodel = "{model.name}-model"\n'
            f"price = {{ {price} }}\n"
        )
    return "\n".join(sections)


@asynccontextmanager
async def placed(
    folder: Path, more: str = "", server: str = "", *, speed: float = 1.0, has_keys: bool = False, **options: Any
) -> AsyncIterator[Place]:
    """Start all in an empty folder; kill them at the end. `options` are those of `millrace simulate`."""
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    models = [
        Program(
            name, folder / f"{name}.log", free_port(), "server", "simulate", "--profile", name, "--speed", str(speed),
            *given,
        )
        for name in PRICES
    ]  # fmt: skip
    config = folder / "millrace.toml"
    config.write_text(configuration(models, folder, more, server), "utf-8")
    given_keys = await _keys(folder) if has_keys else ()
    serve = Program("server", folder / "server.log", free_port(), "server", "serve", "--config", str(config))
    place = Place(serve, models, folder, given_keys)
    try:
        await asyncio.gather(*(program.start() for program in place.programs))
        yield place
    finally:
        await asyncio.gather(*(program.kill() for program in place.programs))


async def _keys(folder: Path) -> tuple[str, ...]:
    made = [keys.make(tenant=tenant, role=Role.ADMIN, created_at=1.0) for tenant in TENANTS]
    async with key_store(str(folder)) as store:
        for key, _ in made:
            await store.add(key)
    return tuple(text for _, text in made)
