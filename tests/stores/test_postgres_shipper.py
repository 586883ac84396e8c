"""Rows of the ledger reach PostgreSQL in order, each once, whatever dies meanwhile."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger import COLUMNS, SqliteLedger
from millrace.stores.postgres.database import PostgresAwayError, PostgresDatabase
from millrace.stores.postgres.shipper import PAGE, Shipper
from millrace.types import Entry
from tests.support import many_rows
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S

NOW = 1_796_000_000.0


def entries(count: int, seed: int = 7) -> list[Entry]:
    return [*many_rows.rows(count, seed=seed, since=NOW - 3 * 86_400, until=NOW, tenants=("acme", "nul\0"))]


async def filled(local: SqliteDatabase, rows: list[Entry]) -> None:
    ledger = SqliteLedger(local, "epoch1")
    for row in rows:
        ledger.settled(row)
    await local.ready()


async def sent(shipper: Shipper) -> None:
    while await shipper.send():
        pass


async def all_rows(remote: PostgresDatabase, columns: str = COLUMNS) -> list[tuple[Any, ...]]:
    query = f"SELECT {columns} FROM entries ORDER BY rowid"  # noqa: S608 - names of our own
    rows: list[tuple[Any, ...]] = await remote.read(lambda c: c.execute(query).fetchall(), within_s=PATIENCE_S)
    return rows


async def test_all_columns_arrive_as_they_were_in_order(local: SqliteDatabase, remote: PostgresDatabase) -> None:
    await filled(local, entries(PAGE + 30))
    shipper = Shipper(local, remote, "spool", lambda: NOW)
    assert await shipper.send()
    assert not await shipper.send()
    assert shipper.sent == 30
    query = f"SELECT {COLUMNS} FROM entries ORDER BY rowid"  # noqa: S608 - names of our own
    there = await asyncio.to_thread(local.scan, lambda c: c.execute(query).fetchall(), within_s=PATIENCE_S)
    there = [tuple(v.replace("\0", "\ufffd") if isinstance(v, str) else v for v in row) for row in there]
    assert await all_rows(remote) == there


async def test_a_row_that_ends_later_comes_later_and_open_ones_stay(
    local: SqliteDatabase, remote: PostgresDatabase
) -> None:
    first, second, third = entries(3)
    ledger = SqliteLedger(local, "epoch1")
    shipper = Shipper(local, remote, "spool", lambda: NOW)
    ledger.opened(first)
    await local.commit(lambda c: c.execute("UPDATE entries SET status = 'open'"), within_s=PATIENCE_S)
    ledger.settled(second)
    await local.ready()
    await sent(shipper)
    ledger.settled(third)
    ledger.settled(first)
    await local.ready()
    await sent(shipper)
    assert await all_rows(remote, "request_id") == [(row.request_id,) for row in (second, third, first)]


async def test_each_row_arrives_once_from_two_senders_and_after_a_start(
    local: SqliteDatabase, remote: PostgresDatabase
) -> None:
    rows = entries(2 * PAGE + 10)
    await filled(local, rows)
    await asyncio.gather(*(sent(Shipper(local, remote, "spool", lambda: NOW)) for _ in range(3)))
    assert await all_rows(remote, "request_id") == [(row.request_id,) for row in rows]


async def test_two_data_dirs_do_not_disturb_each_other(
    local: SqliteDatabase, remote: PostgresDatabase, tmp_path: Path
) -> None:
    other = SqliteDatabase(str(tmp_path / "other"))
    try:
        await filled(local, entries(20, seed=1))
        await filled(other, entries(30, seed=2))
        await asyncio.gather(
            sent(Shipper(local, remote, "one", lambda: NOW)), sent(Shipper(other, remote, "two", lambda: NOW))
        )
        assert len({row[0] for row in await all_rows(remote, "request_id")}) == 50
        numbers = [row[0] for row in await all_rows(remote, "rowid")]
        assert len(set(numbers)) == 50
    finally:
        other.close()


async def test_what_cannot_be_sent_waits_and_then_arrives(
    server: SharedServer, local: SqliteDatabase, remote: PostgresDatabase
) -> None:
    rows = entries(40)
    shipper = Shipper(local, remote, "spool", lambda: NOW)
    await filled(local, rows[:10])
    await sent(shipper)
    await asyncio.to_thread(server.kill)
    await filled(local, rows[10:])
    with pytest.raises(PostgresAwayError):
        await shipper.send()
    await asyncio.to_thread(server.start)
    running = asyncio.get_running_loop().create_task(shipper.run())
    found: list[tuple[Any, ...]] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < 40:
            await asyncio.sleep(0.05)
            with suppress(PostgresAwayError):
                found = await all_rows(remote, "request_id")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await all_rows(remote, "request_id") == [(row.request_id,) for row in rows]
