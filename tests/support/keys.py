"""The command `keys`, on a folder."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from click.testing import CliRunner, Result

from millrace.__main__ import main

WITHIN_S = 2.0  # a new key is good, and a revoked one bad
LOOK_S = 0.02


async def heeded(look: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a change is heeded, for `WITHIN_S` in which this loop was free: what others take does not count."""
    for _ in range(round(WITHIN_S / LOOK_S)):
        if await look():
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"not heeded within {WITHIN_S:g} s")


def keys_command(folder: Path, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, ["keys", *arguments, "--data-dir", str(folder)])


def add_key(folder: Path, *arguments: str) -> str:
    """Add a key and return its text."""
    result = keys_command(folder, "add", *(arguments or ("--tenant", "acme")))
    assert result.exit_code == 0, result.output
    return result.stdout.removesuffix("\n")
