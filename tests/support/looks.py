"""A look into a database, behind all that was queued to be written."""

from typing import Any

from millrace.stores.database import SqliteDatabase
from millrace.stores.writer import Operation
from tests.support.waiting import PATIENCE_S


def ready(database: SqliteDatabase) -> None:
    """Block until all that was queued is committed."""
    database._after_writes(lambda _: None).result(PATIENCE_S)


async def look(database: SqliteDatabase, operation: Operation) -> Any:
    """Return what an operation finds once all earlier writes are committed."""
    return await database.commit(operation, within_s=PATIENCE_S)
