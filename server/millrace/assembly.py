"""The composition root: settings become the parts of one process. The only file that knows every adapter."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import msgspec

from millrace import log, tokens
from millrace.access.gate import Gate
from millrace.access.keys import Keyring, follow
from millrace.access.tickets import Tickets
from millrace.caches.embedders import best_installed
from millrace.caches.exact import SqliteExactCache
from millrace.caches.semantic import SqliteSemanticCache
from millrace.funnel.calls import Caller
from millrace.funnel.catalog import Catalog
from millrace.funnel.funnel import Funnel
from millrace.funnel.recall import Recall
from millrace.funnel.routing.choice import Policy
from millrace.origins import LOOPBACK, Origins
from millrace.ports import Embedder, KeyStore, SemanticCache
from millrace.principal import Limits
from millrace.runs.conversations import Conversations
from millrace.runs.intake import Intake
from millrace.runs.runs import Runs
from millrace.runs.sweeper import Sweeper
from millrace.settings import LimitsSettings, ModelSettings, Settings
from millrace.stores.archive import SqliteArchive
from millrace.stores.database import SqliteDatabase
from millrace.stores.keys import SqliteKeyStore
from millrace.stores.ledger import SqliteLedger
from millrace.stores.limits import MemoryLimiter, midnight
from millrace.types import Model, Price, Tier
from millrace.upstreams.connections import Connections
from millrace.upstreams.openai import OpenAIUpstream, UpstreamEndpoint
from millrace.upstreams.quirks import PRESETS, Quirks, Reasoning
from millrace.web.process import Process

LOOKUP_S = 0.25  # a lookup takes some 10 ms, and a few may wait; above this, asking a model is as fast

CLOCK, WALL = time.monotonic, time.time


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[Process]:
    """Build a process's parts, run them, and take them down in order: what is settled last is still written."""
    await asyncio.to_thread(tokens.encoding)
    async with AsyncExitStack() as parts:
        database = SqliteDatabase(settings.server.data_dir)
        parts.push_async_callback(asyncio.to_thread, database.close)
        semantic, embedder = await _semantic(settings, database)
        if isinstance(semantic, SqliteSemanticCache):
            parts.push_async_callback(semantic.close)  # what it still has to store goes into the database
        connections = await parts.enter_async_context(Connections())
        sweeper = Sweeper(CLOCK)
        ledger = SqliteLedger(database)
        catalog = _catalog(settings)
        recall = Recall(catalog, _exact(settings, database), semantic, embedder)
        funnel = _funnel(settings, connections, sweeper, catalog, recall, ledger)
        gate = await _gate(settings, database, parts)
        runs = Runs(funnel, CLOCK, WALL)
        conversations = Conversations(runs, _archive(settings, database))
        runs.on_end = conversations.remember
        limiter = MemoryLimiter(CLOCK, WALL, await ledger.spent_since(midnight(WALL())))
        process = Process(
            funnel=funnel,
            catalog=catalog,
            runs=runs,
            intake=Intake(catalog, runs, conversations, limiter, CLOCK),
            conversations=conversations,
            clock=CLOCK,
            wall=WALL,
            epoch=secrets.token_hex(8),
            gate=gate,
            drain_s=settings.server.drain_s,
            max_age_s=settings.server.max_age_s,
            stuck_s=settings.server.stuck_s,
            max_message_bytes=settings.server.max_message_bytes,
        )
        gate.keyring.on_change = process.sweep_all_next
        sweeper.add(runs.sweep)
        sweeper.add(process.sweep)
        await parts.enter_async_context(_running(sweeper.run()))
        parts.push_async_callback(runs.stop)
        yield process


@asynccontextmanager
async def key_store(data_dir: str) -> AsyncIterator[KeyStore]:
    """Open the keys that are kept in a folder, which is created; no server is needed, or disturbed."""
    database = await asyncio.to_thread(SqliteDatabase, data_dir)
    try:
        yield SqliteKeyStore(database)
    finally:
        await asyncio.to_thread(database.close)


def _funnel(
    settings: Settings,
    connections: Connections,
    sweeper: Sweeper,
    catalog: Catalog,
    recall: Recall,
    ledger: SqliteLedger,
) -> Funnel:
    """Build the funnel with its upstreams. The sweeper looks after their stalls, and after the bills that grow."""
    models = {Tier.SMALL: settings.models.small, Tier.LARGE: settings.models.large}
    upstreams = {tier: OpenAIUpstream(connections, _endpoint(model), CLOCK) for tier, model in models.items()}
    funnel = Funnel(
        catalog=catalog,
        caller=Caller(upstreams),
        recall=recall,
        ledger=ledger,
        wall=WALL,
        policy=Policy(
            context_budget=settings.funnel.context_budget,
            hard_above=settings.funnel.hard_above,
            grace_ms=settings.funnel.grace_ms,
            hedge_ms=settings.funnel.hedge_ms,
            concise_line=settings.funnel.concise_line,
        ),
        max_running=settings.server.max_running,
    )
    sweeper.add(funnel.meter)
    for upstream in upstreams.values():
        sweeper.add(upstream.sweep)
    return funnel


async def _gate(settings: Settings, database: SqliteDatabase, parts: AsyncExitStack) -> Gate:
    """Build the gate, with the keys as they are now and, while the process runs, as they change."""
    keys = SqliteKeyStore(database)
    keyring = Keyring(may_be_open=settings.server.host in LOOPBACK, defaults=_limits(settings.limits))
    keyring.replace(await keys.load())
    await parts.enter_async_context(_running(follow(keyring, keys)))
    return Gate(
        keyring,
        Tickets(CLOCK, keyring.is_valid),
        Origins(settings.server.origins),
        max_connections=settings.server.max_connections,
    )


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
    )


def _limits(settings: LimitsSettings) -> Limits:
    return Limits(**msgspec.structs.asdict(settings))


def _exact(settings: Settings, database: SqliteDatabase) -> SqliteExactCache | None:
    if not settings.cache.exact:
        return None
    return SqliteExactCache(
        database,
        ttl_s=settings.cache.ttl_s,
        memory_bytes=settings.cache.memory_bytes,
        disk_bytes=settings.cache.disk_bytes,
        wall=WALL,
    )


def _archive(settings: Settings, database: SqliteDatabase) -> SqliteArchive:
    ttl_s, disk_bytes = settings.server.store_ttl_s, settings.server.store_bytes
    return SqliteArchive(database, ttl_s=ttl_s, disk_bytes=disk_bytes, wall=WALL)


async def _semantic(settings: Settings, database: SqliteDatabase) -> tuple[SemanticCache | None, str]:
    """Return the semantic cache and its embedder's name, or None and no name where it is switched off."""
    embedder: Embedder | None = await asyncio.to_thread(best_installed) if settings.cache.semantic else None
    log.get().info("semantic cache", embedder=embedder.name if embedder else "off")
    if embedder is None:
        return None, ""
    cache = SqliteSemanticCache(
        database,
        embedder,
        ttl_s=settings.cache.ttl_s,
        index_above=settings.cache.index_above,
        hot_scopes=settings.cache.hot_scopes,
        deadline_s=LOOKUP_S,
        wall=WALL,
    )
    return cache, embedder.name


def _model(tier: Tier, model: ModelSettings) -> Model:
    price = Price(input=model.price.input, output=model.price.output, cached_input=model.price.cached_input)
    return Model(
        tier=tier,
        id=model.model,
        address=f"{model.upstream} {model.base_url}",
        price=price,
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
    )


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
    given = model.quirks
    preset = PRESETS[model.provider]
    return Quirks(
        drop=preset.drop if given.drop is None else frozenset(given.drop),
        reasoning=preset.reasoning if given.reasoning_content is None else Reasoning(given.reasoning_content),
        system_role=given.system_role or preset.system_role,
        max_tokens_field=given.max_tokens_field or preset.max_tokens_field,
    )
