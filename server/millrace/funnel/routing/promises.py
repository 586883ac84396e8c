"""What `auto` promises: a share of requests for the large model, a share of its quality, or dollars a day.

A promise is kept by a closed loop over the score from which on the large model is asked first. Each place, which is a
tenant and a model name that it asks for, has a loop of its own; only the dollars of a day are one sum, since they are
one bill.
"""

import math
from collections import OrderedDict
from decimal import Decimal
from threading import Lock

import msgspec
from msgspec import Struct

from millrace.funnel.routing.drift import Drift
from millrace.funnel.routing.pairs import LAST as MOST_PAIRS, Pair, Pairs
from millrace.funnel.routing.recent import Recent
from millrace.funnel.routing.share import ShareLoop
from millrace.funnel.routing.spending import Spending, SpendingLoop, Way
from millrace.ports import Clock
from millrace.types import Tier

VERSION = 1  # of what is dumped
PLACES = 256  # that are known at once; a place holds up to 150 kB

Place = tuple[str, str]  # tenant, requested model name


class Promised(Struct, frozen=True, kw_only=True):
    """What was promised; at most one of the three."""

    large_share: float | None = None  # of requests, that the large model is asked first for
    keep_quality: float | None = None  # of the large model's
    spend_per_day: Decimal | None = None  # dollars of a day of UTC
    confidence: float = 0.95  # with which `keep_quality` is kept


class Threshold(Struct, frozen=True):
    """The score from which on the large model is asked first: infinite, never; minus infinite, always."""

    value: float
    reason: str  # in one line; holds nothing that a client wrote
    binds: bool = False  # whether the promise breaks if the small model is asked for a score that reaches it
    escalates: bool = True  # as in `Advice`


class Outlook(Struct, frozen=True):
    """What would come of a share of requests for the large model, as far as pairs tell."""

    large_share: float
    quality: float  # of the large model's, that is kept: an estimate


class _PlaceState(Struct, array_like=True):
    place: Place
    requests: list[tuple[float, bool]]
    aim: float | None
    pairs: list[Pair]
    drift: Drift
    small_share: float


class _State(Struct, array_like=True):
    version: int
    places: list[_PlaceState]
    spending: Spending


class _Loop:
    """What is known of one place."""

    def __init__(self, share: float) -> None:
        self.recent = Recent()
        self.pairs = Pairs()
        self.drift = Drift()
        self.share = ShareLoop(share)


class Promises:
    """The thresholds of all places.

    All but `judged`, `dumped` and `restored` is called on the event loop. These are called on other threads, one at a
    time, and take a millisecond or more.
    """

    def __init__(self, promised: Promised, wall: Clock) -> None:
        """`wall` is in Unix seconds."""
        self._promised = promised
        self._wall = wall
        self._lock = Lock()  # of the places, which two threads look up
        self._places: OrderedDict[Place, _Loop] = OrderedDict()  # the least recently used one first
        self._spending = SpendingLoop(float(promised.spend_per_day or 0))

    def promise(self, promised: Promised) -> None:
        """Promise something else from now on. What is known of the places stays."""
        before, self._promised = self._promised, promised
        self._spending.dollars = float(promised.spend_per_day or 0)
        for _, loop in self._loops():
            if promised.large_share != before.large_share:
                loop.share = ShareLoop(promised.large_share or 0.0)
            if (promised.keep_quality, promised.confidence) != (before.keep_quality, before.confidence):
                loop.pairs.allowed, loop.pairs.needed = 0.0, None  # until the next look at the pairs

    def threshold(self, place: Place) -> Threshold:
        """Return the score from which on the large model is asked first, and why it is that one."""
        loop, promised = self._loop(place), self._promised
        if promised.large_share is not None:
            value = loop.share.threshold(loop.recent)
            now = f"{loop.recent.large_share:.0%} of the last {len(loop.recent)}"
            return Threshold(value, f"{promised.large_share:.0%} to the large model: {now}")
        if promised.keep_quality is not None:
            return self._quality(loop, promised.keep_quality)
        if promised.spend_per_day is not None:
            allowed = self._spending.allowed(self._wall())
            value = loop.recent.score_of(allowed.large)
            return Threshold(value, allowed.reason, escalates=not allowed.alone)
        return Threshold(math.inf, "small first: nothing is promised")

    def routed(self, place: Place, score: float, tier: Tier, *, escalates: bool = True) -> None:
        """Count a request that was routed, and who was asked first in the end; `escalates` as in `Advice`."""
        loop = self._loop(place)
        loop.recent.add(score, tier)
        loop.share.routed(tier)
        if self._promised.spend_per_day is not None:
            self._spending.routed(Way.of(tier, escalates=escalates), self._wall())

    def spent(
        self,
        place: Place,
        tier: Tier | None,
        dollars: Decimal,
        *,
        escalates: bool = True,
        alone: Decimal | None = None,
    ) -> None:
        """Count what a request has cost in all. `tier` was asked first; None: it was not routed.

        `alone`: what of it the first answer has cost, without what came after a failed check.
        """
        if self._promised.spend_per_day is not None:
            way = None if tier is None else Way.of(tier, escalates=escalates)
            of_first = None if alone is None else float(alone)
            self._spending.settled(way, float(dollars), self._wall(), of_first)

    def judged(
        self,
        place: Place,
        score: float,
        tier: Tier,
        gain: float,
        probability: float,
        *,
        failed: bool | None = None,
        large: float | None = None,
    ) -> None:
        """Count a request that both models answered; `probability` is the one with which it was taken for that.

        `tier` was asked first. `gain` of the large answer: 1 if it alone is right, -1 if the small one alone is, else
        0. The score must be what it was before anything was learned from the pair.

        `failed`: whether the checks failed the small answer, or would have, so that its user gets the large one; None:
        they have not, or nobody has asked them. `large`: whether the large answer is right, from 0 to 1. None: nobody
        knows, so it is taken for right; what counts is then that the small answer does in its place.
        """
        if probability <= 0:
            return  # it was not taken at random
        loop, weight = self._loop(place), 1 / probability
        pairs = loop.pairs  # which the event loop may drop meanwhile, with what was found of them
        right = float(gain >= 0) if large is None else large
        if failed and tier is Tier.SMALL:
            pairs.add_failed(right, weight)
        else:
            loss, is_checked = 0.0 if failed else gain, tier is Tier.SMALL or failed is not None
            rank = loop.recent.rank(score)
            pairs.add(Pair(rank=rank, loss=loss, large=right, weight=weight, is_checked=is_checked))
        if self._promised.keep_quality is not None:
            pairs.decide(self._promised.keep_quality, self._promised.confidence)

    def flagged(self, place: Place, tier: Tier, failed: bool, score: float | None = None) -> None:  # noqa: FBT001
        """Count what the checks say of an answer. It can tighten `keep_quality`, and loosens nothing."""
        if tier is Tier.LARGE:
            return
        loop = self._loop(place)
        loop.drift.judged(0.0 if score is None else loop.recent.rank(score), failed=failed)
        if loop.drift.has_risen:  # what was judged before is true of a model that is no more
            loop.pairs, loop.drift = Pairs(), Drift()

    @property
    def places(self) -> list[Place]:
        """All that are known."""
        return [place for place, _ in self._loops()]

    @property
    def promised(self) -> Promised:
        """What is promised."""
        return self._promised

    def recent(self, place: Place) -> Recent:
        """Return the last requests of a place."""
        return self._loop(place).recent

    def needed(self, place: Place) -> int | None:
        """Return how many more judged pairs `keep_quality` needs at least; None: it is not known, or it is kept."""
        loop = self._loop(place)
        return None if loop.pairs.needed is None else max(0, loop.pairs.needed - len(loop.pairs))

    def pairs(self, place: Place) -> list[Pair]:
        """Return the last judged pairs of a place, the oldest first."""
        loop = self._places.get(place)
        return [] if loop is None else loop.pairs.all

    def outlook(self, place: Place) -> list[Outlook]:
        """Return what would come of each share of requests for the large model; empty without judged pairs."""
        return [Outlook(1 - small, kept) for small, kept in self._loop(place).pairs.losses()]

    def dumped(self) -> bytes:
        """Return all that was learned."""
        places = [
            _PlaceState(place, loop.recent.requests, loop.share.aim, loop.pairs.all, loop.drift, loop.pairs.allowed)
            for place, loop in self._loops()
        ]
        return msgspec.msgpack.encode(_State(VERSION, places, self._spending.state))

    def restored(self, dumped: bytes) -> bool:
        """Take over what was learned before. Whether it could: not from another version, or what is damaged."""
        try:
            state = msgspec.msgpack.decode(dumped, type=_State)
        except msgspec.MsgspecError:
            return False
        if state.version != VERSION:
            return False
        for each in state.places:
            loop = self._loop(each.place)
            loop.recent, loop.pairs, loop.drift = Recent(each.requests), Pairs(each.pairs), each.drift
            loop.share.aim, loop.pairs.allowed = each.aim, each.small_share
        self._spending.take_over(state.spending, self._wall())
        return True

    def _quality(self, loop: _Loop, quality: float) -> Threshold:
        labels = len(loop.pairs)
        if not loop.pairs.allowed:
            if loop.pairs.needed is None:
                loop.pairs.decide(quality, self._promised.confidence)
            least = min(loop.pairs.needed or 0, MOST_PAIRS)
            doing = f"of {least} or more" if labels < least else "that say it would not keep it"
            return Threshold(
                -math.inf, f"large, to keep {quality:g} of its quality: {labels} labels {doing}", binds=True
            )
        trust = loop.drift.trust
        value = loop.recent.score_of(1 - loop.pairs.allowed * trust)
        reason = f"keeps {quality:g} of quality: {labels} labels"
        if trust < 1:
            reason += f"; checks fail {loop.drift.rate:.0%} of small answers, {loop.drift.usual:.0%} before"
        return Threshold(value, reason, binds=True)

    def _loop(self, place: Place) -> _Loop:
        with self._lock:
            loop = self._places.get(place)
            if loop is None:
                loop = self._places[place] = _Loop(self._promised.large_share or 0.0)
                if len(self._places) > PLACES:
                    self._places.popitem(last=False)
            else:
                self._places.move_to_end(place)
            return loop

    def _loops(self) -> list[tuple[Place, _Loop]]:
        with self._lock:
            return list(self._places.items())
