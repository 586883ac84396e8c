"""The days of the ledger in PostgreSQL: a partition for each is made ahead, and dropped once it is too old.

One replica does it at a time, under a lock. A partition that is dropped is gone at once, however many rows it has.
"""

import asyncio
from functools import partial

from millrace import log
from millrace.ports import Clock
from millrace.stores.ledger import DAY_S
from millrace.stores.postgres.connection import Connection
from millrace.stores.postgres.database import PostgresDatabase
from millrace.stores.postgres.shipper import SENDS, make_days

EVERY_S, AGAIN_S = 3600.0, 60.0  # between two looks; after one that failed
AHEAD = 3  # days
COMMIT_S = 30.0
_LOCK = 6_511_274_211  # of the advisory locks: who looks after the days
_IS_MINE = "SELECT pg_try_advisory_xact_lock(?)"
_FOUND = """
SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'entries'::regclass
"""
_PREFIX = "entries_"
# A long read delays it until the next look, and never the rows that arrive behind it for long.
_PATIENCE = "SET LOCAL lock_timeout = '2s'"


class Days:
    """Looks after the days. `keep_days`: how many before today are kept."""

    def __init__(self, remote: PostgresDatabase, keep_days: int, wall: Clock) -> None:
        self._remote = remote
        self._keep_days = keep_days
        self._wall = wall

    async def run(self) -> None:
        """Look each hour, until cancelled."""
        while True:
            pause = EVERY_S
            try:
                await self.look()
            except TimeoutError:  # PostgreSQL is away, or a lock was not free: it was told
                pause = AGAIN_S
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """Make and drop what is due. Raises `TimeoutError` if PostgreSQL is away."""
        today = int(self._wall() // DAY_S)
        ahead = range(today, today + AHEAD + 1)
        old: list[int] = await self._remote.commit(partial(_made, ahead, today - self._keep_days), within_s=COMMIT_S)
        for day in old:
            await self._remote.commit(partial(_dropped, day), within_s=COMMIT_S)
            log.get().info("a day of the ledger in PostgreSQL was dropped", day=day)


def found(connection: Connection) -> list[int]:
    """Return the days that have a partition, in order. An operator's own partition is none of them."""
    days = (name.removeprefix(_PREFIX) for (name,) in connection.execute(_FOUND).fetchall())
    return sorted(int(day) for day in days if day.isdecimal())


def _made(ahead: range, first: int, connection: Connection) -> list[int]:
    """Make days ahead; return those before the first that is kept. None if another replica is at it."""
    ((is_mine,),) = connection.execute(_IS_MINE, (_LOCK,)).fetchall()
    if not is_mine:
        return []
    missing = sorted(set(ahead) - set(found(connection)))
    if missing:
        connection.execute(_PATIENCE)
        connection.execute("SELECT pg_advisory_xact_lock(?)", (SENDS,))  # who sends makes days, too
        make_days(connection, missing)
    return [day for day in found(connection) if day < first]


def _dropped(day: int, connection: Connection) -> None:
    ((is_mine,),) = connection.execute(_IS_MINE, (_LOCK,)).fetchall()
    if is_mine:
        connection.execute(_PATIENCE)
        connection.execute(f"DROP TABLE IF EXISTS {_PREFIX}{int(day)}")
