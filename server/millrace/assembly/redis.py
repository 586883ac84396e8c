"""What a process shares through Redis. Nothing of it is imported unless Redis is configured."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from millrace.assembly.background import Once, running
from millrace.assembly.postgres import Shared
from millrace.caches.deletions import Deletions, add_of_others
from millrace.caches.exact import SqliteExactCache
from millrace.caches.semantic import SqliteSemanticCache
from millrace.evidence.evidence import Evidence
from millrace.funnel.shared_flights import KEPT_BYTES, SharedFlights
from millrace.memory import MemoryBudget
from millrace.ports import Clock, EvidenceStore
from millrace.ports.replicas import PLACE
from millrace.settings import Settings, SharedSettings
from millrace.stores.database import SqliteDatabase
from millrace.stores.limits import MemoryLimiter
from millrace.stores.processes import Processes
from millrace.stores.workers import WorkerFiles

if TYPE_CHECKING:
    from millrace.stores.redis.entries import SharedSemantic
    from millrace.stores.redis.exact import SharedExactCache
    from millrace.stores.redis.limits import SharedLimits
    from millrace.stores.redis.link import RedisLink
    from millrace.stores.redis.repeats import RedisRepeats
    from millrace.stores.redis.replicas import RedisReplicas
    from millrace.stores.redis.tickets import RedisTickets
    from millrace.web.elsewhere import Elsewhere


@asynccontextmanager
async def linking(shared: SharedSettings) -> AsyncIterator["RedisLink | None"]:
    """Connect to Redis, if one is configured. One that is away is no error."""
    if shared.redis is None:
        yield None
        return
    from millrace.stores.redis.link import linked  # noqa: PLC0415 - only where it is used

    async with linked(shared.redis, shared.name) as link:
        yield link


@asynccontextmanager
async def passing_on(
    settings: Settings,
    link: "RedisLink | None",
    workers: WorkerFiles | None,
    flights: SharedFlights | None,
    epoch: str,
    clock: Clock,
) -> AsyncIterator["Elsewhere | None"]:
    """Say at which address this replica is reached, and pass on what is for others, and for other workers."""
    if link is None and workers is None:
        yield None
        return
    from millrace.web.elsewhere import Elsewhere  # noqa: PLC0415 - it takes aiohttp, a slow import

    async with AsyncExitStack() as parts:
        replicas = None if link is None else await parts.enter_async_context(_replicas(settings, link, epoch, clock))
        elsewhere = Elsewhere(epoch[:PLACE], replicas, workers)
        parts.push_async_callback(elsewhere.close)
        if flights is not None:
            flights.follow_log = elsewhere.follow_log
        yield elsewhere


@asynccontextmanager
async def _replicas(settings: Settings, link: "RedisLink", epoch: str, clock: Clock) -> AsyncIterator["RedisReplicas"]:
    from millrace.stores.redis.replicas import RedisReplicas  # noqa: PLC0415 - only where it is used

    replicas = RedisReplicas(link, epoch, _address(settings), clock)
    async with running(replicas.run()):
        yield replicas


def _address(settings: Settings) -> str:
    """Return the URL at which other replicas reach this one."""
    server = settings.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    return settings.shared.address or f"http://{host}:{server.port}"


@asynccontextmanager
async def sharing_caches(
    link: "RedisLink | None",
    database: SqliteDatabase,
    semantic: SqliteSemanticCache | None,
    deletions: Deletions,
    spool: str,
    wall: Clock,
    clock: Clock,
    once: Once,
) -> AsyncIterator["SharedSemantic | None"]:
    """Tell the other replicas what is deleted from the caches, and stored in the semantic one; heed what they tell."""
    if link is None:
        yield None
        return
    from millrace.stores.redis.deletions import SharedDeletions  # noqa: PLC0415 - only where it is used
    from millrace.stores.redis.entries import SharedSemantic  # noqa: PLC0415

    carried = SharedDeletions(link, database, spool, add_of_others, wall)

    async def heeded() -> None:
        await carried.known.wait()
        await deletions.read()

    async with running(once(carried.run)):
        if semantic is None:
            yield None
            return
        shared = SharedSemantic(link, database, semantic.sharing(deletions), spool, heeded, clock)
        async with running(once(shared.run)):
            yield shared


def sharing_evidence(
    link: "RedisLink | None", epoch: str, evidence: Evidence | None, store: EvidenceStore
) -> Callable[[], Coroutine[Any, Any, None]] | None:
    """Return what tells the other replicas what is judged here, and has what they tell heeded; None where none is."""
    if link is None or evidence is None:
        return None
    from millrace.stores.redis.judged import SharedEvidence  # noqa: PLC0415 - only where it is used

    shared = SharedEvidence(link, epoch, evidence.heed, store.steered)
    evidence.tell = shared.tell
    return shared.run


@asynccontextmanager
async def shared_exact_cache(
    settings: Settings,
    own: SqliteExactCache | None,
    link: "RedisLink | None",
    epoch: str,
    memory: MemoryBudget,
    clock: Clock,
    wall: Clock,
) -> AsyncIterator[tuple["SharedExactCache | SqliteExactCache | None", SharedFlights | None]]:
    """Put Redis behind the exact cache of this process, if there are both. Then flights are shared, too."""
    if own is None or link is None:
        yield own, None
        return
    from millrace.stores.redis.exact import WAITING, SharedExactCache  # noqa: PLC0415 - only where it is used

    cache = SharedExactCache(own, link, wall, epoch, _address(settings))
    flights = SharedFlights(cache, clock)
    memory.add("answers for other replicas", lambda: cache.bytes_used, WAITING)
    memory.add("flights that have ended", lambda: flights.bytes_used, KEPT_BYTES)
    async with running(cache.run()), running(cache.renew()):
        yield cache, flights


def shared_tickets(link: "RedisLink | None") -> "RedisTickets | None":
    """Return where all replicas have their tickets."""
    if link is None:
        return None
    from millrace.stores.redis.tickets import RedisTickets  # noqa: PLC0415 - only where it is used

    return RedisTickets(link)


def shared_repeats(link: "RedisLink | None", epoch: str) -> "RedisRepeats | None":
    """Return which replica has which request that has an idempotency key."""
    if link is None:
        return None
    from millrace.stores.redis.repeats import RedisRepeats  # noqa: PLC0415 - only where it is used

    return RedisRepeats(link, epoch[:PLACE])


@asynccontextmanager
async def sharing_limits(
    link: "RedisLink | None",
    limiter: MemoryLimiter,
    spool: str,
    epoch: str,
    present: Processes | None,
    clock: Clock,
    ledger: Shared | None,
) -> AsyncIterator["SharedLimits | None"]:
    """Count limits together with the other replicas, and have each step of a budget told once."""
    if link is None:
        yield None
        return
    from millrace.stores.redis.limits import SharedLimits  # noqa: PLC0415 - only where it is used

    shared = SharedLimits(link, limiter, spool, epoch, clock, None if ledger is None else ledger.spending.by_spool)
    limiter.on_reached = shared.told_once(limiter.on_reached)
    await shared.begin(await asyncio.to_thread(present.others) if present else ())
    async with running(shared.run()), running(shared.read_ledger()):
        yield shared
