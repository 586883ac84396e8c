"""What is measured: the bare relay, and Millrace in several configurations."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.processes import SERVER_CORE, Measured, listening, port_of, started
from tests.support.ports import free_port

RELAY = "bare relay"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server, how it is configured and how it is asked."""

    name: str
    caches: bool = False
    is_stored: bool = False  # thousands of earlier answers are in its caches
    negotiated: bool = False  # so that each token is shown as it comes, even if it may be taken back
    fields: dict[str, Any] = field(default_factory=dict)  # of each request


TARGETS = (
    Target(name=RELAY),
    Target(name="large", fields={"model": "large"}),
    Target(name="cascade", negotiated=True, fields={"model": "auto", "millrace": {"strategy": "cascade"}}),
    Target(name="everything on", caches=True, is_stored=True, negotiated=True, fields={"model": "auto"}),
)


def configuration(folder: Path, port: int, upstream: int, *, caches: bool) -> Path:
    """Write Millrace's settings; return their file."""
    models = "\n".join(
        f'[models.{tier}]\nupstream = "openai"\nbase_url = "http://127.0.0.1:{upstream}/v1"\nmodel = "bench-{tier}"\n'
        'price = { input = "1", output = "1" }\n'
        for tier in ("small", "large")
    )
    switch = str(caches).lower()
    file = folder / "bench.toml"
    file.write_text(
        f'[server]\nport = {port}\ndata_dir = "{folder}/data"\n{models}[cache]\nexact = {switch}\nsemantic = {switch}\n'
    )
    return file


@asynccontextmanager
async def serving(
    target: Target, upstream: int, folder: Path, stored: Path | None = None
) -> AsyncIterator[tuple[Measured, int]]:
    """Run a target on a core of its own, on a copy of what is stored; give the process and its port."""
    if target.name == RELAY:
        async with started("-m", "tests.bench.relay", str(upstream), cores=SERVER_CORE) as measured:
            yield measured, await port_of(measured)
        return
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    if target.is_stored and stored is not None:
        shutil.copytree(stored, data)
    port = free_port()
    async with millrace(configuration(folder, port, upstream, caches=target.caches), port) as measured:
        yield measured, port


@asynccontextmanager
async def millrace(config: Path, port: int) -> AsyncIterator[Measured]:
    """Run Millrace on a core of its own."""
    silent = subprocess.DEVNULL
    async with started(
        "server", "serve", "--config", str(config), cores=SERVER_CORE, stdout=silent, stderr=silent
    ) as measured:
        await listening(port)
        yield measured
