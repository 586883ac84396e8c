"""One run of a load test: connections and their lanes, from the first arrival to the last terminal."""

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
from millrace_client.load.prompts import Mix
from millrace_client.load.reconnecting import ReconnectingClient
from millrace_client.load.sample import LOST, Sample, unreachable, watch
from millrace_client.stream import Stream

TICK_S = 0.05
MAX_HANDSHAKES = 64  # at the same time
BACK_OFF_S = 0.5  # delay of a lane whose connection cannot be opened
GRACE_S = 5.0  # from a cancel to its terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings of a run."""

    url: str
    api_key: str | None
    connections: int
    lanes: int
    rate: float | None  # requests per second; None: closed loop
    poisson: bool
    duration_s: float
    requests: int | None
    seed: int
    drain_s: float = 60.0  # how long requests may run after the last one has started


class Run:
    """`async with Run(...) as run: await run.finish()`. Entering it opens the connections."""

    def __init__(self, plan: Plan, mix: Mix) -> None:
        self.plan = plan
        self.tally = Tally()
        self.interrupted = False
        self._mix = mix
        self._clients = [ReconnectingClient(plan.url, plan.api_key) for _ in range(plan.connections)]
        self._arrivals: Arrivals
        self._lanes: list[asyncio.Task[None]] = []
        self._running: set[Stream] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self._in_flight_max = self._waited = self._unsent = 0
        self._starting_s: float | None = None  # set by the last start
        self._cutting = False
        self._loop_lags = array("d")
        self._lateness = array("d")
        self._start = self._cpu_start = 0.0

    async def __aenter__(self) -> Self:
        handshakes = asyncio.Semaphore(MAX_HANDSHAKES)

        async def connect(client: ReconnectingClient) -> None:
            async with handshakes:
                await client.client()

        results = await asyncio.gather(*map(connect, self._clients), return_exceptions=True)
        for error in results:
            if error is not None:
                await self._close()
                raise error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def finish(self) -> Course:
        """Start the requests, wait until all have ended, and return the facts of the run."""
        loop = asyncio.get_running_loop()
        self._start, self._cpu_start = loop.time(), time.process_time()
        self._arrivals = self._make_arrivals()
        self._timers.append(loop.call_later(self.plan.duration_s, self._stop_starting))
        lag_task = loop.create_task(self._measure_loop_lag())
        names = [f"load-{number}" for number in range(self.plan.lanes)]
        self._lanes = [loop.create_task(self._lane(client, name)) for client in self._clients for name in names]
        try:
            for result in await asyncio.gather(*self._lanes, return_exceptions=True):
                if isinstance(result, Exception):
                    raise result  # a bug in this script
            return self._course(loop.time() - self._start)
        finally:
            self._arrivals.close()
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
        return asyncio.get_running_loop().time() - self._start

    @property
    def in_flight(self) -> int:
        """The number of requests that run now."""
        return len(self._running)

    def _make_arrivals(self) -> Arrivals:
        plan = self.plan
        if plan.rate is None:
            return ClosedLoop(self._mix, plan.requests, self._stop_starting)
        times = offsets(plan.rate, poisson=plan.poisson, seed=plan.seed)
        return OpenLoop(self._mix, plan.requests, self._stop_starting, times)

    async def _lane(self, connection: ReconnectingClient, name: str) -> None:
        while (arrival := await self._arrivals.next()) is not None:
            if self.plan.rate is not None:
                self._note_start(arrival)
            sample = await self._ask(connection, name, arrival)
            self.tally.add(sample, cut=self._cutting)
            if sample.code == "unreachable":
                await asyncio.sleep(BACK_OFF_S)

    def _note_start(self, arrival: Arrival) -> None:
        if arrival.lane_was_free:
            self._lateness.append(asyncio.get_running_loop().time() - arrival.due)
        else:
            self._waited += 1

    async def _ask(self, connection: ReconnectingClient, lane: str, arrival: Arrival) -> Sample:
        row = arrival.row
        try:
            client = await connection.client()
        except (OSError, WebSocketException, MillraceError):
            return unreachable(row, arrival.due)
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
            await connection.discard(client)
        return sample

    def _stop_starting(self) -> None:
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

    async def _measure_loop_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._loop_lags.append(max(0.0, loop.time() - due))

    async def _close(self) -> None:
        with suppress(WebSocketException):
            await asyncio.gather(*(client.close() for client in self._clients))

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
            connections_lost=sum(client.losses for client in self._clients),
            interrupted=self.interrupted,
            cpu_share=(time.process_time() - self._cpu_start) / max(elapsed_s, 1e-9),
            loop_lag=spread(self._loop_lags),
            lateness=spread(self._lateness),
        )
