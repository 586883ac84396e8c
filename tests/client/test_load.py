"""The load test: its arithmetic, its arrivals, its prompts, and whole runs against a whole server."""

import asyncio
import itertools
import json
import math
import sqlite3
import statistics
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from rich.console import Console
from websockets.asyncio.server import serve

from millrace.stores.database import FILE
from millrace.types import CacheMode, Strategy
from millrace_client.load import prompts, report
from millrace_client.load.arrivals import offsets
from millrace_client.load.command import measure
from millrace_client.load.figures import Figures, Measured
from millrace_client.load.histogram import Histogram
from millrace_client.load.prompts import BUILT_IN, BadPrompts, Mix, Row
from millrace_client.load.run import CLOCK, Plan, Run
from millrace_client.load.sample import Sample, Timeline
from millrace_client.load.websocket import Millrace, TimedSocket, dollars
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S, until

PLAN = Plan(connections=2, lanes=6, rate=None, poisson=True, duration_s=1.0, requests=None, seed=1)


@pytest.fixture(autouse=True)
def cancels_may_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a busy machine; what is about the time that they have sets its own."""
    monkeypatch.setattr("millrace_client.load.run.GRACE_S", PATIENCE_S)


def mix(*rows: Row, seed: int = 1, fresh: bool = False) -> Mix:
    return Mix(rows, seed=seed, fresh=fresh)


def prepared(url: str, *rows: Row, **changes: Any) -> Run:
    plan = replace(PLAN, **changes)
    return Run(plan, lambda: mix(*rows), Millrace(url, None, connections=plan.connections, clock=CLOCK))


async def run(url: str, *rows: Row, **changes: Any) -> Figures:
    plan = replace(PLAN, **changes)
    target = Millrace(url, None, connections=plan.connections, clock=CLOCK)
    measured = await measure(plan, lambda: mix(*rows), target, url=url)
    assert measured is not None
    return measured.millrace


def sockets(one: Run) -> list[TimedSocket]:
    target = one.sides[0].target
    assert isinstance(target, Millrace)
    return [link._socket for link in target._links if link._socket is not None]


def shown(measured: Figures) -> str:
    console = Console(file=StringIO(), width=120)
    report.show(Measured(millrace=measured), console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@given(st.integers(0, 10**15))
def test_dollars_survive_the_wire(nanodollars: int) -> None:
    exact = Decimal(nanodollars) / 10**9
    assert dollars(json.loads(json.dumps(float(exact)))) == exact


def test_poisson_arrivals() -> None:
    """The asked mean rate, and gaps as irregular as independent users make them."""
    moments = [*itertools.islice(offsets(50, poisson=True, seed=3), 20_000)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert math.isclose(statistics.mean(gaps), 1 / 50, rel_tol=0.03)
    assert math.isclose(statistics.stdev(gaps) / statistics.mean(gaps), 1, rel_tol=0.03)


def test_constant_arrivals() -> None:
    assert [*itertools.islice(offsets(4, poisson=False, seed=3), 4)] == [0, 0.25, 0.5, 0.75]


def test_the_seed_decides_the_arrivals() -> None:
    first, again, other = ([*itertools.islice(offsets(9, poisson=True, seed=seed), 50)] for seed in (1, 1, 2))
    assert first == again != other


def test_a_prompt_file_holds_rows_and_questions(tmp_path: Path) -> None:
    path = tmp_path / "mix.jsonl"
    row: dict[str, Any] = {
        "input": [{"role": "user", "content": "x"}],
        "strategy": "small",
        "delivery": "commit",
        "cache": "off",
    }
    row |= {"model": "auto", "weight": 2.5, "cancel_after_ms": 10, "expect": "cancelled", "fresh": True}
    path.write_text(f"# a comment\n\n{json.dumps(row)}\n  What is an API?  \n")
    first, second = prompts.read(path)
    assert (first.strategy, first.weight, first.expect) == ("small", 2.5, "cancelled")
    assert second == Row(input="What is an API?")


def test_every_bad_row_of_a_prompt_file_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    bad = ['{"input": "x', '{"input": ""}', '{"input": "x", "weigth": 1}', '{"input": "x", "weight": 0}', "{}"]
    bad += ['{"input": "x", "strategy": "fast"}', '{"input": "x", "expect": "luck"}']
    bad += ['{"input": "x", "expect": "cancelled"}', '{"input": "x", "cancel_after_ms": -1}']
    path.write_text("fine\n" + "\n".join(bad) + "\nfine\n")
    with pytest.raises(BadPrompts) as complaint:
        prompts.read(path)
    assert [fault.split(":")[1] for fault in complaint.value.faults] == [str(line) for line in range(2, 11)]
    assert "weigth" in complaint.value.faults[2]


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe\xff"])
def test_a_file_without_prompts(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadPrompts):
        prompts.read(tmp_path / "x")


def test_rows_are_drawn_by_weight_and_seed() -> None:
    rows = (Row(input="often", weight=3), Row(input="seldom", weight=1))
    sequences = [[one.draw().input for _ in range(4000)] for one in (mix(*rows), mix(*rows), mix(*rows, seed=2))]
    assert sequences[0] == sequences[1] != sequences[2]
    assert 0.72 < Counter(map(str, sequences[0]))["often"] / 4000 < 0.78


def test_fresh_inputs_are_all_different() -> None:
    """In every form an input can have, and never at the cost of the row itself."""
    parts = [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]
    rows = (Row(input="x"), Row(input=[{"role": "user", "content": "x"}]), Row(input=parts))
    all_fresh = mix(*rows, fresh=True)
    inputs = [json.dumps(all_fresh.draw().input) for _ in range(100)]
    assert len(set(inputs)) == 100
    assert parts == [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]
    assert {str(mix(Row(input="x", fresh=fresh)).draw().input) == "x" for fresh in (True, False)} == {True, False}


@pytest.mark.parametrize(
    ("row", "status", "code", "error"),
    [
        ({}, "completed", None, None),
        ({}, "incomplete", "max_output_tokens", None),
        ({}, "incomplete", "deadline", "deadline"),
        ({}, "failed", "upstream_error", "upstream_error"),
        ({}, "cancelled", "cancelled", "cancelled"),
        ({"cancel_after_ms": 5}, "cancelled", "cancelled", None),
        ({"cancel_after_ms": 5}, "completed", None, None),
        ({"cancel_after_ms": 5, "expect": "cancelled"}, "completed", None, "completed instead of cancelled"),
        ({"expect": "failed"}, "failed", "upstream_error", None),
        ({"expect": "failed"}, "refused", "model_not_found", None),
        ({"expect": "failed"}, "lost", "connection_lost", "connection_lost instead of failed"),
        ({"expect": "upstream_error"}, "failed", "upstream_error", None),
        ({"expect": "upstream_error"}, "failed", "internal_error", "internal_error instead of upstream_error"),
        ({"expect": "completed"}, "incomplete", "max_output_tokens", "max_output_tokens instead of completed"),
    ],
)
def test_what_is_an_error(row: dict[str, Any], status: str, code: str | None, error: str | None) -> None:
    one = Row(input="x", **row)
    sample = Sample(row=one, status=status, code=code, timeline=Timeline(0), total=1, answer=None)
    assert sample.error == error


def test_the_times_of_a_sample() -> None:
    """From the intended start; the pause at a revise is no gap, the words after it are the ones that stand."""
    timeline = Timeline(100.0)
    for number, now in ((0, 100.5), (1, 100.75)):
        timeline.delta(now, number)
    timeline.revise(-1)
    for number, now in ((3, 102.0), (4, 102.125)):
        timeline.delta(now, number)
    assert (timeline.first, timeline.standing, [*timeline.gaps]) == (0.5, 2.0, [0.25, 0.125])
    assert timeline.escalated
    assert timeline.revised


def test_words_that_nobody_saw_are_not_taken_back() -> None:
    """The server tells of the other model also where the first one's words were held back."""
    timeline = Timeline(0.0)
    timeline.revise(-1)
    assert timeline.escalated
    assert not timeline.revised


SCRIPTED = (
    Row(input="What is a millrace?", weight=4),
    Row(input="Say something. [tokens=20]", fresh=True, weight=3),
    Row(input="Prove it. [weak.small]", fresh=True, weight=2),
    Row(input="x", strategy=Strategy.LARGE, cache=CacheMode.OFF),
    Row(input="Talk. [tokens=900] [rate=100]", cache=CacheMode.OFF, cancel_after_ms=60, expect="cancelled"),
    Row(input="Wait. [ttft=1]", cache=CacheMode.OFF, cancel_after_ms=0, expect="cancelled"),
    Row(input="x [fault=429]", cache=CacheMode.OFF, strategy=Strategy.SMALL, expect="rate_limit_exceeded"),
    Row(input="x [fault=hangup@3]", cache=CacheMode.OFF, strategy=Strategy.LARGE, expect="failed"),
    Row(input="x", model="gpt-9", expect="model_not_found"),
)


@pytest.mark.parametrize("rate", [None, 150.0])
async def test_totals_equal_the_ledger(start: Start, tmp_path: Path, rate: float | None) -> None:
    """Closed and open loop, with all that can happen to a request: no error, and every nanodollar."""
    async with start(lambda tree: tree["server"].update(data_dir=str(tmp_path))) as running:
        ending: dict[str, Any] = {"requests": 120, "duration_s": 60.0} if rate is None else {"duration_s": 2.0}
        measured = await run(running.url, *SCRIPTED, rate=rate, connections=3, lanes=15, **ending)
        await until(lambda: running.small.stats.running + running.large.stats.running == 0)
    assert measured.errors == {}
    assert measured.scripted.keys() == {
        "cancelled",
        "rate_limit_exceeded",
        "upstream_truncated",
        "model_not_found",
    }
    assert not measured.failed
    assert measured.course.offered == measured.ended > 50
    assert measured.escalated >= measured.revised > 0
    with closing(sqlite3.connect(tmp_path / FILE)) as ledger:
        select = "SELECT status, count(*) FROM entries GROUP BY 1"
        responses = {status: count for status, count in measured.statuses.items() if status != "refused"}
        assert dict(ledger.execute(select)) == responses
        select = "SELECT source, count(*) FROM entries WHERE status IN ('completed', 'incomplete') GROUP BY 1"
        assert dict(ledger.execute(select)) == measured.routes
        ((cost, saved),) = ledger.execute("SELECT sum(cost_nanodollars), sum(saved_nanodollars) FROM entries")
        assert (measured.cost_usd, measured.saved_usd) == (Decimal(cost) / 10**9, Decimal(saved) / 10**9)


async def test_closed_loop(millrace: Running) -> None:
    """All lanes at work, all the time, and no request more than asked for."""
    measured = await run(millrace.url, Row(input="x [ttft=0.05] [tokens=5]", fresh=True), requests=30, duration_s=60.0)
    assert measured.course.in_flight_max == 6
    assert (measured.ended, measured.statuses) == (30, {"completed": 30})
    assert measured.ttft is not None
    assert measured.ttft.p50 is not None
    assert measured.ttft.p50 >= 0.05
    assert measured.itl is not None
    assert measured.course.schedule_lag is None


async def test_open_loop_counts_from_the_intended_start(millrace: Running) -> None:
    """One lane, 20 requests of 0.1 s in half a second: the last waits 1.5 s, and nothing hides it."""
    measured = await run(
        millrace.url,
        Row(input="x [ttft=0.1]", cache=CacheMode.OFF),
        rate=40.0,
        poisson=False,
        duration_s=0.5,
        connections=1,
        lanes=1,
    )
    assert measured.course.offered == measured.ended == 20
    assert measured.course.waited >= 18
    assert measured.e2e is not None
    assert measured.e2e.max > 1.3
    assert "found no lane free" in shown(measured)


async def test_open_loop_keeps_its_rate(millrace: Running) -> None:
    measured = await run(millrace.url, Row(input="What is a millrace?"), rate=100.0, poisson=False, lanes=16)
    assert measured.course.schedule_lag is not None
    assert measured.course.offered == 100
    assert measured.offered_rps <= 100  # it ends when the last is due, or a moment later
    assert measured.caches["exact"] + measured.caches.get("joined", 0) >= 90
    assert measured.cached_tokens_per_s > 0 < measured.saved_usd


async def test_an_unscripted_error(millrace: Running) -> None:
    measured = await run(millrace.url, Row(input="x [fault=429]", strategy=Strategy.SMALL), requests=5)
    assert measured.errors == {"rate_limit_exceeded": 5}
    assert measured.failed
    assert "rate_limit_exceeded" in shown(measured)


async def test_what_does_not_end_is_cut(millrace: Running) -> None:
    """After the time to drain, with its bill; what never found a lane is counted too."""
    row = Row(input="Wait. [ttft=30]", cache=CacheMode.OFF)
    measured = await run(millrace.url, row, rate=40.0, poisson=False, duration_s=0.3, drain_s=1.0)
    assert (measured.cut, measured.course.unsent) == (6, measured.course.offered - 6)
    assert measured.statuses == {"cancelled": 6}
    assert measured.course.elapsed_s < 29  # or one would have been answered
    assert measured.failed
    assert measured.errors == {}
    assert "were cut" in shown(measured)
    await until(lambda: millrace.small.stats.running == 0)


async def test_a_server_that_never_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a cancel: the run ends all the same, and says that it does not know the bill."""
    monkeypatch.setattr("millrace_client.load.run.GRACE_S", 0.1)
    async with serve(lambda connection: connection.wait_closed(), "127.0.0.1", 0) as silent:
        port = next(iter(silent.sockets)).getsockname()[1]
        measured = await run(f"ws://127.0.0.1:{port}", Row(input="x"), duration_s=0.1, drain_s=0.1)
    assert measured.statuses == {"abandoned": 6}
    assert (measured.cut, measured.unbilled) == (6, 6)
    assert measured.failed


async def test_an_interrupted_run_has_no_error(millrace: Running) -> None:
    """What was cut by hand is told, and nothing is held against the server."""
    row = Row(input="Wait. [ttft=30]", cache=CacheMode.OFF)
    async with prepared(millrace.url, row, rate=100.0, duration_s=50.0) as one:
        measuring = asyncio.create_task(one.finish())
        await until(lambda: millrace.small.stats.running == 6)
        await asyncio.sleep(0.2)  # more are due
        one.interrupt()
        measured = (await measuring).millrace
    assert measured.course.elapsed_s < 29  # or one would have been answered
    assert measured.cut == 6
    assert measured.course.unsent > 0
    assert not measured.failed
    assert not any("were cut" in warning for warning in report.warnings(Measured(millrace=measured)))


async def test_a_connection_that_dies_is_opened_again(millrace: Running) -> None:
    """Its requests are errors without a bill; its lanes go on."""
    row = Row(input="x [ttft=0.05]", cache=CacheMode.OFF)
    async with prepared(millrace.url, row, connections=1, lanes=3, requests=40, duration_s=60.0) as one:
        asyncio.get_running_loop().call_later(0.12, sockets(one)[0].transport.abort)
        measured = (await one.finish()).millrace
    assert measured.course.connections_lost == 1
    assert measured.errors == {"connection_lost": measured.unbilled} == {"connection_lost": 3}
    assert measured.statuses["completed"] == 37
    assert "without a bill" in shown(measured)


async def test_a_server_that_goes_away(millrace: Running) -> None:
    """Every request is an error, not too many a second, and the run ends."""
    async with prepared(millrace.url, Row(input="x")) as one:
        target = one.sides[0].target
        assert isinstance(target, Millrace)
        for link in target._links:
            link._url = "ws://127.0.0.1:9"
        await target.close()
        measured = (await one.finish()).millrace
    assert measured.errors.keys() == {"unreachable"}
    assert 6 <= measured.ended <= 18
    assert measured.ttft is None


async def test_the_script_says_when_it_was_the_bottleneck(millrace: Running) -> None:
    async with prepared(millrace.url, Row(input="What is a millrace?"), rate=60.0, poisson=False) as one:
        asyncio.get_running_loop().call_later(0.3, time.sleep, 0.15)
        measured = (await one.finish()).millrace
    assert measured.course.loop_lag is not None
    assert measured.course.loop_lag.max > 0.05
    assert "event loop was late" in (said := shown(measured))
    assert "with a lane free it started requests" in said


async def test_a_warning_says_what_to_do(millrace: Running) -> None:
    """Less work for a busy script, more of the machine for one that was kept waiting."""
    measured = await run(millrace.url, Row(input="What is a millrace?"), requests=10)
    late = Histogram([0.5]).spread()
    for cpu_share, advice, count in ((0.95, "fewer --connections", 3), (0.1, "a core of its own", 2)):
        course = replace(measured.course, loop_lag=late, schedule_lag=late, cpu_share=cpu_share)
        warnings = [*report.warnings(Measured(millrace=replace(measured, course=course)))]
        assert len(warnings) == count
        assert all(advice in warning for warning in warnings)


async def test_json(millrace: Running) -> None:
    """The same figures, money as exact numbers."""
    measured = await run(millrace.url, *BUILT_IN, requests=20, duration_s=20.0)
    read = json.loads(report.as_json(Measured(millrace=measured)), parse_float=Decimal)
    assert (read["cost_usd"], read["saved_usd"]) == (measured.cost_usd, measured.saved_usd)
    assert read["e2e"]["count"] == read["answered"] == sum(read["routes"].values()) == 20
