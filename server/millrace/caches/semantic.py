"""The semantic cache: near questions are found by vector, and served only where rules and a decision allow it.

A lookup goes from the cheap to the dear, and most end early. A vector that takes part of a millisecond finds
candidates, which are aligned with the question. The rules read the best of these. The comparer, which runs networks, is
asked only about those to which no rule objects for good; without one, a stricter decision is made of what rules tell.

Here is how a lookup goes and how long it may take. `decider.py` decides, `scopes.py` keeps what is in memory,
`table.py` what is on disk.

One worker thread loads scopes, reads candidates and changes the indexes, so that these never run concurrently and never
block the loop. A short question is embedded and searched for on the loop itself if that thread is idle: it takes half a
millisecond, and handing it over and back as much again. The cache must not delay an answer: a lookup has a deadline,
few may wait, and stores wait behind lookups.
"""

import asyncio
import math
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from millrace import log
from millrace.beat import beat
from millrace.caches import table
from millrace.caches.decider import Candidate, Chosen, Decider
from millrace.caches.decision.mix import weights_for
from millrace.caches.embedders.process import ComparingError
from millrace.caches.embedders.remote import EmbeddingError
from millrace.caches.exact import FOLLOW_S, LATE_S, SHARE
from millrace.caches.learning.knowledge import Guidance, Knowledge
from millrace.caches.partition import Partition, Stored
from millrace.caches.recent import Recent
from millrace.caches.renewal import Renewal
from millrace.caches.scopes import FEW_ROWS, Scopes
from millrace.caches.segment import Vector
from millrace.caches.sharing import EntrySharing
from millrace.caches.snapshots import Snapshots
from millrace.caches.table import EntryTable
from millrace.caches.worker import StoppedError, Worker
from millrace.ports import Aligner, Clock, Comparer, Database, DeletedEntries, Embedder, Likeness
from millrace.types import Answer, Lesson, SemanticHit, SemanticMiss, Steering, StoredAnswer, entry_id

# Characters, at most, of recent questions whose vector and reading are kept, since a store follows most misses.
_RECENT = 64 * 1024
_RECENT_BYTES = 175  # in memory, of the reading and the vector of a question, per character
_READ = 4  # candidates that the rules read, at most: a partner is among them in 97 % of lookups
_STARTING_S = 3.0  # that a lookup may take while embedder or comparer start, once; it takes them half a second
_SHORT = 300  # characters of a question that may be looked up on the loop
_FEW_SEGMENTS = 3  # that may be searched there
_QUEUED_BYTES = 600  # in memory, of an answer that waits to be stored, beside its text
_ASIDE = 8  # the part of the memory that the recent questions may use, and that the answers still to be stored may
_SNAPSHOTS = 4  # the part of the disk that indexes may use, as a divisor
_CLOSING_S = 2.0  # at shutdown, for stores still queued

Found = SemanticHit | SemanticMiss
Looked = Found | Chosen | list[Candidate]  # what the worker returns; a list is still to be compared
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
        prepare: Callable[[str], Awaitable[None]] | None = None,  # must be awaited before a text is embedded
        ttl_s: float,
        wall: Clock,
        folder: Path | None = None,  # of the indexes on disk; None: there are none
        index_above: int = 4000,  # entries at which a scope gets an hnswlib index
        hot_scopes: int = 256,  # scopes in memory
        memory_bytes: int = 128 * 2**20,  # of all scopes in memory, their indexes and what waits to be stored
        disk_bytes: int = 512 * 2**20,  # of all entries and indexes
        threshold: float | None = None,  # of the probability that an answer does; None: the shipped one
        deadline_s: float = 0.05,  # of a lookup; a small model sends its first token after about 0.2 s
        max_waiting: int = 32,  # lookups at once: as many as finish within the deadline
        max_stores: int = 10_000,  # answers queued to be stored, if their bytes allow it: some seconds' work
        is_shared: bool = False,  # other replicas are told of what is stored: `sharing`
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._aligner = aligner
        self._comparer = comparer
        self._prepare = prepare
        self._preparing: set[asyncio.Task[None]] = set()  # stores
        self._ttl_s = ttl_s
        self._wall = wall
        self._aside_bytes = memory_bytes // _ASIDE
        scopes_bytes = memory_bytes - 2 * self._aside_bytes
        self._largest = min(scopes_bytes, disk_bytes) // SHARE
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
        recent = min(_RECENT, self._aside_bytes // _RECENT_BYTES)
        self._embed: Recent[Vector] = Recent(embedder.embed, recent)
        self._knowledge = Knowledge(weights_for(comparer), threshold)
        self._decider = Decider(recent, compares=comparer is not None, aligns=aligner is not None)
        kept_by = self._kept_by = table.kept_by(embedder.name)
        self._table = EntryTable(
            database,
            mark=table.mark_of(embedder.name),
            dimensions=embedder.dimensions,
            ttl_s=ttl_s,
            max_bytes=disk_bytes,
            wall=wall,
            on_gone=lambda gone: self._scopes.background(lambda: self._scopes.forget(gone)),
            is_shared=is_shared,
        )
        self._snapshots = None
        if folder is not None:
            snapshots_bytes = disk_bytes // _SNAPSHOTS
            self._snapshots = Snapshots(folder, kept_by, embedder.dimensions, max_bytes=snapshots_bytes, ttl_s=ttl_s)
        self._scopes = Scopes(
            self._table,
            self._snapshots,
            self._worker,
            dimensions=embedder.dimensions,
            ttl_s=ttl_s,
            wall=wall,
            index_above=index_above,
            hot_scopes=hot_scopes,
            max_bytes=scopes_bytes,
        )
        self._renewal = Renewal(self._table, self._renewed, self._scopes.background, self._scopes.add_renewed)

    def renew(self, ttl_s: float, threshold: float | None) -> None:
        """Serve answers for so long, also stored ones, and from this probability on; None: the shipped one."""
        self._ttl_s = self._scopes.ttl_s = ttl_s
        self._table.keep_for(ttl_s)
        if self._snapshots is not None:
            self._snapshots.ttl_s = ttl_s
        self._knowledge.decide_by(threshold)

    @property
    def bytes_used(self) -> int:
        """Bytes in memory, about."""
        recent = max(self._embed.size, self._decider.size) * _RECENT_BYTES
        copied = self._snapshots.copied_bytes if self._snapshots else 0
        return self._scopes.bytes_used + self._queued_bytes + recent + copied

    def give_way(self, size: int) -> None:
        """Free so many bytes soon: scopes leave memory, the least recently used first."""
        if not self._is_giving_way and not self._closed:
            self._is_giving_way = True
            self._worker.submit_background(lambda: self._shrink(size))

    async def find(self, scope: bytes, question: str, tenant: str = "") -> Found:
        """Return the nearest answer that may be served, or why there is none, within the deadline."""
        if self._closed or self._waiting >= self._max_waiting:
            return _miss("too many lookups at once")
        found = self._found_at_once(scope, question)
        if isinstance(found, SemanticMiss):
            return found
        self._waiting += 1
        asked = (scope, question, tenant)
        work = partial(self._find, *asked) if found is None else partial(self._judged, *asked, found)
        lookup: Future[Looked] | None = None
        try:
            async with asyncio.timeout(self._deadline_s if self._is_warm else self._cold_deadline_s) as deadline:
                if self._prepare is not None and (miss := await self._prepared(self._prepare, scope, question)):
                    return miss
                lookup = self._worker.submit_lookup(lambda: _or_miss(work), _end_of(deadline))
                return await self._served(*asked, await asyncio.wrap_future(lookup), deadline)
        except TimeoutError:  # the timeout has cancelled the lookup if the worker had not started it
            return _late(lookup)
        except (StoppedError, ComparingError, EmbeddingError):  # the comparer and the embedder have said why
            return _miss("the lookup failed")
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
        if self._prepare is None:
            work = self._worker.submit_background(lambda: self._store(scope, tenant, question, answer, now))
            work.add_done_callback(partial(self._stored, size))
            return
        store = partial(self._store, scope, tenant, question, answer, now)
        task = asyncio.get_running_loop().create_task(self._prepared_store(self._prepare, question, store, size))
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)

    def teach(self, lessons: Sequence[Lesson]) -> None:
        """Learn soon, from pairs that were judged."""
        self._scopes.background(partial(self._knowledge.teach, lessons))

    def steer(self, tenant: str, scope: bytes, steering: Steering) -> None:
        """Serve more or less freely soon, in a scope; an empty one stands for new scopes of the tenant."""
        self._scopes.background(partial(self._knowledge.steer, tenant, scope, steering))

    def forget(self, gone: list[tuple[str, bytes]] | None) -> None:
        """Drop entries from memory soon, by id and scope; all with None. What is still on disk is loaded again."""
        self._scopes.background(self._scopes.forget_all if gone is None else partial(self._scopes.forget, gone))

    def sharing(self, deleted: DeletedEntries) -> EntrySharing:
        """Return what tells other replicas of entries, and keeps what they tell, but for what was deleted."""
        return EntrySharing(
            self._database,
            self._table,
            self._scopes,
            deleted,
            made_by=self._kept_by,
            dimensions=self._embedder.dimensions,
            mark=table.mark_of(self._embedder.name),
            wall=self._wall,
        )

    async def follow(self) -> None:
        """Take over into the scopes in memory what other workers store, until cancelled. Late is a miss."""
        looked_at = self._wall()
        while True:
            await beat(FOLLOW_S)
            since, now = looked_at - LATE_S, self._wall()
            with suppress(sqlite3.Error, TimeoutError):
                found = await self._table.of_others(since, self._scopes.lacks)
                if len(found) < table.PAGE:  # else there is more
                    looked_at = now
                if found:
                    self._scopes.background(partial(self._scopes.add_of_others, found))

    def prune(self) -> None:
        """Queue the deletion of what has expired, and what is to be done in idle time. Call it at a start."""
        self._table.pruner.prune()
        self._table.after_writes(partial(self._scopes.background, self._renewal.step))

    async def close(self) -> None:
        """Store what is queued, for at most `_CLOSING_S`. Call it before the database is closed."""
        self._closed = True
        if self._preparing:
            _, late = await asyncio.wait(self._preparing, timeout=_CLOSING_S)
            for task in late:
                task.cancel()
        await asyncio.to_thread(self._scopes.stop, _CLOSING_S)
        await asyncio.to_thread(self._worker.stop, _CLOSING_S)

    async def _prepared(
        self, prepare: Callable[[str], Awaitable[None]], scope: bytes, text: str
    ) -> SemanticMiss | None:
        """Have a question embedded, unless there is nothing to find, which is returned."""
        miss = await asyncio.wrap_future(
            self._worker.submit_lookup(lambda: _or_miss(lambda: self._nothing_to_find(scope, text)))
        )
        if miss is None:
            await prepare(text)
        return miss

    def _nothing_to_find(self, scope: bytes, text: str) -> SemanticMiss | None:
        reason = self._decider.reusable(text)
        if reason is None and not len(self._scopes.partition(scope)):
            reason = "nothing near"
        return None if reason is None else _miss(reason)

    async def _prepared_store(
        self, prepare: Callable[[str], Awaitable[None]], question: str, store: Callable[[], None], size: int
    ) -> None:
        done: Future[None] = Future()
        try:
            reason = await asyncio.wrap_future(self._worker.submit_background(lambda: self._decider.reusable(question)))
            if reason is None:
                await prepare(question)
                await asyncio.wrap_future(self._worker.submit_background(store))
            done.set_result(None)
        except (EmbeddingError, StoppedError, asyncio.CancelledError):  # the embedder has said why
            done.set_exception(StoppedError())
        except Exception as error:
            done.set_exception(error)
        finally:
            self._stored(size, done)

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
            partition = self._scopes.partitions.get(scope)
            if partition is None or not self._is_warm:
                return None
            if partition.unindexed > FEW_ROWS or len(partition.segments) > _FEW_SEGMENTS:
                return None
            self._worker.note_lookup()
            return _or_miss(lambda: self._candidates(scope, text))
        finally:
            self._worker.at_work.release()

    def _find(self, scope: bytes, text: str, tenant: str) -> Looked:
        candidates = self._candidates(scope, text)
        return candidates if isinstance(candidates, SemanticMiss) else self._judged(scope, text, tenant, candidates)

    def _candidates(self, scope: bytes, text: str) -> SemanticMiss | list[tuple[float, Stored]]:
        """Return the candidates to read, the best first, or why there is none."""
        reason = self._decider.reusable(text)
        if reason is not None:
            return _miss(reason)
        partition = self._scopes.partition(scope)
        near = partition.nearest(self._embed(text), self._embedder.threshold) if len(partition) else []
        self._is_warm = self._is_warm or bool(len(partition))
        after = self._wall() - self._ttl_s
        # Expired entries are gone already, unless the clock was set back.
        fresh = [(cosine, entry) for cosine, entry in near if entry.stored_at > after]
        candidates = self._best(text, [each for each in fresh if each[0] >= self._embedder.threshold])
        aliases = self._aliases(scope, text, partition, after)
        known = {entry.id for _, entry in aliases}
        candidates = [*aliases, *(each for each in candidates if each[1].id not in known)]
        if not candidates:
            return _miss("nothing near", fresh[0][0] if fresh else None)
        return candidates

    def _best(self, text: str, candidates: list[tuple[float, Stored]]) -> list[tuple[float, Stored]]:
        """Return the candidates to read, the best first."""
        if self._aligner is not None and candidates:
            others = [entry.tokens for _, entry in candidates]
            alignments = self._aligner.align(self._aligner.tokens(text), others)
            aligned = zip(alignments, (entry for _, entry in candidates), strict=True)
            candidates = sorted((each for each in aligned if each[0] >= self._aligner.least), key=lambda each: -each[0])
        return candidates[:_READ]

    def _aliases(self, scope: bytes, text: str, partition: Partition, after: float) -> list[tuple[float, Stored]]:
        """Return entries that were judged to have the answer, however far they are."""
        ids = self._knowledge.aliases(scope, entry_id(scope, text), partition.__contains__)
        found = [partition.likeness(each, self._embed(text)) for each in ids]
        return [each for each in found if each[1].stored_at > after]

    def _judged(self, scope: bytes, text: str, tenant: str, candidates: list[tuple[float, Stored]]) -> Looked:
        """Return a hit, the choice that is not on disk yet, those that are to be compared, or the objection."""
        judged = self._decider.judged(text, candidates, self._guidance(scope, text, tenant))
        if isinstance(judged, Chosen) and self._scopes.written(judged.entry.id) is None:
            self._scopes.hit(scope, judged.entry.id)
            return self._hit(judged)
        return judged

    async def _served(self, scope: bytes, text: str, tenant: str, judged: Looked, deadline: asyncio.Timeout) -> Found:
        """Return what the worker found; what is still to be compared, or to be written, once it is."""
        if isinstance(judged, list):
            judged = await self._compared(scope, text, tenant, judged, deadline)
        if not isinstance(judged, Chosen):
            return judged
        chosen, written = judged, self._scopes.written(judged.entry.id)
        # What is not on disk may be lost, and nobody could say later what was served.
        if written is not None and not await asyncio.shield(asyncio.wrap_future(written)):
            return _miss("the lookup failed")
        self._scopes.background(lambda: self._scopes.hit(scope, chosen.entry.id))
        return _or_miss(lambda: self._hit(chosen))

    async def _compared(
        self, scope: bytes, text: str, tenant: str, candidates: list[Candidate], deadline: asyncio.Timeout
    ) -> Chosen | SemanticMiss:
        """Return the likeliest one, if it is likely enough once the networks have compared it."""
        assert self._comparer is not None, "it is asked only if there is one"
        if self._comparer.is_starting and not deadline.expired():
            deadline.reschedule(asyncio.get_running_loop().time() + max(self._deadline_s, _STARTING_S))
        guidance, by = self._guidance(scope, text, tenant), _end_of(deadline)
        near, far = ([each for each in candidates if each.is_far is is_far] for is_far in (False, True))
        likenesses: list[Likeness] = []
        # Of those that are served most are the first one, and comparing all takes twice as long.
        for part in filter(None, (near[:1], near[1:])):
            stored = [each.entry.question for each in part]
            compared = await asyncio.wrap_future(self._comparer.compare(text, stored, by))
            likenesses += compared
            known = [*likenesses, *(None for _ in far)]
            judged = self._decider.compared(text, [*near[: len(likenesses)], *far], known, guidance)
            if isinstance(judged, Chosen):
                break
        return judged

    def _guidance(self, scope: bytes, text: str, tenant: str) -> Guidance:
        return self._knowledge.guidance(tenant, scope, entry_id(scope, text))

    def _hit(self, chosen: Chosen) -> SemanticHit:
        entry = chosen.entry
        return SemanticHit(
            answer=msgspec.json.decode(entry.answer, type=StoredAnswer),
            age_s=max(0.0, self._wall() - entry.stored_at),
            near=chosen.near,
            needed=chosen.needed,
        )

    def _store(self, scope: bytes, tenant: str, question: str, answer: Answer, now: float) -> None:
        if self._decider.reusable(question) is not None:
            return
        encoded = msgspec.json.encode(answer.stored(now))
        entry = Stored(entry_id(scope, question), question, encoded, now, self._tokens(question))
        if entry.size > self._largest:
            return
        vector = self._embed(question)
        self._is_warm = True
        self._scopes.put(scope, tenant, entry, vector)
        self._table.pruner.count(self._table.size(entry))

    def _renewed(self, entry: Stored) -> tuple[Stored, Vector] | None:
        """Return an entry of an earlier embedder or earlier rules as it would be stored today."""
        if self._prepare is not None:  # nobody pays for what may never be asked again
            return None
        if self._decider.reusable(entry.question) is not None:
            return None
        renewed = Stored(entry.id, entry.question, entry.answer, entry.stored_at, self._tokens(entry.question))
        return renewed, self._embedder.embed(entry.question)

    def _tokens(self, question: str) -> bytes:
        return b"" if self._aligner is None else self._aligner.tokens(question)

    def _shrink(self, size: int) -> None:
        self._is_giving_way = False
        self._scopes.shrink(self._scopes.bytes_used - size)


def _miss(reason: str, similarity: float | None = None) -> SemanticMiss:
    """Return a miss for a reason that holds no word of a question."""
    return SemanticMiss(reason=reason, similarity=similarity, kind=reason)


def _end_of(deadline: asyncio.Timeout) -> float:
    """Return when a deadline ends by the monotonic clock, which the loop's need not be."""
    when = deadline.when()
    return math.inf if when is None else time.monotonic() + when - asyncio.get_running_loop().time()


def _or_miss(work: Callable[[], T]) -> T | SemanticMiss:
    try:
        return work()
    except BaseException as error:  # also a panic of the tokenizer; a model can still answer
        log.get().error("semantic lookup failed", exc_info=error)
        return _miss("the lookup failed")


def _late(lookup: "Future[Looked] | None") -> Found:
    """Return the result if the worker was in time and only the loop was late, else a miss."""
    if lookup is not None and lookup.done() and not lookup.cancelled() and lookup.exception() is None:
        found = lookup.result()
        if isinstance(found, SemanticHit | SemanticMiss):
            return found
    return _miss("the lookup took too long")
