"""What an operator sees of the entries that hits name, and does to them; over HTTP: `tests/web/test_cache.py`."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millrace.caches import entries
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.entries import CacheEntries
from millrace.caches.exact import SqliteExactCache
from millrace.caches.semantic import SqliteSemanticCache
from millrace.stores.database import SqliteDatabase
from millrace.stores.writer import Operation
from millrace.types import SemanticHit, SemanticMiss
from tests.support.semantic_cache import ASKED, OTHER_SCOPE, REWORDED, SCOPE, answer, cache_of, control_of, stored

MINE, ITS = "mine", "its"
TTL_S = 60.0
KEY = b"k" * 32


class Wall:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(str(tmp_path))
    yield database
    database.close()


@pytest.fixture
async def cache(database: SqliteDatabase, wall: Wall) -> AsyncIterator[SqliteSemanticCache]:
    made = cache_of(database, Hashing(), wall=wall, ttl_s=TTL_S)
    for number in range(5):
        made.store(SCOPE, MINE, f"How do I paint fence {number}?", answer(f"So {number}."))
    made.store(OTHER_SCOPE, ITS, ASKED, answer("Click."))
    await stored(made)
    yield made
    await made.close()


@pytest.fixture
def control(database: SqliteDatabase, cache: SqliteSemanticCache, wall: Wall) -> CacheEntries:
    return control_of(database, [cache], wall=wall, ttl_s=TTL_S)


async def test_a_hit_tells_its_entry_and_how_old_it_is(
    cache: SqliteSemanticCache, control: CacheEntries, wall: Wall
) -> None:
    """By this id it is shown; a newer answer to the same question has the same id. What has expired is not shown."""
    wall.now += 30.0
    found = await cache.find(OTHER_SCOPE, REWORDED)
    assert isinstance(found, SemanticHit)
    assert found.age_s == 30.0
    kept = await control.entry(found.entry_id)
    assert kept is not None
    assert (kept.tenant, kept.question, kept.answer.text, kept.stored_at) == (ITS, ASKED, "Click.", 1000.0)
    assert await control.entry(found.entry_id, tenant=MINE) is None
    cache.store(OTHER_SCOPE, ITS, ASKED, answer("Tap."))
    await stored(cache)
    again = await cache.find(OTHER_SCOPE, REWORDED)
    assert isinstance(again, SemanticHit)
    assert (again.entry_id, again.age_s, again.answer.text) == (found.entry_id, 0.0, "Tap.")
    wall.now += TTL_S
    assert await control.entry(found.entry_id) is None


@pytest.mark.parametrize("by", ["entry", "scope", "tenant", "all"])
async def test_what_is_deleted_leaves_memory_and_disk(
    cache: SqliteSemanticCache,
    control: CacheEntries,
    database: SqliteDatabase,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    """However many steps it takes; the rest stays."""
    monkeypatch.setattr(entries, "STEP", 2)
    asked = "how can I paint fence 3"
    found = await cache.find(SCOPE, asked)
    assert isinstance(found, SemanticHit)
    match by:
        case "entry":
            assert (await control.delete([found.entry_id], tenant=ITS)).semantic == 0
            assert (await control.delete([found.entry_id], tenant=MINE)).semantic == 1
        case "scope":
            assert (await control.flush(scope=SCOPE)).semantic == 5
        case "tenant":
            assert (await control.flush(tenant=MINE)).semantic == 5
        case _:
            assert (await control.flush()).semantic == 6
    await stored(cache)
    assert isinstance(await cache.find(SCOPE, asked), SemanticMiss)
    assert isinstance(await cache.find(OTHER_SCOPE, REWORDED), SemanticHit) is (by != "all")
    assert isinstance(await cache.find(SCOPE, "how can I paint fence 4"), SemanticHit) is (by == "entry")
    again = cache_of(database, Hashing())
    assert isinstance(await again.find(SCOPE, asked), SemanticMiss)
    await again.close()
    cache.store(SCOPE, MINE, "How do I paint fence 3?", answer("Anew."))
    await stored(cache)
    found = await cache.find(SCOPE, asked)
    assert isinstance(found, SemanticHit)
    assert found.answer.text == "Anew."


async def test_what_is_looked_up_while_its_scope_is_flushed_is_not_in_the_memory_of_the_exact_cache_after_that(
    cache: SqliteSemanticCache, database: SqliteDatabase
) -> None:
    """Rows go in steps, and one that is still there may be read into memory meanwhile."""
    exact = SqliteExactCache(database, ttl_s=TTL_S, memory_bytes=10**6, disk_bytes=10**6, wall=lambda: 1000.0)
    both = answer("Click.")
    exact.store(KEY, ITS, both)
    cache.store(OTHER_SCOPE, ITS, ASKED, both)
    await stored(cache)

    async def asked_meanwhile() -> None:
        await exact.find(KEY)

    control = control_of(database, [cache, exact], then=asked_meanwhile)
    deleted = await control.flush(scope=OTHER_SCOPE)
    assert (deleted.exact, deleted.semantic) == (1, 1)
    assert exact.peek(KEY) is None
    assert await exact.find(KEY) is None


async def test_a_search_lets_other_reads_run_between_its_batches(
    cache: SqliteSemanticCache, control: CacheEntries, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And finds the same: a scope that is asked meanwhile is loaded by the thread that it reads on."""
    monkeypatch.setattr(entries, "BATCH", 2)
    reads: list[int] = []
    scan = database.scan

    def counted(operation: Operation, *, within_s: float) -> Any:
        found = scan(operation, within_s=within_s)
        reads.append(len(found))
        return found

    monkeypatch.setattr(database, "scan", counted)
    found = await control.search("How can I paint fence 3?")
    assert reads == [6, 2, 2, 2]
    assert (len(found), found[0].question, found[0].decision.served) == (6, "How do I paint fence 3?", True)
