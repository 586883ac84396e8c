"""Deletions from the caches, carried between the SQLite of this replica and a stream in Redis.

What is deleted here is a row (`caches/deletions.py`), which is sent. What others delete becomes a row here, and is
heeded as if it had been deleted here. A deletion that comes twice changes nothing, so whatever may have been lost is
sent again.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from millrace.ports import Clock, Database, ElsewhereDeleted
from millrace.stores.redis.link import RedisLink
from millrace.stores.redis.stream import START, Message, Standing, Stream, repeat, until_done

POLL_S = 0.25  # between two looks at what was deleted here
CHECK_S = 5.0  # between two looks whether the stream is still the one that was read
READ_S, COMMIT_S = 2.0, 10.0
PAGE = 1000  # deletions at once
SKEW_S = 5.0  # by which two clocks may differ: what another replica stored so long afterwards is deleted too
MOST = 100_000  # deletions that the stream keeps

_TABLE = """
CREATE TABLE IF NOT EXISTS cache_deletions_shared (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sent INTEGER NOT NULL,   -- the number of the last row that was sent
    seen TEXT NOT NULL       -- the id of the last one that was read from the stream
) STRICT
"""
_BEGIN = "INSERT OR IGNORE INTO cache_deletions_shared VALUES (1, 0, '0-0')"
_PLACE = "SELECT sent, seen FROM cache_deletions_shared"
_OWN = """
SELECT number, at, entry_id, tenant, scope FROM cache_deletions
WHERE number > ? AND origin = '' ORDER BY number LIMIT ?
"""
_SENT = "UPDATE cache_deletions_shared SET sent = ?"
_SEEN = "UPDATE cache_deletions_shared SET seen = ?"

_WHAT = "deletions from the caches"

Row = tuple[int, float, str | None, str | None, bytes | None]
Add = Callable[[sqlite3.Connection, ElsewhereDeleted], None]  # writes it into the table of this replica


class SharedDeletions:
    """Carries deletions both ways. `own` is the id of the data_dir."""

    def __init__(self, link: RedisLink, database: Database, own: str, add: Add, wall: Clock) -> None:
        self.known = asyncio.Event()  # all that others have deleted before this replica came has been read
        self._database = database
        self._own = own.encode()
        self._add = add
        self._wall = wall
        self._stream = Stream(link, "deletions1", MOST)
        self._sent, self._seen = 0, START

    async def run(self) -> None:
        """Carry, until cancelled."""
        await until_done(self._begin, _WHAT)
        await until_done(self._look, _WHAT)
        await asyncio.gather(*(repeat(work, _WHAT) for work in (self._send, self._receive, self._check)))

    async def _begin(self) -> None:
        def begin(connection: sqlite3.Connection) -> tuple[int, str]:
            connection.execute(_TABLE)
            connection.execute(_BEGIN)
            place: tuple[int, str] = connection.execute(_PLACE).fetchone()
            return place

        self._sent, self._seen = await self._database.commit(begin, within_s=COMMIT_S)

    async def _send(self) -> None:
        """Send what was deleted here."""
        rows: list[Row] = await self._database.read(
            lambda connection: connection.execute(_OWN, (self._sent, PAGE)).fetchall(), within_s=READ_S
        )
        if not rows:
            await asyncio.sleep(POLL_S)
            return
        await self._stream.add([self._fields(row) for row in rows])
        self._sent = rows[-1][0]
        self._database.write(lambda connection: connection.execute(_SENT, (rows[-1][0],)))

    def _fields(self, row: Row) -> dict[Any, Any]:
        _, at, entry_id, tenant, scope = row
        given = {b"entry": entry_id, b"tenant": tenant, b"scope": scope}
        named = {name: value for name, value in given.items() if value is not None}
        return {b"from": self._own, b"at": repr(at), **named}

    async def _receive(self) -> None:
        """Write down what others have deleted, and how far the stream was read."""
        messages = await self._stream.read(self._seen, PAGE, CHECK_S if self.known.is_set() else 0.0)
        if messages:
            await self._keep(messages)
        if len(messages) < PAGE:
            self.known.set()

    async def _keep(self, messages: Sequence[Message]) -> None:
        seen = messages[-1][0]

        def keep(connection: sqlite3.Connection) -> None:
            for number, fields in messages:
                if fields.get(b"from") != self._own:
                    entry, tenant = fields.get(b"entry"), fields.get(b"tenant")
                    deleted = ElsewhereDeleted(
                        at=float(fields[b"at"]) + SKEW_S,
                        entry_id=None if entry is None else entry.decode(),
                        tenant=None if tenant is None else tenant.decode(),
                        scope=fields.get(b"scope"),
                        origin=number,
                    )
                    self._add(connection, deleted)
            connection.execute(_SEEN, (seen,))

        await self._database.commit(keep, within_s=COMMIT_S)
        self._seen = seen

    async def _check(self) -> None:
        """See whether the stream has lost what was in it, or lost what was not read yet."""
        await self._look()
        await asyncio.sleep(CHECK_S)

    async def _look(self) -> None:
        standing = await self._stream.standing(self._seen)
        if standing is Standing.ANEW:
            self._sent, self._seen = 0, START
            self._database.write(lambda connection: connection.execute(_SENT, (0,)))
            self._database.write(lambda connection: connection.execute(_SEEN, (START,)))
        elif standing is Standing.TRIMMED:  # nobody knows what was in between: all of it
            await self._forget_until(self._wall())
        if self._seen == START and not self.known.is_set():
            until = await self._stream.trimmed_until()
            if until:  # of what was deleted before that, this replica can learn no more
                await self._forget_until(until + SKEW_S)

    async def _forget_until(self, at: float) -> None:
        def forget(connection: sqlite3.Connection) -> None:
            self._add(connection, ElsewhereDeleted(at, None, None, None, "gap"))

        await self._database.commit(forget, within_s=COMMIT_S)
