"""When requests start: at a rate, whatever the server does (open loop), or as soon as a lane is free (closed loop)."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Protocol

from millrace_client.load.prompts import Mix, Row


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that is to start. Its latency counts from `due`, however late a lane takes it."""

    row: Row
    due: float  # on the loop's clock
    lane_was_free: bool = False  # when it was due, so that any lateness is this script's own


class Arrivals(Protocol):
    """Where lanes get their requests from. Each calls back once it knows that nothing more will become due."""

    offered: int  # how many have been due until now

    async def next(self) -> Arrival | None:
        """Wait for the next request; None at the end."""
        ...

    def close(self) -> None:
        """Let nothing more become due."""
        ...

    def drop(self) -> int:
        """Drop what is due and waits for a lane; return how many that were."""
        ...


def offsets(rate: float, *, poisson: bool, seed: int) -> Iterator[float]:
    """Return the seconds from the start to each arrival: as of many independent users, or evenly spaced."""
    if not poisson:
        yield from (number / rate for number in count())
    random, due = Random(f"arrivals {seed}"), 0.0
    while True:
        due += random.expovariate(rate)
        yield due


class ClosedLoop:
    """A lane asks again as soon as it has its answer."""

    def __init__(self, mix: Mix, requests: int | None, ended: Callable[[], None]) -> None:
        self.offered = 0
        self._mix = mix
        self._requests = requests
        self._ended = ended
        self._closed = False

    async def next(self) -> Arrival | None:
        """Return a request that is due now."""
        if self._closed or self.offered == self._requests:
            self._ended()
            return None
        self.offered += 1
        return Arrival(self._mix.draw(), asyncio.get_running_loop().time())

    def close(self) -> None:
        """Return None from now on."""
        self._closed = True

    def drop(self) -> int:
        """Nothing ever waits here."""
        return 0


class OpenLoop:
    """Requests become due at their moments; those that find no lane free wait, and their clocks run."""

    def __init__(self, mix: Mix, requests: int | None, ended: Callable[[], None], moments: Iterator[float]) -> None:
        self.offered = 0
        self._mix = mix
        self._requests = requests
        self._ended = ended
        self._moments = moments
        self._due: asyncio.Queue[Arrival | None] = asyncio.Queue()
        self._idle = 0  # lanes that wait for a request
        self._task = asyncio.get_running_loop().create_task(self._feed())

    async def next(self) -> Arrival | None:
        """Wait until a request is due."""
        self._idle += 1
        try:
            arrival = await self._due.get()
        finally:
            self._idle -= 1
        if arrival is None:
            self._due.put_nowait(None)  # for the other lanes
        return arrival

    def close(self) -> None:
        """Let what is due be taken, then end."""
        if not self._task.done():
            self._task.cancel()
            self._due.put_nowait(None)

    def drop(self) -> int:
        """Drop what waits for a lane."""
        self.close()
        waiting = 0
        while not self._due.empty():
            waiting += self._due.get_nowait() is not None
        self._due.put_nowait(None)
        return waiting

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for moment in self._moments:
            if self.offered == self._requests:
                break
            due = start + moment
            await asyncio.sleep(max(0.0, due - loop.time()))  # also when late: the lanes need their turn
            self.offered += 1
            self._due.put_nowait(Arrival(self._mix.draw(), due, lane_was_free=self._idle > self._due.qsize()))
        self._due.put_nowait(None)
        self._ended()
