"""What was judged, in SQLite or PostgreSQL: samples and what was said of them, changes of the steering, and feedback.

No text of a question or an answer is kept: ids, numbers, and the features of pairs of questions, which are numbers too.
"""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import msgspec

from millrace.ports import Clock
from millrace.pruning import Pruner
from millrace.stores.queries import Queries
from millrace.types import Change, Feedback, FeedbackCounts, Judged, Lever, Opinion, Sample, Says, Steering

ADD_S = 10.0  # for SQLite to write what was judged
FEEDBACK_S = 1.0  # for SQLite to answer a client that waits
READ_S = 60.0  # for SQLite to read many rows
SAMPLES = 200_000  # that are kept; some 100 MB
SCOPES = 10_000  # whose last change is kept however old it is
DAY_S = 86_400
LEAST = 1e-9  # probability; a sample that was taken with less would outweigh all others

_TABLES = (
    """
CREATE TABLE IF NOT EXISTS judged (
    id TEXT PRIMARY KEY,        -- of the sample
    lever TEXT NOT NULL,
    tenant TEXT NOT NULL,
    scope BLOB NOT NULL,        -- of the semantic cache; empty: none
    request_id TEXT NOT NULL,
    taken_at REAL NOT NULL,     -- Unix seconds
    probability REAL NOT NULL,  -- with which it was taken
    entry_id TEXT NOT NULL,     -- of the stored answer; empty: none
    asked_id TEXT NOT NULL,
    log_odds REAL NOT NULL,
    features BLOB NOT NULL,     -- MessagePack: numbers by name
    detail TEXT NOT NULL,       -- the check; empty: none
    opinions TEXT NOT NULL,     -- JSON: judge, what it says, the probability with which it was asked; cheapest first
    prompt_features BLOB NOT NULL DEFAULT x'' -- hashed words and numbers, for the router
) STRICT
""",
    """
CREATE TABLE IF NOT EXISTS steering_changes (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,           -- Unix seconds
    tenant TEXT NOT NULL,
    scope BLOB NOT NULL,        -- empty: of new scopes of the tenant
    strictness REAL NOT NULL,
    is_off INTEGER NOT NULL,
    reason TEXT NOT NULL,
    UNIQUE (tenant, scope, at)
) STRICT
""",
    """
CREATE TABLE IF NOT EXISTS feedback (
    tenant TEXT NOT NULL,
    response_id TEXT NOT NULL,
    key_id TEXT NOT NULL,       -- who gave it; empty: no key is needed
    rating TEXT NOT NULL,
    has_better INTEGER NOT NULL,-- whether a better answer was given, which is not kept
    at REAL NOT NULL,           -- Unix seconds
    PRIMARY KEY (tenant, response_id, key_id)
) STRICT, WITHOUT ROWID
""",
    "CREATE INDEX IF NOT EXISTS judged_taken ON judged (taken_at)",
    "CREATE INDEX IF NOT EXISTS judged_by_lever ON judged (lever, taken_at)",
    "CREATE INDEX IF NOT EXISTS judged_of_tenants ON judged (tenant, lever, taken_at)",
    "CREATE INDEX IF NOT EXISTS steering_changes_at ON steering_changes (at)",
    "CREATE INDEX IF NOT EXISTS feedback_at ON feedback (at)",
)
_COLUMNS = (
    "id, lever, tenant, scope, request_id, taken_at, probability, entry_id, asked_id, log_odds, features, detail,"
    " opinions, prompt_features"
)
_ADDED = (
    "ALTER TABLE judged ADD COLUMN prompt_features BLOB NOT NULL DEFAULT x''"  # which tables of earlier versions lack
)
# Only an id that is there already is passed over: a number that is none fails.
_ADD = f"""
INSERT INTO judged ({_COLUMNS}) VALUES ({", ".join("?" for _ in _COLUMNS.split(","))}) ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 - names and question marks only
_CHANGE = """
INSERT INTO steering_changes (at, tenant, scope, strictness, is_off, reason) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, scope, at) DO UPDATE
SET strictness = excluded.strictness, is_off = excluded.is_off, reason = excluded.reason
"""
_CHANGED = "at, tenant, scope, strictness, is_off, reason FROM steering_changes"
_STEERED = f"SELECT id, {_CHANGED} ORDER BY id"
_CHANGES = f"SELECT id, {_CHANGED} WHERE at >= ? AND tenant = coalesce(?, tenant) ORDER BY id DESC LIMIT ?"
_FEEDBACK = "INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_GIVEN = "SELECT 1 FROM feedback WHERE tenant = ? AND response_id = ? AND key_id = ?"
_COUNTS = """
SELECT count(*) FILTER (WHERE rating = 'up'), count(*) FILTER (WHERE rating = 'down'), coalesce(sum(has_better), 0)
FROM feedback WHERE at >= ? AND tenant = coalesce(?, tenant)
"""
# The last change of a scope says how it is steered, so it goes only once many others are newer.
_FORGET = (
    """
DELETE FROM steering_changes WHERE at <= ? AND EXISTS (
    SELECT 1 FROM steering_changes AS later
    WHERE later.tenant = steering_changes.tenant AND later.scope = steering_changes.scope
        AND later.id > steering_changes.id
)
""",
    f"""
DELETE FROM steering_changes WHERE at <= ? AND id <= coalesce((
    SELECT max(id) AS last FROM steering_changes GROUP BY tenant, scope ORDER BY last DESC LIMIT 1 OFFSET {SCOPES}
), 0)
""",  # noqa: S608 - a number of our own
    "DELETE FROM feedback WHERE at <= ?",
)

_Opinions = tuple[tuple[str, Says, float], ...]


class SqliteEvidence:
    """Keeps for `keep_days` what was judged, at most `samples` of them, how the scopes were steered, and feedback."""

    def __init__(self, database: Queries, *, keep_days: float, wall: Clock, samples: int = SAMPLES) -> None:
        self._database = database
        self._keep_s = keep_days * DAY_S
        self._wall = wall
        self._pruner = Pruner(
            database.write,
            "judged",
            key="id",
            ttl_s=self._keep_s,
            wall=wall,
            since="taken_at",
            order="taken_at",
            size="1",
            max_bytes=samples,
        )
        database.prepare(_prepare)

    async def add(self, judged: Sequence[Judged], changes: Sequence[Change] = ()) -> None:
        """Store all of it or nothing; return once it is on disk. A sample that is stored already is left as it is.

        Raises `TimeoutError` if that takes too long; then nothing is stored.
        """
        samples, steered = [_judged_row(each) for each in judged], [_change_row(each) for each in changes]

        def add(connection: Any) -> None:
            with nullcontext() if self._database.dialect == "postgres" else _whole(connection):
                connection.executemany(_ADD, samples)
                connection.executemany(_CHANGE, steered)

        await self._database.commit(add, within_s=ADD_S)
        due = [self._pruner.count(1) for _ in judged]
        if any(due):
            self._forget()

    async def judged(self, lever: Lever | None, since: float, most: int, tenant: str | None = None) -> list[Judged]:
        """Return what was judged last, of samples taken since then (Unix seconds), the oldest first."""
        wanted: dict[str, str] = {
            **({} if lever is None else {"lever": lever.value}),
            **({} if tenant is None else {"tenant": tenant}),
        }
        where = "".join(f" AND {name} = ?" for name in wanted)
        query = f"SELECT {_COLUMNS} FROM judged WHERE taken_at >= ?{where} ORDER BY taken_at DESC, rowid DESC LIMIT ?"  # noqa: S608
        return await asyncio.to_thread(self._judged, query, (self._since(since), *wanted.values(), most))

    async def steered(self) -> list[Change]:
        """Return all changes, the oldest first; the last one of a scope says how it is steered."""
        return [_change(row) for row in await self._scan(_STEERED)]

    async def changes(self, since: float, most: int, tenant: str | None = None) -> list[Change]:
        """Return the last changes since then (Unix seconds), the newest first."""
        return [_change(row) for row in await self._scan(_CHANGES, self._since(since), tenant, most)]

    async def has_feedback(self, tenant: str, response_id: str, key_id: str) -> bool:
        """Whether the key has said something of the response. Looks after all that waits to be written.

        Raises `TimeoutError` if that takes too long.
        """
        values = (tenant, response_id, key_id)
        found = await self._database.commit(
            lambda connection: connection.execute(_GIVEN, values).fetchone(), within_s=FEEDBACK_S
        )
        return found is not None

    async def add_feedback(self, feedback: Feedback) -> bool:
        """Store what somebody says of a response; False, and nothing is stored, if the key has said it already.

        Returns once it is on disk. Raises `TimeoutError` if that takes too long; then nothing is stored.
        """
        row = _feedback_row(feedback)
        added: int = await self._database.commit(
            lambda connection: connection.execute(_FEEDBACK, row).rowcount, within_s=FEEDBACK_S
        )
        return bool(added)

    async def feedback(self, since: float, tenant: str | None = None) -> FeedbackCounts:
        """Return how much feedback was given since then (Unix seconds)."""
        ((up, down, better),) = await self._scan(_COUNTS, self._since(since), tenant)
        return FeedbackCounts(up=up, down=down, better=better)

    def prune(self) -> None:
        """Queue the deletion of what is older than is kept, or too much. Call it at a start."""
        self._pruner.prune()
        self._forget()

    def _forget(self) -> None:
        before = self._wall() - self._keep_s

        def forget(connection: sqlite3.Connection) -> None:
            for statement in _FORGET:
                connection.execute(statement, (before,))

        self._database.write(forget, droppable=True)

    def _since(self, since: float) -> float:
        return max(since, self._wall() - self._keep_s)

    def _judged(self, query: str, values: tuple[Any, ...]) -> list[Judged]:
        rows = self._database.scan(lambda connection: connection.execute(query, values).fetchall(), within_s=READ_S)
        return [judged for row in reversed(rows) if (judged := _judged(row)) is not None]

    async def _scan(self, query: str, *values: float | str | None) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await self._database.scanned(
            lambda connection: connection.execute(query, values).fetchall(), within_s=READ_S
        )
        return rows


@contextmanager
def _whole(connection: sqlite3.Connection) -> Iterator[None]:
    """Undo the first statements if a later one fails: the writer's transaction goes on with what others queued."""
    connection.execute("SAVEPOINT whole")
    try:
        yield
    except sqlite3.Error:
        if connection.in_transaction:  # SQLite itself has rolled back after some errors
            connection.execute("ROLLBACK TO whole")
            connection.execute("RELEASE whole")
        raise
    connection.execute("RELEASE whole")


def _prepare(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)
    if "prompt_features" not in {name for _, name, *_ in connection.execute("PRAGMA table_info(judged)")}:
        connection.execute(_ADDED)


def _judged_row(judged: Judged) -> tuple[Any, ...]:
    sample = judged.sample
    return (
        sample.id,
        sample.lever.value,
        sample.tenant,
        sample.scope,
        sample.request_id,
        sample.taken_at,
        sample.probability,
        sample.entry_id,
        sample.asked_id,
        sample.log_odds,
        msgspec.msgpack.encode(sample.features),
        sample.detail,
        msgspec.json.encode([(each.judge, each.says, each.probability) for each in judged.opinions]).decode(),
        sample.prompt_features,
    )


def _judged(row: tuple[Any, ...]) -> Judged | None:
    """Return what a row says; None if another version wrote it, or it is damaged."""
    id_, lever, tenant, scope, request_id, taken_at, probability, entry_id, asked_id, log_odds, *blobs = row
    features, detail, spoken, prompt_features = blobs
    try:
        sample = Sample(
            id=id_,
            lever=Lever(lever),
            tenant=tenant,
            scope=scope,
            request_id=request_id,
            taken_at=taken_at,
            probability=probability,
            entry_id=entry_id,
            asked_id=asked_id,
            log_odds=log_odds,
            features=msgspec.msgpack.decode(features, type=dict[str, float]),
            detail=detail,
            prompt_features=prompt_features,
        )
        said = msgspec.json.decode(spoken, type=_Opinions)
    except (ValueError, msgspec.MsgspecError):
        return None
    opinions = tuple(Opinion(judge=judge, says=says, probability=asked) for judge, says, asked in said)
    judged = Judged(sample=sample, opinions=opinions)
    return judged if is_whole(judged) else None


def is_whole(judged: Judged) -> bool:
    """Whether somebody has said something, with probabilities that can be divided by."""
    chances = [each.probability for each in judged.opinions] + [judged.sample.probability] * judged.sample.is_random
    return bool(judged.opinions) and all(LEAST <= each <= 1 for each in chances)


def _change_row(change: Change) -> tuple[Any, ...]:
    steering = change.steering
    return change.at, change.tenant, change.scope, steering.strictness, int(steering.is_off), change.reason


def _change(row: tuple[Any, ...]) -> Change:
    _, at, tenant, scope, strictness, is_off, reason = row
    steering = Steering(strictness=strictness, is_off=bool(is_off))
    return Change(at=at, tenant=tenant, scope=scope, steering=steering, reason=reason)


def _feedback_row(feedback: Feedback) -> tuple[Any, ...]:
    rating, better = feedback.rating.value, int(feedback.has_better)
    return feedback.tenant, feedback.response_id, feedback.key_id, rating, better, feedback.at
