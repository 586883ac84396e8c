"""What accounts have spent, as SQLite adds it up from the rows of the ledger."""

import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from millrace.stores import spending
from millrace.stores.accounts import DAY_S, Today
from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.stores.spending import KEPT_DAYS, Others, SqliteSpending
from millrace.types import CacheOutcome, Entry, Statement, Status, Strategy, Usage
from millrace.types.budget import AccountKind, AccountName, Spent
from tests.support.waiting import PATIENCE_S

NOON = 20_000 * DAY_S + DAY_S / 2.0
TODAY = Today.at(NOON)
YESTERDAY, LAST_MONTH = NOON - DAY_S, TODAY.month - 1
KEY = AccountName(AccountKind.KEY, "acme", "k")
TENANT = AccountName(AccountKind.TENANT, "acme")
ANN = AccountName(AccountKind.USER, "acme", "ann")
NIGHTLY = AccountName(AccountKind.TAG, "acme", "nightly")
ALL = (KEY, TENANT, ANN, NIGHTLY)


def entry(request_id: str, cost: str, opened_at: float = NOON, status: Status = Status.COMPLETED) -> Entry:
    return Entry(
        request_id=request_id,
        tenant="acme",
        opened_at=opened_at,
        status=status,
        source=None,
        cache=CacheOutcome.MISS,
        strategy=Strategy.AUTO,
        check=None,
        code=None,
        statement=Statement(usage=Usage(), cost=Decimal(cost), saved=Decimal(0), charges=()),
        ttft_ms=None,
        latency_ms=1.0,
        key_id="k",
        user="ann",
        tag="nightly",
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase(str(tmp_path))
    yield opened
    opened.close()


def spent(day: str, month: str) -> Spent:
    return Spent(Decimal(day), Decimal(month))


async def read(spending: SqliteSpending, others: Others | None = None) -> dict[AccountName, Spent]:
    await spending.written()
    return (await spending.snapshot(ALL, TODAY, others or Others())).spent


async def test_each_account_has_its_day_and_its_month(database: SqliteDatabase) -> None:
    """By when the requests were opened, in whole nanodollars; those of other tenants, users and tags are others'."""
    ledger, spending = SqliteLedger(database, "mine"), SqliteSpending(database)
    ledger.settled(entry("1", "0.1"))
    ledger.settled(entry("2", "0.200000001"))
    ledger.settled(entry("3", "4", YESTERDAY))
    ledger.settled(entry("4", "9", LAST_MONTH))
    ledger.settled(replace(entry("5", "1"), user="", tag=""))
    ledger.settled(replace(entry("6", "2"), user="bob", key_id="other"))
    ledger.settled(replace(entry("7", "70"), tenant="another"))
    ledger.settled(entry("8", "0"))
    assert await read(spending) == {
        KEY: spent("1.300000001", "5.300000001"),
        TENANT: spent("3.300000001", "7.300000001"),
        ANN: spent("0.300000001", "4.300000001"),
        NIGHTLY: spent("2.300000001", "6.300000001"),
    }


async def test_a_request_counts_once_however_it_ends(database: SqliteDatabase) -> None:
    """What is open at the most it has booked; then at what it cost; what a dead process left open, at the most."""
    ledger, spending = SqliteLedger(database, "mine"), SqliteSpending(database)
    dead = SqliteLedger(database, "dead")
    ledger.opened(entry("1", "5", status=Status.OPEN))
    assert set((await read(spending)).values()) == {spent("5", "5")}
    ledger.opened(entry("1", "6", status=Status.OPEN))
    assert set((await read(spending)).values()) == {spent("6", "6")}
    ledger.settled(entry("1", "2"))
    dead.opened(entry("2", "3", status=Status.OPEN))
    assert set((await read(spending)).values()) == {spent("5", "5")}
    for _ in range(2):
        ledger.close_left(frozenset)
        assert set((await read(spending)).values()) == {spent("5", "5")}


async def test_what_a_living_process_has_open_counts_at_what_it_has_cost_so_far(database: SqliteDatabase) -> None:
    old = SqliteLedger(database, "old")
    spending = SqliteSpending(database)
    old.opened(replace(entry("1", "5", status=Status.OPEN), booked=Decimal("0.5")))
    old.settled(entry("2", "1"))
    living = Others(frozenset({"old"}), frozenset({"old"}), NOON - 1)
    await spending.written()
    found = await spending.snapshot(ALL, TODAY, living)
    assert set(found.spent.values()) == {spent("1.5", "1.5")}
    assert found.others == dict.fromkeys(ALL, 1_500_000_000)
    found = await spending.snapshot(ALL, TODAY, replace(living, living=frozenset()))
    assert set(found.spent.values()) == {spent("6", "6")}
    assert found.others == dict.fromkeys(ALL, 6_000_000_000)
    assert await spending.first_open({"old"}) == NOON
    assert await spending.first_open({"another"}) is None


async def test_rows_of_an_earlier_version_are_added_up_and_pruned_ones_stay_counted(database: SqliteDatabase) -> None:
    ledger = SqliteLedger(database, "mine")
    ledger.settled(entry("1", "1"))
    ledger.settled(entry("2", "2", YESTERDAY))
    spending = SqliteSpending(database)
    assert set((await read(spending)).values()) == {spent("1", "3")}
    database.write(lambda connection: connection.execute("DELETE FROM entries"))
    again = SqliteSpending(database)
    assert set((await read(again)).values()) == {spent("1", "3")}
    again.prune(Today.at(NOON + (KEPT_DAYS + 1) * DAY_S))
    assert set((await read(again)).values()) == {spent("0", "0")}


async def test_all_accounts_are_listed_with_what_running_requests_reserve(database: SqliteDatabase) -> None:
    ledger, spending = SqliteLedger(database, "mine"), SqliteSpending(database)
    ledger.settled(entry("1", "1"))
    ledger.settled(entry("2", "2", YESTERDAY))
    ledger.opened(entry("3", "4", status=Status.OPEN))
    await spending.written()
    found, reserved = await spending.all_spent(TODAY)
    assert found == dict.fromkeys(ALL, spent("1", "3"))
    assert reserved == dict.fromkeys(ALL, 4_000_000_000)


@pytest.mark.parametrize("name", [ANN, NIGHTLY])
async def test_who_is_read_is_found_among_many_others(database: SqliteDatabase, name: AccountName) -> None:
    """Each user's first request is read so, and a tenant may have a million of them in a month."""
    SqliteLedger(database, "mine"), SqliteSpending(database)
    rows = [("acme", int(TODAY.day // DAY_S), "k", f"user {number}", f"tag {number}", 5) for number in range(5000)]

    def steps(connection: sqlite3.Connection) -> int:
        connection.executemany("INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?)", rows)
        counted: list[None] = []
        connection.set_progress_handler(lambda: counted.append(None), 1)
        try:
            assert spending._spent(connection, name, TODAY, frozenset()) == spent("0", "0")
        finally:
            connection.set_progress_handler(None, 1)
        return len(counted)

    assert await database.commit(steps, within_s=PATIENCE_S) < 1000
