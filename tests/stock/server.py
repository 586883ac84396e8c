"""The server that the clients meet: `python server serve` with a configuration, and two simulated models behind it."""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from millrace.simulator import LARGE, SMALL, Simulator
from tests.support.paths import REPOSITORY
from tests.support.server import configuration_for, without_delays
from tests.support.waiting import PATIENCE_S

NO_CACHE = {"cache": {"exact": False, "semantic": False}}  # a client asks what another has asked, and looks at the cost


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Run all three; yield the base URL."""
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "millrace.toml"
            tables = configuration_for(small.base_url, large.base_url) | NO_CACHE
            embeddings = {"base_url": small.base_url, "model": "small-embedding-model", "price": {"input": "0.02"}}
            tables["models"]["embeddings"] = embeddings
            file.write_text(_toml(tables), "utf-8")
            async with _started("serve", "--config", str(file), "--port", "0") as address:
                yield f"{address}/v1"


@contextlib.asynccontextmanager
async def _started(*arguments: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.stock.patient", *arguments, cwd=REPOSITORY, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    telling: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            said = ""
            while not (address := re.search(r"http://127\.0\.0\.1:\d+", said)):
                line = await process.stderr.readline()
                assert line, f"the server ended: {said}"
                said += line.decode()
        telling = asyncio.create_task(_pass_on(process.stderr))
        await _ready(address[0])
        yield address[0]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if telling is not None:
            await telling


async def _ready(address: str) -> None:
    """Return when the server answers; it listens before it does, so nothing is asked in vain."""
    async with aiohttp.ClientSession() as client, client.get(f"{address}/readyz") as answer:
        answer.raise_for_status()


async def _pass_on(stream: asyncio.StreamReader) -> None:
    """Show what the server complains of."""
    async for line in stream:
        if b'"level":"info"' not in line:
            sys.stderr.write(line.decode(errors="replace"))


def _toml(tables: dict[str, Any], path: str = "") -> str:
    """Write tables of strings, numbers and tables."""
    plain = "".join(f"{name} = {json.dumps(value)}\n" for name, value in tables.items() if not isinstance(value, dict))
    below = "".join(_toml(value, f"{path}{name}.") for name, value in tables.items() if isinstance(value, dict))
    return (f"[{path[:-1]}]\n" if path else "") + plain + below
