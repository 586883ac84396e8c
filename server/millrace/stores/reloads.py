"""Reloads that `millrace reload` asks of the server on its data_dir, and how they ended: one row each, for a day."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable

from millrace import log
from millrace.beat import beat
from millrace.ports import Database

POLL_S = 0.25  # seconds between two looks
READ_S = 2.0  # for SQLite to look
COMMIT_S = 5.0  # for a row to be on disk
WAIT_S = 30.0  # for a server to answer
KEPT_S = 86_400.0

_TABLE = """
CREATE TABLE IF NOT EXISTS reloads (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    asked_at REAL NOT NULL,     -- Unix seconds
    outcome BLOB                -- JSON; NULL: nobody has answered yet
) STRICT
"""
_ASK = "INSERT INTO reloads (asked_at) VALUES (?)"
_ASKED = "SELECT max(number) FROM reloads WHERE outcome IS NULL AND asked_at > ?"
_ANSWER = "UPDATE reloads SET outcome = ? WHERE outcome IS NULL AND number <= ?"
_OUTCOME = "SELECT outcome FROM reloads WHERE number = ?"
_FORGET = "DELETE FROM reloads WHERE asked_at <= ?"


class SqliteReloads:
    """The table of reloads."""

    def __init__(self, database: Database, wall: Callable[[], float] = time.time) -> None:
        self._database = database
        self._wall = wall
        database.write(lambda connection: connection.execute(_TABLE))

    async def ask(self) -> bytes:
        """Ask the server for a reload, and return its outcome. Raises `TimeoutError` if none answers."""
        now = self._wall()

        def add(connection: sqlite3.Connection) -> int:
            connection.execute(_FORGET, (now - KEPT_S,))
            return connection.execute(_ASK, (now,)).lastrowid or 0

        number: int = await self._database.commit(add, within_s=COMMIT_S)

        def look(connection: sqlite3.Connection) -> bytes | None:
            row: tuple[bytes | None] = connection.execute(_OUTCOME, (number,)).fetchone() or (None,)
            return row[0]

        try:
            async with asyncio.timeout(WAIT_S):
                while (outcome := await self._database.read(look, within_s=READ_S)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S / 5)  # another process cannot tell us
        except TimeoutError:
            raise TimeoutError(f"the server has not answered within {WAIT_S:g} s; look at its log") from None
        return bytes(outcome)

    async def follow(self, reload: Callable[[], Awaitable[bytes]]) -> None:
        """Answer whoever asks, until cancelled. What was asked for at the same time is one reload."""
        while True:
            await beat(POLL_S)
            try:
                await self._answer(reload)
            except (sqlite3.Error, TimeoutError) as error:
                log.get().error("whether a reload is asked for was not read", exc_info=error)

    async def _answer(self, reload: Callable[[], Awaitable[bytes]]) -> None:
        since = self._wall() - WAIT_S  # whoever asked before that has gone

        def look(connection: sqlite3.Connection) -> int | None:
            number: int | None = connection.execute(_ASKED, (since,)).fetchone()[0]
            return number

        number = await self._database.read(look, within_s=READ_S)
        if number is not None:
            outcome = await reload()
            await self._database.commit(
                lambda connection: connection.execute(_ANSWER, (outcome, number)), within_s=COMMIT_S
            )
