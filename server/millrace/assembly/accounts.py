"""Opens the ledger to look back at it, and makes rules of settings."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from millrace.accounts.replay import Rules
from millrace.accounts.replays import MOST_JUDGED, Known, Replays
from millrace.accounts.reports import LeversReports
from millrace.accounts.world import CacheRules
from millrace.assembly.models import catalog
from millrace.assembly.opened import ledger_of
from millrace.assembly.postgres import ALONE
from millrace.caches.decision.mix import shipped
from millrace.caches.embedders import weights
from millrace.caches.learning.knowledge import log_odds_of
from millrace.funnel.routing.labels import Separation
from millrace.funnel.routing.learned import Learned
from millrace.funnel.routing.promises import Promised
from millrace.settings import Settings, SharedSettings
from millrace.stores.evidence import SqliteEvidence
from millrace.stores.past import SqlitePast
from millrace.stores.router import SqliteRouter
from millrace.types import Tier

WALL = time.time
READY_S = 30.0


@asynccontextmanager
async def levers_reports(
    data_dir: str, settings: Settings | None, shared: SharedSettings = ALONE
) -> AsyncIterator[LeversReports]:
    """Open what past requests have cost and saved, in PostgreSQL or a folder; no server is needed, or disturbed.

    `settings` have the large model's price today, for rows of an earlier version.
    """
    standard = None if settings is None else catalog(settings).large.price
    async with ledger_of(data_dir, shared) as database:
        yield LeversReports(SqlitePast(database), WALL, standard)


@asynccontextmanager
async def replays(data_dir: str, settings: Settings, shared: SharedSettings = ALONE) -> AsyncIterator[Replays]:
    """Open what past requests were decided by, to be decided again; no server is needed, or disturbed."""
    async with ledger_of(data_dir, shared) as database:
        evidence = SqliteEvidence(database, keep_days=settings.evidence.keep_days, wall=WALL)
        router = SqliteRouter(database, wall=WALL)
        await database.commit(lambda _: None, within_s=READY_S)  # their tables are made

        async def known() -> Known:
            return Known(
                judged=await evidence.judged(None, 0.0, MOST_JUDGED),
                changes=await evidence.steered(),
                words=await _words(router),
            )

        small, large = catalog(settings).models
        prices = {Tier.SMALL: small.price, Tier.LARGE: large.price}
        yield Replays(SqlitePast(database), known, WALL, prices)


async def _words(router: SqliteRouter) -> dict[str, dict[str, Separation]]:
    """Return what the checks' words mean, as the router of each tenant has learned it."""
    found = {}
    for tenant in await router.tenants():
        kept = await router.load(tenant)
        learned = None if kept is None or kept.state is None else Learned.loaded(kept.state)
        if learned is not None:
            found[tenant] = learned.words
    return found


def rules_of(settings: Settings) -> Rules:
    """Return what requests are decided by."""
    cache, router = settings.cache, settings.router
    threshold = cache.semantic_threshold
    if threshold is None:
        threshold = shipped()["networks" if weights.available() else "alone"].threshold
    return Rules(
        cache=CacheRules(exact=cache.exact, semantic=cache.semantic, ttl_s=cache.ttl_s),
        needed=log_odds_of(threshold),
        limit=cache.max_wrong_hit_rate,
        promised=Promised(
            large_share=router.large_share,
            keep_quality=router.keep_quality,
            spend_per_day=router.spend_per_day,
            confidence=router.confidence,
        ),
        checks_off=frozenset(settings.checks.off),
    )
