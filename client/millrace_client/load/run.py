"""One run of a load test: one or two servers and their lanes, from the first arrival to the last terminal."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Self

from millrace_client.load import figures
from millrace_client.load.arrivals import Arrival, Arrivals, Clock, ClosedLoop, OpenLoop, offsets, one_of_two, within
from millrace_client.load.figures import Course, Figures, Measured, Tally
from millrace_client.load.histogram import Histogram
from millrace_client.load.prompts import Mix
from millrace_client.load.sample import UNREACHABLE, Sample, Target
from millrace_client.load.slo import Slo

TICK_S = 0.05
BACK_OFF_S = 0.5  # delay of a lane whose connection cannot be opened
GRACE_S = 5.0  # from a cancel to its terminal
CLOCK: Clock = time.monotonic

MakeMix = Callable[[], Mix]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings of a run."""

    connections: int
    lanes: int  # requests at once, at most, of each server
    rate: float | None  # requests per second; None: closed loop
    poisson: bool
    duration_s: float
    requests: int | None
    seed: int
    warmup_s: float = 0.0  # requests that are due in it are not counted
    drain_s: float = 60.0  # how long requests may run after the last one has started
    slo: Slo = field(default_factory=Slo)

    @property
    def starting_s(self) -> float:
        """How long requests of an open loop start, at most."""
        if self.rate is None or self.requests is None:
            return self.duration_s
        times = offsets(self.rate, poisson=self.poisson, seed=self.seed)
        ending = 0.0
        for ending in within(times, requests=self.requests, duration_s=self.duration_s):  # noqa: B007 - the last one
            pass
        return ending


class Side:
    """One of the servers under load, and what was measured of it."""

    def __init__(self, target: Target, plan: Plan) -> None:
        self.target = target
        self.tally = Tally(plan.slo)
        self.warmup = Tally(plan.slo)
        self.offered = self.waited = self.unsent = 0
        self.in_flight = self.in_flight_max = 0
        self.schedule_lag = Histogram()
        self.arrivals: Arrivals
        self._plan = plan

    def tally_of(self, arrival: Arrival) -> Tally:
        """Return where a request counts."""
        return self.warmup if arrival.offset < self._plan.warmup_s else self.tally


class Run:
    """`async with Run(...) as run: await run.finish()`. Entering it opens the connections."""

    def __init__(self, plan: Plan, mix: MakeMix, *targets: Target, clock: Clock = CLOCK) -> None:
        self.plan = plan
        self.interrupted = False
        self.sides = [Side(target, plan) for target in targets]
        self._make_mix = mix
        self._clock = clock
        self._lanes: list[asyncio.Task[None]] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._starting_s: float | None = None  # set by the last start
        self._cutting = False
        self._loop_lag = Histogram()
        self._start = self._cpu_start = self._planned_s = 0.0
        self._order = Random(f"order {plan.seed}")  # of each two requests of a closed loop

    async def __aenter__(self) -> Self:
        try:
            for side in self.sides:
                await side.target.open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def finish(self) -> Measured:
        """Start the requests, wait until all have ended, and return the results."""
        loop = asyncio.get_running_loop()
        self._planned_s = self.plan.starting_s
        self._start, self._cpu_start = self._clock(), time.process_time()
        self._make_arrivals()
        self._timers.append(loop.call_later(self._planned_s, self._stop_starting))
        lag_task = loop.create_task(self._measure_loop_lag())
        self._lanes = [loop.create_task(lane) for lane in self._make_lanes()]
        try:
            for result in await asyncio.gather(*self._lanes, return_exceptions=True):
                if isinstance(result, Exception):
                    raise result  # a bug in this script
            return self._measured(self.elapsed_s)
        finally:
            for side in self.sides:
                side.arrivals.close(0.0)
            lag_task.cancel()
            for timer in self._timers:
                timer.cancel()
            self._abandon()

    def interrupt(self) -> None:
        """Start no more requests and cancel those that run; then `finish` returns."""
        self.interrupted = True
        self._stop_starting()
        self._cut()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def _make_arrivals(self) -> None:
        plan = self.plan
        if plan.rate is None:
            shared = ClosedLoop(self._make_mix(), plan.requests, self._clock, self._stop_starting)
            for side in self.sides:
                side.arrivals = shared
            return
        for number, side in enumerate(self.sides):
            times = offsets(plan.rate, poisson=plan.poisson, seed=plan.seed)
            times = within(times, requests=plan.requests, duration_s=plan.duration_s)
            if len(self.sides) > 1:
                times = one_of_two(times, apart_s=0.5 / plan.rate, seed=plan.seed, is_second=number > 0)
            side.arrivals = OpenLoop(self._make_mix(), times, self._clock)

    def _make_lanes(self) -> Iterator[Coroutine[None, None, None]]:
        """Yield the lanes. Those of a closed loop ask both servers in turn; an open loop has some for each server."""
        for number in range(self.plan.lanes):
            if self.plan.rate is None:
                yield self._closed_lane(number)
            else:
                yield from (self._open_lane(number, side) for side in self.sides)

    async def _closed_lane(self, number: int) -> None:
        arrivals = self.sides[0].arrivals
        while (arrival := await arrivals.next(was_busy=True)) is not None:
            sides = self.sides if self._order.random() < 0.5 else self.sides[::-1]  # noqa: PLR2004 - a coin
            for side in sides:
                if not self._cutting:
                    now = self._clock()
                    await self._ask(side, number, Arrival(arrival.row, now, now - self._start))

    async def _open_lane(self, number: int, side: Side) -> None:
        was_busy = False
        while (arrival := await side.arrivals.next(was_busy=was_busy)) is not None:
            if arrival.offset >= self.plan.warmup_s:
                if arrival.lane_was_free:
                    side.schedule_lag.add(self._clock() - arrival.due)
                else:
                    side.waited += 1
            await self._ask(side, number, arrival)
            was_busy = True

    async def _ask(self, side: Side, lane: int, arrival: Arrival) -> None:
        tally = side.tally_of(arrival)
        side.offered += tally is side.tally
        side.in_flight += 1
        side.in_flight_max = max(side.in_flight_max, side.in_flight)
        try:
            sample: Sample = await side.target.ask(lane, arrival.row, arrival.due)
        except asyncio.CancelledError:
            tally.abandon()
            raise
        finally:
            side.in_flight -= 1
        tally.add(sample, arrival.offset, cut=self._cutting)
        if sample.code == UNREACHABLE:
            await asyncio.sleep(BACK_OFF_S)

    def _stop_starting(self) -> None:
        if self._starting_s is not None:
            return
        self._starting_s = self.elapsed_s
        if self.plan.rate is None:
            self.sides[0].arrivals.close(0.0)  # what an open loop has due still starts
        self._timers.append(asyncio.get_running_loop().call_later(self.plan.drain_s, self._cut))

    def _cut(self) -> None:
        if self._cutting:
            return
        self._cutting = True
        for side in self.sides:
            side.unsent = side.arrivals.close(self.elapsed_s)
            side.offered += side.unsent
            side.target.cancel()
        self._timers.append(asyncio.get_running_loop().call_later(GRACE_S, self._abandon))

    def _abandon(self) -> None:
        for lane in self._lanes:
            lane.cancel()

    async def _measure_loop_lag(self) -> None:
        while True:
            due = self._clock() + TICK_S
            await asyncio.sleep(TICK_S)
            self._loop_lag.add(max(0.0, self._clock() - due))

    async def _close(self) -> None:
        await asyncio.gather(*(side.target.close() for side in self.sides))

    def _measured(self, elapsed_s: float) -> Measured:
        ours, *other = [
            figures.figures(side.target.name, side.tally, self.plan.slo, self._course(side, elapsed_s))
            for side in self.sides
        ]
        bare: Figures | None = other[0] if other else None
        traces = (figures.trace(side.target.name, side.tally, is_compared=bool(other)) for side in self.sides)
        return Measured(
            millrace=ours, bare=bare, ratios=figures.ratios(ours, bare) if bare else {}, traces=tuple(traces)
        )

    def _started_s(self, elapsed_s: float) -> float:
        """Return how long requests started: until the last one was due, even if the run was over before that."""
        if self._starting_s is not None:
            return self._starting_s
        return elapsed_s if self.plan.rate is None else self._planned_s

    def _course(self, side: Side, elapsed_s: float) -> Course:
        plan, warmup = self.plan, side.warmup
        return Course(
            connections=plan.connections,
            lanes=plan.lanes,
            rate=plan.rate,
            poisson=plan.poisson,
            seed=plan.seed,
            offered=side.offered,
            unsent=side.unsent,
            waited=side.waited,
            warmup_s=plan.warmup_s,
            warmup=warmup.statuses.total(),
            warmup_errors=warmup.errors.total(),
            warmup_cost_usd=warmup.cost,
            starting_s=self._started_s(elapsed_s),
            elapsed_s=elapsed_s,
            in_flight_max=side.in_flight_max,
            connections_lost=side.target.losses,
            interrupted=self.interrupted,
            cpu_share=(time.process_time() - self._cpu_start) / max(elapsed_s, 1e-9),
            loop_lag=self._loop_lag.spread(),
            schedule_lag=side.schedule_lag.spread(),
        )
