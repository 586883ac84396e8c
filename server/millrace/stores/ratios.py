"""What providers have reported of counted prompts, in SQLite: one row a model, replaced in place."""

import sqlite3

from millrace.stores.database import SqliteDatabase

LOAD_S = 5.0  # for SQLite to read all rows

Row = tuple[str, str, float, float]  # address and name of the model, tokens as counted and as reported

_TABLE = """
CREATE TABLE IF NOT EXISTS ratios (
    address TEXT NOT NULL,   -- of the model's server
    model TEXT NOT NULL,     -- the provider's name for it
    counted REAL NOT NULL,   -- tokens of prompts, as Millrace counts them
    reported REAL NOT NULL,  -- the same, as the provider does
    PRIMARY KEY (address, model)
) STRICT
"""
_LOAD = "SELECT address, model, counted, reported FROM ratios"
_KEEP = "INSERT OR REPLACE INTO ratios (address, model, counted, reported) VALUES (?, ?, ?, ?)"


class SqliteRatios:
    """The table of ratios. Processes on one data_dir write it in turn; what was learned last counts."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        database.write(lambda connection: connection.execute(_TABLE))

    async def load(self) -> list[Row]:
        """Return all rows."""
        rows: list[Row] = await self._database.read(_load, within_s=LOAD_S)
        return rows

    def keep(self, rows: list[Row]) -> None:
        """Replace these rows. Never waits; under pressure what was learned since is kept the next time."""
        self._database.write(lambda connection: connection.executemany(_KEEP, rows), 128 * len(rows), droppable=True)


def _load(connection: sqlite3.Connection) -> list[Row]:
    return connection.execute(_LOAD).fetchall()
