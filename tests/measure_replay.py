"""How well a replay predicts: a workload is run under some settings, replayed under others, and run again under those.

    python -m tests.measure_replay [--requests 5000] [--seed 1 --seed 2] [--cold]

Wanted: unchanged, the ledger to the nanodollar; changed, the cost within 5 %, hit rate and split within 2 points. What
is not so is printed in red, and the exit code is 1.

All runs begin with what a router has learned from as many other questions, as a server does that has had traffic. With
`--cold` it begins with nothing, and learns all that it knows in the window: something else under other settings.
"""

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from millrace import log
from millrace.settings import Settings
from millrace.stores.database import FILE
from millrace.wire import replay as wire
from tests.support.replayed import Asked, ran, replayed, workload

MOST_OFF, MOST_POINTS = 5.0, 2.0  # per cent of the cost, points of hit rate and split
WAS: dict[str, dict[str, Any]] = {"cache": {"max_wrong_hit_rate": 0.2}, "router": {"large_share": 0.5}}
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "share 0.5 -> 0.3": {"cache": {"max_wrong_hit_rate": 0.2}, "router": {"large_share": 0.3}},
    "bound 0.2 -> 0.005": {"cache": {"max_wrong_hit_rate": 0.005}, "router": {"large_share": 0.5}},
    "both": {"cache": {"max_wrong_hit_rate": 0.005}, "router": {"large_share": 0.3}},
    "threshold 0.999, share 0.3": {
        "cache": {"max_wrong_hit_rate": 0.2, "semantic_threshold": 0.999},
        "router": {"large_share": 0.3},
    },
    "no exact cache": {"cache": {"max_wrong_hit_rate": 0.2, "exact": False}, "router": {"large_share": 0.5}},
}


def tried(now: Settings, sections: dict[str, dict[str, Any]]) -> Settings:
    """Return the settings with others of some sections."""
    return replace(now, **{name: replace(getattr(now, name), **values) for name, values in sections.items()})


KEPT = ("router_states", "ratios")  # of a database, where another server is to begin with what this one has learned


def with_what_was_learned(folder: Path, earlier: Path | None) -> Path:
    """Return a new folder whose database has what a router has learned in an earlier one, and nothing else of it.

    Without an earlier one it is empty.
    """
    folder.mkdir()
    if earlier is not None:
        with closing(sqlite3.connect(earlier / FILE)) as old, closing(sqlite3.connect(folder / FILE)) as new:
            old.backup(new)
            tables = new.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
            for (table,) in tables.fetchall():
                if table not in KEPT:
                    new.execute(f'DELETE FROM "{table}"')  # noqa: S608 - a name of its own schema
            new.commit()
    return folder


async def measured(asked: list[Asked], earlier: list[Asked], seed: int, cases: tuple[str, ...]) -> bool:
    """Print all figures, and return whether they are as wanted. A router has learned from the `earlier` questions."""
    console = Console(width=140)
    with TemporaryDirectory() as folder:
        before = Path(folder, "before") if earlier else None
        if before is not None:
            await ran(before, earlier, shows=True, sections=WAS)
        now = await ran(with_what_was_learned(Path(folder, "was"), before), asked, shows=True, sections=WAS)
        same = await replayed(now)
        exact = same.happened == same.replayed
        console.print(f"{len(asked)} requests, seed {seed}; replayed unchanged: {'the ledger' if exact else 'DIFFERS'}")
        table = Table("changed", "", "happened", "replayed", "run again", "off by", "wanted")
        for name in cases or CASES:
            sections = CASES[name]
            said = (await replayed(now, lambda was, by=sections: tried(was, by))).replayed  # type: ignore[misc]
            anew = with_what_was_learned(Path(folder, name.replace(" ", "_")), before)
            again = await ran(anew, asked, shows=True, sections=sections)
            real = (await replayed(again)).happened
            exact &= _rows(table, name, same.happened, said, real)
        console.print(table)
        return exact


def _rows(table: Table, name: str, was: wire.ShownFigures, said: wire.ShownFigures, real: wire.ShownFigures) -> bool:
    """Add the rows of one change, and return whether all are as wanted."""
    off = 100 * (said.cost_usd / real.cost_usd - 1)
    is_close = abs(off) <= MOST_OFF
    bounds = f"{said.cost_usd:.4f} ({said.low_usd:.4f}-{said.high_usd:.4f})"
    shown = _marked(f"{off:+.2f} %", is_close)
    table.add_row(name, "dollars", f"{was.cost_usd:.4f}", bounds, f"{real.cost_usd:.4f}", shown, f"{MOST_OFF:g} %")
    for what in ("hit_rate", "large_share"):
        before, predicted, found = (getattr(each, what) for each in (was, said, real))
        points = 100 * (predicted - found)
        is_near = abs(points) <= MOST_POINTS
        is_close &= is_near
        shown = _marked(f"{points:+.2f}", is_near)
        table.add_row("", what, f"{before:.2%}", f"{predicted:.2%}", f"{found:.2%}", shown, f"{MOST_POINTS:g} points")
    counts = [f"{each.exact}/{each.semantic}/{each.joined}" for each in (was, said, real)]
    table.add_row("", "exact/semantic/joined", *counts)
    table.add_row("", "escalated", *(f"{each.escalated:.0f}" for each in (was, said, real)))
    table.add_row("", "wrong hits", *(f"{each.wrong_hits:.1f}" for each in (was, said, real)), end_section=True)
    return is_close


def _marked(figure: str, is_close: bool) -> str:
    return figure if is_close else f"[red]{figure}[/red]"


@click.command()
@click.option("--requests", default=5000, show_default=True)
@click.option("--seed", "seeds", multiple=True, type=int, default=(1,), show_default=True, help="One after another.")
@click.option("--case", "cases", multiple=True, type=click.Choice([*CASES]), help="Only these changes.")
@click.option("--cold", is_flag=True, help="Begin each run with a router that has learned nothing.")
def main(*, requests: int, seeds: tuple[int, ...], cases: tuple[str, ...], cold: bool) -> None:
    """Run, replay, and run again."""
    log.configure(level="error")
    is_close = True
    for seed in seeds:
        earlier = [] if cold else workload(requests, seed + 1000)
        is_close &= asyncio.run(measured(workload(requests, seed), earlier, seed, cases))
    sys.exit(0 if is_close else 1)


if __name__ == "__main__":
    main()
