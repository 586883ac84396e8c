"""What waits for PostgreSQL is counted, bounded, and stays on the disk; old days there are dropped."""

import pytest

from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.stores.ledger_rows import LedgerRows
from millrace.stores.postgres.connection import Connection
from millrace.stores.postgres.database import PostgresDatabase
from millrace.stores.postgres.days import AHEAD, Days, found
from millrace.stores.postgres.shipper import PAGE, Shipper
from millrace.stores.spool import ROW_BYTES, Spool
from tests.support import many_rows
from tests.support.logs import captured_logs
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S

DAY_S = 86_400
NOW = 1_796_000_000.0
TODAY = int(NOW // DAY_S)


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


async def add(ledger: SqliteLedger, local: SqliteDatabase, count: int, seed: int, at: float = NOW) -> None:
    for row in many_rows.rows(count, seed=seed, since=at - 600, until=at - 300):
        ledger.settled(row)
    await local.ready()


async def counted(spool: Spool, local: SqliteDatabase) -> int:
    """Look; the same is found by who looks for the first time."""
    await local.ready()
    await spool.look()
    fresh = Spool(local, 10**9, lambda: NOW)
    await fresh.look()
    assert fresh.rows == spool.rows
    return spool.rows


async def test_what_waits_is_counted_as_it_comes_and_goes(local: SqliteDatabase, remote: PostgresDatabase) -> None:
    clock = Clock()
    shipper, ledger = Shipper(local, remote, "spool", clock), SqliteLedger(local, "epoch1", is_sent=True)
    spool = Spool(local, (PAGE + 20) * ROW_BYTES, clock)
    assert await counted(spool, local) == 0
    assert spool.oldest_s == 0
    await add(ledger, local, PAGE + 10, seed=1)
    with captured_logs() as logs:
        assert await counted(spool, local) == PAGE + 10
        await add(ledger, local, 15, seed=2)
        assert await counted(spool, local) == PAGE + 25
    assert logs.text.count("rows of the ledger wait for PostgreSQL") == 1
    assert spool.is_full
    first, clock.now = spool.oldest_s, NOW + 50
    assert spool.oldest_s == first + 50
    assert first < 700
    assert await shipper.send()
    assert await counted(spool, local) == 25
    assert not spool.is_full
    await add(ledger, local, 5, seed=3)
    assert not await shipper.send()
    assert await counted(spool, local) == 0


async def test_what_waits_is_not_pruned_and_what_has_arrived_is(
    local: SqliteDatabase, remote: PostgresDatabase
) -> None:
    old = NOW - 100 * DAY_S
    shipper = Shipper(local, remote, "spool", lambda: NOW)
    ledger = SqliteLedger(local, "epoch1", keep_days=31, wall=lambda: NOW, is_sent=True)
    await add(ledger, local, 30, seed=1, at=old)
    ledger.prune()
    await local.ready()
    rows = LedgerRows(local)
    assert await rows.count_before(NOW) == await rows.delete_before(NOW) == 0
    while await shipper.send():
        pass
    await local.ready()
    await add(ledger, local, 4, seed=2, at=old)
    ledger.prune()
    await local.ready()
    left = await local.read(lambda c: c.execute("SELECT count(*) FROM entries").fetchone(), within_s=PATIENCE_S)
    assert left == (4,)
    there = await remote.read(lambda c: c.execute("SELECT count(*) FROM entries").fetchone(), within_s=PATIENCE_S)
    assert there == (30,)


async def test_a_data_dir_that_sends_nothing_any_more_keeps_nothing_back(local: SqliteDatabase) -> None:
    Shipper(local, PostgresDatabase("postgresql://127.0.0.1:1/x", "x"), "spool", lambda: NOW)
    first = SqliteLedger(local, "epoch1", is_sent=True)
    await add(first, local, 5, seed=1, at=NOW - 100 * DAY_S)
    assert await LedgerRows(local).count_before(NOW) == 0
    SqliteLedger(local, "epoch2", keep_days=31, wall=lambda: NOW)
    await local.ready()
    assert await LedgerRows(local).count_before(NOW) == 4


async def test_days_are_made_ahead_and_old_ones_dropped_by_one_replica(
    server: SharedServer, service: str, local: SqliteDatabase, remote: PostgresDatabase
) -> None:
    shipper = Shipper(local, remote, "spool", lambda: NOW)
    ledger = SqliteLedger(local, "epoch1", is_sent=True)
    for days in (100, 32, 31):
        await add(ledger, local, 3, seed=days, at=(TODAY - days + 0.5) * DAY_S)
    assert not await shipper.send()
    other = Connection(server.url, service)
    try:
        other.execute("CREATE TABLE entries_default PARTITION OF entries DEFAULT")  # an operator's own: it is no day
        with other.transaction():
            other.execute("SELECT pg_advisory_xact_lock(6511274211)")
            await Days(remote, 31, lambda: NOW).look()  # another replica is at it
            assert TODAY - 100 in found(other)
        await Days(remote, 31, lambda: NOW).look()
        assert found(other) == [TODAY - 31, *range(TODAY, TODAY + AHEAD + 1)]
        assert other.execute("SELECT count(*) FROM entries").fetchone() == (3,)
        assert other.execute("SELECT count(DISTINCT day) FROM spent").fetchone() == (3,)
        with other.transaction():
            other.execute("SELECT count(*) FROM entries")  # a long read: the day stays for now
            with pytest.raises(Exception, match="lock timeout"):
                await Days(remote, 0, lambda: NOW).look()
        await Days(remote, 0, lambda: NOW).look()
        assert found(other)[0] == TODAY
    finally:
        other.close()
