"""The router of one process: its promises, and what has it learn and keeps what it has learned."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from millrace import log
from millrace.funnel.catalog import Catalog
from millrace.funnel.routing.learned import SIZE
from millrace.funnel.routing.learning import TENANTS, WAITING_BYTES
from millrace.funnel.routing.promises import Promised, Promises
from millrace.funnel.routing.report import RouterReports
from millrace.funnel.routing.router import Router
from millrace.funnel.routing.sessions import Sessions
from millrace.memory import MemoryBudget
from millrace.ports import Clock, RouterStore
from millrace.settings import RouterSettings
from millrace.stores.router import SqliteRouter

BEGIN_AGAIN_S = 1.0


def promises_of(settings: RouterSettings, wall: Clock) -> Promises:
    """Return what is promised, of which nothing is known yet."""
    promised = Promised(
        large_share=settings.large_share,
        keep_quality=settings.keep_quality,
        spend_per_day=settings.spend_per_day,
        confidence=settings.confidence,
    )
    return Promises(promised, wall)


def router_of(settings: RouterSettings, catalog: Catalog, clock: Clock, wall: Clock) -> Router:
    """Return the router."""
    return Router(wall, promises_of(settings, wall), Sessions(catalog, clock), learns=settings.learns)


def reports_of(settings: RouterSettings, store: SqliteRouter, wall: Clock) -> RouterReports:
    """Return what reports on what is kept, and changes it."""
    return RouterReports(store, lambda: promises_of(settings, wall), learns=settings.learns)


@asynccontextmanager
async def learning(router: Router, store: RouterStore, memory: MemoryBudget) -> AsyncIterator[Callable[[], None]]:
    """Have the router learn, and keep what it has learned. Yield what ends it early."""
    memory.add("the router", lambda: router.bytes_used, TENANTS * SIZE + 2 * WAITING_BYTES)
    task = asyncio.get_running_loop().create_task(_learning(router, store))

    def end() -> None:
        task.cancel()

    try:
        yield end
    finally:
        end()
        with suppress(asyncio.CancelledError):
            await task


async def _learning(router: Router, store: RouterStore) -> None:
    while True:
        try:
            await router.learning.begin(store)
            break
        except Exception as error:
            log.get().warning("how promises were kept was not read", error=str(error))
            await asyncio.sleep(BEGIN_AGAIN_S)
    try:
        await router.learning.run(store)
    finally:
        await router.learning.end(store)
