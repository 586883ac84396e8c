"""Scopes that are asked and do not fit into memory together: each keeps what was used last, and throws out no other."""

import itertools
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from millrace.caches import scopes, table
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.semantic import SqliteSemanticCache
from millrace.caches.snapshots import FOLDER
from millrace.stores.database import SqliteDatabase
from millrace.types import SemanticHit, entry_id
from tests.support.logs import captured_logs
from tests.support.semantic_cache import answer, cache_of, settled, stored
from tests.support.waiting import until

COUNT = 300  # entries of a scope
SCOPES = [bytes([number]) * 32 for number in range(3)]
MOMENTS = itertools.count(1000.0, 0.001)  # Unix seconds; no two entries are of the same one
CHOICE = random.Random(2)
WORDS = ["".join(CHOICE.choices("bcdfghklmnprtvw", k=7)) + "aro" for _ in range(2 * COUNT)]


@pytest.fixture(autouse=True)
def small(few_are_large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a large scope, and nothing waits before it is read."""
    monkeypatch.setattr(scopes, "REST_S", 0.0)


def opened(database: SqliteDatabase, folder: Path, memory_bytes: int = 2**27) -> SqliteSemanticCache:
    bounds: dict[str, Any] = {"index_above": 40, "memory_bytes": memory_bytes, "disk_bytes": 2**30}
    return cache_of(database, Hashing(), folder=folder / FOLDER, wall=partial(next, MOMENTS), ttl_s=1e6, **bounds)


def question(number: int) -> str:
    return f"How do I paint a {WORDS[number]}?"


async def filled(database: SqliteDatabase, folder: Path, large: int | None = None) -> int:
    """Store the same questions in all scopes; return the bytes of one in memory. One answer may have megabytes."""
    cache = opened(database, folder)
    for scope in SCOPES:
        for number in range(COUNT):
            text = "x" * 2**21 if number == large else str(number)
            cache.store(scope, "tenant", question(number), answer(text))
    await stored(cache)
    await settled(cache)
    size = cache._scopes.partitions[SCOPES[0]].size
    await cache.close()
    return size


async def is_served(cache: SqliteSemanticCache, scope: bytes, number: int) -> bool:
    return isinstance(await cache.find(scope, f"how can I paint a {WORDS[number]}"), SemanticHit)


async def crowded(database: SqliteDatabase, folder: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteSemanticCache:
    """Fill three scopes, and ask all in turn, in a cache with room for half, until nothing is read for five rounds."""
    size = await filled(database, folder)
    cache = opened(database, folder, memory_bytes=2 * size)
    pages: list[int] = [0]
    page = cache._table.page

    def counted(scope: bytes, start: table.Start, max_bytes: int, large: int) -> table.Page:
        pages[-1] += 1
        return page(scope, start, max_bytes, large)

    monkeypatch.setattr(cache._table, "page", counted)
    while len(pages) < 5 or any(pages[-5:]):
        pages.append(0)
        for scope in SCOPES:
            await cache.find(scope, question(0))
        await settled(cache)
        assert len(pages) < 100, pages
    return cache


async def test_scopes_that_are_asked_and_do_not_fit_together_stay(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lookup reads anything once memory is full; each scope serves what was used last."""
    cache = await crowded(database, tmp_path, monkeypatch)
    kept = cache._scopes
    assert set(kept.partitions) == set(SCOPES)
    assert all(len(each) >= table.PAGE for each in kept.partitions.values())
    assert sum(map(len, kept.partitions.values())) > COUNT
    assert kept.bytes_used <= kept._max_bytes
    assert all([await is_served(cache, scope, COUNT - 1) for scope in SCOPES])
    await cache.close()


async def test_what_is_new_takes_the_place_of_the_oldest_of_its_scope(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a scope that has much; the others stay in memory, and what is new is there."""
    cache = await crowded(database, tmp_path, monkeypatch)
    held = dict(cache._scopes.partitions)
    largest = max(held, key=lambda scope: held[scope].size)
    for number in range(COUNT, COUNT + 60):
        cache.store(largest, "tenant", question(number), answer(str(number)))
        await stored(cache)
        assert entry_id(largest, question(number)) in held[largest]
    assert all(cache._scopes.partitions.get(scope) is partition for scope, partition in held.items())
    await cache.close()


async def test_a_scope_that_nobody_asks_gives_way(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the other one is read to its end."""
    cache = await crowded(database, tmp_path, monkeypatch)
    scope = next(iter(cache._scopes._rest))
    before = len(cache._scopes.partitions[scope])
    monkeypatch.setattr(scopes, "BUSY_S", 0.0)
    await cache.find(scope, question(0))
    await settled(cache)
    assert scope not in cache._scopes._rest
    assert before < len(cache._scopes.partitions[scope])
    assert len(cache._scopes.partitions) < len(SCOPES)
    await cache.close()


async def test_an_answer_that_finds_no_room_does_not_stop_a_scope(database: SqliteDatabase, tmp_path: Path) -> None:
    """All before it and behind it are read."""
    size = await filled(database, tmp_path, large=COUNT // 2) - 2**21
    cache = opened(database, tmp_path, memory_bytes=4 * size)
    await cache.find(SCOPES[0], question(0))
    await until(lambda: len(cache._scopes.partitions[SCOPES[0]]) == COUNT - 1)
    assert await is_served(cache, SCOPES[0], 0)
    assert not await is_served(cache, SCOPES[0], COUNT // 2)
    await cache.close()


async def test_a_page_that_cannot_be_read_is_read_again_but_not_at_each_lookup(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been read is indexed and served meanwhile."""
    await filled(database, tmp_path)
    for path in (tmp_path / FOLDER).glob("*.index"):
        path.unlink()
    cache = opened(database, tmp_path)
    page, tries = cache._table.page, 0

    def failing(scope: bytes, start: table.Start, max_bytes: int, large: int) -> table.Page:
        nonlocal tries
        tries += start != table.START
        if start != table.START:
            raise TimeoutError
        return page(scope, start, max_bytes, large)

    monkeypatch.setattr(table, "PAGE", 60)
    monkeypatch.setattr(cache._table, "page", failing)
    with captured_logs() as logs:
        for _ in range(10):
            assert await is_served(cache, SCOPES[0], COUNT - 1)
            await settled(cache)
    assert tries == 1
    assert "not done in the background" in logs.from_millrace.getvalue()
    partition = cache._scopes.partitions[SCOPES[0]]
    assert (len(partition), partition.unindexed) == (60, 0)
    monkeypatch.setattr(cache._table, "page", page)
    partition.rests_until = 0.0  # as after some seconds
    assert await is_served(cache, SCOPES[0], COUNT - 1)
    await until(lambda: len(partition) == COUNT)
    await cache.close()
