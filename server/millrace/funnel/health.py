"""How the models fare, by deployment: what is noted of their calls, when they are left alone, and how they are probed.

In memory, since the start, bounded. A call that was dropped, because its client left or the other model was faster, is
neither an answer nor a failure.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from millrace import log
from millrace.errors import RULES, UpstreamError
from millrace.funnel.catalog import Catalog
from millrace.funnel.failures import is_of_the_request
from millrace.funnel.pools import Place, Pool
from millrace.funnel.record import Record, Report, report_of
from millrace.ports import Clock
from millrace.types import Finish, Model, Tier

WARN_EVERY_S = 60.0  # for one deployment and one cause
MEND_S = 30.0  # between two probes of one whose operator must act, such as one with a wrong key
REST_S = 1.0  # for which a deployment is left alone that is overloaded and names no time, where there are others

_SILENT = UpstreamError("upstream_timeout", "sent no first word of any call")
TOO_MANY = RULES["rate_limit_exceeded"].status  # HTTP


class Health:
    """A record of each deployment's calls, and its breaker. Takes microseconds per call, and nothing per token."""

    def __init__(self, pools: Sequence[Pool], catalog: Catalog, clock: Clock, wall: Clock) -> None:
        self.pools: Mapping[str, Pool] = {pool.model.name: pool for pool in pools}
        self._of_tier = {tier: [self.pools[model.name] for model in _models_of(tier, catalog)] for tier in Tier}
        self._records = {place: Record() for pool in pools for place in pool.places}
        self._clock = clock
        self._wall = wall
        self._warnings = log.Throttle(clock, WARN_EVERY_S)

    def take_over(self, before: "Health") -> None:
        """Go on from what is known of the deployments that stay."""
        for name, pool in self.pools.items():
            if name in before.pools:
                pool.take_over(before.pools[name])
        places = [place for pool in self.pools.values() for place in pool.places]
        self._records = {place: before._records.get(place) or Record() for place in places}
        self._warnings = before._warnings

    def answered(self, place: Place, began_at: float) -> None:
        """Note that a deployment has answered a call, or begun to."""
        place.breaker.succeeded(began_at)
        self._answers(place)

    def failed(self, place: Place, error: UpstreamError, began_at: float) -> None:
        """Note that a call has failed, and warn of it once a minute a cause. It may open the breaker.

        The cause holds nothing that a client or a provider wrote.
        """
        self.retried(place, error.cause)
        place.error = error
        breaker = place.breaker
        if is_of_the_request(error):
            breaker.succeeded(began_at)
        elif error.rule.retry and error.retry_after_ms is not None:
            self._open(place, error.cause, error.retry_after_ms / 1000)
        elif error.rule.status == TOO_MANY and len(self.pools[place.model.name].places) > 1:
            self._open(place, error.cause, REST_S)
        elif breaker.failed(began_at, error.cause):
            self._say_open(place)

    def retried(self, place: Place, cause: str) -> None:
        """Note a fault that was tried once more, and warn of it once a minute a cause."""
        self._records[place].failed(cause, self._clock(), self._wall())
        left_out = self._warnings.passes((place, cause))
        if left_out is not None:
            more = {"left_out": left_out} if left_out else {}
            log.get().warning("model failed", **_names(place), cause=cause, **more)

    def wait(self, tier: Tier) -> UpstreamError | None:
        """Return why no model of a tier can be asked now; None if one can."""
        pools = self._of_tier[tier]
        for pool in pools:
            if pool.can_be_asked:
                return None
        return pools[0].unavailable()

    def sweep(self, now: float) -> None:
        """Probe what is left alone, and leave alone what is silent. The sweeper calls it regularly."""
        for pool in self.pools.values():
            for place in pool.places:
                if place.probe is not None:
                    self._look_at_probe(pool, place, now)
                elif place.breaker.begins_probe():
                    pool.open_probe(place)
                if place.waiting:
                    self._look_at_silence(pool, place, now)

    @property
    def places(self) -> Collection[Place]:
        """All deployments."""
        return self._records.keys()

    def close(self, stays: Collection[Place] = ()) -> None:
        """Close the probes that run, but those of deployments that stay."""
        for place in self.places:
            if place.probe is not None and place not in stays:
                place.probe[0].abort()
                place.probe = None

    def _look_at_probe(self, pool: Pool, place: Place, now: float) -> None:
        assert place.probe is not None, "it has one"
        attempt, since = place.probe
        error, retry_after_s = "", None
        if attempt.done.done():
            failure = _failure(attempt.done)
            if failure is not None and not is_of_the_request(failure):
                error = failure.cause
                retry_after_s = (failure.retry_after_ms or 0) / 1000 or None if failure.rule.retry else MEND_S
        elif now - since > pool.probe_s:
            error = "did not answer a probe in time"
        else:
            return
        attempt.abort()
        place.probe = None
        place.breaker.probed(error, since, retry_after_s)
        if not error:
            self._answers(place)

    def _answers(self, place: Place) -> None:
        record = self._records[place]
        if record.answered(self._wall()) and self._warnings.passes((place, None)) is not None:
            log.get().info("model answers again", **_names(place))

    def _open(self, place: Place, cause: str, for_s: float | None) -> None:
        was_closed = place.breaker.is_closed
        place.breaker.open(cause, for_s)
        if was_closed:
            self._say_open(place)

    def _say_open(self, place: Place) -> None:
        if self._warnings.passes((place, "open")) is not None:
            log.get().info("model left alone", **_names(place), cause=place.breaker.cause)

    def _look_at_silence(self, pool: Pool, place: Place, now: float) -> None:
        """Leave a silent deployment alone. Its calls go elsewhere, if there is anybody else to ask.

        So do those that have waited too long where the breaker is open for another reason.
        """
        patience_s = pool.patience_s
        if place.breaker.is_closed:
            if not pool.silent_s(place):
                return
            patience_s = 0.0
            place.error = _SILENT
            self.retried(place, _SILENT.cause)
            self._open(place, _SILENT.cause, None)
        error = UpstreamError(_SILENT.code, f"{place.model.id} {_SILENT.cause}", cause=_SILENT.cause)
        for waiting, since in tuple(place.waiting.items()):
            if now - since > patience_s and not waiting.is_paused:
                waiting.move(error)

    def reports(self) -> list[Report]:
        """Return how each model fares, those that stand in for others last."""
        now = self._clock()
        return [report_of(pool, [self._records[place] for place in pool.places], now) for pool in self.pools.values()]


def _models_of(tier: Tier, catalog: Catalog) -> list[Model]:
    """Return the model of a tier, and those that stand in for it alone."""
    head = catalog.small if tier is Tier.SMALL else catalog.large
    return [head, *(model for model in catalog.chain(tier) if model.stands_in)]


def _failure(done: asyncio.Future[Finish]) -> UpstreamError | None:
    error = None if done.cancelled() else done.exception()
    return error if isinstance(error, UpstreamError) else None


def _names(place: Place) -> dict[str, str]:
    label = {"deployment": place.deployment.label} if place.deployment.label else {}
    return {"tier": place.model.tier.value, "model": place.model.id, **label}
