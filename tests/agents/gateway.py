"""`millrace serve` in a process, with the configuration as it is shipped, behind the address of the documentation."""

import asyncio
import re
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from millrace.stores.database import FILE
from tests.support.paths import REPOSITORY
from tests.support.processes import ENVIRONMENT
from tests.support.proxy import proxy_to
from tests.support.waiting import until

PORT = 8000  # of the documentation; what is said there is heard
ITS_PORT = 8001
WINDOW = "1000000"  # tokens; the agents believe in models of theirs, whose windows are wide
PATIENCE_S = 60
REFUSED = re.compile(rb'HTTP/1\.1 [45]\d\d.*|"type": ?"(?:error|response\.failed)".{0,300}|data: \{"error".{0,300}')


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
    is_estimated: int  # 1 if it is


class Gateway:
    """What is left of a server that has ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heard = bytearray()

    @property
    def log(self) -> str:
        """What it has written until now."""
        return (self.folder / "millrace.log").read_text("utf-8")

    def refusals(self) -> list[str]:
        """Return the answers of HTTP, and the events, that say that something went wrong."""
        return [found.decode(errors="replace") for found in REFUSED.findall(self.heard)]

    def rows(self) -> list[Row]:
        """Return all requests, in the order in which they came."""
        columns = "session, status, code, source, cache, input_tokens, cached_input_tokens, cache_write_tokens"
        columns += ", output_tokens, cost_nanodollars, estimated"
        with closing(sqlite3.connect(self.folder / FILE)) as file:
            found = file.execute(f"SELECT {columns} FROM entries ORDER BY opened_at")  # noqa: S608 - names alone
            return [Row(*row) for row in found]


@asynccontextmanager
async def gateway(folder: Path, api: str, url: str) -> AsyncIterator[Gateway]:
    """Run one whose small and large model are of this API, at this URL. The folder gets its database and its log."""
    settings = {"MILLRACE__SERVER__DATA_DIR": str(folder), "MILLRACE__SERVER__PORT": str(ITS_PORT)}
    settings["MILLRACE__FUNNEL__STRATEGY"] = "cascade"  # `auto` would put a session whose tool has failed elsewhere
    settings["MILLRACE__EVIDENCE__DOLLARS_PER_DAY"] = "0"  # a summary could be asked of the large model too, by chance
    for name in ("SMALL", "LARGE"):
        model = f"MILLRACE__MODELS__{name}__"
        settings |= {f"{model}UPSTREAM": api, f"{model}BASE_URL": url, f"{model}CONTEXT_WINDOW": WINDOW}
    ran = Gateway(folder)
    address = f"http://127.0.0.1:{ITS_PORT}"
    with (folder / "millrace.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "server", "serve", "--config", "millrace.toml"),
            cwd=REPOSITORY,
            env=ENVIRONMENT | settings,
            stdout=log,
            stderr=log,
        )
    try:
        await until(lambda: address in ran.log or process.returncode is not None, PATIENCE_S)
        assert process.returncode is None, ran.log
        async with proxy_to(address, PORT) as proxy:
            proxy.heard = ran.heard
            yield ran
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
