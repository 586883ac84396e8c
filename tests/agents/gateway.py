"""`millrace serve` in a process of its own, with the configuration as it is shipped, at the address of the README."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from millrace.stores.database import FILE
from tests.support.paths import REPOSITORY
from tests.support.processes import ENVIRONMENT

ADDRESS = "http://127.0.0.1:8000"
PATIENCE_S = 30


@dataclass(frozen=True, slots=True)
class Row:
    """A request in the ledger."""

    session: str
    status: str
    code: str | None
    source: str | None
    cache: str
    input: int
    read: int
    written: int
    output: int
    nanodollars: int
    is_estimated: bool


class Gateway:
    """What is left of a server that has ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = ""

    def rows(self) -> list[Row]:
        """Return all requests, in the order in which they came."""
        columns = "session, status, code, source, cache, input_tokens, cached_input_tokens, cache_write_tokens"
        columns += ", output_tokens, cost_nanodollars, estimated"
        with closing(sqlite3.connect(self.folder / FILE)) as file:
            found = file.execute(f"SELECT {columns} FROM entries ORDER BY opened_at")  # noqa: S608 - names alone
            return [Row(*row[:-1], is_estimated=bool(row[-1])) for row in found]


@asynccontextmanager
async def gateway(folder: Path, api: str, url: str) -> AsyncIterator[Gateway]:
    """Run one whose small and large model are of this API, at this URL."""
    settings = {"MILLRACE__SERVER__DATA_DIR": str(folder)}
    for name in ("SMALL", "LARGE"):
        model = f"MILLRACE__MODELS__{name}__"
        settings |= {f"{model}UPSTREAM": api, f"{model}BASE_URL": url, f"{model}CONTEXT_WINDOW": "1000000"}
    log = folder / "millrace.log"
    ran = Gateway(folder)
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "server", "serve", "--config", "millrace.toml"),
            cwd=REPOSITORY,
            env=ENVIRONMENT | settings,
            stdout=file,
            stderr=file,
        )
    try:
        async with asyncio.timeout(PATIENCE_S):
            while ADDRESS not in log.read_text("utf-8"):
                assert process.returncode is None, log.read_text("utf-8")
                await asyncio.sleep(0.05)
        yield ran
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        ran.log = log.read_text("utf-8")
