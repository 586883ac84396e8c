"""When requests start: at a fixed rate (open loop), or when a lane is free (closed loop)."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Protocol

from millrace_client.load.prompts import Mix, Row


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that is due. Its latency counts from `due`, even if no lane is free then."""

    row: Row
    due: float  # in the time of the event loop
    lane_was_free: bool = False  # at `due`; then a late start is the fault of this script


class Arrivals(Protocol):
    """The source of requests for the lanes. Calls its `ended` callback once no more requests will be due."""

    offered: int  # requests due so far

    async def next(self) -> Arrival | None:
        """Return the next request once it is due; None at the end."""
        ...

    def close(self) -> None:
        """Stop making requests due."""
        ...

    def drop(self) -> int:
        """Drop the requests that wait for a lane; return how many there were."""
        ...


def offsets(rate: float, *, poisson: bool, seed: int) -> Iterator[float]:
    """Yield the seconds from the start to each arrival: a Poisson process, or evenly spaced."""
    if not poisson:
        yield from (number / rate for number in count())
    random, due = Random(f"arrivals {seed}"), 0.0
    while True:
        due += random.expovariate(rate)
        yield due


class ClosedLoop:
    """Each lane sends its next request when the last one has ended."""

    def __init__(self, mix: Mix, requests: int | None, ended: Callable[[], None]) -> None:
        self.offered = 0
        self._mix = mix
        self._requests = requests
        self._ended = ended
        self._closed = False

    async def next(self) -> Arrival | None:
        """Return a request that is due now; None at the end."""
        if self._closed or self.offered == self._requests:
            self._ended()
            return None
        self.offered += 1
        return Arrival(self._mix.draw(), asyncio.get_running_loop().time())

    def close(self) -> None:
        """Make `next` return None from now on."""
        self._closed = True

    def drop(self) -> int:
        """Return 0: no request ever waits for a lane."""
        return 0


class OpenLoop:
    """Requests become due at given times. One that finds no lane free waits, and its latency includes the wait."""

    def __init__(self, mix: Mix, requests: int | None, ended: Callable[[], None], times: Iterator[float]) -> None:
        self.offered = 0
        self._mix = mix
        self._requests = requests
        self._ended = ended
        self._times = times
        self._due: asyncio.Queue[Arrival | None] = asyncio.Queue()
        self._idle = 0  # lanes waiting for a request
        self._task = asyncio.get_running_loop().create_task(self._feed())

    async def next(self) -> Arrival | None:
        """Return the next request once it is due; None at the end."""
        self._idle += 1
        try:
            arrival = await self._due.get()
        finally:
            self._idle -= 1
        if arrival is None:
            self._due.put_nowait(None)  # for the other lanes
        return arrival

    def close(self) -> None:
        """Stop making requests due; those already due still start."""
        if not self._task.done():
            self._task.cancel()
            self._due.put_nowait(None)

    def drop(self) -> int:
        """Drop the requests that wait for a lane; return how many there were."""
        self.close()
        dropped = 0
        while not self._due.empty():
            dropped += self._due.get_nowait() is not None
        self._due.put_nowait(None)
        return dropped

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for offset in self._times:
            if self.offered == self._requests:
                break
            due = start + offset
            await asyncio.sleep(max(0.0, due - loop.time()))  # yields to the lanes even if it is late
            self.offered += 1
            self._due.put_nowait(Arrival(self._mix.draw(), due, lane_was_free=self._idle > self._due.qsize()))
        self._due.put_nowait(None)
        self._ended()
