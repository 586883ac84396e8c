"""The commands `cache ...`, on a folder; and the cache as a client sees it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
from click.testing import CliRunner, Result

from millrace.__main__ import main


def cache_command(folder: Path | None, *arguments: str, typed: str | None = None) -> Result:
    """Run a command; `typed` is what its user answers."""
    where = () if folder is None else ("--data-dir", str(folder))
    return CliRunner(env={"COLUMNS": "250"}).invoke(main, ["cache", *arguments, *where], input=typed)


async def beside(folder: Path, *arguments: str) -> Any:
    """Run a command beside a server that runs in this loop; return its JSON."""
    ended = await asyncio.to_thread(cache_command, folder, *arguments, "--json")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


async def asked(http: aiohttp.ClientSession, question: str, **fields: Any) -> dict[str, str]:
    """Ask a question; return the metadata of the answer."""
    async with http.post("/v1/responses", json={"input": question, **fields}) as answer:
        assert answer.status == 200, await answer.text()
        metadata: dict[str, str] = (await answer.json())["metadata"]
        return metadata
