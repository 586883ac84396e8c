"""When requests start: at given times (open loop), or when a lane is free (closed loop)."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice, takewhile
from random import Random
from typing import Protocol

from millrace_client.load.prompts import Mix, Row

Clock = Callable[[], float]  # seconds


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that is due. Its latency counts from `due`, even if no lane is free then."""

    row: Row
    due: float  # in the time of the clock
    offset: float  # from the start of the run, in seconds
    lane_was_free: bool = False  # at `due`; then a late start is the fault of this script


class Arrivals(Protocol):
    """The source of requests for the lanes."""

    async def next(self, *, was_busy: bool) -> Arrival | None:
        """Return the next request once it is due; None at the end. `was_busy`: the lane has just ended another one."""
        ...

    def close(self, elapsed_s: float) -> int:
        """Make `next` return None from now on; return how many requests are due by now and have found no lane."""
        ...


def offsets(rate: float, *, poisson: bool, seed: int) -> Iterator[float]:
    """Yield the seconds from the start to each arrival: a Poisson process, or evenly spaced."""
    if not poisson:
        yield from (number / rate for number in count())
    random, due = Random(f"arrivals {seed}"), 0.0
    while True:
        due += random.expovariate(rate)
        yield due


def one_of_two(times: Iterator[float], *, apart_s: float, seed: int, is_second: bool) -> Iterator[float]:
    """Yield one side's times where two servers get the same load: at random one of them is asked `apart_s` later.

    So neither is always the first to warm what both share.
    """
    random = Random(f"order {seed}")
    for time in times:
        yield time + apart_s * ((random.random() < 0.5) == is_second)  # noqa: PLR2004 - a coin


def within(times: Iterator[float], *, requests: int | None, duration_s: float) -> Iterator[float]:
    """Yield the times of a run: those before its end, `requests` at most."""
    return islice(takewhile(lambda time: time < duration_s, times), requests)


class ClosedLoop:
    """Each lane sends its next request when the last one has ended."""

    def __init__(self, mix: Mix, requests: int | None, clock: Clock, ended: Callable[[], None]) -> None:
        self._mix = mix
        self._left = requests
        self._clock = clock
        self._start = clock()
        self._ended = ended
        self._closed = False

    async def next(self, *, was_busy: bool) -> Arrival | None:
        """Return a request that is due now; None at the end."""
        if self._closed or self._left == 0:
            return None
        if self._left is not None:
            self._left -= 1
        now = self._clock()
        if self._left == 0:
            self._ended()
        return Arrival(self._mix.draw(), now, now - self._start)

    def close(self, elapsed_s: float) -> int:
        """Make `next` return None from now on; no request ever waits for a lane."""
        self._closed = True
        return 0


class OpenLoop:
    """Requests are due at given times. One that finds no lane free waits, and its latency includes the wait.

    A free lane takes the next request and sleeps until it is due, so nothing queues, however far behind the lanes are.
    """

    def __init__(self, mix: Mix, times: Iterator[float], clock: Clock) -> None:
        self._mix = mix
        self._times = times
        self._clock = clock
        self._start = clock()
        self._closed = False
        self._sleeping: set[asyncio.Future[None]] = set()

    async def next(self, *, was_busy: bool) -> Arrival | None:
        """Return the next request once it is due; None at the end."""
        offset = None if self._closed else next(self._times, None)
        if offset is None:
            return None
        due = self._start + offset
        is_free = not was_busy or self._clock() <= due
        row = self._mix.draw()
        await self._sleep_until(due)
        return None if self._closed else Arrival(row, due, offset, is_free)

    def close(self, elapsed_s: float) -> int:
        """Make `next` return None from now on; return how many requests are due by now and have found no lane."""
        self._closed = True
        for sleep in self._sleeping:
            if not sleep.done():
                sleep.set_result(None)
        waiting = sum(1 for _ in takewhile(lambda time: time <= elapsed_s, self._times))
        self._times = iter(())
        return waiting

    async def _sleep_until(self, due: float) -> None:
        """Sleep; `close` wakes. A timer may be early, so look again. Yields even if it is late."""
        loop = asyncio.get_running_loop()
        while not self._closed:
            woken = loop.create_future()
            timer = loop.call_later(max(0.0, due - self._clock()), _wake, woken)
            self._sleeping.add(woken)
            try:
                await woken
            finally:
                timer.cancel()
                self._sleeping.discard(woken)
            if self._clock() >= due:
                return


def _wake(sleep: asyncio.Future[None]) -> None:
    if not sleep.done():
        sleep.set_result(None)
