"""One process among the workers of a server: what it does with the others, and what only one of them does."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from msgspec import Struct

from millrace.assembly.background import running
from millrace.ports.replicas import PLACE, Worker
from millrace.settings import Settings
from millrace.stores.database import MEMORY
from millrace.stores.processes import First
from millrace.stores.workers import WorkerFiles


class Together(Struct, frozen=True, kw_only=True):
    """The workers of a server as one of them sees them."""

    first: First
    others: WorkerFiles | None  # None: there are none
    share_of: int  # workers that limits are divided among; with Redis they are counted together

    async def once(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do it in one of the workers: here, once this is the first one."""
        await self.first.due()
        await work()


@asynccontextmanager
async def together(worker: Worker | None, settings: Settings, epoch: str) -> AsyncIterator[Together]:
    """Find out who else there is. The first one stays it until all that this process does has ended."""
    data_dir = settings.server.data_dir
    if worker is None or data_dir == MEMORY:
        yield Together(first=First(None), others=None, share_of=1)
        return
    first = First(data_dir, epoch[:PLACE])
    await asyncio.to_thread(first.take)
    try:
        async with running(first.follow()):
            others = WorkerFiles(worker, epoch, first)
            async with running(others.follow()):
                yield Together(first=first, others=others, share_of=1 if settings.shared.redis else worker.count)
    finally:
        first.leave()


@asynccontextmanager
async def following(workers: Together, *follow: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Have what other workers store taken over, where there are any."""
    async with AsyncExitStack() as parts:
        for each in follow if workers.others is not None else ():
            await parts.enter_async_context(running(each()))
        yield


@asynccontextmanager
async def leaving(workers: Together, counted: Callable[[], bytes]) -> AsyncIterator[None]:
    """Have the other workers show what this one has counted, once it is gone."""
    if workers.others is None:
        yield
        return
    async with running(workers.others.leave(counted)):
        yield


def told_to_supervisor() -> Callable[[], None]:
    """Return what has the supervisor tell all workers to reload, while it lives."""
    supervisor = os.getppid()

    def tell() -> None:
        if os.getppid() == supervisor:
            os.kill(supervisor, signal.SIGHUP)

    return tell
