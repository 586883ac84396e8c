"""The id of a data_dir, by which what replicas share tells whose something is."""

import secrets
import sqlite3

_TABLE = "CREATE TABLE IF NOT EXISTS spool (id TEXT NOT NULL) STRICT"
_MAKE = "INSERT INTO spool SELECT ? WHERE NOT EXISTS (SELECT * FROM spool)"


def identity(connection: sqlite3.Connection) -> str:
    """Return the id of the data_dir, which it gets here if it has none."""
    connection.execute(_TABLE)
    connection.execute(_MAKE, (secrets.token_hex(8),))
    ((own,),) = connection.execute("SELECT id FROM spool").fetchall()
    return str(own)
