"""A semantic cache on a database, and a question in two wordings."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any

from millrace.caches.deletions import Deletions, Forgetful
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.entries import CacheEntries
from millrace.caches.pairs import PairJudge
from millrace.caches.semantic import SqliteSemanticCache
from millrace.ports import Aligner, Clock, Comparer, Embedder
from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.types import Answer, Model, Price, Tier, Usage
from tests.support.looks import ready
from tests.support.waiting import PATIENCE_S

MODEL = Model(
    tier=Tier.SMALL,
    id="small-model",
    address="http://x",
    price=Price(input=Decimal(1), output=Decimal(1)),
    context_window=1000,
    max_output_tokens=100,
)
ASKED = "How do I reset my password?"
REWORDED = "how can I reset my password"
SCOPE, OTHER_SCOPE = b"s" * 32, b"o" * 32


def answer(text: str) -> Answer:
    return Answer(text=text, model=MODEL, usage=Usage(input_tokens=7, output_tokens=3), check="passed")


def cache_of(
    database: SqliteDatabase,
    embedder: Embedder,
    aligner: Aligner | None = None,
    comparer: Comparer | None = None,
    **options: Any,
) -> SqliteSemanticCache:
    """A lookup may take its time, but where a test is about that."""
    defaults: dict[str, Any] = {"ttl_s": 60.0, "wall": lambda: 1000.0, "deadline_s": 30.0}
    cache = SqliteSemanticCache(database, embedder, aligner, comparer, **(defaults | options))
    ready(database)
    return cache


async def nothing() -> None:
    """Do nothing."""


def control_of(
    database: SqliteDatabase,
    caches: Sequence[Forgetful] = (),
    *,
    ttl_s: float = 60.0,
    wall: Clock = lambda: 1000.0,
    then: Callable[[], Awaitable[None]] = nothing,
) -> CacheEntries:
    """Return what an operator asks of caches in this process. `then` is awaited once they have heeded a deletion."""
    deletions = Deletions(database, "epoch", caches, ttl_s=ttl_s, wall=wall)

    async def heeded(_: int) -> None:
        await deletions.read()
        await then()

    control = CacheEntries(database, PairJudge(Hashing()), SqliteLedger(database).bills, heeded, ttl_s=ttl_s, wall=wall)
    ready(database)
    return control


async def stored(cache: SqliteSemanticCache) -> None:
    """Wait until all that was given to the cache is in it and on disk; lookups go before."""
    await asyncio.wrap_future(cache._worker.submit_background(lambda: None))
    await cache._table._database.commit(lambda _: None, within_s=30.0)
    await asyncio.wrap_future(cache._worker.submit_background(lambda: None))


async def settled(cache: SqliteSemanticCache) -> None:
    """Wait until nothing is read, indexed or saved any more."""
    kept = cache._scopes
    await asyncio.wrap_future(kept._with_files(lambda: None))

    async def is_calm() -> bool:  # as the thread sees it that does all this, between two steps
        calm = cache._worker.submit_background(lambda: not (kept._stepping or kept._copied_bytes))
        return await asyncio.wrap_future(calm)

    async with asyncio.timeout(PATIENCE_S):
        while not await is_calm():
            pass


def questions(tenant: str, connection: sqlite3.Connection) -> list[str]:
    """Return the stored questions of a tenant."""
    rows = connection.execute("SELECT question FROM semantic_entries WHERE tenant = ?", (tenant,))
    return [question for (question,) in rows]
