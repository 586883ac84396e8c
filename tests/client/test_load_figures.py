"""The load test's arithmetic: percentiles in bounded memory, objectives, thresholds, arrivals, what happened when."""

import itertools
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from millrace_client.load import report, slo, thresholds
from millrace_client.load.arrivals import offsets, one_of_two, within
from millrace_client.load.figures import Course, Figures, Measured, Tally, figures, ratios
from millrace_client.load.histogram import Histogram, merged
from millrace_client.load.prompts import Row
from millrace_client.load.sample import Answer, Sample, Timeline
from millrace_client.load.series import MOST, Series
from millrace_client.load.slo import Slo

COURSE = Course(
    connections=1,
    lanes=4,
    rate=10.0,
    poisson=True,
    seed=0,
    offered=100,
    unsent=0,
    waited=0,
    warmup_s=0.0,
    warmup=0,
    warmup_errors=0,
    warmup_cost_usd=Decimal(0),
    starting_s=10.0,
    elapsed_s=10.0,
    in_flight_max=4,
    connections_lost=0,
    interrupted=False,
    cpu_share=0.1,
    loop_lag=None,
    schedule_lag=Histogram([0.001] * 100).spread(),
)
TIMES = st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=3000)


def sample(ttft: float = 0.1, gap: float = 0.02, tokens: int = 10, **changes: Any) -> Sample:
    """Return the sample of an answer whose tokens come evenly."""
    timeline = Timeline(100.0)
    timeline.send(100.0 + changes.pop("wait", 0.0))
    for number in range(tokens):
        timeline.delta(100.0 + ttft + number * gap, number)
    answer = Answer(tokens=tokens, route="small", cache="miss", cost=Decimal("0.01"))
    total = ttft + (tokens - 1) * gap
    fields: dict[str, Any] = {
        "row": Row(input="x"),
        "status": "completed",
        "code": None,
        "timeline": timeline,
        "total": total,
    }
    return Sample(**fields | {"answer": answer} | changes)


def measured_of(*samples: Sample, objective: Slo = Slo(), course: Course = COURSE) -> Figures:  # noqa: B008
    tally = Tally(objective)
    for one in samples:
        tally.add(one, 1.0)
    return figures("Millrace", tally, objective, replace(course, offered=len(samples)))


@given(TIMES, st.sampled_from([500, 900, 950, 990, 999]))
def test_a_percentile_is_the_nearest_rank(values: list[float], permille: int) -> None:
    """Within half a bucket; None exactly where no sample could lie above it."""
    found, ordered = Histogram(values).percentile(permille), sorted(values)
    if len(values) * (1000 - permille) < 1000:
        assert found is None
    else:
        assert found == pytest.approx(ordered[-(-permille * len(values) // 1000) - 1], rel=0.001)


def test_a_spread() -> None:
    """Percentiles are off by 0.05 % at most; what is exact anyway is exact."""
    measured = Histogram(range(1, 1001)).spread()
    assert measured is not None
    assert (measured.count, measured.mean, measured.max) == (1000, 500.5, 1000)
    near = [measured.p50, measured.p90, measured.p95, measured.p99, measured.p999]
    assert near == pytest.approx([500, 900, 950, 990, 999], rel=0.0005)
    assert Histogram().spread() is None
    few = Histogram([0.1] * 99).spread()
    assert few is not None
    assert (few.p95, few.p99, few.p999) == (0.1, None, None)


@given(TIMES, TIMES)
def test_merged_histograms_are_the_histogram_of_all(first: list[float], second: list[float]) -> None:
    both = merged([Histogram(first), Histogram(second)])
    assert [*both.steps()] == [*Histogram([*first, *second]).steps()]
    assert (both.count, both.least, both.greatest) == (
        len(first) + len(second),
        min(first + second),
        max(first + second),
    )


def test_a_million_samples_take_no_more_memory_than_their_buckets() -> None:
    histogram = Histogram(0.0001 * 1.00001**number for number in range(200_000))
    assert histogram.count == 200_000
    assert len(histogram._counts) < 4000


def test_the_service_time_is_beside_the_time_from_the_intended_start() -> None:
    found = measured_of(*(sample(ttft=0.5, wait=0.4) for _ in range(4)))
    assert found.ttft is not None
    assert found.ttft_service is not None
    assert found.wait is not None
    assert (found.ttft.p50, found.ttft_service.p50, found.wait.p50) == pytest.approx((0.5, 0.1, 0.4), rel=0.001)


def test_tpot_is_per_token_and_not_per_frame() -> None:
    """Two frames of 11 tokens: one gap of 1 s is 0.1 s for each token. What was not shown does not count."""
    timeline = Timeline(0.0)
    timeline.delta(1.0)
    timeline.delta(2.0)
    one = sample(timeline=timeline, answer=Answer(tokens=11), total=2.0)
    assert one.tpot == pytest.approx(0.1)
    assert sample(timeline=timeline, answer=Answer(tokens=31, reasoning=20)).tpot == pytest.approx(0.1)
    assert sample(tokens=1).tpot is None
    timeline.revise(-1)
    assert one.tpot is None


def test_goodput_is_the_share_that_meets_every_bound() -> None:
    """An error does not, whatever its times; a failure that its row expects is not held to it."""
    objective = slo.parse("ttft=500ms, e2e=1s,itl=100ms,tpot=50ms")
    assert objective == Slo(ttft=0.5, itl=0.1, tpot=0.05, e2e=1.0)
    good, late = sample(), sample(ttft=0.6)
    stalled, slow = sample(gap=0.11, tokens=2), sample(ttft=0.4, gap=0.06)
    failed = sample(status="failed", code="upstream_error")
    scripted = sample(row=Row(input="x", expect="failed"), status="failed", code="upstream_error")
    found = measured_of(good, good, late, stalled, slow, failed, scripted, objective=objective)
    assert found.goodput == 2 / 6
    assert found.goodput_rps == 0.2
    assert measured_of(good).goodput is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no bound"),
        ("ttft", "is no bound"),
        ("speed=5s", "is no bound"),
        ("ttft=500", "with its unit"),
        ("ttft=fast", "with its unit"),
        ("ttft=1s,ttft=2s", "given twice"),
        ("e2e=0s", "above 0"),
    ],
)
def test_a_bad_objective_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        slo.parse(text)


@pytest.mark.parametrize(
    ("text", "crossed"),
    [
        ("p50_ttft>99ms", True),
        ("p50_ttft > 101ms", False),
        ("p95_e2e>=0.28s", True),
        ("mean_itl<=20.1ms", True),
        ("max_tpot>1s", False),
        ("p95_schedule_lag>5ms", False),
        ("errors>0", True),
        ("error_rate>5%", False),
        ("error_rate>0.03", True),
        ("goodput<97%", True),
        ("hit_rate<1%", True),
        ("large_share>0", False),
        ("cost>$0.5", False),
        ("cost_per_request>$0.002", True),
        ("rps<1", False),
        ("goodput_rps<1", False),
        ("tokens_per_s<5", False),
        ("p99.9_ttft>1h", None),
        ("p99_ttft>10s", True),  # 24 samples do not tell
        ("ratio_p50_e2e>1.9", True),
        ("ratio_p50_e2e>2.1", False),
        ("ratio_p99_e2e>9", True),  # does not tell either
        ("p98_ttft>1s", None),
        ("ttft>1s", None),
        ("p50_ttft>1", None),
        ("p50_ttft=1s", None),
        ("ratio_max_ttft>1", None),
        ("errors>many", None),
        ("", None),
    ],
)
def test_thresholds(text: str, *, crossed: bool | None) -> None:
    """Those that hold fail the run, and so do those that cannot be told; None: the text is refused."""
    if crossed is None:
        with pytest.raises(ValueError, match=r"no threshold|no time|no number"):
            thresholds.parse(text)
        return
    failed = sample(status="failed", code="upstream_error", answer=None)
    objective = Slo(e2e=5.0)
    ours = measured_of(*[sample()] * 24, failed, objective=objective)
    bare = measured_of(*[sample(ttft=0.05, gap=0.01)] * 24, objective=objective)
    measured = Measured(millrace=ours, bare=bare, ratios=ratios(ours, bare))
    fault = thresholds.parse(text).fault(measured)
    assert (fault is not None) == crossed
    assert fault is None or fault.startswith(text)


def test_ratios_are_of_what_both_have_enough_samples_for() -> None:
    ours, bare = measured_of(*[sample(ttft=0.2)] * 100), measured_of(*[sample(ttft=0.1)] * 10)
    found = ratios(ours, bare)["ttft"]
    assert found == pytest.approx({"mean": 2.0, "p50": 2.0, "p90": 2.0})


def test_what_happened_when_stays_bounded() -> None:
    """An interval doubles when they get too many; nothing is lost."""
    series = Series(0.25)
    for number in range(10_000):
        series.at(number * 0.1).due += 1
        series.at(number * 0.1).ttft.add(0.1)
    assert len(series.intervals) <= MOST
    assert sum(interval.due for interval in series.intervals) == 10_000
    assert merged(interval.ttft for interval in series.intervals).count == 10_000
    assert {interval.due for interval in series.intervals[:-1]} == {round(series.width_s / 0.1)}


def test_both_servers_get_the_same_load_a_moment_apart() -> None:
    """In random order, so that neither is always the first."""
    times = [*within(offsets(20, poisson=True, seed=1), requests=1000, duration_s=1e9)]
    first, second = (
        [*one_of_two(iter(times), apart_s=0.01, seed=1, is_second=is_second)] for is_second in (False, True)
    )
    apart = [round(later - earlier, 9) for earlier, later in zip(first, second, strict=True)]
    assert {*apart} == {0.01, -0.01}
    assert 400 < apart.count(0.01) < 600
    assert all(min(pair) == time for *pair, time in zip(first, second, times, strict=True))


def test_a_run_ends_by_its_time_or_its_number() -> None:
    assert [*within(itertools.count(0.0, 0.5), requests=None, duration_s=2.0)] == [0.0, 0.5, 1.0, 1.5]
    assert [*within(itertools.count(0.0, 0.5), requests=2, duration_s=2.0)] == [0.0, 0.5]


def test_too_few_samples_are_a_dash_and_a_null() -> None:
    measured = Measured(millrace=measured_of(*[sample()] * 50))
    assert report.time(None) == "–"
    assert json.loads(report.as_json(measured))["ttft"]["p99"] is None
    assert json.loads(report.as_json(measured))["ttft"]["p95"] == pytest.approx(0.1, rel=0.001)
