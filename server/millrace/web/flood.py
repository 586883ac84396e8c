"""What one connection may send: how much of the loop reading it takes, and what is abuse."""

import time
from collections import deque

from millrace.wire import limits

SHARE = 0.15  # of the loop's time, for reading one connection
BURST_S = 0.001  # that may be taken at once
EXACT_S = 1.0  # for which CPU time is measured after a piece that seemed to take more than that


class ReadingShare:
    """Bounds the share of the loop that the frames of one connection take, however many fit through its socket.

    CPU time is what counts, but asking for it is a system call. The clock says the most that it can have been, and for
    nearly all connections that is little. Where it is more, the machine may have been busy with something else: that
    piece is free, and from then on CPU time is measured.
    """

    __slots__ = ("_began", "_counted_at", "_credit_s", "_exact_until", "_is_exact")

    def __init__(self) -> None:
        self._credit_s = BURST_S
        self._counted_at: float | None = None
        self._began = 0.0
        self._is_exact = False
        self._exact_until = 0.0

    def begin(self) -> None:
        """Note that something begins to be read."""
        now = time.monotonic()
        self._is_exact = now < self._exact_until
        self._began = time.thread_time() if self._is_exact else now

    def end(self) -> float:
        """Note that it has been read; return the seconds until the connection may be read on."""
        now = time.monotonic()
        wait = self.spend((time.thread_time() if self._is_exact else now) - self._began, now)
        if wait:
            self._exact_until = now + EXACT_S
        if wait and not self._is_exact:
            self._credit_s = wait = 0.0
        return wait

    def spend(self, seconds: float, now: float) -> float:
        """Count CPU time that was taken up to `now`; return the seconds until the connection may be read on."""
        if self._counted_at is not None:
            self._credit_s = min(BURST_S, self._credit_s + SHARE * (now - self._counted_at))
        self._counted_at = now
        self._credit_s -= seconds
        return max(0.0, -self._credit_s / SHARE)


class FloodMeter:
    """Counts frames of one kind. Reading them keeps the loop from all other connections."""

    __slots__ = ("_came_at",)

    def __init__(self) -> None:
        self._came_at: deque[float] | None = None  # the latest; none for nearly all connections

    def count(self, now: float) -> bool:
        """Count a frame that came at `now`, in seconds; return whether there were too many in too short a time."""
        if self._came_at is None:
            self._came_at = deque(maxlen=limits.MAX_REFUSED)
        self._came_at.append(now)
        is_full = len(self._came_at) == self._came_at.maxlen
        return is_full and now - self._came_at[0] < limits.REFUSED_WITHIN_S
