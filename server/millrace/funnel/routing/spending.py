"""The promise of dollars a day: how many requests the large model may be asked first for, so that the money lasts.

At each request, what is left of the day is divided among the requests that are still expected: so many of them go to
the large model as can be paid. What is expected comes from the hours of earlier days, scaled by how busy this day is;
without an earlier day, from the last hour, and the money is spent evenly over the day. What a request of each tier
costs is learned as it goes, with its escalations. The small model alone costs too: money for it is kept back, and the
large model is asked no more as soon as only that is left.
"""

from collections import deque

from msgspec import Struct, field

from millrace.types import Tier

DAY = 86_400
SLOTS = 96  # of a day
SLOT = DAY // SLOTS
AIM = 0.995  # of the money: what runs when it is spent costs something still
FIRST = 0.1  # of requests go to the large model while it is not known what they cost
MEMORY, FEW = 150, 20  # requests that a mean cost is of
CHANGED = 1.6  # times the mean cost
NEW_DAY = 0.3  # how much of what is expected comes from the last day
RESERVED, RESERVED_FIRST = 1.4, 4.0  # times the requests expected: of money for the small model, and on a first day
BURST = 0.01  # of the money of a first day, which is else spent evenly over it
RUNNING = 4096  # requests that have not settled; more are not looked at
FORGOTTEN_S = 900  # after which a request that has not settled is not waited for


class Cost(Struct):
    """What a request costs that a tier was asked first for."""

    mean: float = 0.0  # dollars
    count: int = 0  # that it is of, at most `MEMORY`
    lately: float = 0.0  # the mean of few

    def add(self, dollars: float) -> None:
        """Add a request. Where the last few differ much from those before, the price has changed: these count alone."""
        self.count = min(self.count + 1, MEMORY)
        self.mean += (dollars - self.mean) / self.count
        self.lately += (dollars - self.lately) / min(self.count, FEW)
        if self.count >= 2 * FEW and not 1 / CHANGED < self.lately / max(self.mean, 1e-12) < CHANGED:
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
        so_far = sum(self.usual[:slot]) + self.usual[slot] * passed
        some = 0.03 * sum(self.usual)  # as if so many more had come as expected, so that a first request says little
        busy = (sum(self.today) + some) / (so_far + some)
        lately = self._lately(slot, passed)
        return (sum(self.usual[slot:]) - self.usual[slot] * passed) * (busy + lately) / 2

    def _lately(self, slot: int, passed: float) -> float:
        """Return how busy the last hour was, compared to that of other days."""
        first = max(slot - 4, 0)
        usual = sum(self.usual[first:slot]) + self.usual[slot] * passed
        some = 0.01 * sum(self.usual)
        return (sum(self.today[first : slot + 1]) + some) / (usual + some)

    def _remember(self) -> None:
        covered = self.today[self.began :]
        mean = sum(covered) / len(covered)
        today = [mean] * self.began + covered
        if not self.usual:
            self.usual = today
        self.usual = [old + NEW_DAY * (new - old) for old, new in zip(self.usual, today, strict=True)]


class SpendingLoop:
    """Which share of requests may go to the large model now."""

    def __init__(self, dollars: float, state: Spending | None = None) -> None:
        """`dollars` of a day."""
        self.state = state or Spending()
        self._dollars = dollars
        self._running: deque[tuple[float, Tier]] = deque(maxlen=RUNNING)  # since when, and who was asked first

    def share(self, now: float) -> tuple[float, str]:
        """Return the share of requests for the large model, and why. `now` in Unix seconds."""
        state = self.state
        state.turn(now)
        spent = f"{state.spent:.2f} of {self._dollars:.2f} dollars"
        if not (state.small.count and state.large.count):
            may_spend = self._dollars > state.spent
            return FIRST if may_spend else 0.0, f"{spent}; what a request costs is not known yet"
        small, large = state.small.mean, state.large.mean
        coming = state.expected(now)
        gone = state.spent + self._owed(now)
        left = self._dollars * AIM - gone
        if left < coming * small:
            return 0.0, f"{spent}; even the small model alone may pass it" if left <= 0 else f"{spent}; small only"
        reserved = coming * (RESERVED if state.usual else RESERVED_FIRST) * small
        if left < reserved + large:
            return 0.0, f"{spent}; the rest is kept for the small model"
        if not state.usual and gone > self._dollars * (state.elapsed(now) + BURST):
            return 0.0, f"{spent}; small only for now, since no earlier day is known"
        if large <= small:
            return 1.0, f"{spent}; the large model costs no more"
        share = min(max((left / max(coming, 1.0) - small) / (large - small), 0.0), 1.0)
        return share, f"{spent}; {share:.0%} to the large model"

    def routed(self, tier: Tier, now: float) -> None:
        """Count a request that begins."""
        self.state.turn(now)
        self.state.today[_slot(now)] += 1
        self._running.append((now, tier))

    def settled(self, tier: Tier | None, dollars: float, now: float) -> None:
        """Count what a request has cost; without a tier it was not routed, so that it teaches nothing."""
        self.state.turn(now)
        self.state.spent += dollars
        if tier is None:
            return
        self.state.cost(tier).add(dollars)
        for at, (_, running) in enumerate(self._running):
            if running is tier:
                del self._running[at]
                return

    def _owed(self, now: float) -> float:
        """Return what the requests that run are going to cost."""
        while self._running and self._running[0][0] < now - FORGOTTEN_S:
            self._running.popleft()
        large = sum(tier is Tier.LARGE for _, tier in self._running)
        return large * self.state.large.mean + (len(self._running) - large) * self.state.small.mean


def _slot(now: float) -> int:
    return int(now % DAY) // SLOT
