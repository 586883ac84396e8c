"""Entries of the semantic cache as replicas tell each other of them: rows that leave this disk, and rows that come.

What comes is as safe as what was stored here, or it is left out: of the same embedder and the same rules, with the id
of its scope and its question, by a clock that is not ahead, and not deleted. It is on disk before it is in memory.
"""

import asyncio
import json
import sqlite3
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import numpy as np

from millrace import log
from millrace.caches import table
from millrace.caches.partition import Stored
from millrace.caches.scopes import Scopes
from millrace.caches.segment import Vector
from millrace.caches.table import EntryTable
from millrace.ports import Clock, Database, DeletedEntries, SharedEntry
from millrace.types import StoredAnswer, entry_id

SKEW_S = 5.0  # by which two clocks may differ
AT_ONCE, BYTES = 100, 1 << 20  # entries that are told of at once, and their bytes, about
MOST = 1 << 20  # bytes of an answer that others are told
READ_S, SCAN_S, COMMIT_S = 2.0, 60.0, 10.0
BEHIND_S, LOOK_S = 2.0, 0.05  # that indexes may take for what has come, and between two looks
_LENGTH = 0.01  # by which that of a vector may differ from 1, since its numbers are rounded

_COLUMNS = "id, scope, tenant, question, answer, vector, stored_at"
_UNTOLD = f"""
SELECT {_COLUMNS} FROM semantic_entries INDEXED BY semantic_entries_untold WHERE untold = 1 AND mark = ? ORDER BY rowid
"""  # noqa: S608 - names of this file
_TOLD = "UPDATE semantic_entries SET untold = NULL WHERE id = ? AND stored_at = ?"
_AGAIN = """
UPDATE semantic_entries SET untold = 1
WHERE rowid IN (SELECT rowid FROM semantic_entries INDEXED BY semantic_entries_stored WHERE stored_at > ?)
    AND came_at IS NULL
"""
_NEWER = f"{table.PUT} WHERE excluded.stored_at > stored_at"
_NUMBERS = """
SELECT rowid FROM semantic_entries
WHERE stored_at > ? AND mark = ? AND max(stored_at, coalesce(came_at, 0)) > ? ORDER BY stored_at DESC
"""
_NUMBERED = f"SELECT {_COLUMNS} FROM semantic_entries WHERE rowid IN (SELECT value FROM json_each(?))"  # noqa: S608

Kept = list[tuple[bytes, Stored, Vector]]  # with their scopes


class EntrySharing:
    """Implements `ports.SharedEntries` for the table of one semantic cache."""

    def __init__(
        self,
        database: Database,
        entries: EntryTable,
        scopes: Scopes,
        deleted: DeletedEntries,
        *,
        made_by: str,
        dimensions: int,
        mark: int,
        wall: Clock,
    ) -> None:
        """`scopes` get what has come once it is on disk. What was deleted neither leaves nor comes."""
        self.made_by = made_by
        self._deleted = deleted
        self._database = database
        self._table = entries
        self._scopes = scopes
        self._dimensions = dimensions
        self._mark = mark
        self._wall = wall
        self._has_warned = False

    async def untold(self) -> list[SharedEntry]:
        """Return some entries of which the other replicas are still to be told."""
        found: list[SharedEntry] = await self._database.read(self._untold, within_s=READ_S)
        told = [each for each in found if not self._may_leave(each)]
        if told:
            await self.told(told)
        return [each for each in found if self._may_leave(each)]

    async def told(self, entries: Sequence[SharedEntry]) -> None:
        """Note that the others were told of them."""
        values = [(each.id, each.stored_at) for each in entries]
        await self._database.commit(lambda connection: connection.executemany(_TOLD, values), within_s=COMMIT_S)

    async def tell_again(self, since: float) -> None:
        """Have the others told once more of what was stored here since then."""
        await self._database.commit(lambda connection: connection.execute(_AGAIN, (since,)), within_s=COMMIT_S)

    async def keep(self, entries: Sequence[SharedEntry]) -> None:
        """Keep what others have stored, as far as it may be served here."""
        now = self._wall()
        sound = await asyncio.to_thread(self._sound, entries, now)
        if sound:
            kept: Kept = await self._database.commit(partial(self._keep, sound, now), within_s=COMMIT_S)
            for _, entry, _ in kept:
                self._table.pruner.count(self._table.size(entry))
            self._scopes.background(partial(self._scopes.add_of_others, kept))

    async def caught_up(self) -> None:
        """Return once more may come in bulk, so that lookups stay fast meanwhile; after `BEHIND_S` in any case."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BEHIND_S):
                while self._scopes.is_behind:  # noqa: ASYNC110 - another thread cannot tell us
                    await asyncio.sleep(LOOK_S)

    async def numbers(self, since: float) -> Sequence[int]:
        """Return the numbers of all fresh entries stored, or come, since then, the newest first."""
        values = (self._wall() - self._table.ttl_s, self._mark, since)

        def read(connection: sqlite3.Connection) -> "array[int]":
            return array("q", (number for (number,) in connection.execute(_NUMBERS, values)))

        found: array[int] = await asyncio.to_thread(self._database.scan, read, within_s=SCAN_S)
        return found

    async def numbered(self, numbers: Sequence[int]) -> list[SharedEntry]:
        """Return the entries of these numbers that are still there."""
        asked = json.dumps(list(numbers))

        def read(connection: sqlite3.Connection) -> list[SharedEntry]:
            return [SharedEntry(*row) for row in connection.execute(_NUMBERED, (asked,))]

        found = await asyncio.to_thread(self._database.scan, read, within_s=SCAN_S)
        return [each for each in found if self._may_leave(each)]

    def _untold(self, connection: sqlite3.Connection) -> list[SharedEntry]:
        found: list[SharedEntry] = []
        left = BYTES
        for row in connection.execute(_UNTOLD, (self._mark,)):
            found.append(SharedEntry(*row))
            left -= len(found[-1].answer)
            if left < 0 or len(found) == AT_ONCE:
                break
        return found

    def _may_leave(self, entry: SharedEntry) -> bool:
        return len(entry.answer) <= MOST and not self._is_deleted(entry, entry.stored_at)

    def _is_deleted(self, entry: SharedEntry, stored_at: float) -> bool:
        return self._deleted.covers(entry.id, stored_at, entry.tenant, entry.scope)

    def _sound(self, entries: Sequence[SharedEntry], now: float) -> list[tuple[SharedEntry, Stored, Vector]]:
        """Return what may be served here."""
        found = []
        for each in entries:
            if each.id != entry_id(each.scope, each.question) or len(each.answer) > MOST:
                continue
            if each.stored_at > now + SKEW_S:
                self._warn(each.stored_at - now)
                continue
            # No clock of another replica makes it live longer, or stored later than a deletion before which it came.
            stored_at = min(each.stored_at, now)
            if stored_at <= now - self._table.ttl_s or self._is_deleted(each, stored_at - SKEW_S):
                continue
            answer = _answer(each, stored_at)
            read = table.read(each.id, each.question, answer, stored_at, each.blob, self._dimensions)
            if answer and read is not None and abs(float(np.linalg.norm(read[1])) - 1) < _LENGTH:
                found.append((each, *read))
        return found

    def _keep(
        self, entries: list[tuple[SharedEntry, Stored, Vector]], now: float, connection: sqlite3.Connection
    ) -> Kept:
        kept: Kept = []
        for each, entry, vector in entries:
            values: tuple[Any, ...] = self._table.values(each.scope, each.tenant, entry, each.blob, came_at=now)
            if connection.execute(_NEWER, values).rowcount:
                kept.append((each.scope, entry, vector))
        return kept

    def _warn(self, ahead_s: float) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.get().warning(
                "the clock of another replica is ahead: nothing of it is taken over; set both clocks",
                ahead_s=round(ahead_s, 1),
            )


def _answer(entry: SharedEntry, stored_at: float) -> bytes:
    """Return the answer, which says when it was stored too; nothing if it cannot be read here."""
    try:
        answer = msgspec.json.decode(entry.answer, type=StoredAnswer)
    except msgspec.DecodeError:  # damaged, or of a version that keeps more
        return b""
    return entry.answer if answer.stored_at == stored_at else msgspec.json.encode(replace(answer, stored_at=stored_at))
