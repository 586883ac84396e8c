"""All that one semantic cache has learned, by tenant and by scope, and how it is steered. Not thread-safe."""

import math
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from msgspec import Struct, field
from msgspec.structs import replace

from millrace.caches.decision.mix import Weights
from millrace.caches.learning.fitting import fitted
from millrace.caches.learning.known import KnownPairs
from millrace.types import Lesson, Steering

PAIRS = 50_000  # that are remembered in all, some 300 bytes each
TENANTS, LESSONS = 64, 2000  # that are remembered: tenants, and lessons of each
ALL_LESSONS = 16_000  # of all tenants, some 1 kB each; those of tenants long not taught go first
FIT_FROM = 100  # lessons of a tenant
FIT_SHARE = 4  # of its lessons, as a divisor, that are new when the weights are fitted again
ALIASES = 4  # questions known to have the same answer that are looked at, beside those that are near
AS_STRANGERS = -2.0  # log odds of a pair before it is compared: what is known must outweigh it


class Guidance(Struct, frozen=True):
    """What a decision on one question goes by."""

    weights: Weights
    needed: float  # log odds of a hit
    is_off: bool = False  # nothing is served
    asked_id: str = ""
    known: Callable[[str], float] = lambda _: 0.0  # by how much the log odds of an entry change, by its id


class _Tenant(Struct):
    lessons: deque[Lesson] = field(default_factory=lambda: deque(maxlen=LESSONS))
    new: int = 0  # since the last fit
    weights: Weights | None = None  # None: as shipped


class Knowledge:
    """What was learned, and what follows for a decision."""

    def __init__(self, weights: Weights, threshold: float | None = None) -> None:
        """Begin with the shipped weights; `threshold` is of the probability, if not theirs."""
        self._shipped = weights
        self.decide_by(threshold)
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        self._pairs: OrderedDict[bytes, KnownPairs] = OrderedDict()  # by scope, the least recently used first
        self._count = 0  # of all pairs
        self._steering: dict[tuple[str, bytes], Steering] = {}

    def decide_by(self, threshold: float | None) -> None:
        """Serve from another probability on; None: the shipped one. What was fitted is fitted anew in time."""
        self._needed = log_odds_of(self._shipped.threshold if threshold is None else threshold)

    def guidance(self, tenant: str, scope: bytes, asked_id: str) -> Guidance:
        """Return what a decision goes by."""
        steering = self._steering.get((tenant, scope)) or self._steering.get((tenant, b"")) or Steering()
        of_tenant, pairs = self._tenants.get(tenant), self._pairs.get(scope)
        weights = self._shipped if of_tenant is None or of_tenant.weights is None else of_tenant.weights
        needed = self._needed + steering.strictness
        if pairs is None:
            return Guidance(weights, needed, steering.is_off, asked_id)
        return Guidance(weights, needed, steering.is_off, asked_id, lambda id_: pairs.log_odds(asked_id, id_))

    def aliases(self, scope: bytes, asked_id: str, is_there: Callable[[str], bool]) -> list[str]:
        """Return the ids of some entries that are known to answer a question."""
        pairs = self._pairs.get(scope)
        if pairs is None:
            return []
        self._pairs.move_to_end(scope)
        found: Iterator[str] = (each for each in pairs.same_as(asked_id) if is_there(each))
        return list(dict.fromkeys(islice(found, 4 * ALIASES)))[:ALIASES]

    def teach(self, lessons: Sequence[Lesson]) -> None:
        """Learn. Takes some ten milliseconds now and then."""
        for lesson in lessons:
            pairs = self._pairs.get(lesson.scope)
            if pairs is None:
                pairs = self._pairs[lesson.scope] = KnownPairs()
            before = pairs.count
            pairs.add(lesson.asked_id, lesson.entry_id, lesson.log_ratio)
            self._count += pairs.count - before
            self._pairs.move_to_end(lesson.scope)
            if lesson.features:
                tenant = self._tenants.setdefault(lesson.tenant, _Tenant())
                tenant.lessons.append(_light(lesson))
                tenant.new += 1
                self._tenants.move_to_end(lesson.tenant)
        while self._count > PAIRS and len(self._pairs) > 1:
            self._count -= self._pairs.popitem(last=False)[1].count
        while len(self._tenants) > TENANTS:
            self._tenants.popitem(last=False)
        all_lessons = sum(len(tenant.lessons) for tenant in self._tenants.values())
        for tenant in self._tenants.values():  # the one that was taught last comes last
            if all_lessons > ALL_LESSONS:
                all_lessons -= len(tenant.lessons)
                tenant.lessons.clear()
                tenant.new = 0
            if tenant.new >= max(FIT_FROM, len(tenant.lessons) // FIT_SHARE):
                tenant.weights = self._fitted(tenant.lessons)
                tenant.new = 0

    def steer(self, tenant: str, scope: bytes, steering: Steering) -> None:
        """Serve more or less freely from now on."""
        self._steering[tenant, scope] = steering

    def _fitted(self, lessons: Sequence[Lesson]) -> Weights:
        shipped = self._shipped
        known = [shipped.log_odds(lesson.features) for lesson in lessons]
        return shipped.changed(fitted(lessons, known, self._needed))


def _light(lesson: Lesson) -> Lesson:
    """Return it with what it says alone: half of the features of a pair are zero, and their names are few."""
    return replace(lesson, features={sys.intern(name): value for name, value in lesson.features.items() if value})


def log_odds_of(probability: float) -> float:
    """Return the log odds of a probability; within bounds, so that 0 and 1 have some too."""
    return 30.0 if probability >= 1 else -30.0 if probability <= 0 else math.log(probability / (1 - probability))
