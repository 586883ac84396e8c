"""The funnels of one process, one for each configuration that something runs by, and the models that they call."""

import time
from collections.abc import Iterable
from itertools import chain, groupby

import msgspec
from msgspec import Struct

from millrace.assembly import counting, models, router as routing
from millrace.assembly.models import Served
from millrace.funnel.calls import Caller
from millrace.funnel.checks import Checks
from millrace.funnel.checks.guards import Guards
from millrace.funnel.checks.lessons import Lessons
from millrace.funnel.checks.openings import LearnedOpenings
from millrace.funnel.checks.own import OwnCheck
from millrace.funnel.funnel import Funnel
from millrace.funnel.funnels import Funnels
from millrace.funnel.health import Health
from millrace.funnel.hedging import Hedging
from millrace.funnel.pools import Pool
from millrace.funnel.prefixes import Prefixes
from millrace.funnel.ratios import Ratios
from millrace.funnel.recall import Recall
from millrace.funnel.routing.choice import Policy
from millrace.funnel.routing.router import Router
from millrace.funnel.shared_flights import SharedFlights
from millrace.memory import Shares
from millrace.ports import DeletedEntries, ExactCache, Ledger, ProviderBatches, SchemaValidator, SemanticCache
from millrace.settings import Settings
from millrace.types import Tier
from millrace.upstreams.attempt import HttpUpstream
from millrace.upstreams.connections import Connections

CLOCK, WALL = time.monotonic, time.time


class Common(Struct, frozen=True, kw_only=True):
    """What all funnels of a process have in common: what was learned, the caches, the disk."""

    connections: Connections
    exact: ExactCache | None
    flights: SharedFlights | None  # with other replicas
    semantic: SemanticCache | None
    deleted: DeletedEntries
    ledger: Ledger
    schemas: SchemaValidator
    own_checks: tuple[OwnCheck, ...]
    lessons: Lessons | None  # None: nothing is judged, so nothing is learned
    openings: LearnedOpenings | None  # the same
    hedging: Hedging
    prefixes: Prefixes
    router: Router
    ratios: Ratios
    places: Shares  # of requests that may run


class Configured(Struct, frozen=True, kw_only=True):
    """The funnel of one configuration."""

    settings: Settings
    funnel: Funnel
    served: list[Served]

    @property
    def upstreams(self) -> list[HttpUpstream]:
        """All deployments that it may ask."""
        return [each.upstream for each in self.served]


class LiveFunnels:
    """Builds a funnel for each configuration. An earlier one goes once its last request has ended.

    With it go the deployments that are configured no more, and the connections to them. What is known of the others
    stays: breakers, records, sessions, how soon they begin to answer.
    """

    def __init__(self, settings: Settings, common: Common) -> None:
        self._common = common
        self._now = self._built(settings, ())
        self._earlier: list[Configured] = []
        self._upstreams = self._now.upstreams  # all that may have calls
        self.funnels = Funnels(self._now.funnel)

    def provider_batches(self) -> dict[Tier, ProviderBatches]:
        """Return the batch APIs of the models as they are configured now, by the model's tier.

        None while a guard is on: guards look at answers on their way.
        """
        is_guarded = Guards.of(**msgspec.structs.asdict(self._now.settings.guards)) is not None
        return {} if is_guarded else models.provider_batches(self._now.served)

    @property
    def settings(self) -> Settings:
        """Those of the funnel that requests are taken to."""
        return self._now.settings

    @property
    def bytes_used(self) -> int:
        """Bytes of what is read ahead for all calls, about."""
        return sum(upstream.bytes_used for upstream in self._upstreams)

    def built(self, settings: Settings) -> Configured:
        """Build the funnel of a configuration. Nothing changes by it. Call it on another thread."""
        configured = self._built(settings, self._now.served)
        counting.build_encodings(configured.funnel.catalog)
        return configured

    def _built(self, settings: Settings, before: Iterable[Served]) -> Configured:
        common, catalog = self._common, models.catalog(settings, self._common.ratios)
        served = models.served(settings, catalog, common.connections, CLOCK, before)
        pools = [
            Pool(model, [(each.deployment, each.upstream) for each in places], CLOCK)
            for model, places in groupby(served, key=lambda each: each.model)
        ]
        health = Health(pools, catalog, CLOCK, WALL)
        checks, guards = self._checks(settings), Guards.of(**msgspec.structs.asdict(settings.guards))
        funnel = Funnel(
            catalog=catalog,
            caller=Caller(
                health,
                checks,
                catalog,
                guards,
                common.hedging,
                repairs=settings.checks.repair,
                prefixes=common.prefixes,
            ),
            recall=Recall(
                catalog,
                common.exact if settings.cache.exact else None,
                common.semantic if settings.cache.semantic else None,
                common.deleted,
                checks.selected,
                guards,
                common.flights,
            ),
            ledger=common.ledger,
            wall=WALL,
            policy=Policy(
                context_budget=settings.funnel.context_budget,
                grace_ms=settings.funnel.grace_ms,
                hedge_ms=settings.funnel.hedge_ms,
                concise_line=settings.funnel.concise_line,
            ),
            router=common.router,
            places=common.places,
        )
        return Configured(settings=settings, funnel=funnel, served=served)

    def _checks(self, settings: Settings) -> Checks:
        common = self._common
        return Checks(
            common.schemas,
            off=settings.checks.off,
            own=common.own_checks,
            lessons=common.lessons,
            openings=common.openings,
        )

    def begin(self, configured: Configured) -> None:
        """Take requests to a funnel from now on."""
        before, self._now = self._now, configured
        catalog, settings = configured.funnel.catalog, configured.settings
        configured.funnel.health.take_over(before.funnel.health)
        earlier = {(model.tier, model.id, model.address) for model in before.funnel.catalog.models}
        changed = [model.tier for model in catalog.models if (model.tier, model.id, model.address) not in earlier]
        self._common.hedging.renew(settings.funnel.hedge_share, changed)
        promised = routing.promised_of(settings.router)
        self._common.router.renew(catalog, promised, learns=settings.router.learns)
        self._earlier.append(before)
        self._upstreams = _distinct((*self._upstreams, *configured.upstreams))
        self.funnels.replace(configured.funnel)

    def sweep_health(self, now: float) -> None:
        """Look after deployments that are left alone. Called by the sweeper."""
        for each in (self._now, *self._earlier):
            each.funnel.health.sweep(now)

    def sweep_upstreams(self, now: float) -> None:
        """Look after calls that are silent. Called by the sweeper."""
        for upstream in self._upstreams:
            upstream.sweep(now)

    def drop_ended(self, _: float) -> None:
        """Drop what no request needs any more. Called by the sweeper."""
        self._drop(each for each in [*self._earlier] if not each.funnel.bills)
        if len(self._upstreams) > len(self._now.served):
            needed = _distinct(chain.from_iterable(each.upstreams for each in (self._now, *self._earlier)))
            upstreams = [each for each in self._upstreams if each in needed or not each.is_idle]
            if len(upstreams) < len(self._upstreams):
                self._upstreams = upstreams
                self._common.connections.close_idle(self._urls())

    def close(self) -> None:
        """Close the probes that run."""
        for each in (self._now, *self._earlier):
            each.funnel.health.close()

    def _drop(self, ended: Iterable[Configured]) -> None:
        for each in ended:
            self._earlier.remove(each)
            self.funnels.earlier.remove(each.funnel)
            health = (left.funnel.health for left in (self._now, *self._earlier))
            each.funnel.health.close({place for one in health for place in one.places})

    def _urls(self) -> list[str]:
        """Return the URLs of all that may be asked."""
        settings = self._now.settings
        more = [each.base_url for each in (settings.models.embeddings, settings.cache.embedder) if each is not None]
        return [*(upstream.endpoint.base_url for upstream in self._upstreams), *more]


def _distinct(upstreams: Iterable[HttpUpstream]) -> list[HttpUpstream]:
    return [*dict.fromkeys(upstreams)]
