"""The router of one process: its promises, and what has it learn and keeps what it has learned."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from millrace.assembly.background import begun, running
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


def promised_of(settings: RouterSettings) -> Promised:
    """Return what is promised."""
    return Promised(
        large_share=settings.large_share,
        keep_quality=settings.keep_quality,
        spend_per_day=settings.spend_per_day,
        confidence=settings.confidence,
    )


def promises_of(settings: RouterSettings, wall: Clock) -> Promises:
    """Return the promises, of whose keeping nothing is known yet."""
    return Promises(promised_of(settings), wall)


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
    async with running(_learning(router, store)) as end:
        yield end


async def _learning(router: Router, store: RouterStore) -> None:
    await begun(lambda: router.learning.begin(store), "how promises were kept was not read")
    try:
        await router.learning.run(store)
    finally:
        await router.learning.end(store)
