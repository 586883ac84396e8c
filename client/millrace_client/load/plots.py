"""Line plots as SVG text, which needs no script and no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 10, 34
_FEW = 50  # a y axis whose greatest value is this many times the least is logarithmic
_TICKS = 5
_FEW_TICKS = 2

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a plot; None between points is a gap."""

    name: str
    points: Sequence[Point | None]
    style: str  # a class of the page: its colour, and whether it is dashed


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to a share of the plot's width or height."""

    least: float
    most: float
    ticks: tuple[Tick, ...]
    is_log: bool = False

    def share(self, value: float) -> float:
        """Return where a value is, from 0 to 1."""
        if self.is_log:
            span = math.log(self.most / self.least)
            return min(1.0, max(0.0, math.log(max(value, self.least) / self.least) / span))
        return min(1.0, max(0.0, (value - self.least) / (self.most - self.least)))


def linear(most: float, unit: str = "", *, is_exact: bool = False) -> Axis:
    """Return an axis from 0 to a round number that is not below `most`, or with `is_exact` to `most`."""
    step = _round_step(max(most, 1e-9) / _TICKS)
    count = max(1, math.ceil(most / step - 1e-9))
    ticks = (Tick(step * number, f"{step * number:g}{unit}") for number in range(count + 1))
    if not is_exact:
        return Axis(0.0, step * count, tuple(ticks))
    return Axis(0.0, max(most, 1e-9), tuple(tick for tick in ticks if tick.at <= most * (1 + 1e-9)))


def times(values: Sequence[float]) -> Axis:
    """Return an axis of times in seconds: linear, or logarithmic where they differ much."""
    positive = [value for value in values if value > 0]
    if not positive:
        return linear(1.0, " s")
    least, most = min(positive), max(positive)
    if most < _FEW * least:
        unit, scale = (" s", 1.0) if most >= 1 else (" ms", 1e3)
        axis = linear(most * scale, unit)
        return Axis(0.0, axis.most / scale, tuple(Tick(tick.at / scale, tick.label) for tick in axis.ticks))
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    marks = [each * 10.0**power for power in range(first, last + 1) for each in (1, 2, 5)]
    low = max(mark for mark in marks if mark <= least * (1 + 1e-9))
    high = min(mark for mark in marks if mark >= most * (1 - 1e-9))
    within = [mark for mark in marks if low <= mark * (1 + 1e-9) and mark <= high * (1 + 1e-9)]
    powers = [mark for mark in within if math.log10(mark) % 1 < 1e-6 or math.log10(mark) % 1 > 1 - 1e-6]  # noqa: PLR2004
    shown = powers if len(powers) > _FEW_TICKS else within
    return Axis(low, high, tuple(Tick(mark, _time(mark)) for mark in shown), is_log=True)


def draw(
    title: str, lines: Sequence[Line], x: Axis, y: Axis, x_name: str, notes: Sequence[tuple[Point, str]] = ()
) -> str:
    """Return a plot. `notes` are texts shown over parts of the x axis, each given by where it begins and ends."""
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in y.ticks:
        at = _y(y, tick.at)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="y" x="{_LEFT - 8}" y="{at + 4:.1f}">{escape(tick.label)}</text>')
    for tick in x.ticks:
        at = _x(x, tick.at)
        parts.append(f'<text class="x" x="{at:.1f}" y="{HEIGHT - _BOTTOM + 16}">{escape(tick.label)}</text>')
    parts.append(
        f'<text class="x name" x="{(_LEFT + WIDTH - _RIGHT) / 2:.0f}" y="{HEIGHT - 3}">{escape(x_name)}</text>'
    )
    for line in lines:
        parts.extend(f'<path class="{line.style}" d="{path}"/>' for path in _paths(line.points, x, y))
    for (begin, end), text in notes:
        left, right = _x(x, begin), _x(x, end)
        box = f'x="{left:.1f}" y="{_TOP}" width="{max(1.0, right - left):.1f}" height="{HEIGHT - _TOP - _BOTTOM}"'
        parts.append(f'<rect class="note" {box}><title>{escape(text)}</title></rect>')
    return "\n".join([*parts, "</svg>"])


def _paths(points: Sequence[Point | None], x: Axis, y: Axis) -> list[str]:
    """Return the paths between the gaps; a lone point is a short dash."""
    paths: list[list[str]] = [[]]
    for point in points:
        if point is None:
            paths.append([])
        else:
            paths[-1].append(f"{_x(x, point[0]):.1f} {_y(y, point[1]):.1f}")
    return ["M" + " L".join(path if len(path) > 1 else path * 2) for path in paths if path]


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.share(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.share(value) * (HEIGHT - _TOP - _BOTTOM)


def _round_step(step: float) -> float:
    """Return the least of 1, 2, 5 times a power of ten that is not below a number."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= step * (1 - 1e-9))


def _time(seconds: float) -> str:
    for scale, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * scale >= 1 - 1e-9:
            return f"{seconds * scale:g} {unit}"
    return f"{seconds * 1e6:g} µs"
