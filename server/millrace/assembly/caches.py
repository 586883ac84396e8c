"""The caches of one process, and what an operator asks of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from millrace import log
from millrace.assembly.background import running
from millrace.assembly.models import embeddings_upstream
from millrace.caches.deletions import Deletions, heeded_by_all
from millrace.caches.embedders import chosen
from millrace.caches.embedders.chosen import Embedders
from millrace.caches.embedders.remote import KEPT_BYTES, RemoteEmbedder
from millrace.caches.entries import CacheEntries
from millrace.caches.exact import SqliteExactCache
from millrace.caches.pairs import PairJudge
from millrace.caches.semantic import SqliteSemanticCache
from millrace.caches.snapshots import FOLDER
from millrace.memory import MemoryBudget
from millrace.ports import Clock, HitCounts
from millrace.settings import CacheSettings, Settings
from millrace.stores.database import MEMORY, SqliteDatabase
from millrace.stores.processes import Processes
from millrace.upstreams.connections import Connections

CALL_S = 10.0  # for an embedder to answer; what comes too late for a lookup is there for the store


@asynccontextmanager
async def opened_embedders(
    settings: CacheSettings, connections: Connections, memory: MemoryBudget, wall: Clock
) -> AsyncIterator[Embedders]:
    """Return what the semantic cache works with: what is installed, or the embedder that is configured."""
    remote = None
    if settings.embedder is not None:
        remote = RemoteEmbedder(
            embeddings_upstream(settings.embedder, connections, wall, CALL_S),
            lambda: memory.hold(""),
            base_url=settings.embedder.base_url,
            model=settings.embedder.model,
            dimensions=settings.embedder.dimensions,
            shortened=settings.embedder.shortened,
        )
        memory.add("question vectors", lambda: remote.bytes_used, KEPT_BYTES)
    embedders = chosen.installed(remote)
    try:
        yield embedders
    finally:
        if remote is not None:
            await remote.close()
        await asyncio.to_thread(embedders.close)


def exact_cache(settings: Settings, database: SqliteDatabase, wall: Clock) -> SqliteExactCache | None:
    """Return the exact cache; None where it is switched off."""
    if not settings.cache.exact:
        return None
    return SqliteExactCache(
        database,
        ttl_s=settings.cache.ttl_s,
        memory_bytes=share_of(settings, settings.cache.memory_bytes),
        disk_bytes=share_of(settings, settings.cache.disk_bytes),
        wall=wall,
    )


def semantic_cache(
    settings: Settings, database: SqliteDatabase, embedders: Embedders, deadline_s: float, wall: Clock
) -> SqliteSemanticCache | None:
    """Return the semantic cache; None where it is switched off. A lookup may take so many seconds."""
    log.get().info("semantic cache", embedder=embedders.name if settings.cache.semantic else "off")
    if not settings.cache.semantic:
        return None
    remote = settings.cache.embedder
    return SqliteSemanticCache(
        database,
        embedders.embedder,
        embedders.finder,
        embedders.comparer,
        prepare=None if embedders.remote is None else embedders.remote.prepare,
        threshold=settings.cache.semantic_threshold,
        ttl_s=settings.cache.ttl_s,
        index_above=settings.cache.index_above,
        hot_scopes=settings.cache.hot_scopes,
        memory_bytes=share_of(settings, settings.cache.memory_bytes),
        disk_bytes=share_of(settings, settings.cache.disk_bytes),
        folder=None if settings.server.data_dir == MEMORY else Path(settings.server.data_dir) / FOLDER,
        deadline_s=deadline_s if remote is None else max(deadline_s, remote.timeout_s),
        is_shared=settings.shared.redis is not None,
        wall=wall,
    )


def share_of(settings: Settings, size: int) -> int:
    """Return what one cache may use: half of it where there are two."""
    return size // 2 if settings.cache.exact and settings.cache.semantic else size


def cache_entries(
    settings: CacheSettings,
    database: SqliteDatabase,
    embedders: Embedders,
    hits: HitCounts,
    heeded: Callable[[int], Awaitable[None]],
    wall: Clock,
) -> CacheEntries:
    """Return what an operator asks of the caches. `heeded` returns once a deletion is heeded wherever it must be."""
    return CacheEntries(database, judge_of(settings, embedders), hits, heeded, ttl_s=settings.ttl_s, wall=wall)


def renewal(
    exact: SqliteExactCache | None, semantic: SqliteSemanticCache | None, deletions: Deletions, entries: CacheEntries
) -> Callable[[CacheSettings], None]:
    """Return what has the caches go by other settings, as far as they can change."""

    def renew(settings: CacheSettings) -> None:
        if exact is not None:
            exact.keep_for(settings.ttl_s)
        if semantic is not None:
            semantic.renew(settings.ttl_s, settings.semantic_threshold)
        deletions.ttl_s = settings.ttl_s
        entries.renew(settings.ttl_s, settings.semantic_threshold)

    return renew


def judge_of(settings: CacheSettings, embedders: Embedders) -> PairJudge:
    """Return what decides two questions by themselves."""
    return PairJudge(
        embedders.embedder,
        embedders.finder,
        embedders.comparer,
        prepare=None if embedders.remote is None else embedders.remote.prepare,
        threshold=settings.semantic_threshold,
    )


@asynccontextmanager
async def heeded(deletions: Deletions, present: Processes | None) -> AsyncIterator[None]:
    """Heed what was deleted from the caches, and what other processes delete from now on."""
    await deletions.begin(await asyncio.to_thread(present.others) if present else ())
    async with running(deletions.follow()):
        yield


async def heed(deletions: Deletions, database: SqliteDatabase, present: Processes | None, number: int) -> None:
    """Heed a deletion; return once the other processes on the data_dir do too. Raises `TimeoutError`."""
    await deletions.read()
    if present is not None:
        await heeded_by_all(database, present.others, number)
