"""The filter of stored keys: it never misses one, and spares the disk nearly all others."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millrace.caches.key_filter import KeyFilter
from millrace.stores.database import SqliteDatabase
from tests.caches.test_exact import Wall, answer, cache
from tests.support.waiting import until


def keys(count: int, start: int = 0) -> list[bytes]:
    return [hashlib.sha256(b"%d" % number).digest() for number in range(start, start + count)]


def test_all_that_was_added_is_in_it_and_hardly_anything_else() -> None:
    stored = KeyFilter()
    for key in keys(100_000):
        stored.add(key)
    assert all(key in stored for key in keys(100_000))
    assert sum(key in stored for key in keys(20_000, 100_000)) < 20


def test_merged_it_holds_both() -> None:
    one, other = KeyFilter(), KeyFilter()
    first, second, third = keys(3)
    one.add(first)
    other.add(second)
    one.merge(other)
    assert (first in one, second in one, third in one) == (True, True, False)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Counts the lookups on disk."""
    made: list[None] = []
    read = SqliteDatabase.read

    async def counted(self: SqliteDatabase, operation: Callable[..., Any], *, within_s: float) -> Any:
        made.append(None)
        return await read(self, operation, within_s=within_s)

    monkeypatch.setattr(SqliteDatabase, "read", counted)
    return made


async def test_a_new_question_does_not_look_on_disk_and_an_old_one_is_found_there(
    tmp_path: Path, looks: list[None]
) -> None:
    """Of this process or an earlier one, once it has learned what is there."""
    old, new, unknown = keys(3)
    earlier = SqliteDatabase(str(tmp_path))
    cache(earlier, Wall()).store(old, "tenant", answer("old"))
    earlier.close()
    database = SqliteDatabase(str(tmp_path))
    stored = cache(database, Wall(), memory_bytes=0)
    assert await stored.find(unknown) is None  # from now on it learns
    await until(lambda: stored._knows_all)
    stored.store(new, "tenant", answer("new"))
    looks.clear()
    assert await stored.find(unknown) is None
    assert not looks
    assert await stored.find(old)
    assert len(looks) == 1
    await until(lambda: not database.queued)
    assert await stored.find(new)
    database.close()
