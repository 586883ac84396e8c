"""How the models fare: when each one answered last, and when and why it failed. In memory, since the start, bounded.

A call that was dropped, because its client left or the other model was faster, is neither an answer nor a failure.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from millrace import log
from millrace.errors import UpstreamError
from millrace.ports import Clock
from millrace.types import Model, Tier

MINUTE_S, MINUTES_S = 60.0, 300.0  # over which failures are counted
WARN_EVERY_S = 60.0  # for one model and one cause
MOST_WAIT_S = 60.0  # for which a model is passed over, however long it asks to be left alone
MAX_CAUSES = 32  # that are counted by name; there are fewer, unless a server answers with hundreds of statuses

_SLOT_S = 5.0
_OTHER = "other"


class Condition(StrEnum):
    """What its last calls say of a model."""

    UNKNOWN = "unknown"  # it has not been called
    OK = "ok"
    DEGRADED = "degraded"  # it has answered last, but failed within the last minute
    FAILING = "failing"  # it has failed since its last answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How one model fares. Times are Unix seconds."""

    model: Model
    condition: Condition
    failing_since: float | None
    answered_at: float | None
    failed_at: float | None
    cause: str  # of the last failure; empty if there was none
    last_minute: int  # failures
    last_minutes: int
    causes: dict[str, int]  # failures since the start, the most frequent first


class Health:
    """A record of each model's calls. Takes microseconds per call, and nothing per token."""

    def __init__(self, models: Iterable[Model], clock: Clock, wall: Clock) -> None:
        self._records = {model.tier: _Record(model) for model in models}
        self._clock = clock
        self._wall = wall
        self._warnings = log.Throttle(clock, WARN_EVERY_S)

    def answered(self, tier: Tier) -> None:
        """Note that a model has answered, or begun to."""
        record = self._records[tier]
        if record.failing_since is not None:
            record.failing_since = record.waits_until = None
            if self._warnings.passes((tier, None)) is not None:
                log.get().info("model answers again", tier=tier.value, model=record.model.id)
        record.answered_at = self._wall()

    def failed(self, tier: Tier, cause: str, retry_after_ms: int | None = None) -> None:
        """Note that a model has failed, and warn of it once a minute a cause; `retry_after_ms`: when it may be asked.

        The cause holds nothing that a client or a provider wrote.
        """
        record, now, wall = self._records[tier], self._clock(), self._wall()
        record.failed_at, record.cause = wall, cause
        if record.failing_since is None:
            record.failing_since = wall
        record.failures.add(now)
        record.causes[cause if cause in record.causes or len(record.causes) < MAX_CAUSES else _OTHER] += 1
        if retry_after_ms is not None:
            until = now + min(retry_after_ms / 1000, MOST_WAIT_S)
            record.waits_until = max(until, record.waits_until or until)
        left_out = self._warnings.passes((tier, cause))
        if left_out is not None:
            more = {"left_out": left_out} if left_out else {}
            log.get().warning("model failed", tier=tier.value, model=record.model.id, cause=cause, **more)

    def wait(self, tier: Tier) -> UpstreamError | None:
        """Return why a model should not be asked now: its provider has named a later time. None if it may be."""
        record = self._records[tier]
        left_s = 0.0 if record.waits_until is None else record.waits_until - self._clock()
        if left_s <= 0:
            return None
        cause = f"{record.cause}, not to be asked for {math.ceil(left_s)} s more"
        message = f"{record.model.id} {cause}"
        return UpstreamError("upstream_overloaded", message, retry_after_ms=round(left_s * 1000), cause=cause)

    def is_failing(self, tier: Tier, within_s: float) -> bool:
        """Whether a model has failed since its last answer, so many seconds ago at most."""
        record = self._records[tier]
        if record.failing_since is None or record.failed_at is None:
            return False
        return abs(self._wall() - record.failed_at) < within_s  # the clock may have been set back

    def reports(self) -> list[Report]:
        """Return how each model fares."""
        return [self._report(record) for record in self._records.values()]

    def _report(self, record: "_Record") -> Report:
        now = self._clock()
        last_minute = record.failures.within(now, MINUTE_S)
        return Report(
            model=record.model,
            condition=_condition(record, last_minute),
            failing_since=record.failing_since,
            answered_at=record.answered_at,
            failed_at=record.failed_at,
            cause=record.cause,
            last_minute=last_minute,
            last_minutes=record.failures.within(now, MINUTES_S),
            causes=dict(record.causes.most_common()),
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


class _Record:
    """What is known of one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.answered_at: float | None = None
        self.failed_at: float | None = None
        self.failing_since: float | None = None
        self.cause = ""
        self.causes: Counter[str] = Counter()
        self.failures = _Failures()
        self.waits_until: float | None = None  # by the clock


def _condition(record: _Record, last_minute: int) -> Condition:
    if record.failing_since is not None:
        return Condition.FAILING
    if last_minute:
        return Condition.DEGRADED
    return Condition.UNKNOWN if record.answered_at is None else Condition.OK
