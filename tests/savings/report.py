"""What a benchmark of savings has found: tables and a waterfall in the terminal, a plot, JSON."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from html import escape
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.savings.figures import Figures
from tests.savings.mix import Mix

WIDTH = 44  # characters of a bar
MOST_BILL, LEAST_QUALITY, MOST_P95 = 0.40, 0.98, 0.6  # of what the large model alone costs, gets and takes


def promises(found: Sequence[Figures]) -> dict[str, tuple[float, bool]]:
    """Return what was promised of all levers together: the figure, and whether it holds."""
    off, on = found[0], found[-1]
    bill, quality = float(on.bill / off.bill), on.quality / max(off.quality, 1e-9)
    late = on.total_s["p95"] / off.total_s["p95"]
    return {
        f"bill, of the large model's (at most {MOST_BILL:.0%})": (bill, bill <= MOST_BILL),
        f"quality, of the large model's (at least {LEAST_QUALITY:.0%})": (quality, quality >= LEAST_QUALITY),
        f"total time, p95, of the large model's (at most {MOST_P95:g})": (late, late <= MOST_P95),
    }


def show(console: Console, mix: Mix, found: Sequence[Figures], bars: dict[str, Decimal]) -> None:
    """Print all of it."""
    off = found[0]
    table = Table(title=f"{off.requests} requests, {mix.per_second:g} a second; seconds are those of the usual speed")
    table.add_column("levers")
    for column in ("bill $", "of large only", "quality", "TTFT p50", "p95", "p99", "total p50", "p95", "p99"):
        table.add_column(column, justify="right")
    for column in ("exact", "semantic", "joined", "wrong hits", "failed"):
        table.add_column(column, justify="right")
    for one in found:
        times = [f"{seconds:.2f}" for times in (one.ttft_s, one.total_s) for seconds in times.values()]
        hits = [f"{one.cache.get(name, 0) / one.requests:.1%}" for name in ("exact", "semantic", "joined")]
        bill = f"{one.bill:.4f}", f"{one.bill / off.bill:.1%}", f"{one.quality:.1%}"
        name = " + ".join(one.levers) if len(one.levers) in (1, 2) else one.name
        table.add_row(name, *bill, *times, *hits, str(one.wrong_hits), str(one.failed))
    console.print(table)
    console.print(falls(off, bars))
    for said, (value, holds) in promises(found).items():
        console.print(
            Text(f"{'kept' if holds else 'MISSED'}: {value:.3f} {said}", style="green" if holds else "bold red")
        )
    for one in found:
        for fault in one.faults:
            console.print(Text(f"{one.name}: {fault}", style="bold red"))


def markdown(found: Sequence[Figures], bars: dict[str, Decimal]) -> str:
    """Return the table of the README, and what each lever took off."""
    off = found[0]
    quantiles = "p50 / p95 / p99, s"
    heads = "levers", "bill", "right", f"TTFT {quantiles}", f"total {quantiles}", "hits: exact, semantic", "wrong hits"
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for one in found:
        ttft, total = (" / ".join(f"{each:.1f}" for each in times.values()) for times in (one.ttft_s, one.total_s))
        hits = ", ".join(f"{one.cache.get(name, 0) / one.requests:.1%}" for name in ("exact", "semantic"))
        name = " + ".join(one.levers) if len(one.levers) == len("ab") else one.name
        share = f"{float(one.bill / off.bill):.1%}"
        lines.append(f"| {name} | {share} | {one.quality:.1%} | {ttft} | {total} | {hits} | {one.wrong_hits} |")
    taken = ", ".join(f"{name} {float(each / off.bill):.1%}" for name, each in bars.items() if each)
    return "\n".join([*lines, "", taken, ""])


def _steps(off: Figures, bars: dict[str, Decimal]) -> Iterator[tuple[str, float, float, float]]:
    """Yield each bar: its name, where it begins and ends, both in dollars, and what it takes off."""
    left = float(off.bill)
    yield "large only", 0.0, left, left
    for name, taken in bars.items():
        if taken:
            yield name, left - float(taken), left, -float(taken)
            left -= float(taken)
    yield "all on", 0.0, left, left


def falls(off: Figures, bars: dict[str, Decimal]) -> Table:
    """Return the waterfall as a table."""
    table = Table("lever", "dollars", "of the bill", "", title="from the large model's bill to that of all levers")
    most = max(max(start, end) for _, start, end, _ in _steps(off, bars))
    for name, start, end, change in _steps(off, bars):
        low, high = (round(WIDTH * max(0.0, each) / most) for each in sorted((start, end)))
        style = "cyan" if start == 0 and change > 0 else "green" if change < 0 else "red"
        bar = Text(" " * low + "█" * max(high - low, 1), style=style)
        table.add_row(name, f"{change:+.4f}", f"{change / float(off.bill):+.1%}", bar)
    return table


def svg(off: Figures, bars: dict[str, Decimal], found: Sequence[Figures]) -> str:
    """Return a plot: the waterfall, and the bill and p95 of each run."""
    steps = [*_steps(off, bars)]
    most = max(max(start, end) for _, start, end, _ in steps)
    row, left, wide = 26, 130, 460
    high = row * (len(steps) + len(found)) + 130
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {high}" font-family="sans-serif" font-size="13">',
        f'<rect width="760" height="{high}" fill="#fff"/>',
        '<text x="10" y="24" font-weight="bold">From the large model’s bill to that of all levers, in dollars</text>',
    ]
    at = 40
    for name, start, end, change in steps:
        low, top = sorted((start, end))
        colour = "#4477aa" if low == 0 and name in ("large only", "all on") else "#228833" if change < 0 else "#cc3311"
        parts += _bar(name, f"{change:+.4f}" if colour != "#4477aa" else f"{change:.4f}", at, row, colour,
                      (left + wide * max(low, 0) / most, wide * (top - max(low, 0)) / most))  # fmt: skip
        at += row
    at += 40
    parts.append(
        f'<text x="10" y="{at - 12}" font-weight="bold">Each lever alone: bill of large only; quality; p95</text>'
    )
    for one in found:
        share = float(one.bill / off.bill)
        label = f"{share:.0%}; {one.quality:.1%}; {one.total_s['p95']:.1f} s"
        parts += _bar(one.name, label, at, row, "#4477aa", (left, wide * min(share, 1.2)))
        at += row
    return "\n".join([*parts, "</svg>", ""])


def _bar(name: str, label: str, at: float, row: float, colour: str, place: tuple[float, float]) -> list[str]:
    x, width = place
    return [
        f'<text x="10" y="{at + 15}">{escape(name)}</text>',
        f'<rect x="{x:.1f}" y="{at}" width="{max(width, 1):.1f}" height="{row - 6}" fill="{colour}"/>',
        f'<text x="600" y="{at + 15}">{escape(label)}</text>',
    ]


def as_json(mix: Mix, found: Sequence[Figures], bars: dict[str, Decimal], large_share: float | None) -> bytes:
    """Return all figures."""
    body: dict[str, Any] = {
        "mix": mix,
        "calibrated_large_share": large_share,
        "runs": found,
        "waterfall": bars,
        "promises": {said: {"value": value, "holds": holds} for said, (value, holds) in promises(found).items()},
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=2)
