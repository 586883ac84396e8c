"""The load test's times, held against servers that know when they sent what: in virtual time exactly, and for real."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from millrace_client.load.bare import Bare
from millrace_client.load.figures import Figures, Measured
from millrace_client.load.prompts import Mix, Row
from millrace_client.load.run import CLOCK, Plan, Run
from millrace_client.load.websocket import Millrace
from tests.support.scripted_target import Recording, ScriptedTarget
from tests.support.timed_server import PAUSE_S, Sent, timed_server
from tests.support.virtual_time import run_virtually

PLAN = Plan(connections=4, lanes=64, rate=100.0, poisson=False, duration_s=10.0, requests=None, seed=1)


def mix() -> Mix:
    return Mix([Row(input="x")], seed=1, fresh=False)


def paused(pause: tuple[float, float], waits: list[float]) -> Any:
    """Return a script: who asks in a pause waits for its end first."""

    def script(now: float) -> list[float]:
        begin, end = pause
        return [waits[0] + (end - now if begin <= now < end else 0.0), *waits[1:]]

    return script


def virtual(waits: Any, *, targets: int = 1, **changes: Any) -> tuple[Measured, list[ScriptedTarget]]:
    """Run a plan in virtual time."""

    async def run() -> tuple[Measured, list[ScriptedTarget]]:
        clock = asyncio.get_running_loop().time
        servers = [ScriptedTarget(waits, clock, name) for name in ("Millrace", "the bare upstream")[:targets]]
        async with Run(replace(PLAN, **changes), mix, *servers, clock=clock) as one:
            return await one.finish(), servers

    return run_virtually(run())


def near(measured: float | None, value: float) -> bool:
    return measured == pytest.approx(value, rel=0.002, abs=0.0011)  # a timer of the loop is late by up to a millisecond


@pytest.mark.parametrize("lanes", [1000, 20])
def test_an_open_loop_shows_a_pause_in_full(lanes: int) -> None:
    """2 s at 100 requests a second: 200 of them waited, from 2 s down to nothing; with few lanes too."""
    measured, _ = virtual(paused((4.0, 6.0), [0.05, 0.01]), lanes=lanes)
    found = measured.millrace
    assert found.course.offered == found.ended == 1000
    assert found.ttft is not None
    assert found.ttft.max >= 2.049
    assert near(found.ttft.p50, 0.05)
    late = sum(1 for interval in measured.traces[0].series.intervals for _ in range(interval.due))
    assert late == 1000
    waited = [interval for interval in measured.traces[0].series.intervals if interval.ttft.greatest > 0.1]
    assert sum(interval.due for interval in waited) >= 195
    if lanes == 1000:  # who asked right in the middle of the pause waited for half of it
        assert near(found.ttft.max, 2.05)
        assert near(found.ttft.p90, 1.05)
        assert found.course.waited == 0
    else:
        assert found.course.waited > 150


def test_a_closed_loop_hides_a_pause() -> None:
    """That is what an open loop is for: each lane waits once, and the requests that would have come are not there."""
    measured, _ = virtual(paused((4.0, 6.0), [0.05, 0.01]), rate=None, lanes=6)
    assert measured.millrace.ttft is not None
    assert measured.millrace.ttft.max > 1.9
    assert near(measured.millrace.ttft.p99, 0.05)


def test_what_is_late_by_this_script_is_not_called_the_servers() -> None:
    measured, _ = virtual(lambda _: [0.05], rate=50.0, poisson=True)
    lag = measured.millrace.course.schedule_lag
    assert lag is not None
    assert lag.max <= 0.0011
    assert measured.millrace.wait is not None


def test_the_warm_up_is_in_no_figure() -> None:
    """A server that is slow for its first two seconds, in a run that warms up for three."""
    measured, _ = virtual(paused((0.0, 2.0), [0.05]), warmup_s=3.0, lanes=1000)
    found = measured.millrace
    assert (found.course.warmup, found.course.offered, found.ended) == (300, 700, 700)
    assert found.ttft is not None
    assert near(found.ttft.max, 0.05)
    assert near(found.offered_rps, 100)
    assert found.cost_usd == 700 * found.course.warmup_cost_usd / 300


@pytest.mark.parametrize("rate", [None, 40.0])
def test_two_servers_get_the_same_load_interleaved(rate: float | None) -> None:
    """The same rows in the same order, one server after the other, in random order."""
    rows = [Row(input=f"{number}") for number in range(5)]
    plan = replace(PLAN, rate=rate, poisson=True, lanes=1 if rate is None else 64, requests=100)

    async def run() -> tuple[Measured, list[ScriptedTarget]]:
        clock = asyncio.get_running_loop().time
        servers = [
            ScriptedTarget(lambda _, wait=wait: [wait], clock, name)  # type: ignore[misc]
            for name, wait in (("Millrace", 0.02), ("the bare upstream", 0.01))
        ]
        async with Run(plan, lambda: Mix(rows, seed=1, fresh=False), *servers, clock=clock) as one:
            return await one.finish(), servers

    measured, (ours, bare) = run_virtually(run())
    assert measured.bare is not None
    assert measured.millrace.ended == measured.bare.ended == 100
    assert measured.ratios["ttft"]["p50"] == pytest.approx(2.0, rel=0.15)
    everything = sorted([(at, "ours") for at, _ in ours.received] + [(at, "bare") for at, _ in bare.received])
    longest = max(len(part) for part in "".join(name[0] for _, name in everything).replace("ob", "o b").split())
    assert longest <= 12
    assert sorted(row.input for _, row in ours.received) == sorted(row.input for _, row in bare.received)


def test_an_interrupt_in_an_open_loop_leaves_what_is_not_due() -> None:
    async def run() -> Measured:
        clock = asyncio.get_running_loop().time
        server = ScriptedTarget(lambda _: [0.05], clock)
        async with Run(PLAN, mix, server, clock=clock) as one:
            asyncio.get_running_loop().call_later(3.0, one.interrupt)
            return await one.finish()

    found = run_virtually(run()).millrace
    assert found.course.interrupted
    assert 299 <= found.course.offered == found.ended <= 301
    assert found.course.unsent == 0
    assert not found.failed


def check(found: Figures, asked: Recording, log: list[Sent]) -> None:
    """Hold the measured times against the log of a server, which says when it sent what."""
    assert found.ended == len(log) == found.course.offered
    sent = {each.question: each for each in log}
    ttfts = [sent[str(sample.row.input)].tokens[0] - sample.timeline.due for sample in asked.samples]
    gaps = [gap for each in log for gap in each.gaps]
    assert found.ttft is not None
    assert found.itl is not None
    assert found.course.loop_lag is not None
    assert (found.ttft.count, found.itl.count) == (len(ttfts), len(gaps))
    late = found.course.loop_lag.max  # a busy machine does not let this process read at once
    for spread, times in ((found.ttft, ttfts), (found.itl, gaps)):
        for measured, percent, share, at_least in ((spread.p50, 50, 0.02, 0.002), (spread.p95, 95, 0.05, 0.010)):
            true = nearest_rank(times, percent)
            assert measured is not None
            assert abs(measured - true) <= max(share * true, at_least) + late + 0.010


def nearest_rank(times: list[float], percent: int) -> float:
    """Return the percentile as it is measured; between two of few values, another kind would be far from both."""
    return sorted(times)[-(-percent * len(times) // 100) - 1]


async def test_the_times_are_those_of_the_server() -> None:
    """Both servers' own send times, in a run that asks them in turn. `tests.measure_load` has the figures."""
    plan = replace(PLAN, rate=25.0, poisson=True, duration_s=2.0)
    async with timed_server("--tokens", "5", "15") as server:
        ours = Recording(Millrace(server.websocket, None, connections=4, clock=CLOCK))
        bare = Recording(Bare(server.http, None, None, lanes=8, clock=CLOCK))
        async with Run(plan, lambda: Mix([Row(input="x")], seed=1, fresh=True), ours, bare) as one:
            measured = await one.finish()
    assert measured.bare is not None
    assert measured.millrace.errors == measured.bare.errors == {}
    check(measured.millrace, ours, server.log["websocket"])
    check(measured.bare, bare, server.log["http"])
    assert measured.millrace.tokens_per_s > 0 < measured.bare.tokens_per_s


async def test_a_real_pause_shows_in_full() -> None:
    """The whole process stops for 2 s, once, while requests go on being due."""
    rows = iter([*[Row(input="x")] * 20, Row(input="[pause]"), *[Row(input="x")] * 1000])

    class Scripted(Mix):
        def draw(self) -> Row:
            return next(rows)

    plan = replace(PLAN, rate=40.0, duration_s=2.5)
    async with timed_server("--tokens", "1", "2") as server:
        target = Millrace(server.websocket, None, connections=4, clock=CLOCK)
        async with Run(plan, lambda: Scripted([Row(input="x")], seed=1, fresh=False), target) as one:
            measured = await one.finish()
    found = measured.millrace
    assert found.course.offered == found.ended == 100
    assert found.ttft is not None
    assert found.ttft.max >= PAUSE_S + 0.04
    slow = [interval for interval in measured.traces[0].series.intervals if interval.ttft.greatest >= 1.0]
    assert sum(interval.due for interval in slow) >= 40  # due in the first half of the pause
