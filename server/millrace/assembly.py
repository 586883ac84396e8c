"""The composition root: settings become the parts of one process. The only file that knows every adapter."""

import asyncio
import dataclasses
import importlib.util
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import msgspec

from millrace import log, pricing, tokens
from millrace.access.gate import Gate
from millrace.access.keys import Keyring, follow
from millrace.access.origins import LOOPBACK, Origins
from millrace.access.tickets import CAPACITY, TICKET_BYTES, Tickets
from millrace.caches.embedders import weights
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.process import MiniLMProcess
from millrace.caches.exact import SqliteExactCache
from millrace.caches.finder import Finder
from millrace.caches.guards import RULES, Rule
from millrace.caches.semantic import SqliteSemanticCache
from millrace.funnel.calls import Caller
from millrace.funnel.catalog import Catalog
from millrace.funnel.funnel import Funnel
from millrace.funnel.health import Health
from millrace.funnel.recall import Recall
from millrace.funnel.routing.choice import Policy
from millrace.memory import MemoryBudget
from millrace.ports import Claim, Embedder, EmbeddingsUpstream, KeyStore, Upstream
from millrace.principal import Limits
from millrace.runs.conversations import Conversations
from millrace.runs.embeddings import EmbeddingModel, Embeddings
from millrace.runs.intake import Intake
from millrace.runs.runs import Runs
from millrace.runs.sweeper import Sweeper
from millrace.schemas import SchemaProcess
from millrace.settings import EmbeddingsSettings, LimitsSettings, ModelSettings, PriceSettings, Settings
from millrace.stores import processes
from millrace.stores.archive import SqliteArchive
from millrace.stores.database import MEMORY, QUEUE_BYTES, SqliteDatabase
from millrace.stores.handover import Handover
from millrace.stores.keys import SqliteKeyStore
from millrace.stores.ledger import SqliteLedger
from millrace.stores.limits import MemoryLimiter, midnight
from millrace.stores.processes import DataDirClaim, Processes
from millrace.types import Api, Model, Price, Tier
from millrace.upstreams.attempt import HttpUpstream, UpstreamEndpoint
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.connections import Connections
from millrace.upstreams.embeddings import EmbeddingsEndpoint, OpenAIEmbeddings
from millrace.upstreams.messages.api import MESSAGES
from millrace.upstreams.provider_api import ProviderApi
from millrace.upstreams.quirks import PRESETS, CallIds, Quirks, Reasoning, Thinking
from millrace.upstreams.responses.api import RESPONSES
from millrace.web.process import Process

LOOKUP_S = 0.25  # a lookup takes some 10 ms, and a few may wait; above this, asking a model is as fast

KEPT_SHARE = 4  # of the memory budget, as a divisor: for responses that have ended
QUEUE_SHARE = 4  # the same, at most, for what waits to be written to disk

S = TypeVar("S")

CLOCK, WALL = time.monotonic, time.time
APIS: dict[str, ProviderApi] = {  # by the name of `upstream` in the settings
    "openai": CHAT,
    "responses": RESPONSES,
    "anthropic": MESSAGES,
}
_API = {"openai": Api.CHAT, "responses": Api.RESPONSES, "anthropic": Api.MESSAGES}


@asynccontextmanager
async def assembled(settings: Settings, claimed: Claim | None = None) -> AsyncIterator[Process]:
    """Build a process's parts, run them, and take them down in order: what is settled last is still written.

    `claimed` is the right to serve data_dir; without it, it is claimed here. It is released at the end.
    """
    await asyncio.to_thread(tokens.encoding)
    epoch = secrets.token_hex(8)
    async with AsyncExitStack() as parts:
        if claimed is None:
            claimed = await asyncio.to_thread(claim, settings.server.data_dir)
        parts.callback(claimed.release)
        present = _present(settings.server.data_dir, epoch, parts)
        queue_bytes = min(QUEUE_BYTES, settings.server.memory_bytes // QUEUE_SHARE)
        database = SqliteDatabase(settings.server.data_dir, queue_bytes=queue_bytes)
        parts.push_async_callback(asyncio.to_thread, database.close)
        exact = _exact(settings, database)
        semantic, embedder = await _semantic(settings, database, parts)
        connections = await parts.enter_async_context(_connections(settings))
        sweeper = Sweeper(CLOCK)
        ledger = SqliteLedger(database, epoch)
        catalog = _catalog(settings)
        recall = Recall(catalog, exact, semantic, embedder)
        keyring = Keyring(may_be_open=settings.server.host in LOOPBACK, defaults=_limits(settings.limits))
        memory = MemoryBudget(settings.server.memory_bytes, lambda: keyring.are_many)
        schemas = SchemaProcess()
        parts.push_async_callback(asyncio.to_thread, schemas.close)
        funnel = _funnel(settings, connections, sweeper, memory, catalog, recall, ledger, schemas)
        keys, archive = SqliteKeyStore(database), _archive(settings, database)
        await database.ready()
        for store in (exact, semantic, archive):
            if store is not None:
                store.prune()
        gate = await _gate(settings, keyring, keys, parts)
        _count_caches(settings, memory, exact, semantic)
        memory.add("database queue", lambda: database.queued_bytes, queue_bytes)
        memory.add("schemas that wait, and reports", lambda: schemas.bytes_used)
        runs = Runs(funnel, CLOCK, WALL, kept_bytes=settings.server.memory_bytes // KEPT_SHARE)
        conversations = Conversations(runs, archive, max_bytes=settings.server.max_message_bytes)
        runs.on_end = conversations.remember
        handover = Handover(ledger, present, WALL)
        limiter = MemoryLimiter(CLOCK, WALL, await handover.begin(midnight(WALL())))
        await parts.enter_async_context(_running(handover.follow(limiter.count)))
        process = Process(
            funnel=funnel,
            catalog=catalog,
            runs=runs,
            intake=Intake(catalog, runs, conversations, limiter, database, schemas, CLOCK),
            conversations=conversations,
            clock=CLOCK,
            wall=WALL,
            epoch=epoch,
            hand_over=partial(_hand_over, claimed, ledger),
            gate=gate,
            backlog=database,
            memory=memory,
            drain_s=settings.server.drain_s,
            max_age_s=settings.server.max_age_s,
            stuck_s=settings.server.stuck_s,
            max_message_bytes=settings.server.max_message_bytes,
            embeddings=_embeddings(settings, connections, limiter, ledger, database, memory),
        )
        gate.keyring.on_change = process.sweep_all_next
        memory.add("tickets", lambda: len(gate.tickets) * TICKET_BYTES, CAPACITY * TICKET_BYTES)
        memory.add("ended responses", lambda: runs.kept.size, settings.server.memory_bytes // KEPT_SHARE)
        sweeper.add(runs.sweep)
        sweeper.add(process.sweep)
        await parts.enter_async_context(_running(sweeper.run()))
        parts.push_async_callback(runs.stop)
        yield process


def _count_caches(
    settings: Settings, memory: MemoryBudget, exact: SqliteExactCache | None, semantic: SqliteSemanticCache | None
) -> None:
    """Let the budget count the caches, which give way to requests."""
    cache_bytes = _share(settings, settings.cache.memory_bytes)
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
async def upstreams(settings: Settings) -> AsyncIterator[list[tuple[Model, Upstream]]]:
    """Open the two models and nothing else, small first."""
    configured = (settings.models.small, settings.models.large)
    async with _connections(settings) as connections:
        opened = [_upstream(connections, model) for model in configured]
        yield list(zip(_catalog(settings).models, opened, strict=True))


@asynccontextmanager
async def embeddings_upstream(settings: Settings) -> AsyncIterator[tuple[EmbeddingModel, EmbeddingsUpstream] | None]:
    """Open the model for embeddings and nothing else; None if none is configured."""
    model = settings.models.embeddings
    async with _connections(settings) as connections:
        yield None if model is None else (_embedding_model(model), _embeddings_upstream(model, connections))


def optional_parts() -> dict[str, bool]:
    """Return which of the packages that Millrace can do without are installed."""
    return {"MiniLM": weights.available(), "hnswlib": importlib.util.find_spec("hnswlib") is not None}


def _funnel(
    settings: Settings,
    connections: Connections,
    sweeper: Sweeper,
    memory: MemoryBudget,
    catalog: Catalog,
    recall: Recall,
    ledger: SqliteLedger,
    schemas: SchemaProcess,
) -> Funnel:
    """Build the funnel with its upstreams. The sweeper looks after their stalls, and after the bills that grow."""
    models = {Tier.SMALL: settings.models.small, Tier.LARGE: settings.models.large}
    upstreams = {tier: _upstream(connections, model) for tier, model in models.items()}
    funnel = Funnel(
        catalog=catalog,
        caller=Caller(upstreams, schemas, Health(catalog.models, CLOCK, WALL)),
        recall=recall,
        ledger=ledger,
        wall=WALL,
        policy=Policy(
            context_budget=settings.funnel.context_budget,
            grace_ms=settings.funnel.grace_ms,
            hedge_ms=settings.funnel.hedge_ms,
            concise_line=settings.funnel.concise_line,
        ),
        max_running=settings.server.max_running,
        are_many=memory.are_many,
    )
    sweeper.add(funnel.meter)
    for upstream in upstreams.values():
        sweeper.add(upstream.sweep)
    memory.add("upstream buffers", lambda: sum(upstream.bytes_used for upstream in upstreams.values()))
    return funnel


def _connections(settings: Settings) -> Connections:
    return Connections(pulls=settings.server.upstream_client == "aiohttp")


def _embeddings(
    settings: Settings,
    connections: Connections,
    limiter: MemoryLimiter,
    ledger: SqliteLedger,
    database: SqliteDatabase,
    memory: MemoryBudget,
) -> Embeddings | None:
    """Build what passes on requests for embeddings, if a model for them is configured."""
    model = settings.models.embeddings
    if model is None:
        return None
    return Embeddings(
        _embedding_model(model),
        _embeddings_upstream(model, connections),
        limiter,
        ledger,
        database,
        memory,
        WALL,
        max_running=settings.server.max_running,
    )


def _embedding_model(model: EmbeddingsSettings) -> EmbeddingModel:
    return EmbeddingModel(id=model.model, price=Price(input=model.price.input, output=pricing.ZERO))


def _embeddings_upstream(model: EmbeddingsSettings, connections: Connections) -> EmbeddingsUpstream:
    endpoint = EmbeddingsEndpoint(
        base_url=model.base_url,
        model=model.model,
        api_key=os.environ[model.api_key_env] if model.api_key_env else None,
        connect_timeout_s=model.connect_timeout_s,
        timeout_s=model.timeout_s,
    )
    return OpenAIEmbeddings(connections, endpoint, WALL)


async def _gate(settings: Settings, keyring: Keyring, keys: KeyStore, parts: AsyncExitStack) -> Gate:
    """Build the gate, with the keys as they are now and, while the process runs, as they change."""
    keyring.replace(await keys.load())
    await parts.enter_async_context(_running(follow(keyring, keys)))
    return Gate(
        keyring,
        Tickets(CLOCK, keyring.is_valid),
        Origins(settings.server.origins),
        max_connections=settings.server.max_connections,
    )


def _hand_over(claimed: Claim, ledger: SqliteLedger) -> None:
    """Let the next process serve, and tell it from now on what the requests of this one cost."""
    ledger.wants_progress = True
    claimed.release()


def _present(data_dir: str, epoch: str, parts: AsyncExitStack) -> Processes | None:
    """Make this process known to others on the same data_dir, until it has written its last row."""
    if data_dir == MEMORY:
        return None
    present = Processes(data_dir, epoch)
    parts.callback(present.leave)
    return present


@asynccontextmanager
async def _running(forever: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(forever)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _catalog(settings: Settings) -> Catalog:
    return Catalog(
        _model(Tier.SMALL, settings.models.small),
        _model(Tier.LARGE, settings.models.large),
        settings.models.aliases,
        settings.funnel.strategy,
        embeddings=settings.models.embeddings.model if settings.models.embeddings else "",
    )


def _limits(settings: LimitsSettings) -> Limits:
    return Limits(**msgspec.structs.asdict(settings))


def _exact(settings: Settings, database: SqliteDatabase) -> SqliteExactCache | None:
    if not settings.cache.exact:
        return None
    return SqliteExactCache(
        database,
        ttl_s=settings.cache.ttl_s,
        memory_bytes=_share(settings, settings.cache.memory_bytes),
        disk_bytes=_share(settings, settings.cache.disk_bytes),
        wall=WALL,
    )


def _share(settings: Settings, size: int) -> int:
    """Return what one cache may use: half of it where there are two."""
    return size // 2 if settings.cache.exact and settings.cache.semantic else size


def _archive(settings: Settings, database: SqliteDatabase) -> SqliteArchive:
    ttl_s, disk_bytes = settings.server.store_ttl_s, settings.server.store_bytes
    return SqliteArchive(database, ttl_s=ttl_s, disk_bytes=disk_bytes, wall=WALL)


async def _semantic(
    settings: Settings, database: SqliteDatabase, parts: AsyncExitStack
) -> tuple[SqliteSemanticCache | None, str]:
    """Return the semantic cache and its embedder's name, or None and no name where it is switched off."""
    if not settings.cache.semantic:
        log.get().info("semantic cache", embedder="off")
        return None, ""
    embedder: Embedder = Hashing()
    finder = comparer = None
    if weights.available():
        embedder = finder = Finder()
        comparer = MiniLMProcess()
        parts.push_async_callback(asyncio.to_thread, comparer.close)
        # A first lookup waits for it, the start does not.
        await parts.enter_async_context(_running(asyncio.to_thread(finder.load)))
    name = comparer.name if comparer else embedder.name
    log.get().info("semantic cache", embedder=name)
    cache = SqliteSemanticCache(
        database,
        embedder,
        finder,
        comparer,
        ttl_s=settings.cache.ttl_s,
        index_above=settings.cache.index_above,
        hot_scopes=settings.cache.hot_scopes,
        memory_bytes=_share(settings, settings.cache.memory_bytes),
        disk_bytes=_share(settings, settings.cache.disk_bytes),
        deadline_s=LOOKUP_S,
        wall=WALL,
    )
    parts.push_async_callback(cache.close)  # what it still has to store goes into the database
    return cache, name


def _model(tier: Tier, model: ModelSettings) -> Model:
    return Model(
        tier=tier,
        id=model.model,
        address=f"{model.upstream} {model.base_url}",
        api=_API[model.upstream],
        price=_price(model.price),
        tier_prices={tier: _price(price) for tier, price in model.tier_prices.items()},
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
        cap_tool_calls=model.cap_tool_calls,
    )


def _price(given: PriceSettings) -> Price:
    return Price(**msgspec.structs.asdict(given))


def _upstream(connections: Connections, model: ModelSettings) -> HttpUpstream:
    return HttpUpstream(APIS[model.upstream], connections, _endpoint(model), CLOCK)


def _endpoint(model: ModelSettings) -> UpstreamEndpoint:
    return UpstreamEndpoint(
        base_url=model.base_url,
        api_key=os.environ[model.api_key_env] if model.api_key_env else None,
        connect_timeout_s=model.connect_timeout_s,
        first_token_timeout_s=model.first_token_timeout_s,
        stall_timeout_s=model.stall_timeout_s,
        quirks=_quirks(model),
    )


def _quirks(model: ModelSettings) -> Quirks:
    read = {
        "reasoning_content": ("reasoning", Reasoning),
        "call_ids": ("call_ids", CallIds),
        "thinking": ("thinking", Thinking),
        "own_fields": ("own_fields", frozenset),
        "drop": ("drop", frozenset),
    }
    changes: dict[str, Any] = {}
    for key, value in msgspec.structs.asdict(model.quirks).items():
        if value is not None:
            name, kind = read.get(key, (key, type(value)))
            changes[name] = kind(value)
    return dataclasses.replace(PRESETS[model.provider], **changes)


def cache_rules() -> tuple[Rule, ...]:
    """Return the rules by which the semantic cache keeps two questions apart."""
    return tuple(RULES.values())
