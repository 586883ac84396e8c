"""The semantic cache: near questions are found by vector, and served only where every guard agrees.

A lookup goes from the cheap to the dear, and most end early. A vector that takes part of a millisecond finds
candidates, which are aligned with the question. The guards read the best of these. Only where they agree must the
comparer, which runs a network, confirm that the questions are similar; without one, the cosine of the vectors does.

SQLite holds all entries. The first lookup or store of a scope loads it into memory; the least recently used is dropped.
One worker thread loads scopes, reads candidates and changes the indexes, so that these never run concurrently and never
block the loop. A short question is embedded and searched for on the loop itself if that thread is idle: it takes half a
millisecond, and handing it over and back as much again. The cache must not delay an answer: a lookup has a deadline,
few may wait, and stores wait behind lookups.
"""

import asyncio
import sqlite3
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import msgspec
import numpy as np

from millrace import log
from millrace.caches.decider import Chosen, Decider
from millrace.caches.embedders.process import ComparingError
from millrace.caches.exact import SHARE
from millrace.caches.partition import Partition, Stored, Vector
from millrace.caches.recent import Recent
from millrace.caches.worker import StoppedError, Worker
from millrace.ports import Aligner, Clock, Comparer, Database, Embedder
from millrace.pruning import Pruner
from millrace.types import Answer, SemanticHit, SemanticMiss, StoredAnswer

_TABLE = """
CREATE TABLE IF NOT EXISTS semantic_answers (
    id TEXT PRIMARY KEY,
    scope BLOB NOT NULL,
    tenant TEXT NOT NULL,
    stored_at REAL NOT NULL,          -- Unix seconds
    question TEXT NOT NULL,
    vector BLOB NOT NULL,             -- CRC-32 of the embedder's name, the vector in float16, tokens
    answer BLOB NOT NULL,             -- JSON of a StoredAnswer
    UNIQUE (scope, question)
) STRICT, WITHOUT ROWID
"""
_SIZE = "length(question) + length(vector) + length(answer)"  # bytes, about: of the question it counts characters
_INDEXES = (
    f"CREATE INDEX IF NOT EXISTS semantic_answers_size ON semantic_answers (stored_at, {_SIZE})",
    # Rows of a scope are read newest first, and not all of them: without this they would be sorted, answers and all.
    "CREATE INDEX IF NOT EXISTS semantic_answers_scope ON semantic_answers (scope, stored_at)",
    "DROP INDEX IF EXISTS semantic_answers_stored",  # of an earlier version
)
_PUT = "INSERT OR REPLACE INTO semantic_answers VALUES (?, ?, ?, ?, ?, ?, ?)"
_SCOPE = """
SELECT id, question, answer, stored_at, vector FROM semantic_answers
WHERE scope = ? AND stored_at > ? ORDER BY stored_at DESC LIMIT ?
"""
_DROP = "DELETE FROM semantic_answers WHERE id = ?"
# Characters, at most, of recent questions whose vector and reading are kept, since a store follows most misses.
_RECENT = 64 * 1024
_RECENT_BYTES = 175  # in memory, of the reading and the vector of a question, per character
_SELECT_S = 5.0  # for SQLite to read a scope; after that the scope stays unloaded
_READ = 4  # candidates that the guards read, at most: a partner is among them in 97 % of lookups
_STARTING_S = 3.0  # that a lookup may take while embedder or comparer start, once; it takes them half a second
_SHORT = 300  # characters of a question that may be looked up on the loop
_FEW_ROWS = 8192  # that may be searched one by one there
_QUEUED_BYTES = 600  # in memory, of an answer that waits to be stored, beside its text
_ASIDE = 8  # the part of the memory that the recent questions may use, and that the answers still to be stored may
_CLOSING_S = 2.0  # at shutdown, for stores still queued

Found = SemanticHit | SemanticMiss
T = TypeVar("T")


class SqliteSemanticCache:
    """Answers by the meaning of the question. The scope includes the tenant, the models and the rest of the prompt."""

    def __init__(  # noqa: PLR0913 - each bound has its default
        self,
        database: Database,
        embedder: Embedder,
        aligner: Aligner | None = None,
        comparer: Comparer | None = None,
        *,
        ttl_s: float,
        wall: Clock,
        index_above: int = 4000,  # entries at which a scope gets an hnswlib index
        hot_scopes: int = 256,  # scopes in memory
        max_entries: int = 200_000,  # per scope; above it the oldest is dropped
        memory_bytes: int = 128 * 2**20,  # of all scopes in memory, their indexes and what waits to be stored
        disk_bytes: int = 512 * 2**20,
        threshold: float | None = None,  # of similarity; None: the comparer's or the embedder's
        deadline_s: float = 0.05,  # of a lookup; a small model sends its first token after about 0.2 s
        max_waiting: int = 32,  # lookups at once: as many as finish within the deadline
        max_stores: int = 10_000,  # answers queued to be stored, if their bytes allow it: some seconds' work
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._aligner = aligner
        self._comparer = comparer
        self._mark = zlib.crc32(embedder.name.encode()).to_bytes(4)  # of vectors that can be compared
        self._ttl_s = ttl_s
        self._wall = wall
        self._index_above = index_above
        self._hot_scopes = hot_scopes
        self._max_entries = max_entries
        self._aside_bytes = memory_bytes // _ASIDE
        self._memory_bytes = memory_bytes - 2 * self._aside_bytes  # of the scopes
        self._largest = min(self._memory_bytes, disk_bytes) // SHARE
        self._partitions_bytes = 0
        self._queued_bytes = 0  # of answers that wait to be stored; guarded by `_lock`
        self._lock = threading.Lock()
        self._is_giving_way = False
        self._deadline_s = deadline_s
        self._cold_deadline_s = max(deadline_s, _STARTING_S) if embedder.quick else deadline_s
        self._max_waiting = max_waiting
        self._waiting = 0
        self._may_store = threading.Semaphore(max_stores)
        self.skipped = 0  # answers not kept: too many were queued, or the shutdown had no time left
        self._closed = False
        self._worker = Worker("millrace-semantic")
        # From here on only the worker thread reads and writes, or whoever has taken its place (`at_work`).
        self._is_warm = False  # a question has been embedded: what that needs is loaded
        self._pruner = Pruner(
            database.write,
            "semantic_answers",
            key="id",
            order="stored_at",
            size=_SIZE,
            ttl_s=ttl_s,
            max_bytes=disk_bytes,
            wall=wall,
        )
        self._partitions: OrderedDict[bytes, Partition] = OrderedDict()
        self._indexing: set[bytes] = set()  # scopes whose next index step is queued
        # By id, what is queued for SQLite, whose lookups do not see it. The thread that writes removes it.
        self._unwritten: dict[str, tuple[bytes, Stored, Vector]] = {}
        recent = min(_RECENT, self._aside_bytes // _RECENT_BYTES)
        self._embed: Recent[Vector] = Recent(embedder.embed, recent)
        self._decider = Decider(embedder, comparer, recent, threshold)
        database.write(prepare)

    @property
    def bytes_used(self) -> int:
        """Bytes in memory, about."""
        recent = max(self._embed.size, self._decider.size) * _RECENT_BYTES
        return self._partitions_bytes + self._queued_bytes + recent

    def give_way(self, size: int) -> None:
        """Free so many bytes soon: scopes leave memory, the least recently used first."""
        if not self._is_giving_way and not self._closed:
            self._is_giving_way = True
            self._worker.submit_background(lambda: self._shrink(self._partitions_bytes - size))

    async def find(self, scope: bytes, question: str) -> Found:
        """Return the nearest answer on which every guard agrees, or why there is none, within the deadline."""
        if self._closed or self._waiting >= self._max_waiting:
            return SemanticMiss(reason="too many lookups at once", similarity=None)
        found = self._found_at_once(scope, question)
        if isinstance(found, SemanticMiss):
            return found
        self._waiting += 1
        work = partial(self._find, scope, question) if found is None else partial(self._judged, question, found)
        lookup = self._worker.submit_lookup(lambda: _or_miss(work))
        try:
            async with asyncio.timeout(self._deadline_s if self._is_warm else self._cold_deadline_s) as deadline:
                read = await asyncio.wrap_future(lookup)
                return await self._confirmed(question, read, deadline) if isinstance(read, list) else read
        except TimeoutError:  # the timeout has cancelled the lookup if the worker had not started it
            return _late(lookup)
        except (StoppedError, ComparingError):  # the comparer has said why
            return SemanticMiss(reason="the lookup failed", similarity=None)
        finally:
            self._waiting -= 1

    def store(self, scope: bytes, tenant: str, question: str, answer: Answer) -> None:
        """Queue an answer to be embedded and written. A question that depends on more than its text is not kept."""
        size = len(answer.text) + len(answer.reasoning)
        if self._closed or size > self._largest:
            return
        size += _QUEUED_BYTES
        if self._queued_bytes + size > self._aside_bytes or not self._may_store.acquire(blocking=False):
            self.skipped += 1
            return
        now = self._wall()
        with self._lock:
            self._queued_bytes += size
        work = self._worker.submit_background(lambda: self._store(scope, tenant, question, answer, now))
        work.add_done_callback(partial(self._stored, size))

    def forget(self, ids: Collection[str] | None) -> None:
        """Drop entries from memory soon; all of them with None. What is on disk is loaded again when it is needed."""
        if not self._closed:
            self._worker.submit_background(lambda: self._forget(ids)).add_done_callback(_log_failed_step)

    def prune(self) -> None:
        """Queue the deletion of what has expired. Call it at a start."""
        self._pruner.prune()

    async def close(self) -> None:
        """Store what is queued, for at most `_CLOSING_S`. Call it before the database is closed."""
        self._closed = True
        await asyncio.to_thread(self._worker.stop, _CLOSING_S)

    def _stored(self, size: int, done: "Future[None]") -> None:
        with self._lock:
            self._queued_bytes -= size
        self._may_store.release()
        error = done.exception()
        if isinstance(error, StoppedError):
            self.skipped += 1
        elif error is not None:
            log.get().error("semantic entry not kept", exc_info=error)

    def _found_at_once(self, scope: bytes, text: str) -> SemanticMiss | list[tuple[float, Stored]] | None:
        """Return a miss, or the candidates to read, without the worker. None if it is at work, or this would take long.

        Nearly every new question ends here.
        """
        if len(text) > _SHORT or not self._embedder.quick or not self._worker.at_work.acquire(blocking=False):
            return None
        try:
            partition = self._partitions.get(scope)
            if partition is None or partition.unindexed > _FEW_ROWS or not self._is_warm:
                return None
            self._worker.note_lookup()
            return _or_miss(lambda: self._candidates(scope, text))
        finally:
            self._worker.at_work.release()

    def _find(self, scope: bytes, text: str) -> Found | list[Stored]:
        """Return what is found, or those candidates that are still to be compared."""
        candidates = self._candidates(scope, text)
        return candidates if isinstance(candidates, SemanticMiss) else self._judged(text, candidates)

    def _candidates(self, scope: bytes, text: str) -> SemanticMiss | list[tuple[float, Stored]]:
        """Return the candidates to read, the best first, or why there is none."""
        reason = self._decider.reusable(text)
        if reason is not None:
            return SemanticMiss(reason=reason, similarity=None)
        partition = self._partition(scope)
        near = partition.nearest(self._embed(text)) if len(partition) else []
        self._is_warm = self._is_warm or bool(len(partition))
        after = self._wall() - self._ttl_s
        # Expired entries are gone already, unless the clock was set back.
        fresh = [(cosine, entry) for cosine, entry in near if entry.stored_at > after]
        candidates = self._best(text, [each for each in fresh if each[0] >= self._embedder.threshold])
        if not candidates:
            return SemanticMiss(reason="nothing near", similarity=fresh[0][0] if fresh else None)
        return candidates

    def _best(self, text: str, candidates: list[tuple[float, Stored]]) -> list[tuple[float, Stored]]:
        """Return the candidates to read, the best first."""
        if self._aligner is not None and candidates:
            others = [entry.tokens for _, entry in candidates]
            alignments = self._aligner.align(self._aligner.tokens(text), others)
            aligned = zip(alignments, (entry for _, entry in candidates), strict=True)
            candidates = sorted((each for each in aligned if each[0] >= self._aligner.least), key=lambda each: -each[0])
        return candidates[:_READ]

    def _judged(self, text: str, candidates: list[tuple[float, Stored]]) -> Found | list[Stored]:
        """Return a hit, or those candidates that are still to be compared, or the objection to the nearest."""
        judged = self._decider.judged(text, candidates)
        return _hit(judged) if isinstance(judged, Chosen) else judged

    async def _confirmed(self, text: str, agreed: list[Stored], deadline: asyncio.Timeout) -> Found:
        """Return the one that is most similar, if it is similar enough."""
        assert self._comparer is not None, "it is asked only if there is one"
        if self._comparer.is_starting and not deadline.expired():
            deadline.reschedule(asyncio.get_running_loop().time() + max(self._deadline_s, _STARTING_S))
        cosines = await asyncio.wrap_future(self._comparer.compare(text, [entry.question for entry in agreed]))
        chosen = self._decider.compared(agreed, cosines)
        if isinstance(chosen, SemanticMiss):
            return chosen
        return await asyncio.wrap_future(self._worker.submit_lookup(lambda: _or_miss(lambda: _hit(chosen))))

    def _store(self, scope: bytes, tenant: str, question: str, answer: Answer, now: float) -> None:
        if self._decider.reusable(question) is not None:
            return
        encoded = msgspec.json.encode(answer.stored(now))
        entry = Stored(answer.id, question, encoded, now, self._tokens(question))
        if entry.size > self._largest:
            return
        vector = self._embed(question)
        self._is_warm = True
        partition = self._partition(scope)
        partition.put(entry, vector)
        row = (entry.id, scope, tenant, now, question, self._blob(vector, entry.tokens), entry.answer)
        size = len(question) + len(row[5]) + len(entry.answer)
        self._unwritten[entry.id] = scope, entry, vector
        if not self._database.write(
            lambda connection: connection.execute(_PUT, row),
            size,
            droppable=True,
            on_written=lambda: self._unwritten.pop(entry.id, None),
        ):
            del self._unwritten[entry.id]
        if len(partition) > self._max_entries:
            oldest = partition.oldest()
            partition.drop(oldest.question)
            self._unwritten.pop(oldest.id, None)
            self._database.write(lambda connection: connection.execute(_DROP, (oldest.id,)), droppable=True)
        self._fit_memory(partition)
        self._queue_index_step(scope)
        self._prune_if_due(size)

    def _prune_if_due(self, size: int) -> None:
        """Drop expired entries, on disk and in memory, also from scopes without any lookups."""
        if self._pruner.count(size):
            for partition in self._partitions.values():
                partition.expire(self._wall() - self._ttl_s)

    def _partition(self, scope: bytes) -> Partition:
        """Return a scope's fresh entries; loads them from SQLite if they are not in memory."""
        partition = self._partitions.get(scope)
        is_new = partition is None
        if partition is None:
            partition = self._partitions[scope] = self._load(scope)
        partition.expire(self._wall() - self._ttl_s)
        self._partitions.move_to_end(scope)
        if is_new:
            self._fit_memory(partition)
        self._queue_index_step(scope)
        return partition

    def _fit_memory(self, latest: Partition) -> None:
        """Keep to the bounds: the least recently used scopes leave memory, then the oldest entries of the latest one.

        Their rows stay on disk. An entry that is in memory may be found a while after its row was evicted.
        """
        self._shrink(self._memory_bytes)
        while latest.size > self._memory_bytes and len(latest):
            latest.drop(latest.oldest().question)
        self._partitions_bytes = sum(partition.size for partition in self._partitions.values())

    def _shrink(self, size: int) -> None:
        """Drop the least recently used scopes from memory until the rest has so many bytes, or is the latest one."""
        self._is_giving_way = False
        sizes = {scope: partition.size for scope, partition in self._partitions.items()}
        left = sum(sizes.values())
        while len(self._partitions) > 1 and (left > size or len(self._partitions) > self._hot_scopes):
            left -= sizes[self._partitions.popitem(last=False)[0]]
        self._partitions_bytes = left

    def _load(self, scope: bytes) -> Partition:
        parameters = (scope, self._wall() - self._ttl_s, self._max_entries)
        partition = Partition(self._embedder.dimensions, self._index_above)
        # Looked at before SQLite: what is written in between is found twice rather than not at all.
        unwritten = [(entry, vector) for scope_, entry, vector in tuple(self._unwritten.values()) if scope_ == scope]
        rows = self._database.scan(
            lambda connection: _newest(connection.execute(_SCOPE, parameters), self._memory_bytes), within_s=_SELECT_S
        )
        for id_, question, answer, stored_at, blob in reversed(rows):
            vector, tokens = self._found_by(question, blob)
            partition.put(Stored(id_, question, answer, stored_at, tokens), vector)
        for entry, vector in unwritten:
            partition.put(entry, vector)
        return partition

    def _blob(self, vector: Vector, tokens: bytes) -> bytes:
        return self._mark + vector.astype(np.float16).tobytes() + tokens

    def _found_by(self, question: str, blob: bytes) -> tuple[Vector, bytes]:
        """Return vector and tokens of a row. Those of another embedder, or another version of it, are of no use."""
        end = len(self._mark) + 2 * self._embedder.dimensions
        if blob.startswith(self._mark) and len(blob) >= end:
            vector = np.frombuffer(blob, np.float16, self._embedder.dimensions, len(self._mark))
            return vector.astype(np.float32), blob[end:] or self._tokens(question)
        return self._embedder.embed(question), self._tokens(question)

    def _tokens(self, question: str) -> bytes:
        return b"" if self._aligner is None else self._aligner.tokens(question)

    def _forget(self, ids: Collection[str] | None) -> None:
        if ids is None:
            self._partitions.clear()
        else:  # one that was still to be stored when it was deleted has been written since
            rows = [(each,) for each in ids]
            self._database.write(lambda connection: connection.executemany(_DROP, rows), droppable=True)
        for partition in self._partitions.values():
            partition.discard(ids or ())
        self._partitions_bytes = sum(partition.size for partition in self._partitions.values())

    def _queue_index_step(self, scope: bytes) -> None:
        """Queue the next step of a scope's index, if it needs one. Lookups run between two steps."""
        if self._partitions[scope].needs_catch_up and scope not in self._indexing and not self._closed:
            self._indexing.add(scope)
            self._worker.submit_background(lambda: self._index_step(scope)).add_done_callback(_log_failed_step)

    def _index_step(self, scope: bytes) -> None:
        self._indexing.discard(scope)
        if scope in self._partitions:  # else it was dropped meanwhile
            self._partitions[scope].catch_up()
            self._fit_memory(self._partitions[scope])
            self._queue_index_step(scope)


def _newest(rows: Iterable[tuple[Any, ...]], size: int) -> list[tuple[Any, ...]]:
    """Return the first rows, as many as have so many bytes in memory; the rest is not read."""
    found = []
    for row in rows:
        _, question, answer, stored_at, vector = row
        size -= Stored("", question, answer, stored_at).size + len(vector)
        if size < 0:
            break
        found.append(row)
    return found


def _or_miss(work: Callable[[], T]) -> T | SemanticMiss:
    try:
        return work()
    except BaseException as error:  # also a panic of the tokenizer; a model can still answer
        log.get().error("semantic lookup failed", exc_info=error)
        return SemanticMiss(reason="the lookup failed", similarity=None)


def _hit(chosen: Chosen) -> SemanticHit:
    entry = chosen.entry
    answer = msgspec.json.decode(entry.answer, type=StoredAnswer)
    return SemanticHit(answer=answer, similarity=chosen.similarity, entry_id=entry.id, question=entry.question)


def _late(lookup: "Future[Found | list[Stored]]") -> Found:
    """Return the result if the worker was in time and only the loop was late, else a miss."""
    if lookup.done() and not lookup.cancelled() and lookup.exception() is None:
        found = lookup.result()
        if not isinstance(found, list):
            return found
    return SemanticMiss(reason="the lookup took too long", similarity=None)


def _log_failed_step(done: "Future[None]") -> None:
    error = done.exception()
    if error is not None and not isinstance(error, StoppedError):
        log.get().error("semantic index not extended", exc_info=error)


def prepare(connection: sqlite3.Connection) -> None:
    """Make the table."""
    connection.execute(_TABLE)
    for index in _INDEXES:
        connection.execute(index)
