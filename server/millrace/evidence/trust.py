"""Steers the semantic cache by what was judged: a promise about wrong hits, kept by a closed loop for each scope.

A scope becomes stricter when the rate of wrong hits passes what is promised, or when enough hits were judged and its
upper bound still does. It is off when even the lower bound passes it; what it would serve is still found, the model
answers, and the comparison says when it may serve again. It becomes freer while its upper bound keeps the promise, and
questions that it nearly served have mostly had the same answer. Until it changes, a scope stands as its tenant.

Not thread-safe, but for `share`.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from functools import cache

from msgspec import Struct, field
from msgspec.structs import replace

from millrace.evidence.rates import ErrorCounts, rate
from millrace.ports import Learner
from millrace.types import Change, Judged, JudgeErrors, Lesson, Lever, Opinion, Rate, Says, Steering

WINDOW = 1000  # judged hits of a scope that count: older ones say little of today
RECENT = 60  # of these: if most answers went stale, all of them would tell it late
NEAR_WINDOW = 500  # near misses of a scope that are remembered
SCOPES = 10_000  # that are remembered
KEPT = 50_000  # judged samples of all scopes that are: those of scopes long unused go first
KEPT_BYTES = 250  # of one, about
ENOUGH = 300  # judged hits from which on the upper bound must keep the promise
FEW = 10  # judged hits from which on the lower bound counts
PAUSE = 60  # judged hits before a change, unless it is that nothing is served
STEP, FREER = 0.5, 0.25  # in log odds
STRICTEST, FREEST = 4.0, -1.5
BAND = 0.5  # of log odds below what is needed, in which near misses show what being freer would serve
BAND_FEW = 20  # near misses in it
BAND_WRONG = 5.0  # their rate may be so many times that promised, since they would be few of all hits
SUREST = 6.0  # log ratio of a verdict
DOUBT = 0.02  # of a judge's error at least

_NONE: dict[str, float] = {}

Place = tuple[str, bytes]  # tenant and scope; an empty scope is the whole tenant


class _Scope(Struct):
    """What is known of one scope, or of all of a tenant."""

    steering: Steering | None = None  # None: as its tenant
    hits: deque[Judged] = field(default_factory=lambda: deque(maxlen=WINDOW))
    near: deque[Judged] = field(default_factory=lambda: deque(maxlen=NEAR_WINDOW))
    since: int = 0  # judged hits since the last change
    is_proven: bool = False


class Trust:
    """All scopes, and what teaches the semantic cache."""

    def __init__(self, learner: Learner | None, *, limit: float, needed: float, eagerness: float = 2.5) -> None:
        """Keep the rate of wrong hits below `limit`. `needed` is the log odds that a hit needs as shipped.

        Until a scope has proven that it does, `eagerness` times as many of its hits are judged.
        """
        self.limit, self.needed = limit, needed  # may change at any time
        self._learner = learner
        self._eagerness = eagerness
        self._errors = ErrorCounts()
        self.errors = self._errors.errors("")  # of whoever judges first; as of what was counted last
        self._scopes: OrderedDict[Place, _Scope] = OrderedDict()
        self._kept = 0  # judged samples

    @property
    def bytes_used(self) -> int:
        """Bytes of what is known of scopes, about."""
        return KEPT_BYTES * self._kept

    def share(self, tenant: str, scope: bytes, share: float) -> float:
        """Return with what probability a hit is judged. May be called from any thread."""
        known = self._scopes.get((tenant, scope))
        return share if known is not None and known.is_proven else min(1.0, share * self._eagerness)

    def steer(self, changes: Iterable[Change]) -> None:
        """Have the cache serve as it did before a start. `changes` are all that are kept, the oldest first."""
        for (tenant, scope), steering in {(each.tenant, each.scope): each.steering for each in changes}.items():
            self._steer(tenant, scope, steering)

    def restore(self, judged: Sequence[Judged], changes: Iterable[Change]) -> None:
        """Take over what was found before, in the order in which it was. `changes` as for `steer`."""
        later = deque(changes)
        for each in sorted(judged, key=lambda each: each.sample.taken_at):
            while later and later[0].at < each.sample.taken_at:
                self._apply(later.popleft())
            self._count([each])
        for change in later:
            self._apply(change)
        self.errors = self._errors.errors("")
        for place in list(self._scopes):
            self._is_proven(place)
        self._teach(judged)

    def changes(self, judged: Sequence[Judged], now: float) -> list[Change]:
        """Count what was judged, and return what is to change by it."""
        self._count(judged)
        self.errors = self._errors.errors("")
        places = dict.fromkeys(
            place
            for each in judged
            if each.sample.lever is Lever.SEMANTIC and each.sample.is_random
            for place in _places(each)
        )
        return [change for place in places if (change := self._change(place, now)) is not None]

    def learn(self, judged: Sequence[Judged], changes: Iterable[Change]) -> None:
        """Teach what was judged, and steer. Both are on disk by now."""
        for change in changes:
            self._apply(change)
            self._steer(change.tenant, change.scope, change.steering)
        self._teach(judged)

    def rate(self, tenant: str, scope: bytes) -> Rate:
        """Return how often what the scope serves now was wrong."""
        place = tenant, scope
        return self._rate(place) if place in self._scopes else Rate(judged=0, effective=0.0)

    def steering(self, tenant: str, scope: bytes) -> Steering:
        """Return how a scope is steered now."""
        for place in ((tenant, scope), (tenant, b"")):
            known = self._scopes.get(place)
            if known is not None and known.steering is not None:
                return known.steering
        return Steering()

    def _count(self, judged: Iterable[Judged]) -> None:
        for each in judged:
            self._errors.add(each)
            if not (each.sample.is_of_questions and each.sample.is_random):
                continue
            light = _light(each)
            for place in _places(each):
                known = self._known(place)
                is_hit = each.sample.lever is Lever.SEMANTIC
                window = known.hits if is_hit else known.near
                self._kept += len(window) != window.maxlen
                window.append(light)
                known.since += is_hit
        for known in self._scopes.values():  # the least recently used first
            if self._kept <= KEPT:
                break
            self._forget(known.hits, known.near)

    def _forget(self, *windows: deque[Judged]) -> None:
        for window in windows:
            self._kept -= len(window)
            window.clear()

    def _known(self, place: Place) -> _Scope:
        known = self._scopes.get(place)
        if known is None:
            known = self._scopes[place] = _Scope()
            if len(self._scopes) > SCOPES:
                _, old = self._scopes.popitem(last=False)
                self._forget(old.hits, old.near)
        self._scopes.move_to_end(place)
        return known

    def _rate(self, place: Place, last: int = WINDOW) -> Rate:
        """Return the rate of the last hits that would be served today."""
        needed = self.needed + self.steering(*place).strictness
        hits = self._scopes[place].hits
        return rate([each for each in hits if each.sample.log_odds >= needed][-last:], self.errors)

    def _is_proven(self, place: Place) -> Rate:
        known = self._scopes[place]
        found = self._rate(place)
        known.is_proven = found.upper is not None and found.upper <= self.limit
        return found

    def _change(self, place: Place, now: float) -> Change | None:
        found, steering = self._is_proven(place), self.steering(*place)
        recent = self._rate(place, RECENT)
        if recent.lower is not None and recent.lower > self.limit:
            found = recent
        decided = self._decided(self._scopes[place], steering, found)
        if decided is None or decided[1] == steering:
            return None
        word, steering = decided
        reason = f"{word}: {found.estimate:.2%} of {found.judged:,} judged hits wrong"
        reason += f" ({found.lower:.2%} to {found.upper:.2%})"
        return Change(at=now, tenant=place[0], scope=place[1], steering=steering, reason=reason)

    def _decided(self, known: _Scope, steering: Steering, found: Rate) -> tuple[str, Steering] | None:
        """Return how to steer a scope by what was found of it, and the word for it; None: as before."""
        if found.estimate is None or found.lower is None or found.upper is None:
            return None
        limit = self.limit
        stricter = min(steering.strictness + STEP, STRICTEST)
        is_wrong = found.estimate > limit
        decided = None
        if found.lower > limit and found.judged >= FEW and not steering.is_off:
            decided = "off", replace(steering, is_off=True)
        elif known.since < PAUSE:
            pass
        elif steering.is_off:
            decided = "still off" if is_wrong else "on again", Steering(strictness=stricter, is_off=is_wrong)
        elif is_wrong or (found.judged >= ENOUGH and found.upper > limit):
            decided = "stricter", Steering(strictness=stricter)
        elif found.upper <= limit and self._may_be_freer(known, steering):
            decided = "freer", Steering(strictness=max(steering.strictness - FREER, FREEST))
        return decided

    def _may_be_freer(self, known: _Scope, steering: Steering) -> bool:
        needed = self.needed + steering.strictness
        band = [each for each in known.near if needed - BAND <= each.sample.log_odds < needed]
        found = rate(band, self.errors)
        return len(band) >= BAND_FEW and found.estimate is not None and found.estimate <= BAND_WRONG * self.limit

    def _apply(self, change: Change) -> None:
        known = self._known((change.tenant, change.scope))
        if change.steering.is_off != self.steering(change.tenant, change.scope).is_off:
            self._forget(known.hits)  # what was served before says nothing of what is now, and the other way round
        known.steering, known.since = change.steering, 0

    def _steer(self, tenant: str, scope: bytes, steering: Steering) -> None:
        if self._learner is not None:
            self._learner.steer(tenant, scope, steering)

    def _teach(self, judged: Sequence[Judged]) -> None:
        if self._learner is None:
            return
        lessons = [
            Lesson(
                scope=each.sample.scope,
                tenant=each.sample.tenant,
                asked_id=each.sample.asked_id,
                entry_id=each.sample.entry_id,
                features=each.sample.features,
                log_ratio=log_ratio(each, self.errors),
                weight=1 / each.sample.probability if each.sample.is_random else 1.0,
            )
            for each in judged
            if each.sample.is_of_questions
        ]
        if lessons:
            self._learner.teach(lessons)


def log_ratio(judged: Judged, errors: JudgeErrors) -> float:
    """Return how much likelier what was said is if both answers are the same, as a logarithm.

    It is sure where several judges have spoken, and bounded all the same.
    """
    says = judged.opinions[-1].says
    if len(judged.opinions) > 1:
        return SUREST if says is Says.SAME else -SUREST
    misses, alarms = (min(0.4, max(DOUBT, share)) for share in (errors.misses, errors.alarms))
    found = math.log((1 - alarms) / misses) if says is Says.SAME else -math.log((1 - misses) / alarms)
    return max(-SUREST, min(SUREST, found))


def wrong_entries(judged: Iterable[Judged]) -> dict[str, list[str]]:
    """Return the stored answers that were served, or would have been, and were found wrong, by tenant."""
    found: dict[str, list[str]] = {}
    for each in judged:
        if each.sample.lever is Lever.SEMANTIC and each.opinions[-1].says is Says.DIFFERENT:
            found.setdefault(each.sample.tenant, []).append(each.sample.entry_id)
    return found


def _light(judged: Judged) -> Judged:
    """Return it without what no rate needs: who it was, and who said what."""
    first, last = judged.opinions[0].says, judged.opinions[-1].says
    sample = replace(
        judged.sample, id="", request_id="", entry_id="", asked_id="", detail="", features=_NONE, prompt_features=b""
    )
    return Judged(sample=sample, opinions=_said(first) if len(judged.opinions) == 1 else _said(first, last))


@cache
def _said(*says: Says) -> tuple[Opinion, ...]:
    return tuple(Opinion(judge="", says=each) for each in says)


def _places(judged: Judged) -> tuple[Place, Place]:
    sample = judged.sample
    return (sample.tenant, sample.scope), (sample.tenant, b"")
