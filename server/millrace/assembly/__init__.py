"""The composition root: settings become the parts of one process. The only file that knows every adapter."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from millrace import log
from millrace.access.gate import Gate
from millrace.access.keys import Keyring, follow
from millrace.access.origins import LOOPBACK, Origins
from millrace.access.tickets import CAPACITY, TICKET_BYTES, Tickets
from millrace.accounts.reports import LeversReports
from millrace.assembly import caches, counting, evidence as judging, models, router
from millrace.assembly.background import running, soon
from millrace.assembly.batches import running_batches
from millrace.assembly.budgets import limiting, limits_of
from millrace.assembly.dashboard import dashboard_of
from millrace.assembly.funnel import Common, LiveFunnels
from millrace.assembly.live import LiveSettings, heeding
from millrace.assembly.opened import (
    cache_control,
    cache_rules,
    embedder_upstream,
    embeddings_upstream,
    evidence_reports,
    judge,
    key_store,
    ledger_bills,
    ledger_rows,
    living,
    optional_parts,
    reloaded,
    router_reports,
    served,
)
from millrace.assembly.postgres import Shared, archive_of, keys_of, sending, sharing, stores_of
from millrace.assembly.redis import (
    linking,
    passing_on,
    shared_exact_cache,
    shared_repeats,
    shared_tickets,
    sharing_caches,
    sharing_evidence,
    sharing_limits,
)
from millrace.assembly.telemetry import access_of, watching
from millrace.assembly.workers import Together, following, leaving, together, told_to_supervisor
from millrace.caches.deletions import Deletions
from millrace.caches.embedders.chosen import Embedders
from millrace.caches.exact import SqliteExactCache
from millrace.caches.semantic import SqliteSemanticCache
from millrace.funnel.checks import Checks, prepare_openings
from millrace.funnel.checks.lessons import Lessons
from millrace.funnel.checks.openings import LearnedOpenings
from millrace.funnel.checks.own import own_checks
from millrace.funnel.hedging import Hedging
from millrace.funnel.prefixes import Prefixes
from millrace.funnel.ratios import Ratios
from millrace.memory import MemoryBudget, Shares
from millrace.ports import Claim, KeyStore
from millrace.ports.replicas import Worker
from millrace.runs.asking import Asking
from millrace.runs.conversations import Conversations
from millrace.runs.embeddings import Embeddings
from millrace.runs.feedback import Feedbacks
from millrace.runs.intake import Intake
from millrace.runs.runs import Runs
from millrace.runs.sweeper import Sweeper
from millrace.schemas import SchemaProcess
from millrace.settings import Settings
from millrace.settings.changes import Source
from millrace.stores import processes
from millrace.stores.archive import SqliteArchive
from millrace.stores.batches import SqliteBatches
from millrace.stores.bills import Bills
from millrace.stores.database import MEMORY, QUEUE_BYTES, SqliteDatabase
from millrace.stores.evidence import SqliteEvidence
from millrace.stores.handover import Handover
from millrace.stores.identity import identity
from millrace.stores.ledger import SqliteLedger
from millrace.stores.ledger_rows import LedgerRows
from millrace.stores.past import SqlitePast
from millrace.stores.processes import DataDirClaim, Processes
from millrace.stores.queries import Queries
from millrace.stores.ratios import SqliteRatios
from millrace.stores.reloads import SqliteReloads
from millrace.stores.router import SqliteRouter
from millrace.stores.spending import SqliteSpending
from millrace.telemetry.metrics import Metrics
from millrace.web.chats import Chats
from millrace.web.process import Process

if TYPE_CHECKING:
    from millrace.stores.postgres.archive import SharedArchive

__all__ = [
    "assembled",
    "cache_control",
    "cache_rules",
    "claim",
    "embedder_upstream",
    "embeddings_upstream",
    "evidence_reports",
    "judge",
    "key_store",
    "ledger_bills",
    "ledger_rows",
    "living",
    "optional_parts",
    "reloaded",
    "router_reports",
    "served",
]

LOOKUP_S = 0.25  # a lookup takes some 10 ms, and a few may wait; above this, asking a model is as fast

KEPT_SHARE = 4  # of the memory budget, as a divisor: for responses that have ended
QUEUE_SHARE = 4  # the same, at most, for what waits to be written to disk

CLOCK, WALL = time.monotonic, time.time


@asynccontextmanager
async def assembled(  # noqa: PLR0915 - all parts
    settings: Settings, claimed: Claim | None = None, source: Source | None = None, worker: Worker | None = None
) -> AsyncIterator[Process]:
    """Build a process's parts, run them, and take them down in order: what is settled last is still written.

    `claimed` is the right to serve data_dir; without it, it is claimed here. It is released at the end. `source` is
    where the settings come from, to be read anew. `worker`: what it is among several.
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
        workers = await parts.enter_async_context(together(worker, settings, epoch))
        spool = await identity(database) if settings.shared.redis or settings.shared.postgres else ""
        shared = await parts.enter_async_context(sharing(settings, database, spool, WALL, workers.once))
        looked_at: Queries = database if shared is None else shared.database  # the ledger of this process, or of all
        rows, past, bills = LedgerRows(looked_at), SqlitePast(looked_at), Bills(looked_at)
        link = await parts.enter_async_context(linking(settings.shared))
        exact = caches.exact_cache(settings, database, WALL)
        keyring = Keyring(may_be_open=settings.server.host in LOOPBACK, defaults=limits_of(settings.limits))
        memory = MemoryBudget(settings.server.memory_bytes, lambda: keyring.are_many)
        connections = await parts.enter_async_context(models.connections_of(settings))
        opened = caches.opened_embedders(settings.cache, connections, memory, WALL)
        embedders = await parts.enter_async_context(opened)
        semantic = await parts.enter_async_context(_semantic(settings, database, embedders))
        in_use = [cache for cache in (exact, semantic) if cache is not None]
        deletions = Deletions(database, epoch, in_use, ttl_s=settings.cache.ttl_s, wall=WALL)
        sweeper = Sweeper(CLOCK)
        ledger = SqliteLedger(
            database, epoch, keep_days=settings.ledger.keep_days, wall=WALL, is_sent=shared is not None
        )
        watched = await parts.enter_async_context(watching(settings, ledger, epoch))
        await parts.enter_async_context(leaving(workers, lambda: watched.figures.of(None).packed()))
        sweeper.on_late = watched.figures.late
        spending = SqliteSpending(database)
        schemas, learns, ratios = _schemas(parts), settings.evidence.judged, Ratios()
        sharing_exact = shared_exact_cache(settings, exact, link, epoch, memory, CLOCK, WALL)
        all_exact, flights = await parts.enter_async_context(sharing_exact)
        common = Common(
            connections=connections,
            exact=all_exact,
            flights=flights,
            semantic=semantic,
            deleted=deletions,
            ledger=watched.ledger,
            schemas=schemas,
            own_checks=tuple(own_checks()),
            lessons=Lessons() if learns else None,
            openings=LearnedOpenings(WALL) if learns else None,
            hedging=Hedging(CLOCK, settings.funnel.hedge_share),
            prefixes=Prefixes(CLOCK),
            router=router.router_of(settings.router, models.catalog(settings, ratios), CLOCK, WALL),
            ratios=ratios,
            places=_places(settings.server.max_running, memory),
        )
        live = LiveFunnels(settings, common)
        parts.callback(live.close)
        watched.providers.settings = lambda: live.settings
        await counting.load_encodings(live.funnels.catalog)
        if semantic is not None:  # a first lookup waits for this, the start does not
            await parts.enter_async_context(running(asyncio.to_thread(embedders.load)))
        await parts.enter_async_context(running(soon(prepare_openings)))
        funnels, chosen, checks = live.funnels, common.router, live.funnels.checks
        keys = keys_of(database, None if shared is None else shared.database)
        archive, judged = _archive(settings, database, shared), _judged(settings, looked_at)
        routed, batch_store = SqliteRouter(looked_at, wall=WALL), SqliteBatches(database, wall=WALL)
        counted = SqliteRatios(database)
        await database.ready()
        await parts.enter_async_context(counting.kept_ratios(ratios, counted, sweeper))
        await parts.enter_async_context(caches.heeded(deletions, present))
        shared_semantic = await parts.enter_async_context(
            sharing_caches(link, database, semantic, deletions, spool, WALL, CLOCK, workers.once)
        )
        await parts.enter_async_context(following(workers, *(cache.follow for cache in in_use)))
        for store in (*in_use, archive, judged, ledger):
            store.prune()
        shelf = None if workers.others is None else workers.others.shelf
        tickets = Tickets(CLOCK, keyring.principal, shelf, shared_tickets(link))
        gate = await _gate(settings, keyring, keys, parts, tickets, workers.share_of)
        _count_caches(settings, memory, exact, semantic)
        _count_queues(memory, database, queue_bytes, schemas, checks)
        runs = Runs(funnels, CLOCK, WALL, kept_bytes=settings.server.memory_bytes // KEPT_SHARE)
        await parts.enter_async_context(sending(archive, runs.kept.forget))
        conversations = Conversations(runs, archive, max_bytes=settings.server.max_message_bytes)
        runs.on_end = conversations.remember
        handover = Handover(ledger, spending, present, WALL, worker, share_of=workers.share_of)
        limits = limiting(settings, spending, handover, memory, CLOCK, WALL, workers.share_of)
        limiter, renew_webhook = await parts.enter_async_context(limits)
        shared_limits = await parts.enter_async_context(
            sharing_limits(link, limiter, spool, epoch, present, CLOCK, shared)
        )
        cache = caches.cache_entries(
            settings.cache, database, embedders, bills, partial(caches.heed, deletions, database, present), WALL
        )
        asking = Asking(funnels, limiter, CLOCK, settings.evidence.dollars_per_day)
        learned = judging.evidence_of(
            settings,
            judged,
            semantic,
            embedders,
            asking,
            lambda tenant, entry_ids: cache.delete(entry_ids, tenant=tenant),
            lambda: judging.is_busy(funnels, database, settings.server.max_running),
            WALL,
            students=(chosen, *checks.students),
            measured=judging.measured_by(funnels),
        )
        end_learning = await parts.enter_async_context(router.learning(chosen, routed, memory))
        share = sharing_evidence(link, epoch, learned, judged)
        end_judging = await parts.enter_async_context(judging.judging(learned, funnels, memory, share))
        if learned is not None:
            await parts.enter_async_context(following(workers, partial(learned.follow, judged.changes)))
        embeddings = Embeddings(
            models.served_embeddings(settings, connections, WALL),
            limiter,
            watched.ledger,
            database,
            memory,
            WALL,
            max_running=settings.server.max_running,
            traced=watched.traced,
        )
        reports = judging.reports_of(settings.evidence, settings.cache, judged, bills, WALL)
        router_reports = router.reports_of(settings.router, routed, WALL)
        live_settings = LiveSettings(
            settings,
            source,
            live,
            connections,
            gate,
            limiter,
            renew_webhook,
            embeddings,
            asking,
            learned,
            embedders,
            caches.renewal(exact, semantic, deletions, cache),
            reports,
            router_reports,
            WALL,
        )
        end_reloads = await parts.enter_async_context(heeding(live_settings, SqliteReloads(database)))
        with_limits, traced = gate.keyring.with_limits, watched.traced
        elsewhere = await parts.enter_async_context(passing_on(settings, link, workers.others, flights, epoch, CLOCK))
        if shared_limits is not None and elsewhere is not None:
            shared_limits.are_all_without = elsewhere.are_all_without_redis
        intake = Intake(
            funnels,
            runs,
            conversations,
            limiter,
            database,
            schemas,
            CLOCK,
            with_limits,
            traced=traced,
            place="" if elsewhere is None else elsewhere.place,
            repeats=shared_repeats(link, epoch),
        )
        batches = await parts.enter_async_context(
            running_batches(
                settings,
                database,
                batch_store,
                ledger,
                partial(_others, present, workers, worker),
                keyring,
                live,
                intake,
                runs,
                embeddings,
                memory,
                CLOCK,
                WALL,
            )
        )
        dashboard = await parts.enter_async_context(
            dashboard_of(
                lambda: live_settings.current,
                looked_at,
                rows,
                spending,
                keys,
                reports,
                router_reports,
                funnels,
                common.places,
                None if workers.others is None else lambda: workers.first.is_here,
                shared,
            )
        )
        live_settings.dashboard = dashboard
        if worker is not None:
            live_settings.tell = told_to_supervisor()
        process = Process(
            funnel=funnels,
            runs=runs,
            intake=intake,
            conversations=conversations,
            clock=CLOCK,
            wall=WALL,
            epoch=epoch,
            hand_over=partial(
                _hand_over,
                claimed,
                ledger,
                (end_judging, end_learning, end_reloads, batches.close, dashboard.rollups.hand_over),
            ),
            gate=gate,
            backlog=database,
            memory=memory,
            drain_s=settings.server.drain_s,
            max_age_s=settings.server.max_age_s,
            stuck_s=settings.server.stuck_s,
            max_message_bytes=settings.server.max_message_bytes,
            reports=reports,
            router_reports=router_reports,
            embeddings=embeddings,
            chats=Chats(runs),
            elsewhere=elsewhere,
            flights=flights,
            stores=stores_of(link, shared),
            metrics=Metrics(
                figures=watched.figures,
                access=access_of(settings),
                budgets=limiter.budgets,
                reports=reports,
                lags=lambda: {} if shared_semantic is None else shared_semantic.lags,
            ),
            settings=live_settings,
            batches=batches,
            levers=LeversReports(past, WALL, funnels.catalog.large.price),
            dashboard=dashboard,
            cache=cache,
            ledger=rows,
            feedbacks=Feedbacks(ledger, judged, cache, learned, WALL, chosen),
        )
        gate.keyring.on_change = process.sweep_all_next
        _count_kept(memory, gate, runs, settings.server.memory_bytes // KEPT_SHARE)
        memory.add("upstream buffers", lambda: live.bytes_used)
        for tick in (funnels.meter, live.sweep_health, live.sweep_upstreams, live.drop_ended):
            sweeper.add(tick)
        sweeper.add(runs.sweep)
        sweeper.add(process.sweep)
        await parts.enter_async_context(running(sweeper.run()))
        parts.push_async_callback(runs.stop)
        parts.callback(batches.close)  # before the runs of their lines are cancelled
        yield process


def _count_queues(
    memory: MemoryBudget, database: SqliteDatabase, queue_bytes: int, schemas: SchemaProcess, checks: Checks
) -> None:
    memory.add("database queue", lambda: database.queued_bytes, queue_bytes)
    memory.add("schemas that wait, and reports", lambda: schemas.bytes_used)
    memory.add("what checks have learned", lambda: 0 if checks.lessons is None else checks.lessons.bytes_used)


def _places(max_running: int, memory: MemoryBudget) -> Shares:
    places = Shares(lambda: max_running - places.used, memory.are_many)
    return places


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


@asynccontextmanager
async def _semantic(
    settings: Settings, database: SqliteDatabase, embedders: Embedders
) -> AsyncIterator[SqliteSemanticCache | None]:
    """Run the semantic cache, if it is on. At the end, what it still has to store goes into the database."""
    semantic = caches.semantic_cache(settings, database, embedders, LOOKUP_S, WALL)
    if semantic is None:
        yield None
        return
    try:
        yield semantic
    finally:
        await semantic.close()


async def _gate(
    settings: Settings, keyring: Keyring, keys: KeyStore, parts: AsyncExitStack, tickets: Tickets, share_of: int
) -> Gate:
    """Build the gate, with the keys as they are now and, while the process runs, as they change."""
    try:
        keyring.replace(await keys.load())
    except TimeoutError as error:
        log.get().warning("nobody has access until the keys are known", error=str(error))
        keyring.close_until_known()
    await parts.enter_async_context(running(follow(keyring, keys)))
    return Gate(
        keyring,
        tickets,
        Origins(settings.server.origins),
        max_connections=settings.server.max_connections,
        share_of=share_of,
    )


def _hand_over(claimed: Claim, ledger: SqliteLedger, ends: Iterable[Callable[[], None]]) -> None:
    """Let the next process serve, and tell it from now on what the requests of this one cost."""
    for end in ends:  # the next one has the operator's money for judging, and learns from what is judged
        end()
    ledger.wants_progress = True
    claimed.release()


async def _others(present: Processes | None, workers: Together, worker: Worker | None) -> bool:
    """Whether another process may still do what must be done once, such as running batches."""
    if present is None:
        return False
    others = await asyncio.to_thread(present.others)
    return bool(others) if worker is None else not workers.first.is_here or bool(others & worker.strangers)


def _present(data_dir: str, epoch: str, parts: AsyncExitStack) -> Processes | None:
    """Make this process known to others on the same data_dir, until it has written its last row."""
    if data_dir == MEMORY:
        return None
    present = Processes(data_dir, epoch)
    parts.callback(present.leave)
    return present


def _archive(settings: Settings, database: SqliteDatabase, shared: Shared | None) -> "SqliteArchive | SharedArchive":
    ttl_s, max_bytes = settings.server.store_ttl_s, settings.server.store_bytes
    own = SqliteArchive(database, ttl_s=ttl_s, disk_bytes=max_bytes, wall=WALL)
    return archive_of(own, database, shared, ttl_s=ttl_s, max_bytes=max_bytes, wall=WALL)


def _judged(settings: Settings, database: Queries) -> SqliteEvidence:
    return SqliteEvidence(database, keep_days=settings.evidence.keep_days, wall=WALL)
