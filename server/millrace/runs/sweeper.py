"""One periodic task for everything that waits: stalls, deadlines, running totals. There is no timer per request."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from millrace import log
from millrace.errors import EXITS
from millrace.ports import Clock

BEAT_S = 0.1

Tick = Callable[[float], None]  # takes the time by the clock
_Swept = TypeVar("_Swept")


class Sweeper:
    """Calls every registered function at each beat."""

    def __init__(self, clock: Clock, beat_s: float = BEAT_S) -> None:
        self._clock = clock
        self._beat_s = beat_s
        self._ticks: list[Tick] = []

    def add(self, tick: Tick) -> None:
        """Call a function at each beat from now on."""
        self._ticks.append(tick)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(self._beat_s)
            self.beat()

    def beat(self) -> None:
        """Call all functions once. One that raises does not stop the others."""
        now = self._clock()
        call_each(self._ticks, lambda tick: tick(now))


def call_each(swept: Iterable[_Swept], look: Callable[[_Swept], None]) -> None:
    """Call `look` with each one. One that raises does not stop the others; the error is logged."""
    for one in swept:
        try:
            look(one)
        except EXITS:
            raise
        except BaseException as error:  # the beat must go on
            log.get().error("sweep failed", exc_info=error)
