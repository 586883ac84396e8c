"""Stored responses: found from the moment they are stored, deleted when it is said, and bounded in bytes."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.errors import MillraceError
from millrace.pruning import PRUNE_EVERY
from millrace.stores import archive
from millrace.stores.archive import SqliteArchive
from millrace.stores.database import MEMORY, SqliteDatabase
from millrace.types import Message, StoredResponse
from tests.stores.test_writer import locked
from tests.support.looks import look
from tests.support.waiting import PATIENCE_S


def response(number: int, size: int = 10) -> StoredResponse:
    conversation = (Message(role="user", parts=("Hi",)),)
    return StoredResponse(id=f"resp_{number}", tenant="t", conversation=conversation, body=b"x" * size)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(str(tmp_path))
    yield made
    made.close()


async def kept(database: SqliteDatabase) -> int:
    def count(connection: sqlite3.Connection) -> int:
        size: int = connection.execute("SELECT coalesce(sum(size), 0) FROM responses").fetchone()[0]
        return size

    size: int = await look(database, count)
    return size


async def test_a_response_is_found_before_it_is_on_disk(database: SqliteDatabase, tmp_path: Path) -> None:
    """By its own tenant; and just the same afterwards."""
    stored = SqliteArchive(database, ttl_s=60, disk_bytes=10**6, wall=lambda: 1.0)
    await database.ready()
    with locked(tmp_path):
        stored.store(response(1))
        assert await stored.find("t", "resp_1") == response(1)
        assert await stored.find("another", "resp_1") is None
    await database.ready()
    assert await stored.find("t", "resp_1") == response(1)
    assert not stored._queued


async def test_a_deletion_is_said_once_it_is_committed(database: SqliteDatabase, tmp_path: Path) -> None:
    """While it cannot be, within about a second, it is refused as `overloaded`, and the response stays."""
    stored = SqliteArchive(database, ttl_s=60, disk_bytes=10**6, wall=lambda: 1.0)
    stored.store(response(1))
    await database.ready()
    with locked(tmp_path):
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(MillraceError, match="not deleted") as refused:
                await stored.delete("t", "resp_1")
        assert (refused.value.code, refused.value.retry_after_ms) == ("overloaded", 1000)
    await database.ready()
    assert await stored.find("t", "resp_1") == response(1)
    assert await stored.delete("t", "resp_1")
    assert await kept(database) == 0
    assert not await stored.delete("t", "resp_1")


async def test_a_disk_that_does_not_answer_is_overloaded(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a hang, and not `response_not_found`."""
    monkeypatch.setattr(archive, "LOOKUP_S", 0.02)
    stored = SqliteArchive(database, ttl_s=60, disk_bytes=10**6, wall=lambda: 1.0)
    await database.ready()
    gate = threading.Event()
    hanging = asyncio.create_task(database.read(lambda _: gate.wait(30), within_s=30))
    await asyncio.sleep(0)
    with pytest.raises(MillraceError, match="not read") as refused:
        await stored.find("t", "resp_1")
    assert (refused.value.code, refused.value.retry_after_ms) == ("overloaded", 1000)
    gate.set()
    await hanging
    monkeypatch.setattr(archive, "LOOKUP_S", PATIENCE_S)
    assert await stored.find("t", "resp_1") is None


async def test_the_bound_is_held_and_the_oldest_go_first() -> None:
    """In steps: what is stored all at once is more than a step may evict."""
    now = 0.0
    database = SqliteDatabase(MEMORY)
    stored = SqliteArchive(database, ttl_s=10_000, disk_bytes=50_000, wall=lambda: now)
    for number in range(1000):
        now += 1.0
        stored.store(response(number, size=500))
    async with asyncio.timeout(PATIENCE_S):
        while await kept(database) > 50_000:
            pass
    assert await kept(database) > 40_000
    assert await stored.find("t", "resp_0") is None
    assert await stored.find("t", "resp_999") is not None
    now += 20_000.0
    for number in range(PRUNE_EVERY):  # there is room for them, so only the age of the others counts
        stored.store(response(number, size=1))
    for _ in range(100):  # these go in steps too
        await database.ready()
    assert await kept(database) < 48_000
    assert await stored.find("t", "resp_999") is None
    await asyncio.to_thread(database.close)
