"""Waiting for a condition of this process, or for turns of its loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

PATIENCE_S = 60.0  # for whatever has to come: when it comes a long limit costs nothing, however busy the machine
STEP_S = 0.01


async def until(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Wait for a condition of this process; fail when it does not come, on however busy a machine."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what it looks at cannot tell us
            await asyncio.sleep(0.002)


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Fail if a block takes longer. Time counts in which this loop is free: what others take of the machine does not.

    What the block waits for runs in this loop, or answers sooner than a step takes.
    """
    steps = 0

    async def count() -> None:
        nonlocal steps
        while True:
            await asyncio.sleep(STEP_S)
            steps += 1

    counting = asyncio.create_task(count())
    try:
        yield
    finally:
        counting.cancel()
    assert steps * STEP_S < seconds, f"it took {steps * STEP_S:.2f} s, and not less than {seconds:g} s"


async def turns(count: int) -> None:
    """Let so many turns of the loop pass."""
    for _ in range(count):
        await asyncio.sleep(0)
