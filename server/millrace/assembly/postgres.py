"""What a process and the commands open of PostgreSQL. Nothing of it is imported unless it is configured."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from millrace.assembly.background import Once, running
from millrace.ports import Clock, KeyStore
from millrace.ports.replicas import Store, Stores
from millrace.settings import Settings, SharedSettings
from millrace.stores import processes
from millrace.stores.archive import SqliteArchive
from millrace.stores.database import FILE, SqliteDatabase
from millrace.stores.evidence import SqliteEvidence
from millrace.stores.identity import identity
from millrace.stores.keys import StoredKeys
from millrace.stores.ledger import SqliteLedger
from millrace.stores.postgres.keys import SharedKeys
from millrace.stores.router import SqliteRouter
from millrace.stores.spool import Spool

if TYPE_CHECKING:
    from millrace.stores.postgres.archive import SharedArchive
    from millrace.stores.postgres.connection import Connection
    from millrace.stores.postgres.copies import Compared as Compared, Copy  # noqa: PLC0414 - a command names it
    from millrace.stores.postgres.database import PostgresDatabase
    from millrace.stores.postgres.spending import PostgresSpending
    from millrace.stores.redis.link import RedisLink

ALONE = SharedSettings()


class Shared(NamedTuple):
    """PostgreSQL as one process uses it."""

    database: "PostgresDatabase"
    spending: "PostgresSpending"
    spool: Spool


@asynccontextmanager
async def sharing(
    settings: Settings, local: SqliteDatabase, spool: str, wall: Clock, once: Once
) -> AsyncIterator[Shared | None]:
    """Send what ends to PostgreSQL, if one is configured. At the end, what is settled last is still sent.

    `spool` is the id of the data_dir. `once` has it done by one process of those on it.
    """
    if settings.shared.postgres is None:
        yield None
        return
    from millrace.stores.postgres.days import Days  # noqa: PLC0415 - only where it is used
    from millrace.stores.postgres.shipper import Shipper  # noqa: PLC0415

    async with opened_postgres(settings.shared) as database:
        assert database is not None
        waits = Spool(local, settings.shared.spool_bytes, wall)
        local.also_full = lambda: waits.is_full
        days = Days(database, settings.ledger.keep_days, wall)
        shipper = Shipper(local, database, spool, wall)
        async with running(once(shipper.run)), running(once(days.run)), running(waits.run()):
            yield Shared(database, spending_of(database), waits)


@asynccontextmanager
async def opened_postgres(shared: SharedSettings) -> AsyncIterator["PostgresDatabase | None"]:
    """Open PostgreSQL, if one is configured, which may be away."""
    if shared.postgres is None:
        yield None
        return
    from millrace.stores.postgres.database import PostgresDatabase  # noqa: PLC0415 - only where it is used

    database = PostgresDatabase(shared.postgres, shared.name)
    try:
        yield database
    finally:
        await asyncio.to_thread(database.close)


def stores_of(link: "RedisLink | None", shared: Shared | None) -> Stores:
    """Return what a process shares its state through."""
    by_name: dict[str, Store] = {}
    if link is not None:
        by_name["redis"] = link
    if shared is not None:
        by_name["postgres"] = shared.database
    return Stores(by_name=by_name, spooled=None if shared is None else shared.spool)


def spending_of(remote: "PostgresDatabase") -> "PostgresSpending":
    """Return what reads what accounts have spent at all replicas."""
    from millrace.stores.postgres.spending import PostgresSpending  # noqa: PLC0415 - only where it is used

    return PostgresSpending(remote)


def keys_of(local: SqliteDatabase, remote: "PostgresDatabase | None") -> KeyStore:
    """Return the keys of all replicas, or those of a data_dir alone."""
    return StoredKeys(local) if remote is None else SharedKeys(StoredKeys(remote), StoredKeys(local))


def archive_of(
    own: SqliteArchive, local: SqliteDatabase, shared: Shared | None, *, ttl_s: float, max_bytes: int, wall: Clock
) -> "SqliteArchive | SharedArchive":
    """Return the stored responses of all replicas, or those of a data_dir alone."""
    if shared is None:
        return own
    from millrace.stores.postgres.archive import SharedArchive  # noqa: PLC0415 - only where it is used

    return SharedArchive(own, local, shared.database, ttl_s=ttl_s, max_bytes=max_bytes, wall=wall)


@asynccontextmanager
async def sending(archive: "SqliteArchive | SharedArchive", forget: Callable[[str], object]) -> AsyncIterator[None]:
    """Send what this replica stores. `forget` is told the ids of responses that others have deleted."""
    if isinstance(archive, SqliteArchive):
        yield
        return
    archive.on_deleted = forget
    async with running(archive.run()):
        yield


class Tables(NamedTuple):
    """What PostgreSQL has of the tables that this version needs."""

    address: str
    has: int  # the last step that was done; 0: nothing yet
    needs: int
    missing: tuple[str, ...]  # what was made there, and is there no more
    days: tuple[int, ...]  # of the ledger, UTC days since 1970

    @property
    def fault(self) -> str:
        """What to do before they can be used; empty if nothing."""
        if self.has < self.needs:
            state = "has no tables yet" if self.has == 0 else f"has the tables of an earlier version (step {self.has})"
            return f"{self.address} {state}, and step {self.needs} is needed; run: millrace db upgrade"
        if self.has > self.needs:
            newer = f"{self.address} has the tables of a later version (step {self.has}; {self.needs} is known here)"
            return f"{newer}; install that version of Millrace"
        if self.missing:
            advice = (
                "restore it from a backup, or name a schema of its own with shared.name, and run: millrace db upgrade"
            )
            return f"{self.address} lacks what was made there before: {', '.join(self.missing)}; {advice}"
        return ""


def tables(shared: SharedSettings) -> Tables | None:
    """Return what there is; None if no PostgreSQL is configured. Blocks. Raises `OSError` if it does not say."""
    if shared.postgres is None:
        return None
    from millrace.stores.postgres import migrations  # noqa: PLC0415 - only where it is used

    with _connected(shared.postgres, shared.name) as connection:
        found = migrations.found(connection)
    return Tables(_address(shared.postgres), found.has, found.known, found.missing, found.days)


def upgraded(shared: SharedSettings) -> list[str]:
    """Make the tables that are missing; return the names of the steps. Blocks. Raises `OSError`, `ValueError`."""
    if shared.postgres is None:
        raise ValueError("shared.postgres names no database")
    from millrace.stores.postgres import migrations  # noqa: PLC0415 - only where it is used

    with _connected(shared.postgres, shared.name) as connection:
        return migrations.upgrade(connection, shared.name)


@asynccontextmanager
async def copying(data_dir: str, shared: SharedSettings, wall: Clock) -> AsyncIterator["Copy"]:
    """Open the copy of what a data_dir keeps to PostgreSQL, which gets the tables that it lacks.

    Raises `FileNotFoundError`, `OSError` if a server uses the folder or PostgreSQL does not answer, or `ValueError` if
    that has the tables of a later version.
    """
    if not await asyncio.to_thread(Path(data_dir, FILE).exists):
        raise FileNotFoundError(f"{data_dir!r} has no database")
    claimed = await asyncio.to_thread(processes.claim, data_dir)
    try:
        found = await asyncio.to_thread(tables, shared)
        if found is not None and found.has > found.needs:
            raise ValueError(found.fault)
        await asyncio.to_thread(upgraded, shared)
        async with _local(data_dir, wall) as local, opened_postgres(shared) as remote:
            from millrace.stores.postgres.copies import Copy  # noqa: PLC0415 - only where it is used
            from millrace.stores.postgres.shipper import Shipper  # noqa: PLC0415

            assert remote is not None
            spool = await identity(local)
            yield Copy(local, remote, spool, Shipper(local, remote, spool, wall))
    finally:
        claimed.release()


@asynccontextmanager
async def _local(data_dir: str, wall: Clock) -> AsyncIterator[SqliteDatabase]:
    """Open a data_dir with all tables as this version has them, and no row open but those of living processes."""
    database = await asyncio.to_thread(SqliteDatabase, data_dir)
    try:
        StoredKeys(database)
        SqliteArchive(database, ttl_s=0, disk_bytes=0, wall=wall)
        SqliteEvidence(database, keep_days=0, wall=wall)
        SqliteRouter(database, wall=wall)
        SqliteLedger(database).close_left(partial(processes.living, data_dir))
        await database.ready()
        yield database
    finally:
        await asyncio.to_thread(database.close)


@contextmanager
def _connected(url: str, schema: str) -> "Iterator[Connection]":
    """Connect. What PostgreSQL refuses is a `ConnectionError`."""
    import psycopg  # noqa: PLC0415 - only where it is used

    from millrace.stores.postgres.connection import Connection, told  # noqa: PLC0415

    try:
        connection = Connection(url, schema)
    except psycopg.Error as error:
        raise ConnectionError(f"{_address(url)} does not answer: {told(error)}") from None
    try:
        yield connection
    except psycopg.Error as error:
        raise ConnectionError(f"{_address(url)} refuses: {told(error)}") from None
    finally:
        connection.close()


def _address(url: str) -> str:
    from millrace.stores.postgres.connection import shown  # noqa: PLC0415 - only where it is used

    return f"PostgreSQL at {shown(url)}"
