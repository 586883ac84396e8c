"""A disk that cannot be written for a while: nothing is lost, the order stays, and lookups do not wait."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from millrace.stores import writer
from millrace.stores.database import FILE, SqliteDatabase
from millrace.stores.writer import OVERHEAD
from tests.stores.test_database import create, insert, numbers
from tests.support.logs import captured_logs
from tests.support.looks import look
from tests.support.waiting import PATIENCE_S, until, within

PAGES = 40  # room for this test's tables


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(str(tmp_path), queue_bytes=20 * OVERHEAD)
    made.write(create)
    made.write(lambda connection: connection.execute("CREATE TABLE texts (text TEXT) STRICT"))
    yield made
    made.close()


@contextmanager
def locked(folder: Path) -> Iterator[sqlite3.Connection]:
    """Hold the write lock, as another process would."""
    with closing(sqlite3.connect(folder / FILE, isolation_level=None, timeout=PATIENCE_S)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


async def test_while_another_process_writes_nothing_is_lost_and_lookups_go_on(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    """For as long as it takes; then all is written in order."""
    await database.commit(insert(0), within_s=30)
    with locked(tmp_path):
        begun = time.monotonic()
        for number in range(1, 8):
            database.write(insert(number))
        while time.monotonic() - begun < 2.0:
            async with within(1):
                assert await database.read(numbers, within_s=PATIENCE_S) == [0]
            await asyncio.sleep(0.05)
        assert database.queued == 7
        assert 1.9 < database.oldest_s <= time.monotonic() - begun
    assert await look(database, numbers) == [*range(8)]
    assert (database.queued, database.queued_bytes, database.oldest_s) == (0, 0, 0)


async def test_what_was_not_committed_in_time_is_not_done_later(database: SqliteDatabase, tmp_path: Path) -> None:
    """Though it was waiting for the lock when its time was up."""
    await database.ready()
    for number in range(5):
        with locked(tmp_path):
            with pytest.raises(TimeoutError, match="not written within"):
                await database.commit(insert(number), within_s=0.1)
            database.write(insert(100 + number))
    assert await look(database, numbers) == [*range(100, 105)]


async def test_a_full_disk_loses_nothing(database: SqliteDatabase) -> None:
    """The batch in which it fills up stays, whole and in order, until there is room."""

    def limit(pages: int) -> None:
        database._connection.execute(f"PRAGMA max_page_count = {pages}")

    await database.ready()
    limit(PAGES)
    for number in range(300):
        database.write(insert(number))
        database.write(lambda connection: connection.execute("INSERT INTO texts VALUES (?)", ("x" * 4000,)))
    await until(lambda: "full" in database._writer.trouble)
    waiting = database.queued
    assert waiting > 0
    await asyncio.sleep(3 * writer.FIRST_RETRY_S)
    assert database.queued == waiting
    with pytest.raises(TimeoutError, match="full"):
        await database.commit(insert(-1), within_s=0.05)
    limit(1_000_000)
    assert await look(database, numbers) == [*range(300)]  # what was not committed in time is not done later
    assert await look(database, lambda db: db.execute("SELECT count(*) FROM texts").fetchone()) == (300,)


async def test_it_is_full_at_its_bound_and_recovers(database: SqliteDatabase, tmp_path: Path) -> None:
    """Half of it is for what must not be lost; and that is taken even beyond the bound."""
    await database.ready()
    written: list[int] = []
    with locked(tmp_path):
        assert all(database.write(insert(number), droppable=True) for number in range(10))
        assert not database.write(insert(10), droppable=True, on_written=lambda: written.append(10))
        assert database.dropped == 1
        for number in range(11, 21):
            assert not database.is_full
            assert database.write(insert(number), on_written=lambda: written.append(1))
        assert database.is_full
        assert database.write(insert(21))
        assert database.queued_bytes == 21 * OVERHEAD
        assert written == []
    assert await look(database, numbers) == [*range(10), *range(11, 22)]
    assert not database.is_full
    assert written == [1] * 10


async def test_what_cannot_be_written_is_said_once_a_second(tmp_path: Path) -> None:
    """With how much waits, and for how long; and what is lost at shutdown, which is bounded."""
    database = SqliteDatabase(str(tmp_path))
    database.write(create)
    await database.ready()
    with captured_logs() as logs, locked(tmp_path):
        for number in range(5):
            database.write(insert(number))
        await asyncio.sleep(1.5)
        async with within(5):
            await asyncio.to_thread(database.close, 0.5)
    lines = logs.from_millrace.getvalue().splitlines()
    assert 1 <= sum('"not written yet"' in line for line in lines) <= 4
    assert '"operations":5' in lines[0]
    (lost,) = [line for line in lines if '"lost at shutdown"' in line]
    assert '"level":"error"' in lost
    assert '"operations":5' in lost


async def test_closing_waits_for_a_lock_that_goes(tmp_path: Path) -> None:
    """Nothing is lost then."""
    database = SqliteDatabase(str(tmp_path))
    database.write(create)
    await database.ready()
    with locked(tmp_path):
        for number in range(5):
            database.write(insert(number))
        closing_task = asyncio.create_task(asyncio.to_thread(database.close, 20))
        await asyncio.sleep(0.5)
        assert not closing_task.done()
    await closing_task
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert numbers(connection) == [*range(5)]
