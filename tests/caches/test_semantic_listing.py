"""What the semantic cache keeps, as an operator lists, searches and deletes it; and how hits count."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from millrace.caches.embedders.hashing import Hashing
from millrace.caches.listing import Listing
from millrace.caches.semantic import SqliteSemanticCache
from millrace.stores.database import SqliteDatabase
from millrace.types import SemanticHit, SemanticMiss
from tests.support.semantic_cache import ASKED, OTHER_SCOPE, REWORDED, SCOPE, answer, cache_of, stored

MINE, ITS = "mine", "its"
TTL_S = 60.0


class Wall:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
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


async def test_a_hit_tells_its_entry_and_how_old_it_is(cache: SqliteSemanticCache, wall: Wall) -> None:
    """By this id the entry is listed, with its hits; a newer answer to the same question has the same id."""
    wall.now += 30.0
    found = await cache.find(OTHER_SCOPE, REWORDED)
    assert isinstance(found, SemanticHit)
    assert found.age_s == 30.0
    await cache.find(OTHER_SCOPE, REWORDED)
    await stored(cache)
    kept = await cache.listing.entry(ITS, found.entry_id)
    assert kept is not None
    assert (kept.question, kept.answer.text, kept.hits) == (ASKED, "Click.", 2)
    assert (kept.stored_at, kept.expires_at, kept.used_at) == (1000.0, 1060.0, 1030.0)
    cache.store(OTHER_SCOPE, ITS, ASKED, answer("Tap."))
    await stored(cache)
    again = await cache.find(OTHER_SCOPE, REWORDED)
    assert isinstance(again, SemanticHit)
    assert (again.entry_id, again.age_s, again.answer.text) == (found.entry_id, 0.0, "Tap.")


async def test_entries_are_listed_by_tenant_in_pages(cache: SqliteSemanticCache) -> None:
    first = await cache.listing.entries(MINE, limit=3)
    rest = await cache.listing.entries(MINE, after=first[-1].id, limit=3)
    listed = [each.question for each in first + rest]
    assert (len(first), sorted(listed)) == (3, [f"How do I paint fence {number}?" for number in range(5)])
    assert [each.tenant for each in await cache.listing.entries(ITS)] == [ITS]
    assert len(await cache.listing.entries(None)) == 6
    assert [each.question for each in await cache.listing.entries(None, scope=OTHER_SCOPE)] == [ASKED]


async def test_entries_are_searched_whatever_the_case(cache: SqliteSemanticCache) -> None:
    """A per cent sign is no wildcard. Another tenant's are not found."""
    assert [each.answer.text for each in await cache.listing.entries(MINE, "FENCE 3")] == ["So 3."]
    assert await cache.listing.entries(MINE, "fence%3") == []
    assert await cache.listing.entries(MINE, "password") == []


async def test_another_tenants_entry_is_none(cache: SqliteSemanticCache) -> None:
    (its,) = await cache.listing.entries(ITS)
    assert await cache.listing.entry(MINE, its.id) is None
    assert await cache.listing.delete(MINE, entry_id=its.id) == 0
    assert await cache.listing.entry(ITS, its.id) == its


async def test_what_has_expired_is_not_listed(cache: SqliteSemanticCache, wall: Wall) -> None:
    wall.now += TTL_S
    assert await cache.listing.entries(None) == []


async def test_scopes_are_listed_the_largest_first(cache: SqliteSemanticCache) -> None:
    scopes = await cache.listing.scopes(None)
    assert [(each.tenant, each.scope, each.entries) for each in scopes] == [(MINE, SCOPE, 5), (ITS, OTHER_SCOPE, 1)]
    assert [each.size for each in scopes] == sorted((each.size for each in scopes), reverse=True)
    assert [each.scope for each in await cache.listing.scopes(ITS)] == [OTHER_SCOPE]


@pytest.mark.parametrize("by", ["entry", "scope", "tenant", "all"])
async def test_what_is_deleted_is_served_no_more(cache: SqliteSemanticCache, database: SqliteDatabase, by: str) -> None:
    """From then on, neither from memory nor from the disk; the rest is."""
    asked = "how can I paint fence 3"
    found = await cache.find(SCOPE, asked)
    assert isinstance(found, SemanticHit)
    match by:
        case "entry":
            assert await cache.listing.delete(MINE, entry_id=found.entry_id) == 1
        case "scope":
            assert await cache.listing.delete(None, scope=SCOPE) == 5
        case "tenant":
            assert await cache.listing.delete(MINE) == 5
        case _:
            assert await cache.listing.delete(None) == 6
    assert isinstance(await cache.find(SCOPE, asked), SemanticMiss)
    assert isinstance(await cache.find(OTHER_SCOPE, REWORDED), SemanticHit) is (by != "all")
    assert isinstance(await cache.find(SCOPE, "how can I paint fence 4"), SemanticHit) is (by == "entry")
    again = cache_of(database, Hashing())
    assert isinstance(await again.find(SCOPE, asked), SemanticMiss)
    await again.close()


async def test_it_can_be_stored_again(cache: SqliteSemanticCache) -> None:
    """Under the same id."""
    (entry,) = await cache.listing.entries(ITS)
    await cache.listing.delete(ITS)
    cache.store(OTHER_SCOPE, ITS, ASKED, answer("Anew."))
    await stored(cache)
    found = await cache.find(OTHER_SCOPE, REWORDED)
    assert isinstance(found, SemanticHit)
    assert (found.entry_id, found.answer.text) == (entry.id, "Anew.")


async def test_many_are_deleted_in_steps(
    cache: SqliteSemanticCache, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a listing needs no cache in the same process, and no table that is there already."""
    monkeypatch.setattr("millrace.caches.listing.STEP", 2)

    async def forget(gone: list[tuple[str, bytes]]) -> None:
        assert len(gone) <= 2

    listing = Listing(database, ttl_s=TTL_S, wall=lambda: 1000.0, on_gone=forget)
    assert await listing.delete(MINE) == 5
    empty = SqliteDatabase(":memory:")
    assert await Listing(empty, ttl_s=TTL_S, wall=lambda: 1000.0, on_gone=forget).entries(None) == []
    await asyncio.to_thread(empty.close)
