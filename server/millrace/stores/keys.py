"""Keys in SQLite, in the same file as the other tables, or in PostgreSQL. `millrace keys` writes while servers read."""

import sqlite3
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from millrace.principal import EarlierSecret, Key, Limits, Principal, Role
from millrace.stores.queries import Queries

LOAD_S = 5.0  # for SQLite to read all keys
COMMIT_S = 10.0  # for a change to be on disk, which another process may lock

_TABLE = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,         -- SHA-256 of the secret
    created_at REAL NOT NULL,     -- Unix seconds
    revoked_at REAL,
    requests_per_minute INTEGER,
    tokens_per_minute INTEGER,
    in_flight INTEGER,
    dollars_per_day TEXT,         -- decimal
    connections INTEGER,
    evidence INTEGER NOT NULL DEFAULT 1, -- whether its requests may be sampled and judged
    rotations INTEGER NOT NULL DEFAULT 0,
    earlier_digest BLOB,          -- SHA-256 of the secret before the last rotation
    earlier_until REAL,           -- Unix seconds, from which on it is refused
    dollars_per_month TEXT,       -- decimal
    max_output_tokens INTEGER
) STRICT
"""
_ADDED = {  # which tables of earlier versions lack
    "evidence": "INTEGER NOT NULL DEFAULT 1",
    "rotations": "INTEGER NOT NULL DEFAULT 0",
    "earlier_digest": "BLOB",
    "earlier_until": "REAL",
    "dollars_per_month": "TEXT",
    "max_output_tokens": "INTEGER",
}
COLUMNS = (
    "id, tenant, role, name, digest, created_at, revoked_at,"
    " requests_per_minute, tokens_per_minute, in_flight, dollars_per_day, connections, evidence,"
    " rotations, earlier_digest, earlier_until, dollars_per_month, max_output_tokens"
)
_ADD = f"INSERT INTO keys ({COLUMNS}) VALUES ({', '.join('?' for _ in COLUMNS.split(','))})"  # noqa: S608 - names only
_IS_REVOKED = "revoked_at = coalesce(keys.revoked_at, excluded.revoked_at)"
PUT_NEW = f"{_ADD} ON CONFLICT (id) DO UPDATE SET {_IS_REVOKED}"
_PUT = f"{PUT_NEW}, " + ", ".join(
    f"{name} = excluded.{name}" for name in COLUMNS.split(", ") if name not in ("id", "revoked_at")
)
_LOAD = f"SELECT {COLUMNS} FROM keys ORDER BY created_at, id"  # noqa: S608 - names only
_REVOKE = "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
_ROTATE = (
    "UPDATE keys SET earlier_digest = digest, earlier_until = ?, digest = ?, rotations = rotations + 1"
    " WHERE id = ? AND revoked_at IS NULL"
)


class StoredKeys:
    """The table of keys. Changes return once they are committed."""

    def __init__(self, database: Queries) -> None:
        self._database = database
        self._rows: list[tuple[Any, ...]] = []
        self._keys: list[Key] = []
        database.prepare(_prepare)

    async def load(self) -> list[Key]:
        """Return all keys, also revoked ones, oldest first; the same list object if nothing has changed."""
        keys: list[Key] = await self._database.read(self._load, within_s=LOAD_S)
        return keys

    def _load(self, connection: Any) -> list[Key]:
        rows = connection.execute(_LOAD).fetchall()
        if rows != self._rows:  # called about once a second: an unchanged table must cost the loop nothing
            self._rows, self._keys = rows, [_key(row) for row in rows]
        return self._keys

    async def put(self, keys: Iterable[Key]) -> None:
        """Take over keys as another store has them; what is revoked in either is revoked."""
        rows = [_row(key) for key in keys]
        await self._database.commit(lambda connection: connection.executemany(_PUT, rows), within_s=COMMIT_S)

    async def put_new(self, keys: Iterable[Key]) -> None:
        """Take over keys that are not here yet; of the others only that they are revoked."""
        rows = [_row(key) for key in keys]
        await self._database.commit(lambda connection: connection.executemany(PUT_NEW, rows), within_s=COMMIT_S)

    async def add(self, key: Key) -> None:
        """Insert a new key."""
        await self._database.commit(lambda connection: connection.execute(_ADD, _row(key)), within_s=COMMIT_S)

    async def revoke(self, key_id: str, at: float) -> bool:
        """Mark a key as revoked at Unix seconds `at`; False if there is no such key or it is revoked already."""
        changed: int = await self._database.commit(
            lambda connection: connection.execute(_REVOKE, (at, key_id)).rowcount, within_s=COMMIT_S
        )
        return changed == 1

    async def rotate(self, key_id: str, digest: bytes, until: float) -> bool:
        """Give a key another secret, by its hash; the present one is refused from Unix seconds `until` on."""
        changed: int = await self._database.commit(
            lambda connection: connection.execute(_ROTATE, (until, digest, key_id)).rowcount, within_s=COMMIT_S
        )
        return changed == 1


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    known = {row[1] for row in connection.execute("PRAGMA table_info(keys)")}
    for column, kind in _ADDED.items():
        if column not in known:
            connection.execute(f"ALTER TABLE keys ADD COLUMN {column} {kind}")


def _row(key: Key) -> tuple[Any, ...]:
    owner = key.principal
    limits = owner.limits
    return (
        owner.key_id,
        owner.tenant,
        owner.role,
        key.name,
        key.digest,
        key.created_at,
        key.revoked_at,
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.in_flight,
        _text(limits.dollars_per_day),
        limits.connections,
        int(owner.evidence),
        owner.rotations,
        None if key.earlier is None else key.earlier.digest,
        None if key.earlier is None else key.earlier.until,
        _text(limits.dollars_per_month),
        limits.max_output_tokens,
    )


def _key(row: tuple[Any, ...]) -> Key:
    key_id, tenant, role, name, digest, created_at, revoked_at, *limited = row
    requests, tokens, in_flight, dollars, connections, evidence, rotations, earlier, until, *later = limited
    monthly, cap = later
    limits = Limits(
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        in_flight=in_flight,
        dollars_per_day=_dollars(dollars),
        dollars_per_month=_dollars(monthly),
        connections=connections,
        max_output_tokens=cap,
    )
    principal = Principal(
        key_id=key_id,
        tenant=tenant,
        role=Role(role),
        limits=limits,
        evidence=bool(evidence),
        rotations=rotations,
    )
    return Key(
        principal=principal,
        name=name,
        digest=digest,
        created_at=created_at,
        revoked_at=revoked_at,
        earlier=None if earlier is None else EarlierSecret(earlier, until),
    )


def _text(dollars: Decimal | None) -> str | None:
    return None if dollars is None else str(dollars)


def _dollars(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
