"""What a process and the commands open of PostgreSQL. Nothing of it is imported unless it is configured."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from millrace.assembly.background import Once, running
from millrace.ports import Clock
from millrace.settings import SharedSettings
from millrace.stores.database import SqliteDatabase
from millrace.stores.identity import identity

if TYPE_CHECKING:
    from millrace.stores.postgres.connection import Connection
    from millrace.stores.postgres.database import PostgresDatabase
    from millrace.stores.postgres.shipper import Shipper

COMMIT_S = 10.0


class Shared(NamedTuple):
    """PostgreSQL as one process uses it."""

    database: "PostgresDatabase"
    shipper: "Shipper"


@asynccontextmanager
async def sharing(
    shared: SharedSettings, local: SqliteDatabase, wall: Clock, once: Once
) -> AsyncIterator[Shared | None]:
    """Send what ends to PostgreSQL, if one is configured. At the end, what is settled last is still sent.

    `once` has it done by one process of those on the same data_dir.
    """
    if shared.postgres is None:
        yield None
        return
    from millrace.stores.postgres.database import PostgresDatabase  # noqa: PLC0415 - only where it is used
    from millrace.stores.postgres.shipper import Shipper  # noqa: PLC0415

    database = PostgresDatabase(shared.postgres, shared.name)
    try:
        shipper = Shipper(local, database, await local.commit(identity, within_s=COMMIT_S), wall)
        async with running(once(shipper.run)):
            yield Shared(database, shipper)
    finally:
        await asyncio.to_thread(database.close)


class Tables(NamedTuple):
    """What PostgreSQL has of the tables that this version needs."""

    address: str
    has: int  # the last step that was done; 0: nothing yet
    needs: int

    @property
    def fault(self) -> str:
        """What to do before they can be used; empty if nothing."""
        if self.has < self.needs:
            state = "has no tables yet" if self.has == 0 else f"has the tables of an earlier version (step {self.has})"
            return f"{self.address} {state}, and step {self.needs} is needed; run: millrace db upgrade"
        if self.has > self.needs:
            newer = f"{self.address} has the tables of a later version (step {self.has}; {self.needs} is known here)"
            return f"{newer}; install that version of Millrace"
        return ""


def tables(shared: SharedSettings) -> Tables | None:
    """Return what there is; None if no PostgreSQL is configured. Blocks. Raises `OSError` if it does not answer."""
    if shared.postgres is None:
        return None
    from millrace.stores.postgres import migrations  # noqa: PLC0415 - only where it is used

    connection = _connected(shared.postgres, shared.name)
    try:
        found = migrations.found(connection)
    finally:
        connection.close()
    return Tables(_address(shared.postgres), found.has, found.known)


def upgraded(shared: SharedSettings) -> list[str]:
    """Make the tables that are missing; return the names of the steps. Blocks. Raises `OSError`, `ValueError`."""
    if shared.postgres is None:
        raise ValueError("shared.postgres names no database")
    from millrace.stores.postgres import migrations  # noqa: PLC0415 - only where it is used

    connection = _connected(shared.postgres, shared.name)
    try:
        return migrations.upgrade(connection, shared.name)
    finally:
        connection.close()


def _connected(url: str, schema: str) -> "Connection":
    import psycopg  # noqa: PLC0415 - only where it is used

    from millrace.stores.postgres.connection import Connection  # noqa: PLC0415

    try:
        return Connection(url, schema)
    except psycopg.Error as error:
        raise ConnectionError(f"{_address(url)} does not answer: {str(error).strip()}") from None


def _address(url: str) -> str:
    from millrace.stores.postgres.connection import shown  # noqa: PLC0415 - only where it is used

    return f"PostgreSQL at {shown(url)}"
