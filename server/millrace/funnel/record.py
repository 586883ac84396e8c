"""What is counted of the calls of one deployment, and the reports of it and of its model."""

from collections import Counter, deque
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from millrace.funnel.breaker import State
from millrace.funnel.pools import Place, Pool
from millrace.types import Model

MINUTE_S, MINUTES_S = 60.0, 300.0  # over which failures are counted
MAX_CAUSES = 32  # that are counted by name; there are fewer, unless a server answers with hundreds of statuses

_SLOT_S = 5.0
_OTHER = "other"


class Condition(StrEnum):
    """What its last calls say of a deployment, or of a model."""

    UNKNOWN = "unknown"  # it has not been called
    OK = "ok"
    DEGRADED = "degraded"  # it answers, but failed within the last minute, or a deployment of it fails
    FAILING = "failing"  # it has failed since its last answer; a model: all its deployments have


class Fared(Struct, frozen=True, kw_only=True):
    """How a deployment, or a model, has fared. Times are Unix seconds."""

    condition: Condition
    failing_since: float | None
    answered_at: float | None
    failed_at: float | None
    cause: str  # of the last failure; empty if there was none
    last_minute: int  # failures
    last_minutes: int
    causes: dict[str, int]  # failures since the start, the most frequent first


class PlaceReport(Struct, frozen=True, kw_only=True):
    """How one deployment fares, and whether it is asked."""

    label: str
    weight: float
    running: int  # calls
    breaker: State
    why: str  # it is not asked; empty if it is
    fared: Fared


class Report(Struct, frozen=True, kw_only=True):
    """How one model fares."""

    model: Model
    can_be_asked: bool
    fared: Fared
    places: tuple[PlaceReport, ...]
    input_tokens: int  # of its answers, since the start
    cached_input_tokens: int  # of these, read from the provider's cache


class Record:
    """What is known of one deployment."""

    def __init__(self) -> None:
        self._answered_at: float | None = None
        self._failed_at: float | None = None
        self._failing_since: float | None = None
        self._cause = ""
        self._causes: Counter[str] = Counter()
        self._failures = _Failures()

    def answered(self, wall: float) -> bool:
        """Note an answer, in Unix seconds; return whether it is the first after failures."""
        was_failing, self._failing_since = self._failing_since is not None, None
        self._answered_at = wall
        return was_failing

    def failed(self, cause: str, now: float, wall: float) -> None:
        """Note a failure, by the clock and in Unix seconds."""
        self._failed_at, self._cause = wall, cause
        if self._failing_since is None:
            self._failing_since = wall
        self._failures.add(now)
        self._causes[cause if cause in self._causes or len(self._causes) < MAX_CAUSES else _OTHER] += 1

    def fared(self, now: float) -> Fared:
        """Return how it has fared until now, by the clock."""
        last_minute = self._failures.within(now, MINUTE_S)
        if self._failing_since is not None:
            condition = Condition.FAILING
        elif last_minute:
            condition = Condition.DEGRADED
        else:
            condition = Condition.UNKNOWN if self._answered_at is None else Condition.OK
        return Fared(
            condition=condition,
            failing_since=self._failing_since,
            answered_at=self._answered_at,
            failed_at=self._failed_at,
            cause=self._cause,
            last_minute=last_minute,
            last_minutes=self._failures.within(now, MINUTES_S),
            causes=dict(self._causes.most_common()),
        )


def report_of(pool: Pool, records: Sequence[Record], now: float) -> Report:
    """Return how a model fares, from the records of its deployments."""
    all_fared = [record.fared(now) for record in records]
    places = [_place_report(place, fared) for place, fared in zip(pool.places, all_fared, strict=True)]
    return Report(
        model=pool.model,
        can_be_asked=pool.can_be_asked,
        fared=_together(all_fared),
        places=tuple(places),
        input_tokens=pool.input_tokens,
        cached_input_tokens=pool.cached_input_tokens,
    )


def _place_report(place: Place, fared: Fared) -> PlaceReport:
    breaker = place.breaker
    return PlaceReport(
        label=place.deployment.label,
        weight=place.deployment.weight,
        running=place.running,
        breaker=breaker.state,
        why="" if breaker.is_closed else breaker.why,
        fared=fared,
    )


def _together(all_fared: Sequence[Fared]) -> Fared:
    """Return how a model has fared: it fails if all its deployments do."""
    if len(all_fared) == 1:
        return all_fared[0]
    conditions = {fared.condition for fared in all_fared}
    since = [fared.failing_since for fared in all_fared if fared.failing_since is not None]
    causes: Counter[str] = Counter()
    for fared in all_fared:
        causes.update(fared.causes)
    last = max(all_fared, key=lambda fared: fared.failed_at or 0)
    if conditions == {Condition.FAILING}:
        condition = Condition.FAILING
    elif conditions & {Condition.FAILING, Condition.DEGRADED}:
        condition = Condition.DEGRADED
    else:
        condition = Condition.OK if Condition.OK in conditions else Condition.UNKNOWN
    return Fared(
        condition=condition,
        failing_since=max(since) if condition is Condition.FAILING else None,
        answered_at=max((fared.answered_at for fared in all_fared if fared.answered_at is not None), default=None),
        failed_at=last.failed_at,
        cause=last.cause,
        last_minute=sum(fared.last_minute for fared in all_fared),
        last_minutes=sum(fared.last_minutes for fared in all_fared),
        causes=dict(causes.most_common()),
    )


class _Failures:
    """Counts the failures of the last five minutes, in slots of some seconds."""

    def __init__(self) -> None:
        self._slots: deque[list[int]] = deque(maxlen=int(MINUTES_S / _SLOT_S) + 1)  # [number of the slot, failures]

    def add(self, now: float) -> None:
        """Count one."""
        slot = int(now // _SLOT_S)
        if self._slots and self._slots[-1][0] == slot:
            self._slots[-1][1] += 1
        else:
            self._slots.append([slot, 1])

    def within(self, now: float, seconds: float) -> int:
        """Return how many there were in the last seconds, to within a slot."""
        first = (now - seconds) // _SLOT_S
        return sum(count for slot, count in self._slots if slot > first)
