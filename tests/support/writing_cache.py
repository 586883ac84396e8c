"""A program that stores and looks up without end, and says what it was served, until it is killed."""

import asyncio
import hashlib
import random
import sys
from pathlib import Path

from millrace.caches import scopes, segment, table
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.semantic import SqliteSemanticCache
from millrace.caches.snapshots import FOLDER
from millrace.stores.database import SqliteDatabase
from millrace.types import SemanticHit, entry_id
from tests.support.semantic_cache import answer, control_of

SCOPES = [bytes([number]) * 32 for number in range(3)]
LETTERS = str.maketrans("0123456789abcdef", "bcdfghjklmnprstv")
TTL_S = 10_000.0


def question(number: int) -> str:
    """Return one that has most of its words for itself: an index may lose some of many that differ in one word only."""
    letters = hashlib.sha256(b"%d" % number).hexdigest().translate(LETTERS)
    return f"How do I {letters[:7]} a {letters[10:18]} {letters[20:28]} with a {letters[30:38]}?"


def cache_in(folder: Path, database: SqliteDatabase) -> SqliteSemanticCache:
    """Return a cache whose scopes soon have several indexes, each of which is saved often."""
    segment.ROWS, scopes.SAVED_ABOVE, table.PAGE = 300, 20, 10
    cache = SqliteSemanticCache(
        database,
        Hashing(),
        folder=folder / FOLDER,
        ttl_s=TTL_S,
        wall=lambda: 1000.0,
        index_above=50,
        hot_scopes=2,
        deadline_s=1.0,
    )
    cache.prune()
    return cache


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def run(folder: Path, seed: int) -> None:
    database = SqliteDatabase(str(folder))
    cache = cache_in(folder, database)
    control = control_of(database, ttl_s=TTL_S)
    await database.ready()
    choice = random.Random(seed)
    say("ready")
    while True:
        asked = [(choice.choice(SCOPES), choice.randrange(10**6)) for _ in range(20)]
        for scope, number in asked:
            cache.store(scope, "tenant", question(number), answer(str(number)))
        await asyncio.sleep(choice.uniform(0.04, 0.08))  # they are stored once no lookups come; some wait to be written
        for scope, number in asked:
            found = await cache.find(scope, question(number))
            if isinstance(found, SemanticHit):
                say(found.entry_id, scope[0], number, found.answer.text)
        for scope, number in asked[:3]:
            kept = await control.entry(entry_id(scope, question(number)))  # what `cache show` says
            if kept is not None:
                say(kept.ids[0], scope[0], number, kept.answer.text)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2])))
