"""Where the first limit lies of up to 100 replicas with one Redis and one PostgreSQL.

    python -m tests.simulate_replicas [--replicas 1,2,5,10,20,50,100] [--rate R] [--entries 0.3] [--seed 1] [--json]

First the costs are measured, with the real parts on this machine: lookups, stores and beats through `stores/redis`,
pages of the ledger through `stores/postgres/shipper.py`, answers of a server in a process of its own, vectors in an
index. With these, replicas are simulated (discrete events): requests come by chance, some are answered by the replica's
own caches, some from Redis, the others by a model; their rows go to PostgreSQL under the lock of one sender. For each
number of replicas the highest rate is looked for at which nothing falls behind, and the part that falls behind first
above it.

With --entries, that share of the answers becomes a semantic entry in a stream that all replicas read into their
indexes. With --rate, that rate is simulated, and no other. With --least, the exit code is 1 where the most replicas
carry less.
"""

import json
import sys
from dataclasses import asdict, replace
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.simulate_replicas.costs import Costs, measured
from tests.simulate_replicas.service import COMMANDS, CORE, NETWORK, ROWS, TAILING, Load, Service, bound, carried

STEPS = 6  # of the search for the highest rate
BETWEEN = (0.4, 1.0)  # times the rate at which a part is busy all the time
ABOVE = 1.15  # times the highest rate, where the first part falls behind


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them."""

    name = "numbers"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 1000 for part in parts):
            self.fail(f"{value!r}: write numbers from 1 to 1000 with commas between them, such as 1,10,100", param, ctx)
        return tuple(map(int, parts))


@click.command(help=__doc__)
@click.option("--replicas", type=Numbers(), default="1,2,5,10,20,50,100", show_default=True)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a second, over all replicas.")
@click.option("--entries", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share of answers.")
@click.option("--own-hits", type=click.FloatRange(0, 1), default=0.15, show_default=True, help="Share of requests.")
@click.option("--other-hits", type=click.FloatRange(0, 1), default=0.10, show_default=True, help="Share of requests.")
@click.option(
    "--gbit", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Redis's network."
)
@click.option("--count", type=click.IntRange(50), default=2000, show_default=True, help="Operations that are measured.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--least", type=click.FloatRange(0), default=0.0, help="Requests a second that must be carried.")
@click.option("--json", "as_json", is_flag=True)
def main(
    *, replicas: tuple[int, ...], rate: float | None, gbit: float, count: int, least: float, as_json: bool, **mix: Any
) -> None:
    if mix["own_hits"] + mix["other_hits"] > 1:
        raise click.BadParameter("--own-hits and --other-hits are more than all requests together")
    console = Console(stderr=as_json, width=None if sys.stdout.isatty() else 120)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=4 + len(replicas))

        def tell(part: str) -> None:
            progress.update(task, description=f"measuring {part}", advance=1)

        costs = measured(count, tell)
        rows = []
        for number in replicas:
            progress.update(task, description=f"simulating {number} replicas", advance=1)
            rows.append(simulated(costs, Load(number, 1.0, bandwidth=gbit * 125e6, **mix), rate))
    if as_json:
        click.echo(json.dumps({"costs": asdict(costs), "replicas": rows}, indent=2))
    else:
        console.print(_of_costs(costs), _of_replicas(rows, rate))
    raise SystemExit(int(rows[-1]["rate"] < least))


def simulated(costs: Costs, load: Load, rate: float | None) -> dict[str, Any]:
    """Simulate one number of replicas: at a rate, or at the highest one that they carry."""
    if rate is None:
        most = bound(costs, load)
        rate = carried(costs, load, (BETWEEN[0] * most, BETWEEN[1] * most), STEPS)
        limits = Service(costs, replace(load, rate=ABOVE * rate)).run().limits
        figures = Service(costs, replace(load, rate=rate)).run()
    else:
        figures = Service(costs, replace(load, rate=rate)).run()
        limits = figures.limits
    return {"replicas": load.replicas, "rate": rate, "first": limits[0] if limits else "none", **asdict(figures)}


def _of_costs(costs: Costs) -> Table:
    table = Table("measured here", "each", "so at most", title="Costs")
    for name, seconds, each in (
        ("Redis: a lookup that finds 1.4 kB", costs.redis_find_s, "lookups/s"),
        ("Redis: an answer is stored", costs.redis_store_s, "answers/s"),
        ("Redis: an entry comes into a stream", costs.redis_add_s, "entries/s"),
        ("Redis: one replica reads it", costs.redis_tail_s, "entries/s"),
        ("PostgreSQL: a row, under the lock", costs.row_s, "rows/s"),
        ("PostgreSQL: a page beside its rows, with its sync", costs.page_s + costs.sync_s, "pages/s"),
        ("a replica: an answer of a model, 150 tokens", costs.answer_s, "answers/s"),
        ("a replica: an answer of its own cache", costs.hit_s, "answers/s"),
        ("a replica: a lookup in Redis", costs.find_s, "lookups/s"),
        ("a replica: a row is sent", costs.ship_s, "rows/s"),
        ("a replica: an entry comes into the index", costs.insert_s, "entries/s"),
        ("a replica: an entry of a snapshot is loaded", costs.load_s, "entries/s"),
    ):
        table.add_row(name, f"{seconds * 1e6:,.1f} µs", f"{1 / seconds:,.0f} {each}" if seconds else "")
    for name, bytes_ in (
        ("network of Redis: a lookup, an answer stored", costs.find_bytes + costs.store_bytes),
        ("network of Redis: an entry, for each replica", costs.entry_bytes),
        ("PostgreSQL's disk: a row", costs.row_bytes),
        ("PostgreSQL's log: a row", costs.log_bytes),
        ("memory: an entry in the index", costs.index_bytes),
    ):
        table.add_row(name, f"{bytes_:,.0f} B", "")
    return table


def _of_replicas(rows: list[dict[str, Any]], rate: float | None) -> Table:
    title = "The highest rate that is carried" if rate is None else f"At {rate:,.0f} requests a second"
    table = Table(title=f"{title}, and how busy each part is", caption="row lag: until 99 of 100 rows have arrived")
    parts = (CORE, TAILING, COMMANDS, NETWORK, ROWS)
    short = ("cores", "entries", "Redis", "network", "ledger")
    for name in ("replicas", "requests/s", *short, "late lookups", "row lag", "first limit"):
        table.add_column(name, justify="left" if name == "first limit" else "right")
    for row in rows:
        shares = (f"{row['busy'][part]:.0%}" for part in parts)
        late, lag = f"{row['late_lookups']:.1%}", f"{row['row_lag_s']:.2f} s"
        table.add_row(str(row["replicas"]), f"{row['rate']:,.0f}", *shares, late, lag, row["first"])
    return table


if __name__ == "__main__":
    main()
