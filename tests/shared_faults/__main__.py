"""Replicas under load while what they share fails, or one of them: `python -m tests.shared_faults --fault redis-gone`.

Three servers in processes of their own have one Redis and one PostgreSQL, each behind a proxy. Clients ask all of them
in every dialect: what is new, what was asked before, the same at two of them at once, more than a budget has room for;
and they read and cancel at one what another one gives. Meanwhile something fails, and is mended. Then:

- every answer is word for word what the model says, and nobody has seen another tenant's;
- whatever has failed, no request has, but those of a spent budget, and those of a replica that was killed;
- each request has one row in the ledger of its replica, and the same one in PostgreSQL once that has caught up;
- each answered call costs what the model counts, and there are as many calls as the models count;
- the budget is not passed, by what the model has sent, nor by what was booked.
"""

import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from millrace import log
from tests.shared_faults import judge
from tests.shared_faults.faults import FAULTS
from tests.shared_faults.load import Load
from tests.shared_faults.place import placed

REPLICAS = 3
SHOWN = 12  # of what is wrong


@dataclass(slots=True)
class Outcome:
    """What became of one run."""

    fault: str
    asked: int
    ends: dict[str, int]
    rows: int
    caught_up_s: float  # PostgreSQL, after the last request
    wrong: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how much."""

    replicas: int = REPLICAS
    workers: int = 1  # of each
    per_s: float = 20.0  # requests, over all replicas
    before_s: float = 3.0
    seconds: float = 8.0  # that the fault lasts
    after_s: float = 6.0


async def run(fault: str, seed: int, folder: Path, plan: Plan, advance: Callable[[], object] = lambda: None) -> Outcome:
    """Run one fault."""
    chosen, chance = FAULTS[fault], Random(f"{fault} {seed}")
    async with placed(folder, plan.replicas, chosen.clocks, workers=plan.workers) as place:
        load = Load(place, seed)
        await load.run(plan.before_s, plan.per_s)
        advance()
        async with chosen.strike(place, chance):
            await load.run(plan.seconds, plan.per_s)
            advance()
        await load.run(plan.after_s, plan.per_s)
        await load.settled()
        found = await judge.ledgers(place)
        wrong = [*load.faults, *await judge.wrong(place, load.asked, found, kills=chosen.kills)]
        for replica in place.replicas:
            crashes = replica.program.printed("Traceback")
            wrong += [f"{crashes} crashes in what {replica.program.name} printed"] * bool(crashes)
        advance()
        return Outcome(fault, len(load.asked), dict(load.ends), len(found.shared), found.caught_up_s, wrong)


async def _all(names: list[str], seed: int, plan: Plan, logs: Path | None) -> list[Outcome]:
    found = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("faults", total=3 * len(names))
        for name in names:
            progress.update(task, description=name)
            with tempfile.TemporaryDirectory(prefix="millrace-faults-") as folder:
                at = Path(folder) if logs is None else logs / name
                at.mkdir(parents=True, exist_ok=True)
                found.append(await run(name, seed, at, plan, lambda: progress.advance(task)))
    return found


@click.command(help=__doc__)
@click.option("--fault", "faults", multiple=True, type=click.Choice([*FAULTS]), help="All of them, if none is named.")
@click.option("--seed", default=1, show_default=True)
@click.option("--seconds", default=8.0, show_default=True, help="For which a fault lasts.")
@click.option("--rate", "per_s", default=20.0, show_default=True, help="Requests a second, over all replicas.")
@click.option("--replicas", default=REPLICAS, show_default=True, type=click.IntRange(2))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Of each replica.")
@click.option("--keep", type=click.Path(path_type=Path), help="A folder where logs and data stay.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all of it there too.")
def main(faults: tuple[str, ...], seed: int, keep: Path | None, output: Path | None, **plan: Any) -> None:
    """See above."""
    log.configure(level="error")
    found = asyncio.run(_all([*faults] or [*FAULTS], seed, Plan(**plan), keep))
    console = Console(width=150)
    table = Table("fault", "requests", "rows in PostgreSQL", "caught up after", "wrong", "ends")
    for each in found:
        ends = ", ".join(f"{end} {count}" for end, count in sorted(_by_end(each).items()))
        took = f"{each.caught_up_s:.1f} s"
        table.add_row(each.fault, f"{each.asked:,}", f"{each.rows:,}", took, str(len(each.wrong)), ends)
    console.print(table)
    for each in found:
        for line in each.wrong[:SHOWN]:
            console.print(f"{each.fault}: {line[:400]}", style="red", markup=False)
    if output is not None:
        output.write_text(json.dumps([asdict(each) for each in found], indent=1), "utf-8")
    sys.exit(any(each.wrong for each in found))


def _by_end(outcome: Outcome) -> Counter[str]:
    found: Counter[str] = Counter()
    for kind, count in outcome.ends.items():
        found[kind.partition(": ")[2]] += count
    return found


if __name__ == "__main__":
    main()
