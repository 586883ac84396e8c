"""The curve of hits and wrong hits over the threshold, as one SVG or HTML file that needs nothing else."""

from collections.abc import Sequence
from html import escape

from millrace.cli.rates import Point, Rate

WIDTH, HEIGHT = 760, 440
LEFT, TOP, RIGHT, BOTTOM = 64, 56, 24, 56  # margins
HITS, WRONG, INK, GRID = "#1a7f5a", "#c0392b", "#333333", "#dddddd"


def svg(points: Sequence[Point], title: str, marked: Sequence[tuple[str, float]]) -> str:
    """Return the drawing. `points` rise in their threshold; `marked` are thresholds with a name."""
    top = _rounded_up(max(each.high for point in points for each in (point.hits, point.wrong)))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        f' font-size="12" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>',
        *_axes(top),
        *_band([(point.threshold, point.hits) for point in points], top, HITS),
        *_band([(point.threshold, point.wrong) for point in points], top, WRONG),
        *(part for at, (name, threshold) in enumerate(marked) for part in _mark(name, threshold, at)),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def html(drawing: str, title: str) -> str:
    """Return a page with the drawing."""
    head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
    return f'{head}\n<body style="max-width: 60rem; margin: 2rem auto">\n{drawing}</body></html>\n'


def _axes(top: float) -> list[str]:
    parts = []
    for tenth in range(11):
        x, y = _x(tenth / 10), _y(top * tenth / 10, top)
        parts += [
            f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="{GRID}"/>',
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="{GRID}"/>',
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tenth / 10:g}</text>',
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{100 * top * tenth / 10:.3g} %</text>',
        ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*parts, f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">threshold of the probability</text>']


def _band(rates: Sequence[tuple[float, Rate]], top: float, colour: str) -> list[str]:
    """Return a line with its interval."""
    upper = [f"{_x(at):.1f},{_y(each.high, top):.1f}" for at, each in rates]
    lower = [f"{_x(at):.1f},{_y(each.low, top):.1f}" for at, each in rates]
    line = " ".join(f"{_x(at):.1f},{_y(each.value, top):.1f}" for at, each in rates)
    return [
        f'<polygon points="{" ".join([*upper, *lower[::-1]])}" fill="{colour}" fill-opacity="0.15"/>',
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>',
    ]


def _mark(name: str, threshold: float, at: int) -> list[str]:
    x, y = _x(threshold), TOP + 14 + 16 * at
    anchor, shift = ("end", -4) if threshold > 0.5 else ("start", 4)  # noqa: PLR2004 - the middle
    return [
        f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="{INK}" stroke-dasharray="4 3"/>',
        f'<text x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">{escape(name)}: {threshold:.4g}</text>',
    ]


def _legend() -> list[str]:
    parts = []
    for x, colour, name in (
        (LEFT, HITS, "hits, of the pairs with one answer"),
        (LEFT + 260, WRONG, "wrong hits, of the others (shaded: 95 % interval)"),
    ):
        parts += [
            f'<rect x="{x}" y="36" width="12" height="12" fill="{colour}"/>',
            f'<text x="{x + 18}" y="46">{name}</text>',
        ]
    return parts


def _x(threshold: float) -> float:
    return LEFT + threshold * (WIDTH - LEFT - RIGHT)


def _y(share: float, top: float) -> float:
    return HEIGHT - BOTTOM - share / top * (HEIGHT - TOP - BOTTOM)


def _rounded_up(share: float) -> float:
    return next((step for step in (0.05, 0.1, 0.2, 0.5) if share <= step), 1.0)
