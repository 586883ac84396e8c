"""The database: the order of writes and reads, and faults that stay with whoever made them."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from millrace.stores.database import BATCH, FILE, MEMORY, Operation, SqliteDatabase


def insert(number: int) -> Operation:
    return lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (number,))


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY rowid")]


@pytest.fixture
def database() -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(MEMORY)
    made.write(lambda connection: connection.execute("CREATE TABLE numbers (number INTEGER UNIQUE) STRICT"))
    yield made
    made.close()


async def test_writes_keep_their_order_and_a_read_comes_after_them(database: SqliteDatabase) -> None:
    """Also over more than one batch: a read sees all that was written before it, and nothing written after."""
    for number in range(2 * BATCH + 7):
        database.write(insert(number))
    seen = asyncio.ensure_future(database.read(numbers))
    await asyncio.sleep(0)
    database.write(insert(-1))
    assert await seen == [*range(2 * BATCH + 7)]


async def test_a_failing_write_does_not_lose_its_neighbours(database: SqliteDatabase) -> None:
    """The three wait together and are one batch; the second breaks a constraint."""
    blocked = threading.Event()
    database.write(lambda _: blocked.wait())
    for number in (1, 1, 2):
        database.write(insert(number))
    blocked.set()
    assert await database.read(numbers) == [1, 2]


async def test_a_failing_read_is_raised_to_whoever_asked(database: SqliteDatabase) -> None:
    """The next one is answered."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await database.read(lambda connection: connection.execute("SELECT * FROM nowhere"))
    assert await database.read(numbers) == []


async def test_a_reader_who_has_gone_is_not_answered(database: SqliteDatabase) -> None:
    """A cancelled read leaves the store as it was."""
    reading = asyncio.ensure_future(database.read(numbers))
    await asyncio.sleep(0)
    reading.cancel()
    assert await database.read(numbers) == []
    assert reading.cancelled()


def test_closing_flushes(tmp_path: Path) -> None:
    """What is queued is on the disk when `close` returns; the folder is the owner's alone."""
    folder = tmp_path / "new" / "data"
    database = SqliteDatabase(str(folder))
    database.write(lambda connection: connection.execute("CREATE TABLE numbers (number INTEGER) STRICT"))
    for number in range(BATCH + 3):
        database.write(insert(number))
    database.close()
    assert folder.stat().st_mode & 0o777 == 0o700
    with closing(sqlite3.connect(folder / FILE)) as connection:
        assert numbers(connection) == [*range(BATCH + 3)]


async def test_a_value_the_database_cannot_hold_harms_nobody_else() -> None:
    """The thread lives on, the neighbours are written, and whoever reads is told."""
    database = SqliteDatabase(":memory:")
    database.write(lambda connection: connection.execute("CREATE TABLE t (n INTEGER)"))
    database.write(lambda connection: connection.execute("INSERT INTO t VALUES (?)", (2**63,)))
    database.write(lambda connection: connection.execute("INSERT INTO t VALUES (7)"))
    assert await database.read(lambda connection: connection.execute("SELECT n FROM t").fetchall()) == [(7,)]
    with pytest.raises(OverflowError):
        await database.read(lambda connection: connection.execute("SELECT ?", (2**63,)))
    await asyncio.to_thread(database.close)
    with pytest.raises(sqlite3.ProgrammingError):
        await database.read(lambda connection: None)
