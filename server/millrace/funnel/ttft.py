"""How long a model takes to its first delta (TTFT): running quantiles that follow it, and whether it is slower now.

A window of the last calls gives quantiles that are exact, and is as small as an estimate from markers (P², Jain and
Chlamtac 1985) that would have to be made to forget. Nothing is done per token.
"""

import math
from bisect import bisect_left, insort
from collections import deque

WINDOW = 256  # calls
KEPT_S = 3600.0  # for which a call counts
LEAST = 50  # calls from which on a quantile is used
RECENT = 32  # calls that say how it is now
RECENT_S = 120.0
LEAST_RECENT = RECENT // 2
SLOW = 2.0  # times its usual median: it is slow
SLOW_S = 0.1  # and so many seconds more: less may come from a process that is busy itself
HALF_LIFE_S = 900.0  # in which what is usual moves half the way to what is recent
FOLLOW_S = 1.0  # between two such steps


class Ttft:
    """The times to the first delta of one model's calls, in seconds. A call takes some microseconds."""

    def __init__(self) -> None:
        self._calls: deque[tuple[float, float]] = deque()  # when, and how long; the oldest first
        self._sorted: list[float] = []  # of these
        self._usual: float | None = None  # the median of long
        self._followed_at = -math.inf

    def add(self, now: float, seconds: float) -> None:
        """Count a call that has begun to answer after so many seconds."""
        self._expire(now)
        if len(self._calls) == WINDOW:
            self._drop()
        self._calls.append((now, seconds))
        insort(self._sorted, seconds)
        if now - self._followed_at >= FOLLOW_S:
            self._follow(now)

    def add_silent(self, now: float, seconds: float) -> None:
        """Count a call that was left after so many seconds without a delta.

        How long it would have taken is not known. It is counted where that makes no difference to the 95th percentile:
        if it has taken longer than that already. Otherwise the slowest calls, which are those that are hedged and lose,
        would be missing, and the percentile would sink from hedge to hedge.
        """
        p95 = self.quantile(0.95)
        if p95 is not None and seconds >= p95:
            self.add(now, seconds)

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which a share of the calls begin; None while too few are known."""
        if len(self._sorted) < LEAST:
            return None
        return self._sorted[math.ceil(share * len(self._sorted)) - 1]

    def is_slow(self, now: float) -> bool | None:
        """Whether the recent median is twice the usual one; None if it was not called enough of late to tell."""
        recent = self._recent(now)
        if recent is None or self._usual is None:
            return None
        return recent >= max(SLOW * self._usual, self._usual + SLOW_S)

    def _recent(self, now: float) -> float | None:
        calls = self._calls
        last = [calls[-at] for at in range(1, min(RECENT, len(calls)) + 1)]
        recent = sorted(seconds for at, seconds in last if now - at <= RECENT_S)
        return recent[len(recent) // 2] if len(recent) >= LEAST_RECENT else None

    def _follow(self, now: float) -> None:
        """Move what is usual towards what is recent, slowly; what is slower for good becomes usual in the end."""
        recent = self._recent(now)
        if self._usual is None:
            self._usual = self.quantile(0.5)
        elif recent is not None and recent > 0 and self._usual > 0:
            self._usual *= (recent / self._usual) ** (1 - 2 ** ((self._followed_at - now) / HALF_LIFE_S))
        self._followed_at = now

    def _expire(self, now: float) -> None:
        while self._calls and now - self._calls[0][0] > KEPT_S:
            self._drop()

    def _drop(self) -> None:
        _, seconds = self._calls.popleft()
        del self._sorted[bisect_left(self._sorted, seconds)]
