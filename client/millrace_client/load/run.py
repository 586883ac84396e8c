"""One run: connections and their lanes, from the first arrival to the last end. It always ends."""

import asyncio
import time
from array import array
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from websockets.exceptions import WebSocketException

from millrace.errors import MillraceError
from millrace_client.load.arrivals import Arrival, Arrivals, ClosedLoop, OpenLoop, offsets
from millrace_client.load.figures import Course, Tally, spread
from millrace_client.load.line import Line
from millrace_client.load.prompts import Mix
from millrace_client.load.sample import LOST, Sample, unreached, watch
from millrace_client.stream import Stream

TICK_S = 0.05
OPENING = 64  # handshakes at once
BACK_OFF_S = 0.5  # of a lane whose connection cannot be opened again
GRACE_S = 5.0  # from a cancel to the terminal it must bring


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do."""

    url: str
    api_key: str | None
    connections: int
    lanes: int
    rate: float | None  # requests a second; None: closed loop
    poisson: bool
    duration_s: float
    requests: int | None
    seed: int
    drain_s: float = 60.0  # from the last start to the cut


class Run:
    """`async with Run(...) as run: await run.finish()`; entering it opens the connections."""

    def __init__(self, plan: Plan, mix: Mix) -> None:
        self.plan = plan
        self.tally = Tally()
        self.interrupted = False
        self._mix = mix
        self._lines = [Line(plan.url, plan.api_key) for _ in range(plan.connections)]
        self._arrivals: Arrivals
        self._lanes: list[asyncio.Task[None]] = []
        self._running: set[Stream] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self._in_flight_max = self._waited = self._unsent = 0
        self._starting_s: float | None = None  # known once nothing more starts
        self._cutting = False
        self._loop_lags = array("d")
        self._lateness = array("d")
        self._start = self._cpu_start = 0.0

    async def __aenter__(self) -> Self:
        gate = asyncio.Semaphore(OPENING)

        async def opened(line: Line) -> None:
            async with gate:
                await line.client()

        ends = await asyncio.gather(*map(opened, self._lines), return_exceptions=True)
        for error in ends:
            if error is not None:
                await self._close()
                raise error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def finish(self) -> Course:
        """Start what is to start, see it end, and say how it went."""
        loop = asyncio.get_running_loop()
        self._start, self._cpu_start = loop.time(), time.process_time()
        self._arrivals = self._make_arrivals()
        self._timers.append(loop.call_later(self.plan.duration_s, self._last_start))
        ticker = loop.create_task(self._tick())
        names = [f"load-{number}" for number in range(self.plan.lanes)]
        self._lanes = [loop.create_task(self._lane(line, name)) for line in self._lines for name in names]
        try:
            for end in await asyncio.gather(*self._lanes, return_exceptions=True):
                if isinstance(end, Exception):
                    raise end  # a fault of this script
            return self._course(loop.time() - self._start)
        finally:
            self._arrivals.close()
            ticker.cancel()
            for timer in self._timers:
                timer.cancel()
            self._abandon()

    def interrupt(self) -> None:
        """Start nothing more and cancel what runs; `finish` returns soon."""
        self.interrupted = True
        self._last_start()
        self._cut()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return asyncio.get_running_loop().time() - self._start

    @property
    def in_flight(self) -> int:
        """How many requests run now."""
        return len(self._running)

    def _make_arrivals(self) -> Arrivals:
        plan = self.plan
        if plan.rate is None:
            return ClosedLoop(self._mix, plan.requests, self._last_start)
        moments = offsets(plan.rate, poisson=plan.poisson, seed=plan.seed)
        return OpenLoop(self._mix, plan.requests, self._last_start, moments)

    async def _lane(self, line: Line, name: str) -> None:
        while (arrival := await self._arrivals.next()) is not None:
            if self.plan.rate is not None:
                self._note_start(arrival)
            sample = await self._ask(line, name, arrival)
            self.tally.add(sample, cut=self._cutting)
            if sample.code == "unreachable":
                await asyncio.sleep(BACK_OFF_S)

    def _note_start(self, arrival: Arrival) -> None:
        if arrival.lane_was_free:
            self._lateness.append(asyncio.get_running_loop().time() - arrival.due)
        else:
            self._waited += 1

    async def _ask(self, line: Line, lane: str, arrival: Arrival) -> Sample:
        row = arrival.row
        try:
            client = await line.client()
        except (OSError, WebSocketException, MillraceError):
            return unreached(row, arrival.due)
        stream = client.stream(
            row.input, model=row.model, lane=lane, strategy=row.strategy, delivery=row.delivery, cache=row.cache
        )
        self._running.add(stream)
        self._in_flight_max = max(self._in_flight_max, len(self._running))
        try:
            sample = await watch(stream, row, arrival.due)
        except asyncio.CancelledError:
            self.tally.abandon()
            raise
        finally:
            self._running.discard(stream)
        if sample.status == LOST:
            await line.lost(client)
        return sample

    def _last_start(self) -> None:
        if self._starting_s is None:
            self._starting_s = self.elapsed_s
            self._arrivals.close()
            self._timers.append(asyncio.get_running_loop().call_later(self.plan.drain_s, self._cut))

    def _cut(self) -> None:
        if self._cutting:
            return
        self._cutting = True
        self._unsent = self._arrivals.drop()
        for stream in self._running:
            stream.cancel()
        self._timers.append(asyncio.get_running_loop().call_later(GRACE_S, self._abandon))

    def _abandon(self) -> None:
        for lane in self._lanes:
            lane.cancel()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._loop_lags.append(max(0.0, loop.time() - due))

    async def _close(self) -> None:
        with suppress(WebSocketException):
            await asyncio.gather(*(line.close() for line in self._lines))

    def _course(self, elapsed_s: float) -> Course:
        plan = self.plan
        return Course(
            connections=plan.connections,
            lanes=plan.lanes,
            rate=plan.rate,
            poisson=plan.poisson,
            seed=plan.seed,
            offered=self._arrivals.offered,
            unsent=self._unsent,
            waited=self._waited,
            starting_s=elapsed_s if self._starting_s is None else self._starting_s,
            elapsed_s=elapsed_s,
            in_flight_max=self._in_flight_max,
            connections_lost=sum(line.losses for line in self._lines),
            interrupted=self.interrupted,
            cpu_share=(time.process_time() - self._cpu_start) / max(elapsed_s, 1e-9),
            loop_lag=spread(self._loop_lags),
            lateness=spread(self._lateness),
        )
