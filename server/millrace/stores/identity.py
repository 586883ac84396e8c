"""The id of a data_dir, by which what replicas share tells whose something is."""

import secrets
import sqlite3

from millrace.ports import Database

COMMIT_S = 10.0  # for a new id to be on the disk

_TABLE = "CREATE TABLE IF NOT EXISTS spool (id TEXT NOT NULL) STRICT"
_MAKE = "INSERT INTO spool SELECT ? WHERE NOT EXISTS (SELECT * FROM spool)"


async def identity(database: Database) -> str:
    """Return the id of a data_dir, which it gets here if it has none. Raises `TimeoutError`."""
    own: str = await database.commit(_identity, within_s=COMMIT_S)
    return own


def _identity(connection: sqlite3.Connection) -> str:
    connection.execute(_TABLE)
    connection.execute(_MAKE, (secrets.token_hex(8),))
    ((own,),) = connection.execute("SELECT id FROM spool").fetchall()
    return str(own)
