"""PostgreSQL as the stores see it: the statements of SQLite, deadlines, a server that goes and comes back."""

import asyncio
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from millrace.stores.postgres import migrations
from millrace.stores.postgres.connection import Connection, shown
from millrace.stores.postgres.database import PostgresAwayError, PostgresDatabase
from millrace.stores.postgres.migrations import Found
from millrace.stores.postgres.tables import STEPS
from tests.support.ports import free_port
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def database(server: SharedServer) -> Iterator[PostgresDatabase]:
    opened = PostgresDatabase(server.url, "millrace")
    yield opened
    opened.close()


async def test_one_query_serves_both(database: PostgresDatabase) -> None:
    query = "SELECT ?, 'a?b%', sum(n), sum(n) / 2.0, ? FROM (VALUES (1), (2)) AS t (n) WHERE n >= ?"
    rows = await database.read(lambda c: c.execute(query, ("x", b"\x00", 1)).fetchall(), within_s=PATIENCE_S)
    assert rows == [("x", "a?b%", 3, 1.5, b"\x00")]
    assert await asyncio.to_thread(
        database.scan, lambda c: c.execute("SELECT 5 % 3").fetchone(), within_s=PATIENCE_S
    ) == (2,)


async def test_a_commit_is_all_or_nothing(database: PostgresDatabase) -> None:
    await database.commit(lambda c: c.execute("CREATE TABLE public.things (n INTEGER)"), within_s=PATIENCE_S)

    def fails(connection: Connection) -> None:
        connection.executemany("INSERT INTO public.things VALUES (?)", [(1,), (2,)])
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - ours
        await database.commit(fails, within_s=PATIENCE_S)
    assert await database.read(
        lambda c: c.execute("SELECT count(*) FROM public.things").fetchone(), within_s=PATIENCE_S
    ) == (0,)


async def test_it_goes_away_and_comes_back(server: SharedServer, database: PostgresDatabase) -> None:
    assert await database.read(lambda c: c.execute("SELECT 1").fetchone(), within_s=PATIENCE_S) == (1,)
    await asyncio.to_thread(server.kill)
    with pytest.raises(PostgresAwayError):
        await database.read(lambda c: c.execute("SELECT 1").fetchone(), within_s=PATIENCE_S)
    assert database.is_away
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(PATIENCE_S):
        while database.is_away:
            try:
                await database.read(lambda c: c.execute("SELECT 1").fetchone(), within_s=PATIENCE_S)
            except PostgresAwayError:
                await asyncio.sleep(0.05)


async def test_one_that_hangs_is_late(server: SharedServer, database: PostgresDatabase) -> None:
    assert await database.read(lambda c: c.execute("SELECT 1").fetchone(), within_s=PATIENCE_S) == (1,)
    server.hang()
    try:
        with pytest.raises(TimeoutError):
            await database.read(lambda c: c.execute("SELECT 1").fetchone(), within_s=0.05)
    finally:
        server.go_on()
    assert await database.read(lambda c: c.execute("SELECT 2").fetchone(), within_s=PATIENCE_S) == (2,)


async def test_what_it_refuses_is_late_for_who_asks_and_it_is_not_away(database: PostgresDatabase) -> None:
    """Such as tables that are gone, a role without rights, a disk that is full."""
    for statement in ("SELECT * FROM nowhere", "SELECT pg_sleep(9)"):

        def asked(connection: Connection, statement: str = statement) -> None:
            connection.execute("SET statement_timeout = '50ms'")
            connection.execute(statement)

        with pytest.raises(PostgresAwayError, match=r"refuses: (relation|canceling)"):
            await database.read(asked, within_s=PATIENCE_S)
    assert not database.is_away
    assert await database.read(lambda c: c.execute("SELECT 1").fetchone(), within_s=PATIENCE_S) == (1,)


async def test_one_that_only_reads_is_connected_to_anew(database: PostgresDatabase) -> None:
    """Behind its name there may be another one by then."""

    def written(connection: Connection) -> int:
        connection.execute("CREATE TEMPORARY TABLE mine (n INTEGER)")
        return connection.raw.info.backend_pid

    await database.read(lambda c: c.execute("SET default_transaction_read_only = on"), within_s=PATIENCE_S)
    with pytest.raises(PostgresAwayError, match="read-only"):
        await database.read(written, within_s=PATIENCE_S)
    assert await database.read(written, within_s=PATIENCE_S)


def test_an_address_has_all_hosts_and_no_password() -> None:
    assert shown("postgresql://user:secret@one:5433,two:5434/x?target_session_attrs=primary") == "one:5433,two:5434/x"
    assert shown("postgresql://user:secret@/x?host=/run/postgresql") == "/run/postgresql/x"


async def test_a_start_without_it_is_no_error_and_shows_no_password() -> None:
    url = f"postgresql://user:secret@127.0.0.1:{free_port()}/there"
    database = PostgresDatabase(url, "millrace")
    with pytest.raises(PostgresAwayError) as caught:
        await database.read(lambda c: c.execute("SELECT 1"), within_s=PATIENCE_S)
    assert "secret" not in f"{caught.value}{database.address}{shown(url)}"
    database.close()


def test_an_upgrade_makes_all_tables_once(server: SharedServer) -> None:
    def upgraded(_: int) -> list[str]:
        connection = Connection(server.url, "fresh")
        try:
            return migrations.upgrade(connection, "fresh")
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as together:
        done = [*together.map(upgraded, range(3))]
    assert sorted(done) == [[], [], [step.name for step in STEPS]]
    connection = Connection(server.url, "fresh")
    assert migrations.found(connection) == Found(len(STEPS), len(STEPS))
    connection.execute("INSERT INTO schema_steps (number, name) VALUES (?, 'of later')", (STEPS[-1].number + 1,))
    assert migrations.found(connection) == Found(len(STEPS) + 1, len(STEPS))
    connection.close()


def test_steps_are_in_order_and_an_empty_database_is_behind(server: SharedServer) -> None:
    assert [step.number for step in STEPS] == [*range(1, len(STEPS) + 1)]
    connection = Connection(server.url, "nothing")
    assert migrations.found(connection) == Found(0, len(STEPS))
    connection.close()


async def test_what_is_written_later_is_told_of_also_where_it_fails(database: PostgresDatabase) -> None:
    """Or what comes after it would never be begun: nothing would be pruned any more."""
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    for statement in ("SELECT 1", "SELECT * FROM nowhere"):

        def run(connection: Connection, statement: str = statement) -> None:
            connection.execute(statement)

        assert database.write(run, droppable=True, on_written=partial(told.put, statement))
    got = [await asyncio.to_thread(told.get, timeout=PATIENCE_S) for _ in range(2)]
    assert got == ["SELECT 1", "SELECT * FROM nowhere"]
