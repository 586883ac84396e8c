"""The scopes in memory: loaded from SQLite when they are asked, within bounds of bytes, dropped when others need room.

All of it runs on one thread, or on whoever has taken its place. What takes long goes in small steps that are queued
behind lookups: reading the rest of a large scope, and what its partition needs. A scope is searched meanwhile, with
what is there, row by row where there is no index yet.

Where the scopes that are asked do not fit together, each has the entries that were used last. More of one is read only
into room that is free or belongs to scopes that nobody asks. Otherwise each lookup would throw out what the next one
needs. What is new takes the place of what its own scope has used least, if that has most of the memory, or else of the
least recently used scope, which comes back with what it has used last.

An entry may be served once it is on disk. It is in memory before, and `written` tells when it may be served.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from msgspec import Struct

from millrace import log
from millrace.caches.partition import Partition, Places, Stored, places_in
from millrace.caches.segment import Segment, Vector
from millrace.caches.snapshots import Snapshots
from millrace.caches.table import START, EntryTable, Start
from millrace.caches.worker import StoppedError, Worker
from millrace.ports import Clock

SAVED_ABOVE, SAVED_SHARE = 1000, 0.25  # rows, and part of all, by which an index grows between two snapshots
BUSY_S = 60.0  # after a lookup, for which a scope keeps its room against what others have on disk
READ_SHARE = 0.9  # of the memory that is filled from the disk; if it were all, the next entry would throw out a scope
LEAST_SHARE = 0.05  # of the memory; into less room nothing is read
EVICTED_SHARE = 0.125  # of the entries of a scope, from which on it is read again
REST_S, AGAIN_S = 1.0, 10.0  # until more is read, where there was no room, and where the disk has failed
FEW_ROWS = 8192  # that a lookup may search one by one: above it, indexes are filled before more rows are read

T = TypeVar("T")


class _Unwritten(Struct):
    scope: bytes
    entry: Stored
    vector: Vector
    done: "Future[bool]"  # whether it is on disk now


class Scopes:
    """Partitions by scope."""

    def __init__(  # noqa: PLR0913 - bounds
        self,
        table: EntryTable,
        snapshots: Snapshots | None,
        worker: Worker,
        *,
        dimensions: int,
        ttl_s: float,
        wall: Clock,
        index_above: int,
        hot_scopes: int,
        max_bytes: int,
        clock: Clock = time.monotonic,
    ) -> None:
        self.partitions: OrderedDict[bytes, Partition] = OrderedDict()  # the least recently used first
        self.bytes_used = 0  # may be read anywhere
        self._table = table
        self._snapshots = snapshots
        self._worker = worker
        self._files = None if snapshots is None else Worker("millrace-snapshots")
        self._dimensions = dimensions
        self.ttl_s = ttl_s  # may change at any time
        self._wall = wall
        self._clock = clock
        self._index_above = index_above
        self._hot_scopes = hot_scopes
        self._max_bytes = max_bytes
        self._least_room = int(LEAST_SHARE * max_bytes)
        self._copied_bytes = 0  # of an index that is being saved
        self._stepping: set[bytes] = set()  # scopes whose next step is queued
        self._rest: dict[bytes, Start] = {}  # of scopes that are not read to their end: where to go on
        self._lock = threading.Lock()  # guards the next one
        self._unwritten: dict[str, _Unwritten] = {}  # by id
        self._hits: dict[str, int] = {}  # by id, not yet written
        self._is_closed = False
        if self._snapshots is not None:
            self._with_files(self._snapshots.tidy)

    def stop(self, seconds: float) -> None:
        """Begin nothing more. Blocks, as `Worker.stop` does."""
        self._is_closed = True
        if self._files is not None:
            self._files.stop(seconds)

    def background(self, work: Callable[[], object]) -> None:
        """Queue work behind lookups. May be called on any thread."""
        if not self._is_closed:
            self._worker.submit_background(work).add_done_callback(_log_failed)

    def partition(self, scope: bytes) -> Partition:
        """Return a scope's fresh entries, the most recently used ones if they are many; the rest comes in steps."""
        partition = self.partitions.get(scope)
        is_new = partition is None
        if partition is None:
            partition = self._load(scope)
        partition.expire(self._wall() - self.ttl_s)
        self.partitions.move_to_end(scope)
        partition.asked_at = self._clock()
        if is_new:
            self._fit(scope)
        self._queue_step(scope)
        return partition

    def put(self, scope: bytes, tenant: str, entry: Stored, vector: Vector) -> None:
        """Add an entry to memory, and queue it to be written."""
        partition = self.partition(scope)
        unwritten = _Unwritten(scope, entry, vector, self._table.put(scope, tenant, entry, vector))
        with self._lock:
            self._unwritten[entry.id] = unwritten
        partition.put(entry, vector)
        unwritten.done.add_done_callback(partial(self._on_written, entry.id, scope))
        self._fit(scope)
        self._queue_step(scope)

    def add_renewed(self, scope: bytes, entry: Stored, vector: Vector) -> None:
        """Add an entry that is on disk already."""
        partition = self.partitions.get(scope)
        if partition is not None and entry.id not in partition:
            partition.put(entry, vector, goes_first=True)
            self._fit(scope)
            self._queue_step(scope)

    def lacks(self, id_: str, scope: bytes, stored_at: float) -> bool:
        """Whether a scope in memory has no entry as new as this one, which is on disk. May be called on any thread."""
        partition = self.partitions.get(scope)
        return partition is not None and partition.stored_at(id_) < stored_at

    def add_of_others(self, found: list[tuple[bytes, Stored, Vector]]) -> None:
        """Add entries that other processes have put on disk."""
        grown = dict[bytes, None]()
        for scope, entry, vector in found:
            if self.lacks(entry.id, scope, entry.stored_at):
                self.partitions[scope].put(entry, vector)
                grown[scope] = None
        for scope in grown:
            self._fit(scope)
            self._queue_step(scope)

    @property
    def is_behind(self) -> bool:
        """Whether a scope waits for so many rows to come into indexes that no more should come in bulk.

        More than when it reads its own rows, so that others are not kept waiting by that. May be called on any thread.
        """
        return any(each.unindexed > 2 * FEW_ROWS and each.needs_step for each in [*self.partitions.values()])

    def written(self, id_: str) -> "Future[bool] | None":
        """Return what tells whether an entry is on disk; None if it is."""
        with self._lock:
            unwritten = self._unwritten.get(id_)
        return None if unwritten is None else unwritten.done

    def hit(self, scope: bytes, id_: str) -> None:
        """Note that an entry was served."""
        if (partition := self.partitions.get(scope)) is not None:
            partition.hit(id_)
        if not self._hits:
            self.background(self._write_hits)
        self._hits[id_] = self._hits.get(id_, 0) + 1

    def forget(self, gone: list[tuple[str, bytes]]) -> None:
        """Remove entries that are no longer on disk, by id and scope."""
        for id_, scope in gone:
            if (partition := self.partitions.get(scope)) is not None and self.written(id_) is None:
                partition.drop(id_)
                self._queue_step(scope)
        self.shrink(self._max_bytes, spares_busy=True)

    def forget_all(self) -> None:
        """Drop all scopes from memory; they are loaded again when they are asked for."""
        self.partitions.clear()
        self._rest.clear()
        self.bytes_used = self._copied_bytes

    def shrink(self, size: int, *, spares_busy: bool = False) -> None:
        """Drop the least recently used scopes until the rest has so many bytes, is asked, or is the latest one."""
        sizes = {scope: partition.size for scope, partition in self.partitions.items()}
        left = sum(sizes.values()) + self._copied_bytes
        while len(self.partitions) > 1:
            scope, partition = next(iter(self.partitions.items()))
            is_spared = left <= size or (spares_busy and self._is_busy(partition))
            if is_spared and len(self.partitions) <= self._hot_scopes:
                break
            del self.partitions[scope]
            self._rest.pop(scope, None)
            left -= sizes[scope]
        self.bytes_used = left

    def _is_busy(self, partition: Partition) -> bool:
        return self._clock() - partition.asked_at < BUSY_S

    def _fit(self, scope: bytes) -> None:
        """Keep to the bounds after a scope has grown: those that nobody asks leave memory.

        If that is not enough, some of its entries do where it has most of the memory, or else the least recently used
        scopes. Their rows stay on disk. A copy of an index that is being saved throws out only what nobody asks, since
        it goes again.
        """
        self.shrink(self._max_bytes, spares_busy=True)
        most = self._max_bytes + self._copied_bytes
        partition = self.partitions.get(scope)
        if self.bytes_used > most and (partition is None or partition.size <= self._max_bytes / 2):
            self.shrink(most)
        if self.bytes_used > most and (partition := self.partitions.get(scope)) is not None:
            self._evict(scope, partition, most)

    def _evict(self, scope: bytes, partition: Partition, most: int) -> None:
        """Remove entries of a scope until all scopes have so many bytes. If they are many, they are read again later.

        That is as soon as there is room: a row takes memory until its segment is emptied, so more go than must.
        """
        others = self.bytes_used - partition.size
        while self.bytes_used > most and len(partition):
            partition.evict()
            partition.evicted += 1
            self.bytes_used = others + partition.size
        if partition.evicted > EVICTED_SHARE * len(partition) and not partition.is_unclaimed:
            self._rest[scope] = START
            partition.evicted = 0

    def _room(self, scope: bytes) -> float:
        """Return the bytes that may be read of a scope, beside what others need soon."""
        busy = {name: each for name, each in self.partitions.items() if name == scope or self._is_busy(each)}
        taken = sum(each.size_soon + (each.size_to_come if name != scope else 0) for name, each in busy.items())
        return READ_SHARE * self._max_bytes - taken - self._copied_bytes

    def _may_have_room(self) -> bool:
        """Whether it is worth a closer look, after each lookup."""
        free = READ_SHARE * self._max_bytes - self.bytes_used
        return free >= self._least_room or not self._is_busy(next(iter(self.partitions.values())))

    def _load(self, scope: bytes) -> Partition:
        # Looked at before SQLite: what is written in between is found twice rather than not at all.
        with self._lock:
            unwritten = [each for each in self._unwritten.values() if each.scope == scope]
        partition = Partition(self._dimensions, self._index_above)
        busy = sum(each.size for each in self.partitions.values() if self._is_busy(each))
        room = max(self._least_room, self._max_bytes - busy - self._copied_bytes)
        page = self._table.page(scope, START, room, self._least_room)
        for entry, vector in reversed(page.entries):
            partition.put(entry, vector)
        for each in unwritten:
            partition.put(each.entry, each.vector)
        self.partitions[scope] = partition
        if page.end is None:
            return partition
        if self._snapshots is None:
            self._rest[scope] = page.end
        else:
            self._with_files(partial(self._restore, self._snapshots, scope, partition, page.end))
        return partition

    def _restore(self, snapshots: Snapshots, scope: bytes, partition: Partition, start: Start) -> None:
        """Load a scope's indexes, then have the rest of its rows read. Runs on the thread of the files."""
        try:
            for segment in snapshots.load(scope):
                if not self._worker.submit_background(
                    partial(self._adopt, scope, partition, segment, places_in(segment))
                ).result():
                    break
        finally:
            self.background(partial(self._read_on, scope, partition, start))

    def _adopt(self, scope: bytes, partition: Partition, segment: Segment, places: Places) -> bool:
        """Let a partition have an index; False if there would be no room for its entries."""
        if partition.size + segment.size > self._max_bytes // 2 or 2 * segment.size > self._room(scope):
            return False
        partition.restore(segment, places)
        if self.partitions.get(scope) is partition:
            self._fit(scope)
        return True

    def _read_on(self, scope: bytes, partition: Partition, start: Start) -> None:
        if self.partitions.get(scope) is partition:
            self._rest[scope] = start
            self._queue_step(scope)

    def _on_written(self, id_: str, scope: bytes, done: "Future[bool]") -> None:
        """Let an entry be served, or forget it. Runs on the thread that writes, too."""
        with self._lock:
            unwritten = self._unwritten.get(id_)
            is_latest = unwritten is not None and unwritten.done is done  # else a newer answer is still to be written
            if is_latest:
                del self._unwritten[id_]
        if is_latest and not done.result():
            self.background(partial(self.forget, [(id_, scope)]))

    def _write_hits(self) -> None:
        hits, self._hits = self._hits, {}
        self._table.count_hits(hits)

    def _queue_step(self, scope: bytes) -> None:
        """Queue the next step of a scope, if it needs one. Lookups run between two steps."""
        partition = self.partitions.get(scope)
        if partition is None or scope in self._stepping or self._is_closed:
            return
        may_read = self._is_due(scope, partition) and (partition.is_unclaimed or self._may_have_room())
        if partition.needs_step or may_read:
            self._stepping.add(scope)
            self.background(partial(self._step, scope))

    def _is_due(self, scope: bytes, partition: Partition) -> bool:
        """Whether more of a scope is to be read now, if there is room."""
        return scope in self._rest and self._clock() >= partition.rests_until

    def _step(self, scope: bytes) -> None:
        self._stepping.discard(scope)
        partition = self.partitions.get(scope)
        if partition is None:  # it was dropped meanwhile
            return
        is_behind = partition.unindexed > FEW_ROWS and partition.needs_step
        is_due = not is_behind and self._is_due(scope, partition)
        room = self._room(scope) if is_due else 0.0
        if is_due and room >= self._least_room:
            self._read_page(scope, partition, int(room))
        elif partition.needs_step:
            partition.step()
            self._save_if_grown(scope, partition)
        elif is_due and room + self._copied_bytes < self._least_room and partition.is_unclaimed:
            partition.claimed()  # or new rows would come into no index
        else:
            partition.rests_until = max(partition.rests_until, self._clock() + REST_S)
            return
        self._fit(scope)
        self._queue_step(scope)

    def _read_page(self, scope: bytes, partition: Partition, room: int) -> None:
        """Read some more rows of a scope. What is in memory already is newer than what is on disk."""
        partition.rests_until = self._clock() + AGAIN_S  # should it raise
        page = self._table.page(scope, self._rest[scope], room, self._least_room)
        partition.rests_until = 0.0
        for entry, vector in page.entries:
            if entry.id not in partition:
                partition.put(entry, vector, goes_first=True)
        if page.end is None:
            del self._rest[scope]
        else:
            self._rest[scope] = page.end
        if page.end is None or page.lacks_room:
            partition.claimed()

    def _save_if_grown(self, scope: bytes, partition: Partition) -> None:
        if self._snapshots is None:
            return
        while partition.emptied:
            self._with_files(partial(self._snapshots.remove, scope, partition.emptied.pop()))
        if self._copied_bytes:  # one at a time
            return
        for segment in partition.segments:
            grown = segment.indexed - segment.saved
            enough = 1 if segment.is_full else max(SAVED_ABOVE, SAVED_SHARE * segment.saved)
            if segment.is_indexed and grown >= enough:
                self._save(self._snapshots, scope, segment)
                return

    def _save(self, snapshots: Snapshots, scope: bytes, segment: Segment) -> None:
        segment.saved = segment.indexed
        self._copied_bytes = segment.size
        self.bytes_used += segment.size
        save = partial(snapshots.save, scope, segment.key, segment.ids[:], segment.lost[:], segment.state())
        saving = self._with_files(save)
        saving.add_done_callback(lambda done: self.background(partial(self._saved, scope, segment, done)))

    def _saved(self, scope: bytes, segment: Segment, done: "Future[str]") -> None:
        self.bytes_used -= self._copied_bytes
        self._copied_bytes = 0
        if done.exception() is None:
            segment.key = done.result()
        if (partition := self.partitions.get(scope)) is not None:
            self._save_if_grown(scope, partition)

    def _with_files(self, work: Callable[[], T]) -> "Future[T]":
        """Queue work on the thread of the snapshots; what they use then is not for rows."""
        assert self._files is not None, "there are snapshots"
        done = self._files.submit_background(work)
        done.add_done_callback(self._on_files)
        return done

    def _on_files(self, done: "Future[Any]") -> None:
        _log_failed(done)
        if self._snapshots is not None:
            self._table.pruner.max_bytes = self._table.max_bytes - self._snapshots.bytes_used


def _log_failed(done: "Future[Any]") -> None:
    error = done.exception()
    if error is not None and not isinstance(error, StoppedError):
        log.get().error("not done in the background", exc_info=error)
