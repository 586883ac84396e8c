"""How many requests of batches may run now: they go behind those of visitors, which come first everywhere.

While no visitor asks, `in_flight` of them run side by side. Once one does, half as many, and a new one only now and
then, since each takes the event loop for about as long as a visitor may wait for a first word. The later the loop is,
for whatever reason, the longer the next one waits. When many visitors ask, none is started at all.
"""

import asyncio
import math
from collections.abc import Callable

from millrace.ports import Clock

QUIET_S = 10.0  # after the last request of a visitor; then there are none
SPACE_S = 0.05  # from one request of a batch to the next beside visitors
LATE_S = 0.005  # of a look that was due; with more the loop is busy, and what is started would make visitors wait
RESTS = 20  # times as long as the loop was late nothing is started beside visitors
BUSY_SHARE = 2  # of the places of the process, as a divisor: with more visitors nothing of a batch is started
TURN = "its turn"  # which comes soon; nobody needs to be told
LOOK_S = 0.02  # from one look to the next while nothing may be started


class Pace:
    """Counts requests of batches that run, and says when one more may start."""

    def __init__(
        self,
        taken: Callable[[], int],
        running: Callable[[], int],
        is_behind: Callable[[], bool],
        clock: Clock,
        *,
        in_flight: int,
        max_running: int,
    ) -> None:
        self.own = 0  # that run
        self.in_flight = in_flight
        self._taken = taken  # how many requests were read since the start, those of batches too
        self._running = running  # how many requests run, those of batches too
        self._is_behind = is_behind  # the disk is
        self._clock = clock
        self._max_running = max_running
        self._own_taken = 0
        self._visits = 0
        self._visited_at = -math.inf
        self._started_at = -math.inf
        self._rests_until = -math.inf
        self._freed = asyncio.Event()

    def why_not(self) -> str:
        """Return why no request may be started now; empty if one may."""
        now = self._clock()
        running = max(0, self._running() - self.own)
        visits = self._taken() - self._own_taken
        if running or visits != self._visits:
            self._visits, self._visited_at = visits, now
        has_visitors = now - self._visited_at < QUIET_S
        if self._is_behind():
            return "the server's disk is behind"
        if running >= max(1, self._max_running // BUSY_SHARE):
            return "many requests of others run"
        if self.own >= (max(1, self.in_flight // 2) if has_visitors else self.in_flight):
            return TURN
        if has_visitors and (now - self._started_at < SPACE_S or now < self._rests_until):
            return TURN
        return ""

    def start(self) -> None:
        """Count one that starts. Whoever calls it calls `end`."""
        self.own += 1
        self._started_at = self._clock()

    def count_own(self) -> None:
        """Note that a request that was read was one of a batch."""
        self._own_taken += 1

    def end(self) -> None:
        """Count one less; wake those that wait for its place, in order."""
        self.own -= 1
        self._freed.set()
        self._freed = asyncio.Event()

    async def wait(self, seconds: float = LOOK_S) -> None:
        """Wait until one has ended, or for so many seconds."""
        began_at = self._clock()
        try:
            async with asyncio.timeout(seconds):
                await self._freed.wait()
        except TimeoutError:
            self.note_late(self._clock() - began_at - seconds)

    def note_late(self, seconds: float) -> None:
        """Note by how much the loop was late."""
        if seconds > LATE_S:
            self._rests_until = max(self._rests_until, self._clock() + RESTS * seconds)
