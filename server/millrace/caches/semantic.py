"""The semantic cache: near questions are found by vector, and served only where every guard agrees.

SQLite is the truth; a scope in memory is derived from it, leaves when it is cold, and comes back when asked.
One worker thread embeds, searches and changes the indexes, so that none of it overlaps and the loop only awaits. It is
a short cut and must never be the long way: a lookup has a deadline and few may wait, stores wait behind lookups.
"""

import asyncio
import secrets
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from millrace import log
from millrace.caches.guards import Question, agree, self_contained
from millrace.caches.objections import shown_objection
from millrace.caches.partition import Partition, Stored, Vector
from millrace.caches.worker import StoppedError, Worker
from millrace.ports import Clock, Database, Embedder
from millrace.pruning import Pruner
from millrace.types import Answer, SemanticHit, SemanticMiss, StoredAnswer

_TABLE = """
CREATE TABLE IF NOT EXISTS semantic_answers (
    id TEXT PRIMARY KEY,
    scope BLOB NOT NULL,
    tenant TEXT NOT NULL,
    stored_at REAL NOT NULL,          -- Unix seconds
    question TEXT NOT NULL,
    vector BLOB NOT NULL,             -- float32, unit length
    answer BLOB NOT NULL,             -- JSON of a StoredAnswer
    UNIQUE (scope, question)
) STRICT, WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS semantic_answers_stored ON semantic_answers (stored_at)"
_PUT = "INSERT OR REPLACE INTO semantic_answers VALUES (?, ?, ?, ?, ?, ?, ?)"
_SCOPE = """
SELECT id, question, answer, stored_at, vector FROM semantic_answers
WHERE scope = ? AND stored_at > ? ORDER BY stored_at DESC LIMIT ?
"""
_DROP = "DELETE FROM semantic_answers WHERE id = ?"
_REMEMBERED = 1024  # vectors and readings of recent questions: who misses soon stores
_SELECT_S = 5.0  # for SQLite's thread, behind all that was written before; then the scope stays cold
_CLOSING_S = 2.0  # for what still waits to be stored

Found = SemanticHit | SemanticMiss


class SqliteSemanticCache:
    """Answers by what was meant; the walls between tenants, models and prompts are in the scope."""

    def __init__(  # noqa: PLR0913 - each bound has its default
        self,
        database: Database,
        embedder: Embedder,
        *,
        ttl_s: float,
        wall: Clock,
        index_above: int = 4000,  # entries at which a scope gets an hnswlib index
        hot_scopes: int = 256,  # scopes in memory
        max_entries: int = 200_000,  # in a scope; the oldest goes
        deadline_s: float = 0.05,  # of a lookup; a small model says its first word in some 0.2 s
        max_waiting: int = 4,  # lookups at once: as many as are done within the deadline
        max_stores: int = 48,  # answers in line to be stored
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._ttl_s = ttl_s
        self._wall = wall
        self._index_above = index_above
        self._hot_scopes = hot_scopes
        self._max_entries = max_entries
        self._deadline_s = deadline_s
        self._max_waiting = max_waiting
        self._waiting = 0
        self._may_store = threading.Semaphore(max_stores)
        self.skipped = 0  # answers not kept because too many were in line, or at the end no time was left
        self._closed = False
        self._worker = Worker("millrace-semantic")
        # From here on, only the worker.
        self._pruner = Pruner("semantic_answers", ttl_s=ttl_s, wall=wall)
        self._partitions: OrderedDict[bytes, Partition] = OrderedDict()
        self._indexing: set[bytes] = set()  # scopes whose next step is in line
        self._embed = lru_cache(_REMEMBERED)(embedder.embed)
        self._read = lru_cache(_REMEMBERED)(Question.read)
        database.write(_prepare)
        database.write(self._pruner.prune)

    async def find(self, scope: bytes, question: str) -> Found:
        """Return the nearest answer on which every guard agrees, or why there is none; soon in any case."""
        if self._closed or self._waiting >= self._max_waiting:
            return SemanticMiss(reason="too many are looking", similarity=None)
        self._waiting += 1
        looking = self._worker.first(lambda: self._look(scope, question))
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.wrap_future(looking)
        except TimeoutError:  # what the worker has not begun is cancelled by now
            return _late(looking)
        except StoppedError:
            return SemanticMiss(reason="the lookup failed", similarity=None)
        finally:
            self._waiting -= 1

    def store(self, scope: bytes, tenant: str, question: str, answer: Answer) -> None:
        """Remember; read, embedded and written behind. What could never be served is not kept."""
        if self._closed:
            return
        if not self._may_store.acquire(blocking=False):
            self.skipped += 1
            return
        now = self._wall()
        self._worker.later(lambda: self._store(scope, tenant, question, answer, now)).add_done_callback(self._stored)

    async def close(self) -> None:
        """Store what is in line, as far as that takes two seconds. To be called before the database is closed."""
        self._closed = True
        await asyncio.to_thread(self._worker.stop, _CLOSING_S)

    def _stored(self, done: "Future[None]") -> None:
        self._may_store.release()
        error = done.exception()
        if isinstance(error, StoppedError):
            self.skipped += 1
        elif error is not None:
            log.get().error("semantic entry not kept", exc_info=error)

    def _look(self, scope: bytes, text: str) -> Found:
        try:
            return self._find(scope, text)
        except BaseException as error:  # whatever breaks here, a panic of the tokeniser too, a model can still answer
            log.get().error("semantic lookup failed", exc_info=error)
            return SemanticMiss(reason="the lookup failed", similarity=None)

    def _find(self, scope: bytes, text: str) -> Found:
        elsewhere = self_contained(text)
        if elsewhere is not None:
            return SemanticMiss(reason=elsewhere, similarity=None)
        partition = self._partition(scope)
        near = partition.nearest(self._embed(text)) if len(partition) else []
        after = self._wall() - self._ttl_s
        # They are fresh, unless the clock was set back meanwhile.
        return self._verified(text, [(cosine, entry) for cosine, entry in near if entry.stored_at > after])

    def _verified(self, text: str, candidates: list[tuple[float, Stored]]) -> Found:
        """Return the best candidate that the guards let pass, or what they say of the nearest."""
        asked = self._read(text)
        objections: list[str] = []
        for cosine, entry in candidates:
            if cosine < self._embedder.threshold:
                break
            objection = agree(self._read(entry.question), asked, self._embedder.strict)  # `told` counts on this order
            if objection is None:
                return _hit(cosine, entry)
            objections.append(shown_objection(objection, asked, text))
        nearest = candidates[0][0] if candidates else None
        reason = f"near ({nearest:.2f}), but {objections[0]}" if objections else "nothing near"
        return SemanticMiss(reason=reason, similarity=nearest)

    def _store(self, scope: bytes, tenant: str, question: str, answer: Answer, now: float) -> None:
        if self_contained(question) is not None:
            return
        entry = Stored(f"sem_{secrets.token_hex(12)}", question, msgspec.json.encode(answer.stored(now)), now)
        vector = self._embed(question)
        partition = self._partition(scope)
        partition.put(entry, vector)
        row = (entry.id, scope, tenant, now, question, vector.tobytes(), entry.answer)
        self._database.write(lambda connection: connection.execute(_PUT, row))
        if len(partition) > self._max_entries:
            oldest = partition.oldest()
            partition.drop(oldest.question)
            self._database.write(lambda connection: connection.execute(_DROP, (oldest.id,)))
        self._index_on(scope)
        self._prune_if_due()

    def _prune_if_due(self) -> None:
        """Drop expired entries, on disk and in memory, also from scopes without any lookups."""
        if self._pruner.is_due():
            self._database.write(self._pruner.prune)
            for partition in self._partitions.values():
                partition.expire(self._wall() - self._ttl_s)

    def _partition(self, scope: bytes) -> Partition:
        """Return a scope's fresh entries, from SQLite where they are not in memory."""
        partition = self._partitions.get(scope)
        if partition is None:
            partition = self._partitions[scope] = self._load(scope)
        partition.expire(self._wall() - self._ttl_s)
        self._index_on(scope)
        self._partitions.move_to_end(scope)
        while len(self._partitions) > self._hot_scopes:
            self._partitions.popitem(last=False)
        return partition

    def _load(self, scope: bytes) -> Partition:
        asked = (scope, self._wall() - self._ttl_s, self._max_entries)
        partition = Partition(self._embedder.dimensions, self._index_above)
        rows = self._select(lambda connection: connection.execute(_SCOPE, asked).fetchall())
        for id_, question, answer, stored_at, blob in reversed(rows):
            vector: Vector = np.frombuffer(blob, np.float32)
            if len(vector) == self._embedder.dimensions:
                partition.put(Stored(id_, question, answer, stored_at), vector)
        return partition

    def _select(self, query: Callable[[sqlite3.Connection], list[Any]]) -> list[Any]:
        """Wait for SQLite's thread, though not for ever; after all that was written before."""
        answer: Future[list[Any]] = Future()

        def ask(connection: sqlite3.Connection) -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(query(connection))
            except BaseException as error:  # whoever waits must be told, out of memory or not
                answer.set_exception(error)

        self._database.write(ask)
        try:
            return answer.result(_SELECT_S)
        except TimeoutError:
            answer.cancel()
            raise

    def _index_on(self, scope: bytes) -> None:
        """Let a scope's index catch up in small steps, between which others are served."""
        if self._partitions[scope].is_behind and scope not in self._indexing and not self._closed:
            self._indexing.add(scope)
            self._worker.later(lambda: self._index_step(scope)).add_done_callback(_indexed)

    def _index_step(self, scope: bytes) -> None:
        self._indexing.discard(scope)
        if scope in self._partitions:  # else it went cold meanwhile
            self._partitions[scope].catch_up()
            self._index_on(scope)


def _hit(cosine: float, entry: Stored) -> SemanticHit:
    answer = msgspec.json.decode(entry.answer, type=StoredAnswer)
    return SemanticHit(answer=answer, similarity=cosine, entry_id=entry.id, question=entry.question)


def _late(looking: "Future[Found]") -> Found:
    """Return what was found all the same where only the loop was late, else that it took too long."""
    if looking.done() and not looking.cancelled() and looking.exception() is None:
        return looking.result()
    return SemanticMiss(reason="the lookup took too long", similarity=None)


def _indexed(done: "Future[None]") -> None:
    error = done.exception()
    if error is not None and not isinstance(error, StoppedError):
        log.get().error("semantic index not extended", exc_info=error)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(_INDEX)
