"""`millrace cache tune`: how often the semantic cache would hit, and how often wrongly, on pairs of the user's own."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from millrace import assembly
from millrace.cli import configuration, curve, printed
from millrace.cli.printed import wide
from millrace.cli.rates import Point, Scores, needed, shown
from millrace.cli.rewriting import write_setting
from millrace.cli.rows import refused, rows
from millrace.settings import CacheSettings

AT_ONCE = 32  # pairs that are decided together
STEPS = 200  # points of the plot
ROWS = (*(share / 20 for share in range(8, 20)), 0.975, 0.99)  # thresholds of the table
NO_THRESHOLD = 1  # exit code
SECTION, KEY = "cache", "semantic_threshold"


class _Row(msgspec.Struct):
    a: str
    b: str
    same: bool | None = None
    duplicate: int | None = None  # 0 or 1: another name for `same`


class Pair(Struct, frozen=True):
    """Two questions, and whether one answer does for both."""

    a: str
    b: str
    same: bool


@click.command()
@click.argument("pairs", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--max-wrong",
    type=click.FloatRange(0, 1, min_open=True),
    help="Find the lowest threshold at which the wrong-hit rate is at most this, with 95 % confidence: 0.01.",
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the curve: a file .svg or .html.")
@click.option("--write", is_flag=True, help="Set the threshold that was found in the configuration file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configuration.config_option
def tune(*, pairs: Path, max_wrong: float | None, plot: Path | None, write: bool, as_json: bool, config: Path) -> None:
    """Measure hits and wrong hits on PAIRS over the threshold, and find the threshold for a bound.

    PAIRS is a file of JSON Lines: {"a": "...", "b": "...", "same": true}. `a` is the stored question, `b` the one that
    is asked; `same` is whether one answer does for both. No server is needed. Pairs from your own traffic say most.
    """
    if write and max_wrong is None:
        raise click.UsageError("--write sets the threshold that --max-wrong finds; give that too")
    if plot is not None and plot.suffix not in (".svg", ".html"):
        raise click.BadParameter("name a file that ends in .svg or .html", param_hint="--plot")
    read = _read(pairs)
    settings = configuration.cache_settings(config)
    scores, shipped = configuration.run(_scored(settings, read))
    found = None if max_wrong is None else scores.least(max_wrong)
    if plot is not None:
        _draw(plot, scores, pairs.name, shipped, found)
    if as_json:
        _print_json(scores, shipped, found)
    else:
        _print(scores, shipped, found, pairs)
    if max_wrong is not None and found is None:
        _exit_without(max_wrong, sum(not pair.same for pair in read))
    if write and found is not None:
        write_setting(config, SECTION, KEY, found.threshold)


def _read(path: Path) -> list[Pair]:
    pairs = []
    for number, row in rows(path, _Row):
        same = row.same if row.same is not None else row.duplicate
        if same is None:
            raise refused(path, number, 'add "same": true or false')
        pairs.append(Pair(row.a, row.b, bool(same)))
    if not any(pair.same for pair in pairs) or all(pair.same for pair in pairs):
        raise click.BadParameter(f"{path}: pairs of both kinds are needed, same and not", param_hint="PAIRS")
    return pairs


async def _scored(settings: CacheSettings, pairs: Sequence[Pair]) -> tuple[Scores, float]:
    """Return the scores of the pairs, and the threshold that is set or shipped."""
    found: list[float | None] = []
    console = Console(stderr=True)
    async with assembly.judge(settings) as judge:
        batches = range(0, len(pairs), AT_ONCE)
        for begin in track(batches, "deciding", console=console, disable=not console.is_terminal):
            batch = [(pair.a, pair.b) for pair in pairs[begin : begin + AT_ONCE]]
            found += [decision.probability for decision in await judge.decide_all(batch, all_compared=False)]
        scored = list(zip(pairs, found, strict=True))
        same, other = ([score for pair, score in scored if pair.same is wanted] for wanted in (True, False))
        return Scores(same, other), judge.threshold


def _print(scores: Scores, shipped: float, found: Point | None, path: Path) -> None:
    table = Table("threshold", "hits", "wrong hits", "wrong of those served", title=Text(path.name))
    points = {each: scores.at(each) for each in {*ROWS, shipped}}
    if found is not None:
        points[found.threshold] = found
    for threshold in sorted(points):
        point = points[threshold]
        marks = [name for name, at in (("set", shipped), ("found", found and found.threshold)) if at == threshold]
        cells = (f"{threshold:.4g} {' '.join(marks)}", *map(shown, (point.hits, point.wrong, point.wrong_of_served)))
        table.add_row(*map(Text, cells), style="bold" if marks else None)
    console = wide()
    console.print(table)
    console.print("In brackets: counts, and the 95 % interval (Clopper-Pearson).", style="dim")


def _print_json(scores: Scores, shipped: float, found: Point | None) -> None:
    curve_ = [scores.at(step / 100) for step in range(101)]
    body = {"threshold": shipped, "found": found, "curve": curve_}
    printed.print_json(body)


def _draw(path: Path, scores: Scores, name: str, shipped: float, found: Point | None) -> None:
    title = f"The semantic cache on {name}"
    marked = [("set", shipped), *([("found", found.threshold)] if found else [])]
    drawing = curve.svg([scores.at(step / STEPS) for step in range(STEPS + 1)], title, marked)
    path.write_text(curve.html(drawing, title) if path.suffix == ".html" else drawing, "utf-8")
    click.echo(f"drawn: {path}", err=True)


def _exit_without(max_wrong: float, others: int) -> None:
    words = f"no threshold is certain to keep wrong hits at {100 * max_wrong:g} % or less on these pairs"
    if others < (least := needed(max_wrong)):
        words += f": {others} pairs that are not the same cannot show it, {least} or more can"
    click.echo(f"{words}; nothing is written", err=True)
    sys.exit(NO_THRESHOLD)
