"""What `millrace calibrate` has found, as tables and a plot, or as JSON."""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from rich.table import Table
from rich.text import Text

from millrace.cli import plot, printed
from millrace.cli.labelled import Asked
from millrace.cli.printed import wide
from millrace.cli.rates import Rate, rate, shown
from millrace.funnel.routing.calibration import Chosen
from millrace.funnel.routing.curves import Curve, Floats, Interval, Ranked

TOPICS = 20  # that the table shows
SHARES = (0.2, 0.5)  # at which the table shows the quality
MARKS = {"random": ".", "oracle": "*", "length": "-", "router": "o"}  # drawn in this order


class Line(Struct, frozen=True):
    """An order of requests, with what it recovers."""

    name: str
    apgr: Interval
    cpt50: Interval
    cpt80: Interval
    curve: Curve


class Topic(Struct, frozen=True):
    """The requests of one subject."""

    subject: str
    pairs: int
    small: Rate
    large: Rate
    large_share: float | None  # of them that go to the large model, with the threshold that was found


class Report(Struct, frozen=True):
    """What a file of pairs says."""

    name: str
    small: Rate
    large: Rate
    lines: Sequence[Line]
    topics: Sequence[Topic]


def report(name: str, asked: Sequence[Asked], router: Floats, length: Floats, found: Chosen | None) -> Report:
    """Return the report. `router` and `length` are the scores of two orders."""
    small, large = (np.array([getattr(row, model) for row in asked], float) for model in ("small", "large"))
    orders = {"router": router, "length": length, "random": np.zeros(len(asked)), "oracle": large - small}
    lines = [_line(each, Ranked(scores, small, large)) for each, scores in orders.items()]
    return Report(name, _rate(small), _rate(large), lines, _topics(asked, router, found))


def print_json(found: Report | None, chosen: Chosen | None) -> None:
    """Print all of it. What does not exist is null. Without a report there were no labels, so nothing tells quality."""
    if found is not None:
        body = _fields(found, chosen)
    else:
        body = {"chosen": None if chosen is None else {"threshold": chosen.threshold, "share": chosen.share}}
    printed.print_json(body)


def print_report(found: Report, chosen: Chosen | None) -> None:
    """Print tables and the plot."""
    console = wide()
    models = Table("model", "right", title=Text(f"{found.name}: {found.small.of:,} pairs"))
    models.add_row("small", shown(found.small))
    models.add_row("large", shown(found.large))
    console.print(models)
    console.print(_table_of_lines(found.lines))
    if len(found.topics) > 1:
        console.print(_table_of_topics(found.topics))
    lines = {line.name: plot.Line(line.name, MARKS[line.name], line.curve) for line in found.lines}
    for row in plot.drawn([lines[name] for name in MARKS], None if chosen is None else chosen.share.value):
        console.print(Text(row))
    notes = [
        "In brackets: counts, and the 95 % interval (Clopper-Pearson; of APGR, CPT and quality: bootstrap).",
        "PGR: how much of the gap between the models' quality is recovered. APGR: its mean over all large shares.",
        "CPT50, CPT80: the least share of large calls for a PGR of 50 and 80 %. Oracle: it knows the outcomes.",
    ]
    if found.large.value <= found.small.value:
        notes.append("The large model is no better on these pairs: there is no gap to recover.")
    for note in notes:
        console.print(note, style="dim")


def print_chosen(chosen: Chosen, wished: str, *, labels: bool) -> None:
    """Print the threshold, and what comes of it. `wished` is what it was chosen for."""
    console = wide()
    console.print(Text(wished))
    console.print(Text(_threshold(chosen.threshold), style="bold"))
    console.print(f"large calls: {_percent(chosen.share)}")
    if labels:
        console.print(f"quality: {_percent(chosen.quality)}, {_percent(chosen.kept)} of the large model's")
    if chosen.dollars is not None:
        each = chosen.dollars
        console.print(f"cost: ${each.value:.4g} ({each.low:.4g}-{each.high:.4g}) for 1,000 such requests")
    console.print("In brackets: where 95 % of batches of as many further requests of this kind lie.", style="dim")


def _line(name: str, ranked: Ranked) -> Line:
    apgr, cpt50, cpt80 = ranked.intervals(
        lambda curve: curve.apgr, lambda curve: curve.cpt(0.5), lambda curve: curve.cpt(0.8)
    )
    return Line(name, apgr, cpt50, cpt80, ranked.curve())


def _rate(right: Floats) -> Rate:
    return rate(int(right.sum()), len(right))


def _topics(asked: Sequence[Asked], router: Floats, found: Chosen | None) -> list[Topic]:
    topics = []
    for subject in sorted({row.subject for row in asked} - {""}):
        at = [number for number, row in enumerate(asked) if row.subject == subject]
        small, large = (np.array([getattr(asked[number], model) for number in at]) for model in ("small", "large"))
        share = None if found is None else float((router[at] >= found.threshold).mean())
        topics.append(Topic(subject, len(at), _rate(small), _rate(large), share))
    return sorted(topics, key=lambda topic: -topic.pairs)


def _table_of_lines(lines: Sequence[Line]) -> Table:
    table = Table("order", "APGR", "CPT50", "CPT80", *(f"quality at {100 * share:.0f} %" for share in SHARES))
    for line in lines:
        apgr = f"{line.apgr.value:.3f} ({line.apgr.low:.3f}-{line.apgr.high:.3f})"
        qualities = (f"{100 * line.curve.at(share):.1f} %" for share in SHARES)
        table.add_row(line.name, apgr, _percent(line.cpt50), _percent(line.cpt80), *qualities)
    return table


def _table_of_topics(topics: Sequence[Topic]) -> Table:
    has_share = topics[0].large_share is not None
    table = Table("topic", "small right", "large right", "gain", *(["to the large model"] if has_share else []))
    for topic in topics[:TOPICS]:
        share = [f"{100 * topic.large_share:.0f} %"] if topic.large_share is not None else []
        gain = f"{100 * (topic.large.value - topic.small.value):+.1f}"
        table.add_row(*map(Text, (topic.subject, shown(topic.small), shown(topic.large), gain, *share)))
    if len(topics) > TOPICS:
        table.caption = f"and {len(topics) - TOPICS} topics with fewer pairs (--json has all)"
    return table


def _threshold(value: float) -> str:
    if math.isinf(value):
        return "threshold: none; the " + ("small model is always asked first" if value > 0 else "large model always is")
    return f"threshold: {value:.4f}; the large model is asked first where the score is at least that"


def _percent(each: Interval) -> str:
    if math.isnan(each.value):
        return "-"
    return f"{100 * each.value:.1f} % ({100 * each.low:.1f}-{100 * each.high:.1f})"


def _fields(found: Report, chosen: Chosen | None) -> dict[str, object]:
    lines = {
        line.name: {"apgr": line.apgr, "cpt50": line.cpt50, "cpt80": line.cpt80, "quality": _steps(line.curve)}
        for line in found.lines
    }
    models = {"small": found.small, "large": found.large}
    return {"pairs": found.small.of, **models, "orders": lines, "topics": found.topics, "chosen": chosen}


def _steps(curve: Curve) -> list[float]:
    """Return the quality at 0, 1, ... 100 % of large calls."""
    return [curve.at(step / 100) for step in range(101)]
