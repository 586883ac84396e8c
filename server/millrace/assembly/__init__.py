"""The composition root: settings become the parts of one process. The only file that knows every adapter."""

import asyncio
import importlib.util
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from millrace.access.gate import Gate
from millrace.access.keys import Keyring, follow
from millrace.access.origins import LOOPBACK, Origins
from millrace.access.tickets import CAPACITY, TICKET_BYTES, Tickets
from millrace.assembly import caches, counting, evidence, models, router
from millrace.assembly.background import running
from millrace.assembly.funnel import checks_of, embeddings_of, funnel_of, guards_of
from millrace.assembly.models import Served
from millrace.caches.deletions import Deletions, heeded_by_all
from millrace.caches.embedders import weights
from millrace.caches.embedders.chosen import Embedders
from millrace.caches.entries import CacheEntries
from millrace.caches.exact import SqliteExactCache
from millrace.caches.guards import RULES, Rule
from millrace.caches.pairs import PairJudge
from millrace.caches.semantic import SqliteSemanticCache
from millrace.evidence.report import Promises, Reports
from millrace.funnel.checks import Checks
from millrace.funnel.checks.table import HARD
from millrace.funnel.ratios import Ratios
from millrace.funnel.recall import Recall
from millrace.funnel.routing.report import RouterReports
from millrace.memory import MemoryBudget
from millrace.ports import CacheControl, Claim, EmbeddingsUpstream, KeyStore
from millrace.principal import Limits
from millrace.runs.asking import Asking
from millrace.runs.conversations import Conversations
from millrace.runs.embeddings import EmbeddingModel
from millrace.runs.feedback import Feedbacks
from millrace.runs.intake import Intake
from millrace.runs.runs import Runs
from millrace.runs.sweeper import Sweeper
from millrace.schemas import SchemaProcess
from millrace.settings import CacheSettings, EvidenceSettings, LimitsSettings, RouterSettings, ServerSettings, Settings
from millrace.stores import processes
from millrace.stores.archive import SqliteArchive
from millrace.stores.database import FILE, MEMORY, QUEUE_BYTES, SqliteDatabase
from millrace.stores.evidence import SqliteEvidence
from millrace.stores.handover import Handover
from millrace.stores.keys import SqliteKeyStore
from millrace.stores.ledger import SqliteLedger
from millrace.stores.limits import MemoryLimiter, midnight
from millrace.stores.processes import DataDirClaim, Processes
from millrace.stores.ratios import SqliteRatios
from millrace.stores.router import SqliteRouter
from millrace.upstreams.connections import Connections
from millrace.web.process import Process

LOOKUP_S = 0.25  # a lookup takes some 10 ms, and a few may wait; above this, asking a model is as fast

KEPT_SHARE = 4  # of the memory budget, as a divisor: for responses that have ended
QUEUE_SHARE = 4  # the same, at most, for what waits to be written to disk

S = TypeVar("S")

CLOCK, WALL = time.monotonic, time.time


@asynccontextmanager
async def assembled(  # noqa: PLR0915 - all parts
    settings: Settings, claimed: Claim | None = None
) -> AsyncIterator[Process]:
    """Build a process's parts, run them, and take them down in order: what is settled last is still written.

    `claimed` is the right to serve data_dir; without it, it is claimed here. It is released at the end.
    """
    epoch = secrets.token_hex(8)
    async with AsyncExitStack() as parts:
        if claimed is None:
            claimed = await asyncio.to_thread(claim, settings.server.data_dir)
        parts.callback(claimed.release)
        present = _present(settings.server.data_dir, epoch, parts)
        queue_bytes = min(QUEUE_BYTES, settings.server.memory_bytes // QUEUE_SHARE)
        database = SqliteDatabase(settings.server.data_dir, queue_bytes=queue_bytes)
        parts.push_async_callback(asyncio.to_thread, database.close)
        exact = caches.exact_cache(settings, database, WALL)
        keyring = Keyring(may_be_open=settings.server.host in LOOPBACK, defaults=_limits(settings.limits))
        memory = MemoryBudget(settings.server.memory_bytes, lambda: keyring.are_many)
        connections = await parts.enter_async_context(_connections(settings))
        opened = caches.opened_embedders(settings.cache, connections, memory, WALL)
        embedders = await parts.enter_async_context(opened)
        semantic = await parts.enter_async_context(_semantic(settings, database, embedders))
        in_use = [cache for cache in (exact, semantic) if cache is not None]
        deletions = Deletions(database, epoch, in_use, ttl_s=settings.cache.ttl_s, wall=WALL)
        sweeper = Sweeper(CLOCK)
        ledger = SqliteLedger(database, epoch)
        ratios = Ratios()
        catalog, schemas = models.catalog(settings, ratios), _schemas(parts)
        await counting.load_encodings(catalog)
        checks, guards = checks_of(settings, schemas), guards_of(settings)
        chosen = router.router_of(settings.router, catalog, CLOCK, WALL)
        funnel = funnel_of(
            settings,
            connections,
            sweeper,
            memory,
            catalog,
            Recall(catalog, exact, semantic, deletions, checks.selected, guards),
            ledger,
            checks,
            chosen,
            guards,
        )
        parts.callback(funnel.health.close)
        keys, archive, judged = SqliteKeyStore(database), _archive(settings, database), _judged(settings, database)
        routed, counted = SqliteRouter(database, wall=WALL), SqliteRatios(database)
        await database.ready()
        await parts.enter_async_context(counting.kept_ratios(ratios, counted, sweeper))
        await parts.enter_async_context(_heeded(deletions, present))
        for store in (*in_use, archive, judged):
            store.prune()
        gate = await _gate(settings, keyring, keys, parts)
        _count_caches(settings, memory, exact, semantic)
        _count_queues(memory, database, queue_bytes, schemas, checks)
        runs = Runs(funnel, CLOCK, WALL, kept_bytes=settings.server.memory_bytes // KEPT_SHARE)
        conversations = Conversations(runs, archive, max_bytes=settings.server.max_message_bytes)
        runs.on_end = conversations.remember
        handover = Handover(ledger, present, WALL)
        limiter = MemoryLimiter(CLOCK, WALL, await handover.begin(midnight(WALL())))
        await parts.enter_async_context(running(handover.follow(limiter.count)))
        cache = caches.cache_entries(
            settings.cache, database, embedders, ledger, partial(_heed, deletions, database, present), WALL
        )
        learned = evidence.evidence_of(
            settings,
            judged,
            semantic,
            embedders,
            Asking(funnel, catalog, limiter, CLOCK, settings.evidence.dollars_per_day),
            lambda tenant, entry_ids: cache.delete(entry_ids, tenant=tenant),
            lambda: evidence.is_busy(funnel, database, settings.server.max_running),
            WALL,
            students=(chosen, *checks.students),
            measured=evidence.measured_by(checks),
        )
        end_learning = await parts.enter_async_context(router.learning(chosen, routed, memory))
        end_judging = await parts.enter_async_context(evidence.judging(learned, funnel, memory))
        process = Process(
            funnel=funnel,
            catalog=catalog,
            runs=runs,
            intake=Intake(catalog, runs, conversations, limiter, database, schemas, CLOCK),
            conversations=conversations,
            clock=CLOCK,
            wall=WALL,
            epoch=epoch,
            hand_over=partial(_hand_over, claimed, ledger, (end_judging, end_learning)),
            gate=gate,
            backlog=database,
            memory=memory,
            drain_s=settings.server.drain_s,
            max_age_s=settings.server.max_age_s,
            stuck_s=settings.server.stuck_s,
            max_message_bytes=settings.server.max_message_bytes,
            reports=_reports(settings.evidence, settings.cache, judged, ledger),
            router_reports=router.reports_of(settings.router, routed, WALL),
            embeddings=embeddings_of(settings, connections, limiter, ledger, database, memory),
            cache=cache,
            feedbacks=Feedbacks(ledger, judged, cache, learned, WALL, chosen),
        )
        gate.keyring.on_change = process.sweep_all_next
        _count_kept(memory, gate, runs, settings.server.memory_bytes // KEPT_SHARE)
        sweeper.add(runs.sweep)
        sweeper.add(process.sweep)
        await parts.enter_async_context(running(sweeper.run()))
        parts.push_async_callback(runs.stop)
        yield process


def _count_queues(
    memory: MemoryBudget, database: SqliteDatabase, queue_bytes: int, schemas: SchemaProcess, checks: Checks
) -> None:
    memory.add("database queue", lambda: database.queued_bytes, queue_bytes)
    memory.add("schemas that wait, and reports", lambda: schemas.bytes_used)
    memory.add("what checks have learned", lambda: 0 if checks.lessons is None else checks.lessons.bytes_used)


def _schemas(parts: AsyncExitStack) -> SchemaProcess:
    schemas = SchemaProcess()
    parts.push_async_callback(asyncio.to_thread, schemas.close)
    return schemas


def _count_kept(memory: MemoryBudget, gate: Gate, runs: Runs, kept_bytes: int) -> None:
    memory.add("tickets", lambda: len(gate.tickets) * TICKET_BYTES, CAPACITY * TICKET_BYTES)
    memory.add("ended responses", lambda: runs.kept.size, kept_bytes)


def _count_caches(
    settings: Settings, memory: MemoryBudget, exact: SqliteExactCache | None, semantic: SqliteSemanticCache | None
) -> None:
    """Let the budget count the caches, which give way to requests."""
    cache_bytes = caches.share_of(settings, settings.cache.memory_bytes)
    if exact is not None:
        memory.add("exact cache", lambda: exact.bytes_used, cache_bytes, exact.give_way)
    if semantic is not None:
        memory.add("semantic cache", lambda: semantic.bytes_used, cache_bytes, semantic.give_way)


def claim(data_dir: str) -> Claim:
    """Take the right to serve a data_dir. Raises `OSError`, after about a second, if another process has it."""
    return DataDirClaim(None) if data_dir == MEMORY else processes.claim(data_dir)


def key_store(data_dir: str) -> AbstractAsyncContextManager[KeyStore]:
    """Open the keys that are kept in a folder, which is created; no server is needed, or disturbed."""
    return _kept(data_dir, SqliteKeyStore)


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
            return caches.cache_entries(settings, database, embedders, SqliteLedger(database), heeded, WALL)

        async with _kept(data_dir, opened) as control:
            yield control


@asynccontextmanager
async def evidence_reports(data_dir: str, evidence: EvidenceSettings, cache: CacheSettings) -> AsyncIterator[Reports]:
    """Open what was judged in a folder, to be reported on; no server is needed, or disturbed."""
    if not await asyncio.to_thread(Path(data_dir, FILE).exists):
        raise FileNotFoundError("it has no database yet")

    def opened(database: SqliteDatabase) -> Reports:
        return _reports(
            evidence, cache, SqliteEvidence(database, keep_days=evidence.keep_days, wall=WALL), SqliteLedger(database)
        )

    async with _kept(data_dir, opened) as reports:
        yield reports


@asynccontextmanager
async def router_reports(
    data_dir: str, settings: RouterSettings, *, create: bool = False
) -> AsyncIterator[RouterReports]:
    """Open what the router has learned in a folder, to be shown and changed; no server is needed, or disturbed.

    `create`: where no server was started yet, its database is made.
    """
    if not create and not await asyncio.to_thread(Path(data_dir, FILE).exists):
        raise FileNotFoundError("it has no database yet")

    def opened(database: SqliteDatabase) -> RouterReports:
        return router.reports_of(settings, SqliteRouter(database, wall=WALL), WALL)

    async with _kept(data_dir, opened) as reports:
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
    async with _connections(settings) as connections:
        yield None if embedder is None else models.embeddings_upstream(embedder, connections, WALL, caches.CALL_S)


@asynccontextmanager
async def _embedders(settings: CacheSettings) -> AsyncIterator[Embedders]:
    memory = MemoryBudget(ServerSettings().memory_bytes)
    async with Connections() as connections, caches.opened_embedders(settings, connections, memory, WALL) as opened:
        yield opened


@asynccontextmanager
async def _semantic(
    settings: Settings, database: SqliteDatabase, embedders: Embedders
) -> AsyncIterator[SqliteSemanticCache | None]:
    """Run the semantic cache, if it is on. A first lookup waits for what it needs to load, the start does not.

    At the end, what it still has to store goes into the database.
    """
    semantic = caches.semantic_cache(settings, database, embedders, LOOKUP_S, WALL)
    if semantic is None:
        yield None
        return
    async with running(asyncio.to_thread(embedders.load)):
        try:
            yield semantic
        finally:
            await semantic.close()


def kept_ledger(data_dir: str) -> AbstractAsyncContextManager[SqliteLedger]:
    """Open the ledger that is kept in a folder; no server is needed, or disturbed."""
    return _kept(data_dir, SqliteLedger)


@asynccontextmanager
async def _kept(data_dir: str, store: Callable[[SqliteDatabase], S]) -> AsyncIterator[S]:
    database = await asyncio.to_thread(SqliteDatabase, data_dir)
    try:
        opened = store(database)
        await database.ready()
        yield opened
    finally:
        await asyncio.to_thread(database.close)


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[list[Served]]:
    """Open the deployments of all models and nothing else, those of the small one first."""
    async with _connections(settings) as connections:
        yield models.served(settings, models.catalog(settings), connections, CLOCK)


@asynccontextmanager
async def embeddings_upstream(settings: Settings) -> AsyncIterator[tuple[EmbeddingModel, EmbeddingsUpstream] | None]:
    """Open the model for embeddings and nothing else; None if none is configured."""
    model = settings.models.embeddings
    async with _connections(settings) as connections:
        yield (
            None
            if model is None
            else (
                models.embedding_model(model),
                models.embeddings_upstream(model, connections, WALL, model.timeout_s),
            )
        )


def optional_parts() -> dict[str, bool]:
    """Return which of the packages that Millrace can do without are installed."""
    return {"MiniLM": weights.available(), "hnswlib": importlib.util.find_spec("hnswlib") is not None}


def _connections(settings: Settings) -> Connections:
    return Connections(pulls=settings.server.upstream_client == "aiohttp")


async def _gate(settings: Settings, keyring: Keyring, keys: KeyStore, parts: AsyncExitStack) -> Gate:
    """Build the gate, with the keys as they are now and, while the process runs, as they change."""
    keyring.replace(await keys.load())
    await parts.enter_async_context(running(follow(keyring, keys)))
    return Gate(
        keyring,
        Tickets(CLOCK, keyring.is_valid),
        Origins(settings.server.origins),
        max_connections=settings.server.max_connections,
    )


@asynccontextmanager
async def _heeded(deletions: Deletions, present: Processes | None) -> AsyncIterator[None]:
    """Heed what was deleted from the caches, and what other processes delete from now on."""
    await deletions.begin(await asyncio.to_thread(present.others) if present else ())
    async with running(deletions.follow()):
        yield


async def _heed(deletions: Deletions, database: SqliteDatabase, present: Processes | None, number: int) -> None:
    """Heed a deletion; return once the other processes on the data_dir do too. Raises `TimeoutError`."""
    await deletions.read()
    if present is not None:
        await heeded_by_all(database, present.others, number)


def _hand_over(claimed: Claim, ledger: SqliteLedger, ends: Iterable[Callable[[], None]]) -> None:
    """Let the next process serve, and tell it from now on what the requests of this one cost."""
    for end in ends:  # the next one has the operator's money for judging, and learns from what is judged
        end()
    ledger.wants_progress = True
    claimed.release()


def _present(data_dir: str, epoch: str, parts: AsyncExitStack) -> Processes | None:
    """Make this process known to others on the same data_dir, until it has written its last row."""
    if data_dir == MEMORY:
        return None
    present = Processes(data_dir, epoch)
    parts.callback(present.leave)
    return present


def _limits(settings: LimitsSettings) -> Limits:
    return Limits(**msgspec.structs.asdict(settings))


def _archive(settings: Settings, database: SqliteDatabase) -> SqliteArchive:
    ttl_s, disk_bytes = settings.server.store_ttl_s, settings.server.store_bytes
    return SqliteArchive(database, ttl_s=ttl_s, disk_bytes=disk_bytes, wall=WALL)


def _judged(settings: Settings, database: SqliteDatabase) -> SqliteEvidence:
    return SqliteEvidence(database, keep_days=settings.evidence.keep_days, wall=WALL)


def _reports(evidence: EvidenceSettings, cache: CacheSettings, judged: SqliteEvidence, ledger: SqliteLedger) -> Reports:
    promises = Promises(
        judged=evidence.judged,
        max_wrong_hit_rate=cache.max_wrong_hit_rate,
        dollars_per_day=evidence.dollars_per_day,
    )
    return Reports(judged, ledger, promises, WALL, HARD)


def cache_rules() -> tuple[Rule, ...]:
    """Return the rules by which the semantic cache keeps two questions apart."""
    return tuple(RULES.values())
