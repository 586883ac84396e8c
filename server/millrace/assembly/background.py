"""What a process does beside its requests: tasks that read first what is kept, and that can be ended early."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from millrace import log

BEGIN_AGAIN_S = 1.0
SOON_S = 1.0

Once = Callable[[Callable[[], Coroutine[Any, Any, None]]], Coroutine[Any, Any, None]]  # does it where nobody else does


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[Callable[[], None]]:
    """Run it meanwhile, and wait for its end. Yield what ends it early."""
    task = asyncio.get_running_loop().create_task(work)
    has_ended = False

    def end() -> None:
        nonlocal has_ended
        if not has_ended:  # a second cancel would interrupt what is kept at the end
            has_ended = True
            task.cancel()

    try:
        yield end
    finally:
        end()
        with suppress(asyncio.CancelledError):
            await task


async def soon(prepare: Callable[[], None]) -> None:
    """Prepare on a thread what some request would wait for, once those that waited for the start are answered."""
    await asyncio.sleep(SOON_S)
    await asyncio.to_thread(prepare)


async def begun(begin: Callable[[], Awaitable[None]], unread: str) -> None:
    """Read what is kept, once more each second until that succeeds. `unread` is the warning if it does not."""
    while True:
        try:
            return await begin()
        except Exception as error:
            log.get().warning(unread, error=str(error))
            await asyncio.sleep(BEGIN_AGAIN_S)
