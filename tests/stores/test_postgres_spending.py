"""What accounts have spent at all replicas is what the rows cost that have arrived, each counted once."""

from pathlib import Path
from typing import Any

import pytest

from millrace.stores.accounts import Today
from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.stores.postgres import migrations
from millrace.stores.postgres.connection import Connection
from millrace.stores.postgres.database import PostgresDatabase
from millrace.stores.postgres.shipper import Shipper
from millrace.stores.postgres.spending import PostgresSpending
from millrace.stores.postgres.tables import STEPS
from millrace.stores.spending import SqliteSpending
from millrace.types.budget import AccountKind, AccountName
from tests.support import many_rows
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S

NOW = 1_796_000_000.0  # on the last day but one of a month
TODAY = Today.at(NOW)
ACME = AccountName(AccountKind.TENANT, "acme")


async def sent(local: SqliteDatabase, remote: PostgresDatabase, spool: str) -> None:
    shipper = Shipper(local, remote, spool, lambda: NOW)
    while await shipper.send():
        pass


def upgraded(server: SharedServer, service: str) -> None:
    connection = Connection(server.url, service)
    migrations.upgrade(connection, service)
    connection.close()


async def test_it_is_what_sqlite_has_also_of_rows_that_came_before_it(
    server: SharedServer, local: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, spending = SqliteLedger(local, "epoch1"), SqliteSpending(local)
    rows = [*many_rows.rows(700, seed=5, since=NOW - 5 * 86_400, until=NOW, tenants=("acme", "other"))]
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "STEPS", STEPS[:3])
        upgraded(server, "spent")
    remote = PostgresDatabase(server.url, "spent")
    try:
        for row in rows[:300]:
            ledger.settled(row)
        await local.ready()
        await sent(local, remote, "one")
        upgraded(server, "spent")
        for row in rows[300:]:
            ledger.settled(row)
        await local.ready()
        await sent(local, remote, "one")
        everywhere = PostgresSpending(remote)
        here, _ = await spending.all_spent(TODAY)
        assert len(here) > 5
        assert await everywhere.all_spent(TODAY) == here
        await remote.commit(again, within_s=PATIENCE_S)  # a row that comes once more counts once
        assert await everywhere.all_spent(TODAY) == here
        of_each = await everywhere.by_spool(here, TODAY)
        for name, spent in here.items():
            ((spool, (day, month)),) = of_each[name].items()
            assert (spool, day, month) == ("one", int(spent.day * 10**9), int(spent.month * 10**9))
    finally:
        remote.close()


def again(connection: Any) -> None:
    """Have all rows cost more, and again what they did; and one go."""
    for change in ("+ 7", "- 7"):
        connection.execute(f"UPDATE entries SET cost_nanodollars = cost_nanodollars {change}")  # noqa: S608 - of our own
    connection.execute("DELETE FROM entries WHERE request_id = (SELECT min(request_id) FROM entries)")


async def test_each_data_dir_is_told_apart(
    server: SharedServer, service: str, local: SqliteDatabase, tmp_path: Path
) -> None:
    other = SqliteDatabase(str(tmp_path / "other"))
    remote = PostgresDatabase(server.url, service)
    try:
        for database, spool, seed in ((local, "one", 1), (other, "two", 2)):
            ledger = SqliteLedger(database, "epoch1")
            for row in many_rows.rows(60, seed=seed, since=NOW - 3600, until=NOW, tenants=("acme",)):
                ledger.settled(row)
            await database.ready()
            await sent(database, remote, spool)
        everywhere = PostgresSpending(remote)
        nobody = ACME._replace(tenant="nobody")
        of_each = await everywhere.by_spool([ACME, nobody], TODAY)
        found = of_each[ACME]
        assert [*sorted(found)] == ["one", "two"]
        of_all = (await everywhere.all_spent(TODAY))[ACME]
        assert sum(day for day, _ in found.values()) == of_all.day * 10**9
        assert of_each[nobody] == {}
    finally:
        other.close()
        remote.close()
