"""The promise of dollars a day: how many requests the large model may be asked first for, so that the money lasts.

At each request, what is left of the day is divided among the requests that are still expected: so many of them go to
the large model as can be paid. What is expected comes from the hours of earlier days, scaled by how busy this day is;
without an earlier day, from the last hour, and the money is let out late, since most of the traffic may still come: by
the square of the part of the day that has passed. What a request of each way costs is learned as it goes.

The small model alone costs too, and so do its escalations: money for them is kept back, and the large model is asked no
more as soon as only that is left. More is kept back the less the rest of the day is known: as much more as forecasts at
this hour were wrong on earlier days, and as costs scatter. As the day ends, that comes to nothing. Where not even the
escalations can be paid any more, small answers are given as they are.
"""

import math
from collections import deque
from enum import StrEnum

from msgspec import Struct, field

from millrace.types import Tier


class Way(StrEnum):
    """How a request is answered. Each costs more than the one before, as a rule."""

    ALONE = "alone"  # by the small model, whatever soft checks say of the answer
    SMALL = "small"  # by the small model, and by the large one where a check fails the answer
    LARGE = "large"

    @classmethod
    def of(cls, first: Tier, *, escalates: bool) -> "Way":
        """Return the way of a request by who is asked first."""
        return cls.LARGE if first is Tier.LARGE else cls.SMALL if escalates else cls.ALONE


DAY = 86_400
SLOTS = 96  # of a day
SLOT = DAY // SLOTS
AIM = 0.995  # of the money: what runs when it is spent costs something still
MOST = 1.015  # of the money: what hardly any answer may pass either
FIRST = 0.1  # of requests go to the large model while it is not known what they cost
MEMORY, FEW = 600, 20  # requests that a mean cost is of
FADES = 1000  # requests after which the dearest one counts a third
CHANGED = 1.6  # times the mean cost, at least
RARE = 4.0  # standard deviations of the logarithm of an answer's cost, that are reckoned with
RECORD = 3.0  # times as dear as the dearest one, that is reckoned with at most
CHEAPER = 1.05  # times as dear as the small model alone: else escalations are not worth looking at
DIFFERS = 4.0  # standard deviations of a mean of few, that it differs by at least where a price has changed
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
    logs: int = 0  # requests that the mean logarithm is of, at most `MEMORY`
    log: float = 0.0  # the mean logarithm
    log_square: float = 0.0  # the mean square of what logarithms differ by

    @property
    def deviation(self) -> float:
        """The standard deviation, in dollars."""
        return math.sqrt(max(self.square - self.mean**2, 0.0))

    @property
    def rarely(self) -> float:
        """What hardly one of ten thousand passes, if logarithms scatter evenly: mostly dearer than any has been."""
        return max(self.peak, min(math.exp(self.log + RARE * math.sqrt(self.log_square)), RECORD * self.peak))

    def sum_of(self, requests: float) -> float:
        """Return what so many more requests cost at most: they scatter, and their mean is known from some alone."""
        return requests * self.mean + SURE * self.deviation * math.sqrt(requests + requests**2 / max(self.count, 1))

    def add(self, dollars: float) -> None:
        """Add a request. Where the last few differ much from those before, the price has changed: these count alone."""
        self.count = min(self.count + 1, MEMORY)
        self.mean += (dollars - self.mean) / self.count
        self.square += (dollars**2 - self.square) / self.count
        self.peak = max(dollars, self.peak * (1 - 1 / FADES))
        self.lately += (dollars - self.lately) / min(self.count, FEW)
        self.logs = min(self.logs + 1, MEMORY)
        away = math.log(max(dollars, 1e-12)) - self.log
        self.log += away / self.logs
        self.log_square += (away**2 - self.log_square) / self.logs if self.logs > 1 else 0.0
        change, scatter = self.lately / max(self.mean, 1e-12), self.deviation / max(self.mean, 1e-12)
        beyond = max(CHANGED, 1 + DIFFERS * scatter / math.sqrt(FEW))
        if self.count >= 2 * FEW and not 1 / beyond < change < beyond:
            self.square, self.peak = self.square * change**2, max(self.peak * change, dollars)
            self.mean, self.count = self.lately, FEW
            self.log += math.log(change)


class Spending(Struct):
    """What was spent on the present day of UTC, and what is known of days. All dollars are floats: it is an aim."""

    day: int = -1  # since 1970
    spent: float = 0.0
    began: int = 0  # the slot of its first request
    today: list[float] = field(default_factory=lambda: [0.0] * SLOTS)  # requests
    usual: list[float] = field(default_factory=list)  # requests of a day; empty: there was none yet
    alone: Cost = field(default_factory=Cost)
    small: Cost = field(default_factory=Cost)
    large: Cost = field(default_factory=Cost)
    wrong: list[float] = field(default_factory=lambda: [WRONG**2] * HOURS)  # mean squared errors of forecasts, as parts
    days: float = WRONG_DAYS  # that these are of

    def cost(self, way: Way) -> Cost:
        """Return what a request costs that is answered this way."""
        return {Way.ALONE: self.alone, Way.SMALL: self.small, Way.LARGE: self.large}[way]

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

    def at_most(self, expected: float, now: float) -> float:
        """Return how many requests come at most if so many are expected, as far as forecasts were right."""
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


class Allowed(Struct, frozen=True):
    """What can be paid now."""

    large: float  # share of requests for the large model: those with the highest scores
    alone: bool  # whether small answers are not to be escalated
    reason: str


class SpendingLoop:
    """How requests may be answered now."""

    def __init__(self, dollars: float, state: Spending | None = None) -> None:
        """`dollars` of a day."""
        self.state = state or Spending()
        self.dollars = dollars
        self._running: dict[Way, deque[float]] = {way: deque(maxlen=RUNNING) for way in Way}  # since when

    def take_over(self, kept: Spending, now: float) -> None:
        """Go on from what was kept. What was spent since the start, before that was read, counts on."""
        if self.state.day >= 0:
            kept.turn(now)
            kept.spent += self.state.spent if self.state.day == kept.day else 0.0
        self.state = kept

    def allowed(self, now: float) -> Allowed:
        """Return what can be paid. `now` in Unix seconds."""
        state = self.state
        state.turn(now)
        left = self.dollars * AIM - state.spent - self._owed(now)  # when all that runs has been paid, at its most
        coming = state.expected(now)
        at_most = state.at_most(coming, now)
        alone = self._is_small_alone(left, at_most)
        share, why = 0.0, "the rest pays for no escalations but those of hard checks"
        if not alone:
            share, why = self._share(left, coming, at_most, now)
        return Allowed(share, alone, f"{state.spent:.2f} of {self.dollars:.2f} dollars; {why}")

    def _is_small_alone(self, left: float, at_most: float) -> bool:
        """Whether one more escalation may leave less than the small model alone costs for the rest of the day."""
        alone, small = self.state.alone, self.state.small
        if alone.count < FEW or small.mean <= CHEAPER * alone.mean:
            return False
        dearest = max(small.peak, self.state.large.rarely if self.state.large.count else 0.0)
        escalated = max(small.mean, dearest - self.dollars * (MOST - AIM))
        return left < alone.sum_of(at_most) + escalated

    def _share(self, left: float, coming: float, at_most: float, now: float) -> tuple[float, str]:
        """Return the share of requests for the large model, and why, if small answers are escalated."""
        state = self.state
        if not (state.small.count and state.large.count):
            return FIRST if self.dollars > state.spent else 0.0, "what a request costs is not known yet"
        small, large = state.small.mean, state.large.mean
        if left < coming * small:
            return 0.0, "even the small model alone may pass it"
        dearest = max(large, state.large.rarely - self.dollars * (MOST - AIM))
        if left < state.small.sum_of(at_most) + dearest:
            return 0.0, "the rest is kept for the small model"
        if not state.usual and self.dollars * AIM - left > self.dollars * (state.elapsed(now) ** 2 + BURST):
            return 0.0, "small only for now, since no earlier day is known"
        if large <= small:
            return 1.0, "the large model costs no more"
        share = min(max((left / max(coming, 1.0) - small) / (large - small), 0.0), 1.0)
        return share, f"{share:.0%} to the large model"

    def routed(self, way: Way, now: float) -> None:
        """Count a request that begins."""
        self.state.turn(now)
        self.state.today[_slot(now)] += 1
        self._running[way].append(now)

    def settled(self, way: Way | None, dollars: float, now: float, alone: float | None = None) -> None:
        """Count what a request has cost; without a way it was not routed, so that it teaches nothing.

        `alone`: what of it the small model's first answer has cost.
        """
        self.state.turn(now)
        self.state.spent += dollars
        if way is None:
            return
        self.state.cost(way).add(dollars)
        if way is Way.SMALL and alone is not None:
            self.state.alone.add(alone)
        if self._running[way]:  # which one it was does not matter
            self._running[way].popleft()

    def _owed(self, now: float) -> float:
        """Return what the requests that run are going to cost at most."""
        owed = 0.0
        for way, running in self._running.items():
            while running and running[0] < now - FORGOTTEN_S:
                running.popleft()
            owed += self.state.cost(way).sum_of(len(running))
        return owed


def _slot(now: float) -> int:
    return int(now % DAY) // SLOT
