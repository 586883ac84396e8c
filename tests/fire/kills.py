"""A server and its models, killed (-9) again and again under load, and whether anything is lost, doubled or damaged.

    python -m tests.fire.kills --kills 20

Visitors ask over WebSockets, SSE, Messages and as documents. After each kill what was killed is started again. Then:

- every request has an end for its client, soon after the kill: a terminal, an error, or a connection that is lost;
- what was accepted more than 100 ms before a kill has one row in the ledger, and what ended before that has its end;
- nothing is `open` at last: what a killed server left is `killed`;
- an answer is `completed` only if it is whole: word for word what a model says;
- the database is sound, and what the caches then serve is word for word what a model says.
"""

import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.fire.programs import Place, Program, placed
from tests.fire.questions import Questions
from tests.fire.visitors import Asked, Visitors, Way
from tests.support.http_client import RESPONSES, body_of

VISITORS = 6  # of each way
AGES_S = 0.1  # after which a row is on the disk
LEARNS_S = 5.0  # in which a client knows, at most, that its answer will not come
BETWEEN_S = (0.8, 2.0)  # kills
AWAY_S = 0.5  # that a killed model stays so
ENDS_S = 60.0  # for all to end
REREAD = 60  # answers that are asked for once more
PACE = "[tokens=30] [rate=100]"
MORE = """
[checks]
repair = false
[funnel]
hedge_share = 0
[evidence]
small_share = 0.5
hit_share = 0.5
large_share = 0.5
dollars_per_day = "1000"
"""
KILLED = ("small", "server", "large", "server")


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill: whom, and when (monotonic)."""

    name: str
    at: float


@dataclass(slots=True)
class Outcome:
    """What became of a run."""

    kills: list[Kill]
    asked: list[Asked]
    rows: dict[str, list[str]]  # statuses by tag
    learned_s: float = 0.0  # the latest that a client knew of a kill
    reread: int = 0
    judged: int = 0  # samples of evidence
    faults: list[str] = field(default_factory=list)

    @property
    def server_kills(self) -> list[float]:
        """When the server was killed."""
        return [kill.at for kill in self.kills if kill.name == "server"]


async def killing(folder: Path, kills: int, seed: int, progress: Progress) -> Outcome:
    """Run it."""
    chance, questions = Random(f"kills {seed}"), Questions(seed)
    bar = progress.add_task("kills", total=kills)
    async with placed(folder, MORE, speed=20, seed=seed) as place:
        visitors = Visitors(
            place.server.url,
            lambda number: f"{questions.new()} {PACE}" if number % 3 else questions.any(),
            chance,
        )
        visiting = [asyncio.create_task(visitors.visit(way)) for way in Way for _ in range(VISITORS)]
        done = list[Kill]()
        by_name = {program.name: program for program in place.programs}
        order = [KILLED[number % len(KILLED)] for number in range(kills)]
        for name in order:
            await asyncio.sleep(chance.uniform(*BETWEEN_S))
            await by_name[name].kill()
            done.append(Kill(name, time.monotonic()))
            await asyncio.sleep(AWAY_S if name != "server" else 0)
            await by_name[name].start()
            progress.advance(bar)
        await asyncio.sleep(BETWEEN_S[1])
        visitors.is_over = True
        await asyncio.wait(visiting, timeout=ENDS_S)
        for task in visiting:
            task.cancel()
        outcome = Outcome(done, visitors.asked, {})
        await _look_again(place, outcome)
        await place.server.stop()
        _read(place.database, outcome)
        if crashes := place.server.printed("Traceback"):
            outcome.faults.append(f"{crashes} crashes in what the server printed")
    _compare(outcome)
    return outcome


async def _look_again(place: Place, outcome: Outcome) -> None:
    """Compare answers to what the models say, and to what the caches say now."""
    own = [asked for asked in outcome.asked if asked.end == "completed" and PACE in asked.question]
    said: dict[str, set[str]] = {}
    async with aiohttp.ClientSession() as http:
        for asked in own:
            if asked.question not in said:
                said[asked.question] = {await _said_by(http, model, asked.question) for model in place.models}
            if asked.text not in said[asked.question]:
                outcome.faults.append(f"{asked.tag} ({asked.way}) is completed, and not whole: {asked.text!r}")
        for asked in own[:: max(len(own) // REREAD, 1)]:
            body = body_of(RESPONSES, asked.question, millrace={"tag": "again"})
            async with http.post(f"{place.server.url}{RESPONSES}", json=body) as answer:
                document = await answer.json()
            text = "".join(part["text"] for item in document["output"] for part in item["content"])
            outcome.reread += 1
            if text not in said[asked.question]:
                outcome.faults.append(f"{asked.tag}, asked again: {text!r}")
        async with http.get(f"{place.server.url}/v1/evidence") as answer:
            if answer.status != 200:
                outcome.faults.append(f"no report of the evidence: {answer.status} {await answer.text()}")


async def _said_by(http: aiohttp.ClientSession, model: Program, question: str) -> str:
    body = {"model": "any", "messages": [{"role": "user", "content": question.replace("[rate=100]", "[rate=0]")}]}
    async with http.post(f"{model.url}/v1/chat/completions", json=body) as answer:
        document: dict[str, Any] = await answer.json()
    text: str = document["choices"][0]["message"]["content"]
    return text


def _read(database: Path, outcome: Outcome) -> None:
    """Read what is on the disk, once the server has ended."""
    rows: defaultdict[str, list[str]] = defaultdict(list)
    with closing(sqlite3.connect(database)) as file:
        for tag, status, calls, cost in file.execute("SELECT tag, status, calls, cost_nanodollars FROM entries"):
            rows[tag].append(status)
            if cost != sum(call["cost_nanodollars"] for call in json.loads(calls)):
                outcome.faults.append(f"{tag}: its cost is not the sum of its calls'")
        outcome.judged = file.execute("SELECT count(*) FROM judged").fetchone()[0]
        if (said := file.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            outcome.faults.append(f"the database is damaged: {said}")
    outcome.rows = dict(rows)


def _compare(outcome: Outcome) -> None:
    """Compare what clients saw to the ledger."""
    faults, kills = outcome.faults, sorted(outcome.server_kills)
    for asked in outcome.asked:
        rows = outcome.rows.get(asked.tag, [])
        said = f"{asked.tag} ({asked.way}, {asked.end})"
        if asked.end == "no end":
            faults.append(f"{said} has no end for its client")
        if len(rows) > 1:
            faults.append(f"{said} has {len(rows)} rows: {rows}")
        faults += [f"{said} is open"] if "open" in rows else []
        if asked.begun_at is None or asked.ended_at is None:
            continue
        began, ended = asked.begun_at, asked.ended_at
        struck = next((at for at in kills if began <= at), None)  # the first kill after it began
        is_old = struck is None or struck - (began if ended > struck else ended) > AGES_S
        if is_old and not rows:
            faults.append(f"{said} began {_before(struck, began)}, and has no row")
        if is_old and rows and asked.end in ("completed", "incomplete", "failed") and rows != [asked.end]:
            faults.append(f"{said} ended {_before(struck, ended)}, and is {rows} in the ledger")
        if asked.end == "lost" and struck is not None and ended >= struck:
            outcome.learned_s = max(outcome.learned_s, ended - struck)
    if outcome.learned_s > LEARNS_S:
        faults.append(f"a client knew only {outcome.learned_s:.1f} s after the kill")


def _before(struck: float | None, at: float) -> str:
    return "long ago" if struck is None else f"{1000 * (struck - at):.0f} ms before a kill"


def table_of(outcome: Outcome) -> Table:
    """Return what clients saw beside what is in the ledger."""
    kills = Counter(kill.name for kill in outcome.kills)
    named = ", ".join(f"{count} of {name}" for name, count in kills.items())
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for asked in outcome.asked:
        if asked.end == "not sent":
            continue
        (status,) = outcome.rows.get(asked.tag, ["no row"])[:1]
        counts[asked.end][status] += 1
    statuses = sorted({status for count in counts.values() for status in count})
    table = Table("for its client", "requests", *statuses, title=f"kills: {named}")
    for end, count in sorted(counts.items()):
        table.add_row(end, str(count.total()), *(str(count[status]) for status in statuses))
    table.caption = (
        f"known at most {outcome.learned_s:.2f} s after a kill; {outcome.reread} answers asked for again, "
        f"{outcome.judged} samples of evidence"
    )
    return table


@click.command(help=__doc__)
@click.option("--kills", default=20, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(*, kills: int, seed: int) -> None:
    """Print a table; exit with 1 if something is lost, doubled or damaged."""
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
        outcome = asyncio.run(killing(Path(folder), kills, seed, progress))
    console = Console(width=120)
    console.print(table_of(outcome))
    for fault in outcome.faults[:20]:
        console.print(f"[red]{fault}[/]", markup=True)
    console.print(f"{len(outcome.faults)} faults")
    sys.exit(bool(outcome.faults))


if __name__ == "__main__":
    main()
