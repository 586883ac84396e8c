"""A program that has samples judged without end, and says what is kept of them, until it is killed."""

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from millrace.evidence.evidence import Evidence, Shares
from millrace.evidence.judging import Panel
from millrace.evidence.trust import Trust
from millrace.stores.database import SqliteDatabase
from millrace.stores.evidence import SqliteEvidence
from millrace.types import Change, Judged, Request, Says, Strategy
from tests.support.bills import REQUEST

KEEP_DAYS = 30


class Judge:
    """Says "same" of equal answers."""

    name = "equal"

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Return whether both are equal."""
        return Says.SAME if earlier == fresh else Says.DIFFERENT


class Telling(SqliteEvidence):
    """Says what was kept once it was, and now and then tries to keep it a second time, as something else."""

    chance = random.Random()

    async def add(self, judged: Sequence[Judged], changes: Sequence[Change] = ()) -> None:
        """Keep it."""
        await super().add(judged, changes)
        for each in judged:
            say(each.sample.id, each.sample.request_id, each.opinions[0].says)
        if self.chance.random() < 0.5:
            await super().add([replace(each, opinions=(*each.opinions, *each.opinions)) for each in judged])


async def nothing(*_: object) -> None: ...


def kept_in(database: SqliteDatabase) -> SqliteEvidence:
    """Return the store."""
    return SqliteEvidence(database, keep_days=KEEP_DAYS, wall=time.time)


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def asked(request: Request, strategy: Strategy | None = None) -> str | None:
    """Answer nothing: what is judged here needs no new answer."""
    return None


async def run(folder: Path, seed: int) -> None:
    database = SqliteDatabase(str(folder))
    store = Telling(database, keep_days=KEEP_DAYS, wall=time.time)
    chance = random.Random(seed)
    evidence = Evidence(
        store,
        Panel([Judge()], checked_share=0.0),
        Trust(None, limit=0.01, needed=0.0),
        asked,
        nothing,
        Shares(hits=1.0, small=1.0, large=1.0),
        wall=time.time,
        gather_s=0.0,
    )
    await database.ready()
    await evidence.begin(0.0)
    say("ready")
    async with asyncio.TaskGroup() as group:
        group.create_task(evidence.run())
        number = 0
        while True:
            for _ in range(chance.randrange(1, 40)):
                number += 1
                request = replace(REQUEST, id=f"resp_{seed}_{number}")
                evidence.escalated(request, "unsure", "yes", chance.choice(("yes", "no")))
            await asyncio.sleep(chance.uniform(0.0, 0.02))


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2])))
