"""What the commands open of a process. No server is needed, or disturbed."""

import asyncio
import importlib.util
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from millrace.assembly import caches, evidence as judging, models, router
from millrace.assembly.live import asked
from millrace.assembly.models import Served
from millrace.assembly.postgres import ALONE, keys_of, opened_postgres
from millrace.caches.deletions import heeded_by_all
from millrace.caches.embedders import weights
from millrace.caches.embedders.chosen import Embedders
from millrace.caches.entries import CacheEntries
from millrace.caches.guards import RULES, Rule
from millrace.caches.pairs import PairJudge
from millrace.evidence.report import Reports
from millrace.funnel.routing.report import RouterReports
from millrace.memory import MemoryBudget
from millrace.ports import CacheControl, EmbeddingsUpstream, KeyStore, Rows
from millrace.runs.embeddings import EmbeddingModel
from millrace.settings import CacheSettings, EvidenceSettings, RouterSettings, ServerSettings, Settings, SharedSettings
from millrace.stores import processes
from millrace.stores.bills import Bills
from millrace.stores.database import FILE, SqliteDatabase
from millrace.stores.evidence import SqliteEvidence
from millrace.stores.ledger import SqliteLedger
from millrace.stores.ledger_rows import LedgerRows
from millrace.stores.queries import Queries
from millrace.stores.reloads import SqliteReloads
from millrace.stores.router import SqliteRouter
from millrace.upstreams.connections import Connections
from millrace.wire.reload import Reloaded

S = TypeVar("S")
CLOCK, WALL = time.monotonic, time.time


@asynccontextmanager
async def key_store(data_dir: str, shared: SharedSettings = ALONE) -> AsyncIterator[KeyStore]:
    """Open the keys of PostgreSQL, or those in a folder, which is created; no server is needed, or disturbed."""
    async with opened_postgres(shared) as remote, _kept(data_dir, lambda database: keys_of(database, remote)) as keys:
        yield keys


@asynccontextmanager
async def ledger_of(data_dir: str, shared: SharedSettings = ALONE) -> AsyncIterator[Queries]:
    """Open the ledger of all replicas in PostgreSQL, or that of a folder, beside a server or without one.

    Raises `FileNotFoundError` if the folder has none.
    """
    async with opened_postgres(shared) as remote:
        if remote is not None:
            yield remote
            return
        if not await asyncio.to_thread(Path(data_dir, FILE).exists):
            raise FileNotFoundError("it has no database yet")

        def opened(database: SqliteDatabase) -> SqliteDatabase:
            SqliteLedger(database)  # which adds what a table of an earlier version lacks
            return database

        async with _kept(data_dir, opened) as database:
            yield database


@asynccontextmanager
async def ledger_bills(data_dir: str, shared: SharedSettings = ALONE) -> AsyncIterator[Bills]:
    """Open what the ledger adds up."""
    async with ledger_of(data_dir, shared) as database:
        yield Bills(database)


@asynccontextmanager
async def ledger_rows(data_dir: str, shared: SharedSettings = ALONE) -> AsyncIterator[Rows]:
    """Open the rows of the ledger, to be read and deleted."""
    async with ledger_of(data_dir, shared) as database:
        yield LedgerRows(database)


@asynccontextmanager
async def cache_control(data_dir: str, settings: CacheSettings) -> AsyncIterator[CacheControl]:
    """Open the caches that are kept in a folder, beside a server or without one.

    A deletion returns once all processes that use the folder heed it; it raises `TimeoutError` if one does not.
    """
    if not await asyncio.to_thread(Path(data_dir, FILE).exists):
        raise FileNotFoundError("it has no database yet")
    async with _embedders(settings) as embedders:

        def opened(database: SqliteDatabase) -> CacheEntries:
            heeded = partial(heeded_by_all, database, partial(processes.living, data_dir))
            return caches.cache_entries(settings, database, embedders, SqliteLedger(database).bills, heeded, WALL)

        async with _kept(data_dir, opened) as control:
            yield control


@asynccontextmanager
async def evidence_reports(
    data_dir: str, evidence: EvidenceSettings, cache: CacheSettings, shared: SharedSettings = ALONE
) -> AsyncIterator[Reports]:
    """Open what was judged, in PostgreSQL or a folder, to be reported on; no server is needed, or disturbed."""
    if not await asyncio.to_thread(Path(data_dir, FILE).exists):
        raise FileNotFoundError("it has no database yet")

    def opened(database: SqliteDatabase) -> Reports:
        judged = SqliteEvidence(remote or database, keep_days=evidence.keep_days, wall=WALL)
        bills = SqliteLedger(database).bills if remote is None else Bills(remote)
        return judging.reports_of(evidence, cache, judged, bills, WALL)

    async with opened_postgres(shared) as remote, _kept(data_dir, opened) as reports:
        yield reports


@asynccontextmanager
async def router_reports(
    data_dir: str, settings: RouterSettings, shared: SharedSettings = ALONE, *, create: bool = False
) -> AsyncIterator[RouterReports]:
    """Open what the router has learned, in PostgreSQL or a folder, to be shown and changed; no server is disturbed.

    `create`: where no server was started yet, its database is made.
    """
    if not create and not await asyncio.to_thread(Path(data_dir, FILE).exists):
        raise FileNotFoundError("it has no database yet")

    def opened(database: SqliteDatabase) -> RouterReports:
        return router.reports_of(settings, SqliteRouter(remote or database, wall=WALL), WALL)

    async with opened_postgres(shared) as remote, _kept(data_dir, opened) as reports:
        yield reports


@asynccontextmanager
async def judge(settings: CacheSettings) -> AsyncIterator[PairJudge]:
    """Open what decides two questions, and nothing else."""
    async with _embedders(settings) as embedders:
        yield caches.judge_of(settings, embedders)


@asynccontextmanager
async def embedder_upstream(settings: Settings) -> AsyncIterator[EmbeddingsUpstream | None]:
    """Open the embedder of the semantic cache and nothing else; None if none is configured."""
    embedder = settings.cache.embedder
    async with models.connections_of(settings) as connections:
        yield None if embedder is None else models.embeddings_upstream(embedder, connections, WALL, caches.CALL_S)


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[list[Served]]:
    """Open the deployments of all models and nothing else, those of the small one first."""
    async with models.connections_of(settings) as connections:
        yield models.served(settings, models.catalog(settings), connections, CLOCK)


@asynccontextmanager
async def embeddings_upstream(settings: Settings) -> AsyncIterator[tuple[EmbeddingModel, EmbeddingsUpstream] | None]:
    """Open the model for embeddings and nothing else; None if none is configured."""
    model = settings.models.embeddings
    async with models.connections_of(settings) as connections:
        yield (
            None
            if model is None
            else (
                models.embedding_model(model),
                models.embeddings_upstream(model, connections, WALL, model.timeout_s),
            )
        )


async def reloaded(data_dir: str) -> Reloaded:
    """Have the server on a folder read its settings anew. Raises `FileNotFoundError` without one, or `TimeoutError`."""
    if not await asyncio.to_thread(processes.is_served, data_dir):
        raise FileNotFoundError("no server uses it")
    async with _kept(data_dir, SqliteReloads) as reloads:
        return await asked(reloads)


def living(data_dir: str) -> frozenset[str]:
    """Return the epochs of all processes that serve a folder, or still end what they run."""
    return processes.living(data_dir)


def optional_parts() -> dict[str, bool]:
    """Return which of the packages that Millrace can do without are installed."""
    return {"MiniLM": weights.available(), "hnswlib": importlib.util.find_spec("hnswlib") is not None}


def cache_rules() -> tuple[Rule, ...]:
    """Return the rules by which the semantic cache keeps two questions apart."""
    return tuple(RULES.values())


@asynccontextmanager
async def _embedders(settings: CacheSettings) -> AsyncIterator[Embedders]:
    memory = MemoryBudget(ServerSettings().memory_bytes)
    async with Connections() as connections, caches.opened_embedders(settings, connections, memory, WALL) as opened:
        yield opened


@asynccontextmanager
async def _kept(data_dir: str, store: Callable[[SqliteDatabase], S]) -> AsyncIterator[S]:
    database = await asyncio.to_thread(SqliteDatabase, data_dir)
    try:
        opened = store(database)
        await database.ready()
        yield opened
    finally:
        await asyncio.to_thread(database.close)
