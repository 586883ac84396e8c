"""A process that is killed while it writes loses nothing that it has served, and the next one starts.

`MILLRACE_KILLS=50` kills that often.
"""

import asyncio
import os
import random
from pathlib import Path

from millrace.caches.semantic import SqliteSemanticCache
from millrace.caches.snapshots import FOLDER
from millrace.stores.database import SqliteDatabase
from millrace.types import SemanticHit
from tests.support.killed import killed
from tests.support.semantic_cache import control_of
from tests.support.waiting import PATIENCE_S
from tests.support.writing_cache import SCOPES, TTL_S, cache_in, question

KILLS = int(os.environ.get("MILLRACE_KILLS", "5"))
LONGEST_S = 1.5  # that a process may write

Served = dict[str, tuple[int, int]]  # by id: number of the scope, and of the question


async def served_until_killed(folder: Path, choice: random.Random) -> Served:
    """Have a process write, and kill it at some moment; return what it was served."""
    async with killed("tests.support.writing_cache", folder, choice, LONGEST_S) as lines:
        pass
    served: Served = {}
    for line in lines:
        id_, scope, number, text = line.split()
        assert text == number
        served[id_] = int(scope), int(number)
    return served


async def found_at_last(cache: SqliteSemanticCache, scope: bytes, text: str) -> SemanticHit:
    """Return the hit once the scope is read so far; a large one is read in steps."""
    until = asyncio.get_running_loop().time() + PATIENCE_S
    while not isinstance(found := await cache.find(scope, text), SemanticHit):
        assert asyncio.get_running_loop().time() < until, (found, len(cache._scopes.partition(scope)))
        await asyncio.sleep(0.01)
    return found


async def test_what_was_served_or_shown_is_there_after_a_kill(tmp_path: Path) -> None:
    """With its question and its answer, shown and found; indexes that were being saved do no harm."""
    choice = random.Random(11)
    served: Served = {}
    for _ in range(KILLS):
        served |= await served_until_killed(tmp_path, choice)
        database = SqliteDatabase(str(tmp_path))
        cache = cache_in(tmp_path, database)
        control = control_of(database, ttl_s=TTL_S)
        for id_, (scope, number) in served.items():
            kept = await control.entry(id_, tenant="tenant")
            assert kept is not None
            assert (kept.scope, kept.question) == (SCOPES[scope], question(number))
        for id_, (scope, number) in sorted(
            choice.sample(sorted(served.items()), min(len(served), 30)), key=lambda each: each[1]
        ):
            found = await found_at_last(cache, SCOPES[scope], question(number))
            assert (found.entry_id, found.answer.text) == (id_, str(number))
        await cache.close()
        await asyncio.to_thread(database.close)
    assert len(served) > KILLS
    assert list((tmp_path / FOLDER).glob("*.index"))
