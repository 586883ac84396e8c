"""The load test's page: its plots are well formed and say what was measured; nothing in it runs or is fetched."""

import itertools
import re
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, strategies as st

from millrace_client.load import page, plots
from millrace_client.load.figures import Measured, Tally, figures, trace
from millrace_client.load.histogram import Histogram
from millrace_client.load.plots import Line
from millrace_client.load.slo import Slo
from tests.client.test_load_figures import COURSE, sample


def measured(*names: str) -> Measured:
    tally = Tally(Slo())
    for number in range(200):
        tally.add(sample(ttft=0.1 + (number == 100) * 2.0), number / 20)
    found = [figures(name, tally, Slo(), COURSE) for name in names]
    traces = tuple(trace(name, tally, is_compared=len(names) > 1) for name in names)
    return Measured(millrace=found[0], bare=found[1] if len(names) > 1 else None, traces=traces)


@pytest.mark.parametrize("names", [("Millrace",), ("Millrace", "the <b>bare</b> upstream")])
def test_the_page(names: tuple[str, ...]) -> None:
    html = page.as_html(
        measured(*names), ["p99_ttft>1s: it is <2 s>"], now=lambda: datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    )
    svgs = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    for svg in svgs:
        ET.fromstring(svg)  # noqa: S314 - our own
    assert len([svg for svg in svgs if 'role="img"' in svg]) == 6
    assert "2026-01-02 03:04 UTC" in html
    assert "it is &lt;2 s&gt;" in html
    assert "<b>bare" not in html
    assert "longest: 2.10 s" in html  # the one slow request, where it was due
    assert not re.search(r"<script|<link|<img|url\(|src=|https?://", html)
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'", html)


def test_a_run_without_an_answer_has_a_page() -> None:
    tally = Tally(Slo())
    found = figures("Millrace", tally, Slo(), COURSE)
    html = page.as_html(Measured(millrace=found, traces=(trace("Millrace", tally, is_compared=False),)))
    assert "<svg" in html


@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=300))
def test_a_spectrum_ends_with_the_longest(values: list[float]) -> None:
    """It rises to the right."""
    histogram = Histogram(values)
    points = page.spectrum(histogram)
    assert points == sorted(points)
    assert points[-1][1] == pytest.approx(max(values), rel=0.001)
    assert all(later[1] >= earlier[1] for earlier, later in itertools.pairwise(points))


@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=20))
def test_an_axis_of_times_has_room_for_all(values: list[float]) -> None:
    axis = plots.times(values)
    assert axis.least <= min(values) * (1 + 1e-9)
    assert max(values) <= axis.most * (1 + 1e-9)
    shares = [axis.share(tick.at) for tick in axis.ticks]
    assert len(shares) >= 2
    assert shares == sorted({*shares})


def test_a_gap_in_a_line_is_a_gap() -> None:
    axis = plots.linear(3)
    svg = plots.draw("t", [Line("a", [(0, 1), (1, 2), None, (3, 3)], "line1")], axis, axis, "x")
    assert len(re.findall("<path", svg)) == 2
