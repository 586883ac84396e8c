"""Whoever reads the ledger in PostgreSQL finds what SQLite has."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest

from millrace.accounts.dashboard.rollups import Rollups
from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.stores.ledger_rows import LedgerRows
from millrace.stores.past import SqlitePast
from millrace.stores.postgres.database import PostgresDatabase
from millrace.stores.postgres.shipper import Shipper
from millrace.stores.queries import Queries
from millrace.stores.rollups import StoredRollups
from millrace.types import Price, Selection
from millrace.types.rollup import Span, Window
from tests.support import many_rows
from tests.support.shared_servers import postgres_server, with_tables
from tests.support.waiting import PATIENCE_S

NOW = 1_796_000_000.0
SINCE = NOW - 3 * 86_400
SELECTIONS = [
    Selection(),
    Selection(tenant="acme"),
    Selection(model="large-model", tag="shop"),
    Selection(model="no model"),
    Selection(source="none"),
    Selection(since=NOW - 86_400, until=NOW - 3600),
]


class Both(NamedTuple):
    """One ledger in two databases."""

    sqlite: SqliteDatabase
    postgres: PostgresDatabase


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder: Path = tmp_path_factory.mktemp("ledger")
    with postgres_server() as server:
        opened = Both(SqliteDatabase(str(folder)), PostgresDatabase(server.url, with_tables(server, "millrace")))
        asyncio.run(filled(opened))
        yield opened
        opened.sqlite.close()
        opened.postgres.close()


async def filled(both: Both) -> None:
    ledger = SqliteLedger(both.sqlite, "epoch1")
    for entry in many_rows.rows(900, seed=3, since=SINCE, until=NOW, tenants=("acme", "other")):
        ledger.settled(entry)
    await both.sqlite.ready()
    shipper = Shipper(both.sqlite, both.postgres, "spool", lambda: NOW)
    while await shipper.send():
        pass


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
async def test_rows(both: Both, selection: Selection) -> None:
    sqlite, postgres = LedgerRows(both.sqlite), LedgerRows(both.postgres)
    found = await sqlite.latest(selection, 50)
    assert await postgres.latest(selection, 50) == found
    assert await postgres.after(100, selection, 70) == await sqlite.after(100, selection, 70)
    assert await postgres.extent(selection) == await sqlite.extent(selection)
    for entry in found[0][:3]:
        assert await postgres.find(entry.request_id) == await sqlite.find(entry.request_id)
        assert await postgres.find(entry.request_id, "somebody else") is None
        assert await postgres.beginning(entry.request_id[:-1]) == await sqlite.beginning(entry.request_id[:-1])


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
async def test_past_requests(both: Both, selection: Selection) -> None:
    sqlite, postgres = SqlitePast(both.sqlite), SqlitePast(both.postgres)
    numbers = [*await sqlite.ended(SINCE, selection.tenant)]
    assert [*await postgres.ended(SINCE, selection.tenant)] == numbers
    page = numbers[10:60]
    assert await postgres.read(page, stories=True) == await sqlite.read(page, stories=True)
    assert await postgres.after(30, 100) == await sqlite.after(30, 100)
    assert await postgres.latest(selection, 800, 20, 400) == await sqlite.latest(selection, 800, 20, 400)


async def added_up(database: Queries) -> StoredRollups:
    store = StoredRollups(database, tags=2)
    rollups = Rollups(SqlitePast(database), store, lambda: NOW, lambda: Price(input=Decimal(1), output=Decimal(2)))
    while await rollups.step():
        pass
    assert rollups.progress.behind == 0
    return store


async def test_what_the_dashboard_adds_up(both: Both) -> None:
    sqlite, postgres = await added_up(both.sqlite), await added_up(both.postgres)
    for tenant, tag in ((None, None), ("acme", None), ("acme", "shop"), (None, "shop")):
        window = Window(span=Span.HOUR, since=int(SINCE) - 3600, until=int(NOW) + 3600, tenant=tenant, tag=tag)
        found = await sqlite.cells(window)
        assert found
        assert sorted(await postgres.cells(window)) == sorted(found)
        assert await postgres.tags(window) == await sqlite.tags(window)
        assert await postgres.tenants(window) == await sqlite.tenants(window)
    again = await added_up(both.postgres)  # it has been done
    window = Window(span=Span.DAY, since=0, until=int(NOW) + 86_400, tenant=None)
    assert await again.tenants(window) == await sqlite.tenants(window)
    both.postgres.write(lambda _: None, droppable=True)
    again.forget(NOW + 1000 * 86_400)
    await both.postgres.commit(lambda _: None, within_s=PATIENCE_S)
