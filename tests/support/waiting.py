"""Waiting for a condition of this process, or for turns of its loop."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition of this process; fail when it does not come, on however busy a machine."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what it looks at cannot tell us
            await asyncio.sleep(0.002)


async def turns(count: int) -> None:
    """Let so many turns of the loop pass."""
    for _ in range(count):
        await asyncio.sleep(0)
