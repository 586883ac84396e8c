"""`python -m tests.grammar`: ask for many random streams, and say what was wrong."""

import asyncio
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from millrace import log
from tests.grammar.run import run


@click.command()
@click.option("--streams", default=2000, show_default=True, help="How many streams to ask for.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same streams.")
def main(streams: int, seed: int) -> None:
    """Read random provider streams through a server, over every wire, and compare with the truth."""
    log.configure(level="critical")
    console = Console()
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        task = progress.add_task("streams", total=streams)
        report = asyncio.run(run(streams, seed, Path(folder), lambda: progress.advance(task)))
    table = Table("stream", "asked for")
    for kind, count in sorted(report.streams.items()):
        table.add_row(kind, str(count))
    console.print(table)
    console.print(f"{report.completed} to be read, {report.failed} to fail, {report.stored} answers stored")
    for wrong in report.wrong[:20]:
        console.print(f"wrong: {wrong}", markup=False)
    console.print(f"{len(report.wrong)} wrong")
    raise SystemExit(bool(report.wrong))


main()
