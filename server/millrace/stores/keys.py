"""Keys in SQLite, in the same file as the other tables. `millrace keys` writes it while a server reads it."""

import sqlite3
from decimal import Decimal
from typing import Any

from millrace.principal import Key, Limits, Principal, Role
from millrace.stores.database import SqliteDatabase

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
    evidence INTEGER NOT NULL DEFAULT 1,  -- whether its requests may be sampled and judged
    max_output_tokens INTEGER
) STRICT
"""
_ADDED = {  # which tables of earlier versions lack
    "evidence": "ALTER TABLE keys ADD COLUMN evidence INTEGER NOT NULL DEFAULT 1",
    "max_output_tokens": "ALTER TABLE keys ADD COLUMN max_output_tokens INTEGER",
}
_COLUMNS = (
    "id, tenant, role, name, digest, created_at, revoked_at,"
    " requests_per_minute, tokens_per_minute, in_flight, dollars_per_day, connections, evidence, max_output_tokens"
)
_ADD = f"INSERT INTO keys ({_COLUMNS}) VALUES ({', '.join('?' for _ in _COLUMNS.split(','))})"  # noqa: S608 - names only
_LOAD = f"SELECT {_COLUMNS} FROM keys ORDER BY created_at, id"  # noqa: S608 - names only
_REVOKE = "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"


class SqliteKeyStore:
    """The table of keys. `add` and `revoke` return once the change is committed."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._rows: list[tuple[Any, ...]] = []
        self._keys: list[Key] = []
        database.write(_prepare)

    async def load(self) -> list[Key]:
        """Return all keys, also revoked ones, oldest first; the same list object if nothing has changed."""
        keys: list[Key] = await self._database.read(self._load, within_s=LOAD_S)
        return keys

    def _load(self, connection: sqlite3.Connection) -> list[Key]:
        rows = connection.execute(_LOAD).fetchall()
        if rows != self._rows:  # called about once a second: an unchanged table must cost the loop nothing
            self._rows, self._keys = rows, [_key(row) for row in rows]
        return self._keys

    async def add(self, key: Key) -> None:
        """Insert a new key."""
        await self._database.commit(lambda connection: connection.execute(_ADD, _row(key)), within_s=COMMIT_S)

    async def revoke(self, key_id: str, at: float) -> bool:
        """Mark a key as revoked at Unix seconds `at`; False if there is no such key or it is revoked already."""
        changed: int = await self._database.commit(
            lambda connection: connection.execute(_REVOKE, (at, key_id)).rowcount, within_s=COMMIT_S
        )
        return changed == 1


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    known = {row[1] for row in connection.execute("PRAGMA table_info(keys)")}
    for name, statement in _ADDED.items():
        if name not in known:
            connection.execute(statement)


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
        None if limits.dollars_per_day is None else str(limits.dollars_per_day),
        limits.connections,
        int(owner.evidence),
        limits.max_output_tokens,
    )


def _key(row: tuple[Any, ...]) -> Key:
    key_id, tenant, role, name, digest, created_at, revoked_at, *limited, evidence, cap = row
    requests, tokens, in_flight, dollars, connections = limited
    limits = Limits(
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        in_flight=in_flight,
        dollars_per_day=None if dollars is None else Decimal(dollars),
        connections=connections,
        max_output_tokens=cap,
    )
    principal = Principal(key_id=key_id, tenant=tenant, role=Role(role), limits=limits, evidence=bool(evidence))
    return Key(principal=principal, name=name, digest=digest, created_at=created_at, revoked_at=revoked_at)
