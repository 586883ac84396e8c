"""Whether a deployment that fails shows: each is killed, frozen, silent, cut off, on 429 and on 500 in turn under load.

    python -m tests.measure_pools [--rate 50] [--down 12] [--all] [--outage NAME ...] [--json]

A small model has three deployments, simulated in processes of their own. The requests want that model alone, so nobody
else helps: half of them come from clients that can take words back, half from plain ones. `failed` counts requests that
another deployment could have served; `cut` are plain ones that had seen words when their deployment broke off. `known`
is the time during which the server knew of it, and `asked` the calls that the deployment got meanwhile, probes among
them; `back` is how long after its return it was asked again. --all lets every deployment fail in every way, else they
take turns.
"""

import asyncio
import json
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from millrace import log
from tests.support.outage import OUTAGES, Measured, stage

FAST: dict[str, Any] = {"first_token_timeout_s": 20, "stall_timeout_s": 3}


@click.command(help=__doc__)
@click.option("--rate", default=50.0, show_default=True, help="Requests a second.")
@click.option("--down", default=12.0, show_default=True, help="Seconds of each outage.")
@click.option("--all", "is_all", is_flag=True, help="Every outage at every deployment.")
@click.option("--outage", "names", multiple=True, type=click.Choice([outage.name for outage in OUTAGES]))
@click.option("--json", "as_json", is_flag=True)
def main(rate: float, down: float, is_all: bool, names: tuple[str, ...], as_json: bool) -> None:
    """Measure, and print a table."""
    log.configure(level="error")
    found = asyncio.run(_measure(rate, down, names, is_all=is_all))
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found]))
        return
    table = Table(
        "outage", "at", "requests", "failed", "cut", "late", "taken back", "longest", "known", "asked", "back"
    )
    for one in found:
        counts = one.counts
        numbers = (counts.asked, counts.failed, counts.cut, counts.late, counts.taken_back)
        times = (f"{counts.longest_s:.1f} s", f"{one.known_s:.1f} s", str(one.asked_when_known))
        table.add_row(one.outage, one.deployment, *map(str, numbers), *times, f"{one.recovered_s:.1f} s")
    console = Console(width=140)
    console.print(table)
    for one in found:
        for why, count in one.counts.why.most_common(3):
            console.print(f"{one.outage} at {one.deployment}, {count} times: {why}", markup=False)


async def _measure(rate: float, down_s: float, names: tuple[str, ...], *, is_all: bool) -> list[Measured]:
    found: list[Measured] = []
    wanted = [outage for outage in OUTAGES if not names or outage.name in names]
    async with stage(**FAST) as running:
        for number, outage in enumerate(wanted):
            turn = running.deployments[number % len(running.deployments)]
            for deployment in running.deployments if is_all else [turn]:
                click.echo(f"{outage.name} at {deployment.label} ...", err=True)
                found.append(await running.measured(outage, deployment, per_s=rate, down_s=down_s))
    return found


if __name__ == "__main__":
    main()
