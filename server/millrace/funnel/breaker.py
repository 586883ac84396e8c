"""A circuit breaker: a deployment that keeps failing is left alone, until a probe has had an answer from it.

Source of the method: M. T. Nygard, Release It! (2007), chapter 5.
"""

import math
from collections import deque
from enum import StrEnum

from millrace.ports import Clock

FAILURES = 5  # one after the other, that open it
RATE_CALLS, RATE_S, RATE = 20, 30.0, 0.5  # so many calls within so many seconds open it, if such a share has failed
PROBE_EVERY_S = 1.0  # while it is open; the first probe comes at once, since a failure may be the request's own fault
MOST_WAIT_S = 60.0  # for which a deployment is left alone, however long it asks for


class State(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"  # every call
    OPEN = "open"  # none, until the next probe
    PROBING = "half_open"  # a probe, which runs


class Breaker:
    """The breaker of one deployment. What it is told of a call that began before it last closed does not count."""

    def __init__(self, clock: Clock) -> None:
        self.state = State.CLOSED
        self.cause = ""  # why it is open
        self._clock = clock
        self._in_a_row = 0  # failures
        self._recent: deque[tuple[float, bool]] = deque(maxlen=RATE_CALLS)  # when a call ended, and whether it failed
        self.closed_at = -math.inf  # when a probe was answered last
        self._next_probe_at = 0.0
        self._is_asked_for = False  # the provider has named the time

    @property
    def is_closed(self) -> bool:
        """Whether calls may be made."""
        return self.state is State.CLOSED

    @property
    def left_s(self) -> float:
        """Seconds until it is probed next."""
        return max(0.0, self._next_probe_at - self._clock())

    @property
    def why(self) -> str:
        """Why no call is made now, in a few words."""
        if self._is_asked_for and self.left_s > 0:
            return f"{self.cause}, not to be asked for {math.ceil(self.left_s)} s more"
        return f"{self.cause}, not to be asked until it answers a probe"

    def succeeded(self, began_at: float) -> None:
        """Note a call that the deployment has answered."""
        if self.is_closed and began_at >= self.closed_at:
            self._in_a_row = 0
            self._recent.append((self._clock(), False))

    def failed(self, began_at: float, cause: str) -> bool:
        """Note a call that has failed; return whether that opens the breaker."""
        if not self.is_closed or began_at < self.closed_at:
            return False
        now = self._clock()
        self._in_a_row += 1
        self._recent.append((now, True))
        recent = [has_failed for at, has_failed in self._recent if now - at <= RATE_S]
        if self._in_a_row >= FAILURES or (len(recent) == RATE_CALLS and sum(recent) >= RATE * RATE_CALLS):
            self.open(cause)
        return not self.is_closed

    def open(self, cause: str, for_s: float | None = None) -> None:
        """Let no call through; `for_s`: the provider wants to be left alone for so long."""
        self.state, self.cause = State.OPEN, cause
        self._is_asked_for = for_s is not None
        self._next_probe_at = self._clock() + min(for_s or 0.0, MOST_WAIT_S)

    def begins_probe(self) -> bool:
        """Whether a probe is due; it runs from now on, and no other one does."""
        if self.state is not State.OPEN or self.left_s > 0:
            return False
        self.state = State.PROBING
        return True

    def probed(self, error: str, since: float, for_s: float | None = None) -> None:
        """Note how the probe ended that began at `since`: it was answered, unless there is an error."""
        if not error:
            self.state, self.closed_at, self._in_a_row = State.CLOSED, self._clock(), 0
            self._recent.clear()
            return
        self.open(error, for_s)
        if for_s is None:
            self._next_probe_at = max(self._clock(), since + PROBE_EVERY_S)
