"""The funnel of one process, with its models; and what passes on requests for embeddings."""

import time
from itertools import groupby

import msgspec

from millrace.assembly import models
from millrace.funnel.calls import Caller
from millrace.funnel.catalog import Catalog
from millrace.funnel.checks import Checks
from millrace.funnel.checks.guards import Guards
from millrace.funnel.checks.lessons import Lessons
from millrace.funnel.checks.openings import LearnedOpenings
from millrace.funnel.checks.own import own_checks
from millrace.funnel.funnel import Funnel
from millrace.funnel.health import Health
from millrace.funnel.hedging import Hedging
from millrace.funnel.pools import Pool
from millrace.funnel.prefixes import Prefixes
from millrace.funnel.recall import Recall
from millrace.funnel.routing.choice import Policy
from millrace.funnel.routing.router import Router
from millrace.memory import MemoryBudget
from millrace.ports import SchemaValidator
from millrace.runs.embeddings import Embeddings
from millrace.runs.sweeper import Sweeper
from millrace.settings import Settings
from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.stores.limits import MemoryLimiter
from millrace.upstreams.connections import Connections

CLOCK, WALL = time.monotonic, time.time


def funnel_of(  # noqa: PLR0913, PLR0917 - its parts
    settings: Settings,
    connections: Connections,
    sweeper: Sweeper,
    memory: MemoryBudget,
    catalog: Catalog,
    recall: Recall,
    ledger: SqliteLedger,
    checks: Checks,
    router: Router,
    guards: Guards | None,
) -> Funnel:
    """Build the funnel with its upstreams.

    The sweeper looks after their stalls, after deployments that are left alone, and after the bills that grow.
    """
    served = models.served(settings, catalog, connections, CLOCK)
    upstreams = [each.upstream for each in served]
    pools = [
        Pool(model, [(each.deployment, each.upstream) for each in places], CLOCK)
        for model, places in groupby(served, key=lambda each: each.model)
    ]
    health = Health(pools, catalog, CLOCK, WALL)
    funnel = Funnel(
        catalog=catalog,
        caller=Caller(
            health,
            checks,
            catalog,
            guards,
            Hedging(CLOCK, settings.funnel.hedge_share),
            repairs=settings.checks.repair,
            prefixes=Prefixes(CLOCK),
        ),
        recall=recall,
        ledger=ledger,
        wall=WALL,
        policy=Policy(
            context_budget=settings.funnel.context_budget,
            grace_ms=settings.funnel.grace_ms,
            hedge_ms=settings.funnel.hedge_ms,
            concise_line=settings.funnel.concise_line,
        ),
        router=router,
        max_running=settings.server.max_running,
        are_many=memory.are_many,
    )
    sweeper.add(funnel.meter)
    sweeper.add(health.sweep)
    for upstream in upstreams:
        sweeper.add(upstream.sweep)
    memory.add("upstream buffers", lambda: sum(upstream.bytes_used for upstream in upstreams))
    return funnel


def checks_of(settings: Settings, schemas: SchemaValidator) -> Checks:
    """Build what judges answers, with the checks that are installed. It learns where evidence judges."""
    learns = settings.evidence.judged
    return Checks(
        schemas,
        off=settings.checks.off,
        own=own_checks(),
        lessons=Lessons() if learns else None,
        openings=LearnedOpenings(WALL) if learns else None,
    )


def guards_of(settings: Settings) -> Guards | None:
    """Build the guards that are on; None if none is."""
    return Guards.of(**msgspec.structs.asdict(settings.guards))


def embeddings_of(
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
        models.embedding_model(model),
        models.embeddings_upstream(model, connections, WALL, model.timeout_s),
        limiter,
        ledger,
        database,
        memory,
        WALL,
        max_running=settings.server.max_running,
    )
