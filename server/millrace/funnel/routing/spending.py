"""The promise of dollars a day: how many requests the large model may be asked first for, so that the money lasts.

At each request, what is left of the day is divided among the requests that are still expected: so many of them go to
the large model as can be paid. What is expected comes from the hours of earlier days, scaled by how busy this day is;
without an earlier day, from the last hour, and the money is let out late, since most of the traffic may still come: by
the square of the part of the day that has passed. What a request of each tier costs is learned as it goes.

The small model alone costs too, and so do its escalations: money for them is kept back, and the large model is asked no
more as soon as only that is left. More is kept back the less the rest of the day is known: as much more as forecasts at
this hour were wrong on earlier days, and as costs scatter. As the day ends, that comes to nothing.
"""

import math
from collections import deque

from msgspec import Struct, field

from millrace.types import Tier

DAY = 86_400
SLOTS = 96  # of a day
SLOT = DAY // SLOTS
AIM = 0.995  # of the money: what runs when it is spent costs something still
MOST = 1.015  # of the money: what an answer as dear as the dearest may not pass either
FIRST = 0.1  # of requests go to the large model while it is not known what they cost
MEMORY, FEW = 150, 20  # requests that a mean cost is of
FADES = 1000  # requests after which the dearest one counts a third
CHANGED = 1.6  # times the mean cost
NEW_DAY = 0.3  # how much of what is expected comes from the last day
HOURS = 24
SURE = 2.5  # standard deviations that are reckoned with, of the requests to come and of what they cost
WRONG, WRONG_DAYS = 0.3, 2.0  # the error of a forecast, as a part of it, and the days for which that is assumed
NEW_ERROR = 0.1  # how much of what is known of errors comes from the last day, at least
RESERVED_FIRST = 4.0  # times the requests expected on a first day: of money for the small model
BURST = 0.01  # of the money of a first day, that may be spent as it begins
RUNNING = 4096  # requests of a tier that have not settled; more are not looked at
FORGOTTEN_S = 900  # after which a request that has not settled is not waited for


class Cost(Struct):
    """What a request costs that a tier was asked first for."""

    mean: float = 0.0  # dollars
    count: int = 0  # that it is of, at most `MEMORY`
    lately: float = 0.0  # the mean of few
    square: float = 0.0  # the mean square
    peak: float = 0.0  # the dearest one, which fades

    @property
    def deviation(self) -> float:
        """The standard deviation, in dollars."""
        return math.sqrt(max(self.square - self.mean**2, 0.0))

    def add(self, dollars: float) -> None:
        """Add a request. Where the last few differ much from those before, the price has changed: these count alone."""
        self.count = min(self.count + 1, MEMORY)
        self.mean += (dollars - self.mean) / self.count
        self.square += (dollars**2 - self.square) / self.count
        self.peak = max(dollars, self.peak * (1 - 1 / FADES))
        self.lately += (dollars - self.lately) / min(self.count, FEW)
        if self.count >= 2 * FEW and not 1 / CHANGED < self.lately / max(self.mean, 1e-12) < CHANGED:
            change = self.lately / max(self.mean, 1e-12)
            self.square, self.peak = self.square * change**2, max(self.peak * change, dollars)
            self.mean, self.count = self.lately, FEW


class Spending(Struct):
    """What was spent on the present day of UTC, and what is known of days. All dollars are floats: it is an aim."""

    day: int = -1  # since 1970
    spent: float = 0.0
    began: int = 0  # the slot of its first request
    today: list[float] = field(default_factory=lambda: [0.0] * SLOTS)  # requests
    usual: list[float] = field(default_factory=list)  # requests of a day; empty: there was none yet
    small: Cost = field(default_factory=Cost)
    large: Cost = field(default_factory=Cost)
    wrong: list[float] = field(default_factory=lambda: [WRONG**2] * HOURS)  # mean squared errors of forecasts, as parts
    days: float = WRONG_DAYS  # that these are of

    def cost(self, tier: Tier) -> Cost:
        """Return what a request of a tier costs."""
        return self.small if tier is Tier.SMALL else self.large

    def turn(self, now: float) -> None:
        """Begin a new day if there is one. `now` in Unix seconds."""
        day = int(now // DAY)
        if day == self.day:
            return
        if self.day >= 0 and any(self.today):
            self._remember()
        self.day, self.spent, self.today = day, 0.0, [0.0] * SLOTS
        self.began = _slot(now) if not self.usual else 0

    def elapsed(self, now: float) -> float:
        """Return the part of the day that has passed since its first request."""
        return (now % DAY - self.began * SLOT) / (DAY - self.began * SLOT)

    def expected(self, now: float) -> float:
        """Return how many requests are expected of the rest of the day."""
        slot, passed = _slot(now), now % SLOT / SLOT
        if not self.usual:  # as many as lately
            first = max(slot - 3, self.began)
            seen = sum(self.today[first : slot + 1])
            slots = max(slot + passed - first, 0.2)
            return seen / slots * (SLOTS - slot - passed)
        return self._forecast(self.today[: slot + 1], slot, passed)

    def at_most(self, now: float) -> float:
        """Return how many requests are expected of the rest of the day at most, as far as forecasts were right."""
        expected = self.expected(now)
        if not self.usual:
            return expected * RESERVED_FIRST
        return expected * (1 + SURE * math.sqrt(self.wrong[_slot(now) * HOURS // SLOTS]))

    def _forecast(self, today: list[float], slot: int, passed: float) -> float:
        """Return how many requests come after a part of a slot, if there were so many until then."""
        so_far = sum(self.usual[:slot]) + self.usual[slot] * passed
        some = 0.03 * sum(self.usual)  # as if so many more had come as expected, so that a first request says little
        busy = (sum(today) + some) / (so_far + some)
        first = max(slot - 4, 0)
        usual = sum(self.usual[first:slot]) + self.usual[slot] * passed
        some = 0.01 * sum(self.usual)
        lately = (sum(today[first:]) + some) / (usual + some)
        return (sum(self.usual[slot:]) - self.usual[slot] * passed) * (busy + lately) / 2

    def _learn_errors(self) -> None:
        """Compare what was forecast at each hour of the day that has ended with what came."""
        self.days = min(self.days + 1, 1 / NEW_ERROR)
        for hour in range(HOURS):
            slot = hour * SLOTS // HOURS
            forecast = self._forecast(self.today[:slot], slot, 0.0)
            if forecast >= 1:
                error = sum(self.today[slot:]) / forecast - 1
                self.wrong[hour] += (min(error, 3.0) ** 2 - self.wrong[hour]) / self.days

    def _remember(self) -> None:
        covered = self.today[self.began :]
        mean = sum(covered) / len(covered)
        today = [mean] * self.began + covered
        if not self.usual:
            self.usual = today
        else:
            self._learn_errors()
        self.usual = [old + NEW_DAY * (new - old) for old, new in zip(self.usual, today, strict=True)]


class SpendingLoop:
    """Which share of requests may go to the large model now."""

    def __init__(self, dollars: float, state: Spending | None = None) -> None:
        """`dollars` of a day."""
        self.state = state or Spending()
        self.dollars = dollars
        self._running: dict[Tier, deque[float]] = {tier: deque(maxlen=RUNNING) for tier in Tier}  # since when

    def take_over(self, kept: Spending, now: float) -> None:
        """Go on from what was kept. What was spent since the start, before that was read, counts on."""
        if self.state.day >= 0:
            kept.turn(now)
            kept.spent += self.state.spent if self.state.day == kept.day else 0.0
        self.state = kept

    def share(self, now: float) -> tuple[float, str]:
        """Return the share of requests for the large model, and why. `now` in Unix seconds."""
        state = self.state
        state.turn(now)
        spent = f"{state.spent:.2f} of {self.dollars:.2f} dollars"
        if not (state.small.count and state.large.count):
            may_spend = self.dollars > state.spent
            return FIRST if may_spend else 0.0, f"{spent}; what a request costs is not known yet"
        small, large = state.small.mean, state.large.mean
        coming = state.expected(now)
        gone = state.spent + self._owed(now)
        left = self.dollars * AIM - gone
        if left < coming * small:
            return 0.0, f"{spent}; even the small model alone may pass it"
        most = state.at_most(now)
        reserved = most * small + SURE * math.sqrt(most) * state.small.deviation
        dearest = state.large.peak - self.dollars * (MOST - AIM)
        if left < reserved + max(large, dearest):
            return 0.0, f"{spent}; the rest is kept for the small model"
        if not state.usual and gone > self.dollars * (state.elapsed(now) ** 2 + BURST):
            return 0.0, f"{spent}; small only for now, since no earlier day is known"
        if large <= small:
            return 1.0, f"{spent}; the large model costs no more"
        share = min(max((left / max(coming, 1.0) - small) / (large - small), 0.0), 1.0)
        return share, f"{spent}; {share:.0%} to the large model"

    def routed(self, tier: Tier, now: float) -> None:
        """Count a request that begins."""
        self.state.turn(now)
        self.state.today[_slot(now)] += 1
        self._running[tier].append(now)

    def settled(self, tier: Tier | None, dollars: float, now: float) -> None:
        """Count what a request has cost; without a tier it was not routed, so that it teaches nothing."""
        self.state.turn(now)
        self.state.spent += dollars
        if tier is None:
            return
        self.state.cost(tier).add(dollars)
        if self._running[tier]:  # which one it was does not matter
            self._running[tier].popleft()

    def _owed(self, now: float) -> float:
        """Return what the requests that run are going to cost."""
        owed = 0.0
        for tier, running in self._running.items():
            while running and running[0] < now - FORGOTTEN_S:
                running.popleft()
            owed += len(running) * self.state.cost(tier).mean
        return owed


def _slot(now: float) -> int:
    return int(now % DAY) // SLOT
