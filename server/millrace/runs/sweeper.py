"""One periodic task for everything that waits: stalls, deadlines, running totals. There is no timer per request."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from millrace import log
from millrace.errors import EXITS
from millrace.ports import Clock

BEAT_S = 0.1
BEATS = 8  # in which all have had their turn, where once in a while is often enough

Tick = Callable[[float], None]  # takes the time by the clock
_Swept = TypeVar("_Swept")


class Sweeper:
    """Calls every registered function at each beat."""

    def __init__(self, clock: Clock, beat_s: float = BEAT_S) -> None:
        self._clock = clock
        self._beat_s = beat_s
        self._ticks: list[Tick] = []
        self.on_late: Callable[[float], None] = lambda _: None  # takes how many seconds late a beat is

    def add(self, tick: Tick) -> None:
        """Call a function at each beat from now on."""
        self._ticks.append(tick)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            due = self._clock() + self._beat_s
            await asyncio.sleep(self._beat_s)
            self.on_late(max(0.0, self._clock() - due))
            self.beat()

    def beat(self) -> None:
        """Call all functions once. One that raises does not stop the others."""
        now = self._clock()
        call_each(self._ticks, lambda tick: tick(now))


class Rounds(Generic[_Swept]):
    """Takes all in turn, a part at each beat: a look at thousands at once would hold up everything else."""

    def __init__(self, beats: int = BEATS) -> None:
        self._beats = beats
        self._parts: list[list[_Swept]] = []
        self._is_rushed = False

    def rush(self) -> None:
        """Have the next part be everything."""
        self._is_rushed = True

    def next(self, everything: Iterable[_Swept]) -> list[_Swept]:
        """Return the next part. Each of those that were there when a round began is in one part of it.

        What has ended since may still be in it.
        """
        if self._is_rushed:
            self._is_rushed, self._parts = False, []
            return [*everything]
        if not self._parts:
            waiting = [*everything]
            self._parts = [part for at in range(self._beats) if (part := waiting[at :: self._beats])]
        return self._parts.pop() if self._parts else []


def call_each(swept: Iterable[_Swept], look: Callable[[_Swept], None]) -> None:
    """Call `look` with each one. One that raises does not stop the others; the error is logged."""
    for one in swept:
        try:
            look(one)
        except EXITS:
            raise
        except BaseException as error:  # the beat must go on
            log.get().error("sweep failed", exc_info=error)
