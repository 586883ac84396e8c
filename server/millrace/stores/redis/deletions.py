"""Deletions from the caches, carried between the SQLite of this replica and a stream in Redis.

What is deleted here is a row (`caches/deletions.py`), which is sent. What others delete becomes a row here, and is
heeded as if it had been deleted here. A deletion that comes twice changes nothing, so whatever may have been lost is
sent again.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from millrace import log
from millrace.ports import Clock, Database, ElsewhereDeleted
from millrace.stores.redis.link import RedisAwayError, RedisLink

POLL_S = 0.25  # between two looks at what was deleted here
AGAIN_S = 1.0
CHECK_S = 5.0  # between two looks whether the stream is still the one that was read
READ_S, COMMIT_S, CALL_S = 2.0, 10.0, 5.0
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

Row = tuple[int, float, str | None, str | None, bytes | None]


Add = Callable[[sqlite3.Connection, ElsewhereDeleted], None]  # writes it into the table of this replica


class SharedDeletions:
    """Carries deletions both ways. `own` is the id of the data_dir."""

    def __init__(self, link: RedisLink, database: Database, own: str, add: Add, wall: Clock) -> None:
        self._link = link
        self._database = database
        self._own = own.encode()
        self._add = add
        self._wall = wall
        self._stream = link.key("deletions1")
        self._sent, self._seen = 0, "0-0"

    async def run(self) -> None:
        """Carry, until cancelled."""
        await self._until_done(self._begin)
        await asyncio.gather(*(self._repeat(work) for work in (self._send, self._receive, self._check)))

    async def _begin(self) -> None:
        def begin(connection: sqlite3.Connection) -> tuple[int, str]:
            connection.execute(_TABLE)
            connection.execute(_BEGIN)
            place: tuple[int, str] = connection.execute(_PLACE).fetchone()
            return place

        self._sent, self._seen = await self._database.commit(begin, within_s=COMMIT_S)

    async def _repeat(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._until_done(work)

    async def _until_done(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
                return
            except RedisAwayError:
                pass  # the link has told
            except (sqlite3.Error, TimeoutError, ResponseError) as error:
                log.get().error("deletions from the caches were not shared", exc_info=error)
            await asyncio.sleep(AGAIN_S)

    async def _send(self) -> None:
        """Send what was deleted here."""
        rows: list[Row] = await self._database.read(
            lambda connection: connection.execute(_OWN, (self._sent, PAGE)).fetchall(), within_s=READ_S
        )
        if not rows:
            await asyncio.sleep(POLL_S)
            return

        async def send(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipe:
                for row in rows:
                    pipe.xadd(self._stream, self._fields(row), maxlen=MOST, approximate=True)
                await pipe.execute()

        await self._link.ask(send, within_s=CALL_S)
        self._sent = rows[-1][0]
        self._database.write(lambda connection: connection.execute(_SENT, (rows[-1][0],)))

    def _fields(self, row: Row) -> dict[Any, Any]:
        _, at, entry_id, tenant, scope = row
        given = {b"entry": entry_id, b"tenant": tenant, b"scope": scope}
        named = {name: value for name, value in given.items() if value is not None}
        return {b"from": self._own, b"at": repr(at), **named}

    async def _receive(self) -> None:
        """Write down what others have deleted, and how far the stream was read."""
        found: Any = await self._link.ask(
            lambda redis: redis.xread({self._stream: self._seen}, count=PAGE, block=int(1000 * CHECK_S)),
            within_s=2 * CHECK_S,
        )
        for _, messages in found or ():
            await self._keep(messages)

    async def _keep(self, messages: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> None:
        seen = messages[-1][0].decode()

        def keep(connection: sqlite3.Connection) -> None:
            for number, fields in messages:
                if fields.get(b"from") != self._own:
                    entry, tenant = fields.get(b"entry"), fields.get(b"tenant")
                    deleted = ElsewhereDeleted(
                        at=float(fields[b"at"]) + SKEW_S,
                        entry_id=None if entry is None else entry.decode(),
                        tenant=None if tenant is None else tenant.decode(),
                        scope=fields.get(b"scope"),
                        origin=number.decode(),
                    )
                    self._add(connection, deleted)
            connection.execute(_SEEN, (seen,))

        await self._database.commit(keep, within_s=COMMIT_S)
        self._seen = seen

    async def _check(self) -> None:
        """See whether the stream has lost what was in it, or lost what was not read yet."""
        info = await self._link.ask(self._info, within_s=CALL_S)
        last, trimmed = (_at(info.get(name, b"0-0")) for name in ("last-generated-id", "max-deleted-entry-id"))
        if last < _at(self._seen):  # a Redis that was emptied, or an older one in its place
            self._sent, self._seen = 0, "0-0"
            self._database.write(lambda connection: connection.execute(_SENT, (0,)))
            self._database.write(lambda connection: connection.execute(_SEEN, ("0-0",)))
        elif self._seen != "0-0" and trimmed > _at(self._seen):  # nobody knows what was in between: all of it
            now = self._wall()

            def forget(connection: sqlite3.Connection) -> None:
                self._add(connection, ElsewhereDeleted(now, None, None, None, "gap"))

            await self._database.commit(forget, within_s=COMMIT_S)
        await asyncio.sleep(CHECK_S)

    async def _info(self, redis: Redis) -> dict[str, Any]:
        try:
            info: dict[str, Any] = await redis.xinfo_stream(self._stream)
        except ResponseError:  # there is none yet
            return {}
        return info


def _at(number: bytes | str) -> tuple[int, int]:
    text = number.decode() if isinstance(number, bytes) else number
    milliseconds, _, count = text.partition("-")
    return int(milliseconds), int(count or 0)
