"""Clocks that a test sets, and one that a busy machine does not hurry."""

import time

STEP_S = 0.15  # longer than a beat of the sweeper, which looks at the time at each


class ManualClock:
    """Returns the same time until a test changes `now` (seconds)."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FreeClock:
    """The time in which this process could work: from one look to the next at most `STEP_S` pass.

    So no peer is late because the machine did something else. A test may put it `ahead` by some seconds.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self._seen_at = time.monotonic()
        self._now = 100.0

    def __call__(self) -> float:
        since, self._seen_at = self._seen_at, time.monotonic()
        self._now += min(max(0.0, self._seen_at - since), STEP_S)
        return self._now + self.ahead
