"""The database: the order of writes, lookups beside them, and faults that stay with whoever made them."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from millrace.stores.database import FILE, MEMORY, SqliteDatabase
from millrace.stores.one_by_one import MAX_WAITING
from millrace.stores.writer import BATCH, Operation
from tests.support.looks import look


def create(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE numbers (number INTEGER UNIQUE) STRICT")


def insert(number: int) -> Operation:
    return lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (number,))


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY rowid")]


@pytest.fixture(params=["memory", "file"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(MEMORY if request.param == "memory" else str(tmp_path))
    made.write(create)
    yield made
    made.close()


async def test_a_scan_that_hangs_takes_no_thread_of_others(tmp_path: Path) -> None:
    """However many wait for it: requests need the threads of the loop."""
    database = SqliteDatabase(str(tmp_path))
    goes_on = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        waiting = [asyncio.create_task(database.scanned(lambda _: goes_on.wait(30), within_s=30)) for _ in range(8)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 25) == 7
        assert not any(task.done() for task in waiting)
        goes_on.set()
        assert await asyncio.gather(*waiting) == [True] * 8
        await asyncio.to_thread(database.close)


async def test_writes_keep_their_order_and_a_commit_comes_after_them(database: SqliteDatabase) -> None:
    """Also over more than one batch: it sees all that was written before it, and nothing written after."""
    for number in range(2 * BATCH + 7):
        database.write(insert(number))
    seen = asyncio.ensure_future(look(database, numbers))
    await asyncio.sleep(0)
    database.write(insert(-1))
    assert await seen == [*range(2 * BATCH + 7)]


async def test_a_lookup_sees_what_is_committed(database: SqliteDatabase) -> None:
    """On the loop and from another thread; what another connection writes too."""
    await database.commit(insert(7), within_s=30)
    assert await database.read(numbers, within_s=30) == [7]
    assert await asyncio.to_thread(database.scan, numbers, within_s=30) == [7]


async def test_a_failing_write_does_not_lose_its_neighbours(database: SqliteDatabase) -> None:
    """The three wait together and are one batch; the second breaks a constraint."""
    blocked = threading.Event()
    database.write(lambda _: blocked.wait())
    for number in (1, 1, 2):
        database.write(insert(number))
    blocked.set()
    assert await look(database, numbers) == [1, 2]


async def test_an_operation_that_ends_the_transaction_does_not_lose_its_neighbours(database: SqliteDatabase) -> None:
    """A programming error: the batch is undone, and its operations are tried one by one."""
    blocked = threading.Event()
    database.write(lambda _: blocked.wait())
    database.write(insert(1))
    database.write(lambda connection: connection.execute("ROLLBACK"))
    database.write(insert(2))
    blocked.set()
    assert await look(database, numbers) == [1, 2]


async def test_a_failing_lookup_is_raised_to_whoever_asked(database: SqliteDatabase) -> None:
    """The next one is answered."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await database.read(lambda connection: connection.execute("SELECT * FROM nowhere"), within_s=30)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await look(database, lambda connection: connection.execute("SELECT * FROM nowhere"))
    assert await database.read(numbers, within_s=30) == []


async def test_a_reader_who_has_gone_is_not_answered(database: SqliteDatabase) -> None:
    """A cancelled lookup leaves the database as it was."""
    reading = asyncio.ensure_future(database.read(numbers, within_s=30))
    await asyncio.sleep(0)
    reading.cancel()
    assert await look(database, numbers) == []
    assert reading.cancelled()


async def test_a_late_lookup_fails_and_is_skipped(tmp_path: Path) -> None:
    """So are all behind a reader that hangs; a scan has another thread."""
    with closing(SqliteDatabase(str(tmp_path))) as database:
        await database.commit(create, within_s=30)
        gate = threading.Event()
        hanging = asyncio.create_task(database.read(lambda _: gate.wait(30), within_s=30))
        await asyncio.sleep(0)
        ran: list[int] = []
        with pytest.raises(TimeoutError):
            await database.read(lambda _: ran.append(1), within_s=0.01)
        assert await asyncio.to_thread(database.scan, numbers, within_s=30) == []
        late = [asyncio.create_task(database.read(lambda _: ran.append(2), within_s=0.5)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError, match="too many"):
            await database.read(numbers, within_s=30)
        await asyncio.wait(late)
        assert {type(task.exception()) for task in late} == {TimeoutError}
        gate.set()
        assert await hanging
        assert await database.read(numbers, within_s=30) == []
        assert ran == []


async def test_what_is_found_in_time_counts_though_the_loop_was_late(tmp_path: Path) -> None:
    """The deadline is for the disk."""
    with closing(SqliteDatabase(str(tmp_path))) as database:
        done = threading.Event()
        asked = asyncio.create_task(database.read(lambda _: done.set(), within_s=0.0))
        await asyncio.sleep(0)
        done.wait(30)  # the loop stands still
        database.scan(lambda _: None, within_s=30)
        assert await asked is None


def test_closing_flushes(tmp_path: Path) -> None:
    """What is queued is on the disk when `close` returns; the folder is the owner's alone."""
    folder = tmp_path / "new" / "data"
    database = SqliteDatabase(str(folder))
    database.write(create)
    for number in range(BATCH + 3):
        database.write(insert(number))
    database.close()
    assert folder.stat().st_mode & 0o777 == 0o700
    with closing(sqlite3.connect(folder / FILE)) as connection:
        assert numbers(connection) == [*range(BATCH + 3)]


async def test_a_value_the_database_cannot_hold_harms_nobody_else(database: SqliteDatabase) -> None:
    """The thread lives on, the neighbours are written, and whoever reads is told."""
    database.write(insert(2**63))
    database.write(insert(7))
    assert await look(database, numbers) == [7]
    with pytest.raises(OverflowError):
        await database.read(lambda connection: connection.execute("SELECT ?", (2**63,)), within_s=30)
    await asyncio.to_thread(database.close)
    with pytest.raises(sqlite3.ProgrammingError):
        await database.read(numbers, within_s=30)
    with pytest.raises(sqlite3.ProgrammingError):
        await database.commit(numbers, within_s=30)
