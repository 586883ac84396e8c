"""What the router has learned, in SQLite or PostgreSQL: each tenant's state, earlier ones to go back to, who is frozen.

A state is replaced in place for some hours, and then stays as a snapshot beside the next one. No word of a prompt is in
it: weights of hashed words, and numbers.
"""

import hashlib
import sqlite3
from collections.abc import Iterable
from typing import Any

from millrace.ports import Clock
from millrace.stores.queries import Queries
from millrace.types import KeptState, StateVersion

FORMAT = 1  # of a row's state
SNAPSHOT_S = 6 * 3600.0  # for which a state is replaced in place
SNAPSHOTS = 12  # of each tenant that are kept, the newest one included
WRITE_S = 10.0
READ_S = 10.0
_SAVES = 1_903_671  # of the advisory locks of PostgreSQL, with the tenant
ALL = ""  # in place of a tenant: all of them

_TABLES = (
    """
CREATE TABLE IF NOT EXISTS router_states (
    tenant TEXT NOT NULL,
    number INTEGER NOT NULL,    -- of the snapshot; the highest one is in use
    revision INTEGER NOT NULL,  -- how often it was replaced in place
    began_at REAL NOT NULL,     -- Unix seconds; of its first revision
    saved_at REAL NOT NULL,     -- of the last one
    format INTEGER NOT NULL,
    labels INTEGER NOT NULL,    -- that were learned
    note TEXT NOT NULL,         -- why it was kept, if not because something was learned
    sha256 BLOB NOT NULL,       -- of the state
    state BLOB NOT NULL,
    PRIMARY KEY (tenant, number)
) STRICT, WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS router_frozen (
    tenant TEXT PRIMARY KEY,    -- who learns nothing; empty: nobody does
    at REAL NOT NULL            -- Unix seconds
) STRICT, WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS router_promises (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    saved_at REAL NOT NULL,     -- Unix seconds
    sha256 BLOB NOT NULL,
    state BLOB NOT NULL
) STRICT
""",
)
_NEWEST = "SELECT number, revision, began_at FROM router_states WHERE tenant = ? ORDER BY number DESC LIMIT 1"
_COLUMNS = "number, revision, saved_at, format, labels, note, sha256, state FROM router_states WHERE tenant = ?"
_LOAD = f"SELECT {_COLUMNS} ORDER BY number DESC LIMIT 1"
_SNAPSHOT = f"SELECT {_COLUMNS} AND number = ?"
_SNAPSHOTS = f"SELECT {_COLUMNS} ORDER BY number DESC"
_ADD = "INSERT INTO router_states VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?)"
_REPLACE = """
UPDATE router_states SET revision = revision + 1, saved_at = ?, format = ?, labels = ?, sha256 = ?, state = ?
WHERE tenant = ? AND number = ?
"""
_FORGET = "DELETE FROM router_states WHERE tenant = ? AND number <= ?"
_FREEZE = "INSERT INTO router_frozen VALUES (?, ?) ON CONFLICT DO NOTHING"
_THAW = "DELETE FROM router_frozen WHERE tenant = ?"
_VERSION = "SELECT number, revision FROM router_states WHERE tenant = ? ORDER BY number DESC LIMIT 1"
_SAVE_PROMISES = """
INSERT INTO router_promises VALUES (1, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET saved_at = excluded.saved_at, sha256 = excluded.sha256, state = excluded.state
"""


class SqliteRouter:
    """Keeps the states of all tenants. It is `ports.RouterStore`, and what the commands need besides."""

    def __init__(self, database: Queries, *, wall: Clock) -> None:
        self._database = database
        self._wall = wall
        database.prepare(_prepare)

    async def load(self, tenant: str) -> KeptState | None:
        """Return the newest state of a tenant; None if there is none. Raises `TimeoutError`."""
        row = await self._one(_LOAD, tenant)
        return None if row is None else _kept(tenant, row)

    async def snapshot(self, tenant: str, number: int) -> KeptState | None:
        """Return an earlier state; None if it is not kept. Raises `TimeoutError`."""
        row = await self._one(_SNAPSHOT, tenant, number)
        return None if row is None else _kept(tenant, row)

    async def snapshots(self, tenant: str) -> list[KeptState]:
        """Return all states of a tenant that are kept, the newest first. Raises `TimeoutError`."""
        return [_kept(tenant, row) for row in await self._rows(_SNAPSHOTS, tenant)]

    async def tenants(self) -> list[str]:
        """Return all tenants of whom something was learned. Raises `TimeoutError`."""
        return [tenant for (tenant,) in await self._rows("SELECT DISTINCT tenant FROM router_states ORDER BY tenant")]

    async def save(
        self,
        tenant: str,
        state: bytes,
        labels: int,
        after: StateVersion | None,
        *,
        anew: bool = False,
        note: str = "",
    ) -> StateVersion | None:
        """Keep a state that comes after one version; `anew`: beside it, not in its place.

        Returns its own version. None, and nothing is kept, if another one is the newest by now. Raises `TimeoutError`.
        """
        digest, now = hashlib.sha256(state).digest(), self._wall()

        def save(connection: Any) -> StateVersion | None:
            if self._database.dialect == "postgres":  # replicas save one after the other, as processes do in SQLite
                connection.execute("SELECT pg_advisory_xact_lock(?, hashtext(?))", (_SAVES, tenant))
            newest = connection.execute(_NEWEST, (tenant,)).fetchone()
            if (None if newest is None else StateVersion(*newest[:2])) != after:
                return None
            number, revision, began_at = newest or (0, 0, 0.0)
            if newest is None or anew or now - began_at >= SNAPSHOT_S:
                number, revision = number + 1, 0
                connection.execute(_ADD, (tenant, number, now, now, FORMAT, labels, note, digest, state))
                connection.execute(_FORGET, (tenant, number - SNAPSHOTS))
            else:
                revision += 1
                connection.execute(_REPLACE, (now, FORMAT, labels, digest, state, tenant, number))
            return StateVersion(number, revision)

        saved: StateVersion | None = await self._database.commit(save, within_s=WRITE_S)
        return saved

    async def versions(self, tenants: Iterable[str]) -> dict[str, StateVersion]:
        """Return the newest versions that are kept of these tenants. Raises `TimeoutError`."""
        wanted = [*tenants]

        def look(connection: Any) -> dict[str, StateVersion]:
            found = ((tenant, connection.execute(_VERSION, (tenant,)).fetchone()) for tenant in wanted)
            return {tenant: StateVersion(*row) for tenant, row in found if row is not None}

        versions: dict[str, StateVersion] = await self._database.scanned(look, within_s=READ_S)
        return versions

    async def frozen(self) -> frozenset[str]:
        """Return the tenants who learn nothing; the empty name stands for all. Raises `TimeoutError`."""
        return frozenset(tenant for (tenant,) in await self._rows("SELECT tenant FROM router_frozen"))

    async def freeze(self, tenant: str, *, frozen: bool) -> bool:
        """Have a tenant learn nothing from now on, or learn again; False if it was so. Raises `TimeoutError`."""
        now = self._wall()

        def freeze(connection: Any) -> bool:
            changed: int = connection.execute(*((_FREEZE, (tenant, now)) if frozen else (_THAW, (tenant,)))).rowcount
            return changed > 0

        changed: bool = await self._database.commit(freeze, within_s=WRITE_S)
        return changed

    async def load_promises(self) -> bytes | None:
        """Return how the promises are kept; None if nothing is known, empty if it is damaged. Raises `TimeoutError`."""
        row = await self._one("SELECT sha256, state FROM router_promises")
        if row is None:
            return None
        return row[1] if hashlib.sha256(row[1]).digest() == row[0] else b""

    async def save_promises(self, state: bytes) -> None:
        """Keep how the promises are kept. Raises `TimeoutError`."""
        values = (self._wall(), hashlib.sha256(state).digest(), state)
        await self._database.commit(lambda connection: connection.execute(_SAVE_PROMISES, values), within_s=WRITE_S)

    async def _one(self, query: str, *values: str | int) -> tuple[Any, ...] | None:
        rows = await self._rows(query, *values)
        return rows[0] if rows else None

    async def _rows(self, query: str, *values: str | int) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await self._database.scanned(
            lambda connection: connection.execute(query, values).fetchall(), within_s=READ_S
        )
        return rows


def _prepare(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)


def _kept(tenant: str, row: tuple[Any, ...]) -> KeptState:
    number, revision, saved_at, form, labels, note, digest, state = row
    is_whole = form == FORMAT and hashlib.sha256(state).digest() == digest
    return KeptState(
        tenant=tenant,
        version=StateVersion(number, revision),
        saved_at=saved_at,
        labels=labels,
        state=state if is_whole else None,
        note=note,
    )
