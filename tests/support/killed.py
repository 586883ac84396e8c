"""A process that says what it does, and is killed at some moment."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.paths import REPOSITORY
from tests.support.processes import ENVIRONMENT
from tests.support.waiting import PATIENCE_S


@asynccontextmanager
async def killed(module: str, folder: Path, choice: random.Random, longest_s: float) -> AsyncIterator[list[str]]:
    """Run a module on a folder; once it has said "ready", let it run for up to so long. It is killed at the end.

    The list gets all whole lines that it has said since.
    """
    command = [sys.executable, "-m", module, str(folder), str(choice.randrange(10**9))]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, limit=2**24
    )
    assert process.stdout is not None
    assert process.stderr is not None
    lines: list[str] = []
    try:
        ready = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        assert ready == b"ready\n", (await process.stderr.read()).decode()
        reading = asyncio.create_task(process.stdout.read())
        await asyncio.sleep(longest_s * choice.random() ** 2)
        yield lines
    finally:
        process.kill()
        await process.wait()
    said = (await reading).decode().splitlines(keepends=True)
    lines += (line for line in said if line.endswith("\n"))  # else it was killed while it said so
