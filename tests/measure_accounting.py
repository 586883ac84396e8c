"""Whether every token and every cent is in the ledger: requests ended in every way, against the models' own counts.

    python -m tests.measure_accounting [--requests 200000] [--seed N] [--json FILE]

A server in a process of its own and two simulated models that keep what each call was asked and has sent. Requests are
completed, cached, joined, revised, raced, hedged, cancelled at random, left, timed out, cut, broken off, failed and
refused; at the end of each phase the server is drained while some still run. Then each request must have one row, rows
with reported usage must have exactly the model's own counts, and what is estimated must lie between what the model had
sent a quarter of a second before it saw the abort and all that it has sent.
"""

import asyncio
import json
import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from millrace import log
from tests.accounting.audit import Audit
from tests.accounting.run import phase

PHASE = 20_000  # requests to one server


@click.command(help=__doc__)
@click.option("--requests", default=200_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all of it there too.")
def main(requests: int, seed: int, output: Path | None) -> None:
    """See above."""
    log.configure(level="error")
    found = asyncio.run(measure(requests, seed))
    console = Console(width=130)
    table = Table("kind", "requests", "how they ended in the ledger", title=f"{found.rows:,} rows")
    by_kind: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (kind, how), count in found.ends.most_common():
        by_kind[kind][how] = count
    for kind, ends in by_kind.items():
        table.add_row(kind, f"{sum(ends.values()):,}", ", ".join(f"{how} {count:,}" for how, count in ends.items()))
    console.print(table)
    console.print(f"calls with reported usage: {found.exact_calls:,}; estimated: {found.estimated_calls:,}")
    for deviation in found.deviations:
        console.print(deviation, style="red", markup=False)
    console.print(f"deviations: {len(found.deviations)}", style="bold")
    if output is not None:
        ends_as_text = {f"{kind}: {how}": count for (kind, how), count in found.ends.items()}
        output.write_text(json.dumps(asdict(found) | {"ends": ends_as_text}, indent=1), "utf-8")
    if found.deviations:
        raise SystemExit(1)


async def measure(requests: int, seed: int) -> Audit:
    """Send all requests, in phases; return what became of them."""
    found = Audit()
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("requests", total=requests)
        for number, begin in enumerate(range(0, requests, PHASE)):
            with tempfile.TemporaryDirectory() as name:
                count = min(PHASE, requests - begin)
                one = await phase(Path(name), count, seed + number, lambda more: progress.advance(task, more))
            found.add(one)
    return found


if __name__ == "__main__":
    main()
