"""What a run under fire has to say: a table, the faults, and an exit code."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from tests.fire.target import MEBIBYTE, Target

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder with a random name is made in it
SHOWN = 60  # kinds of answers


@contextmanager
def folder() -> Iterator[Path]:
    """Yield a folder for a server's data, in memory where that is possible: the disk is not under fire."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@contextmanager
def progress(console: Console, total: int) -> Iterator[Callable[[int], object]]:
    """Show how far a run is; yield what counts on."""
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as shown:
        task = shown.add_task("sent", total=total)
        yield lambda count: shown.advance(task, count)


def said(fired: Target, seen: Counter[str], title: str) -> int:
    """Print what was seen; return 1 if anything was wrong."""
    console, watch = Console(width=130), fired.watch
    table = Table("seen", "times", title=title)
    for kind, count in seen.most_common(SHOWN):
        table.add_row(kind, f"{count:,}")
    console.print(table)
    figures = Table("figure", "value")
    figures.add_row("worst turn of the loop", f"{watch.worst_turn_s * 1000:.0f} ms of CPU time {watch.worst_place}")
    figures.add_row("a bystander's worst ping", f"{fired.worst_ping_s * 1000:.0f} ms")
    parts = " ".join(f"{each / MEBIBYTE:.0f}" for each in fired.memory)
    figures.add_row("RSS after each part", f"{parts} MiB, {fired.drift:+.1%} since the first")
    figures.add_row("warnings in the log", ", ".join(f"{each} ({count})" for each, count in watch.warnings.items()))
    figures.add_row("faults", str(watch.faults.total()))
    console.print(figures)
    for fault, count in watch.faults.most_common():
        console.print(f"{count} x {fault}", style="red", markup=False)
    return int(bool(watch.faults))
