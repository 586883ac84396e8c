"""The entries of one scope in memory, and the segments that find them. Not thread-safe: one thread owns a partition.

A partition is filled at its end. What must be done beside that, so that lookups stay fast, is done in small steps:
rows go into indexes, and a segment that is sparse, or small for so large a scope, is emptied into the last one.
"""

import heapq
from collections import OrderedDict
from sys import getsizeof

from msgspec import Struct

from millrace.caches.segment import ALONE, NEAREST, SPARSE, TOGETHER, Segment, Vector, room_for

MOVED = 64  # entries that move to another segment per step
EXPIRED = 256  # that are removed at once, in less than a millisecond
CHANCES = 3  # hits that are counted of an entry; each lets it stay once more when its turn to go has come

Places = dict[str, tuple[Segment, int]]  # segment and row, by id

_ENTRY_BYTES = 400  # in memory, of an entry beside its texts and its vector


class Stored(Struct, frozen=True):
    """One cached question and its answer, in memory."""

    id: str
    question: str
    answer: bytes  # JSON of a StoredAnswer; decoded when it is served
    stored_at: float  # Unix seconds
    tokens: bytes = b""  # of the question, for an `Aligner`

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return _ENTRY_BYTES + getsizeof(self.question) + getsizeof(self.answer) + getsizeof(self.tokens)


class Partition:
    """Entries by id."""

    def __init__(self, dimensions: int, index_above: int) -> None:
        self.segments: list[Segment] = []  # the last one is being filled
        self.emptied: list[str] = []  # keys of the snapshots of segments that are no more
        # Of `Scopes`, by its clock: when it was asked last, and until when nothing more is read of it.
        self.asked_at = self.rests_until = 0.0
        self.evicted = 0  # entries, since its rows were last read from the first one on
        self._dimensions = dimensions
        self._index_above = index_above
        self._matrix_only = False
        self._entries: OrderedDict[str, Stored] = OrderedDict()  # in the order in which they are to go
        self._entries_bytes = 0
        self._places: Places = {}  # of each entry
        self._chances: dict[str, int] = {}  # of entries that were hit
        self._oldest: list[tuple[float, str]] = []  # a heap of (stored_at, id), with some that are no more
        self._unclaimed: Places = {}  # of restored segments, until the entries have come

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._entries

    def stored_at(self, id_: str) -> float:
        """Return when an entry was stored (Unix seconds); 0 if it is not there."""
        entry = self._entries.get(id_)
        return 0.0 if entry is None else entry.stored_at

    def likeness(self, id_: str, vector: Vector) -> tuple[float, Stored]:
        """Return the cosine of an entry, which must be there, and the entry."""
        segment, row = self._places[id_]
        return float(segment.vector(row) @ vector), self._entries[id_]

    @property
    def size(self) -> int:
        """Bytes in memory, about. Rows of removed entries count until their segment is emptied."""
        return self._entries_bytes + sum(segment.size for segment in self.segments)

    @property
    def size_soon(self) -> int:
        """Bytes in memory, about, while all rows that should be in an index come into it."""
        sizes = (segment.size_soon if self._has_index else segment.size for segment in self.segments)
        return self._entries_bytes + sum(sizes)

    @property
    def is_unclaimed(self) -> bool:
        """Whether rows of restored segments wait for their entries; new rows come into no index meanwhile."""
        return bool(self._unclaimed)

    @property
    def size_to_come(self) -> int:
        """Bytes of the entries of restored segments that have not come, if they are like the others."""
        return len(self._unclaimed) * self._entries_bytes // max(1, len(self._entries))

    @property
    def unindexed(self) -> int:
        """Rows that each search looks at one by one."""
        return sum(segment.rows - segment.indexed for segment in self.segments)

    @property
    def needs_step(self) -> bool:
        """Whether `step` has work to do."""
        return (self._unfinished or self._sparse or self._unchecked or self._small) is not None

    def put(self, entry: Stored, vector: Vector, *, goes_first: bool = False) -> None:
        """Add an entry; it replaces the one with the same id, and so with the same question.

        It is the last one to go, or the first.
        """
        replaced = self._entries.pop(entry.id, None)
        if replaced is not None:
            self._entries_bytes -= replaced.size
        elif (place := self._unclaimed.pop(entry.id, None)) is not None:
            segment, row = self._places[entry.id] = place
            segment.ids[row] = entry.id  # the same string once
        else:
            self._append(entry.id, vector)
        self._entries[entry.id] = entry
        self._entries.move_to_end(entry.id, last=not goes_first)
        self._entries_bytes += entry.size
        heapq.heappush(self._oldest, (entry.stored_at, entry.id))
        if len(self._oldest) > 2 * len(self._entries) + MOVED:
            self._oldest = [(each.stored_at, id_) for id_, each in self._entries.items()]
            heapq.heapify(self._oldest)

    def drop(self, id_: str) -> None:
        """Remove an entry, if it is there."""
        entry = self._entries.pop(id_, None)
        if entry is None:
            return
        self._entries_bytes -= entry.size
        self._chances.pop(id_, None)
        segment, row = self._places.pop(id_)
        segment.remove(row)
        if segment.is_sparse and segment.live <= MOVED:
            self._move_from(segment)  # not worth a step of its own

    def expire(self, after: float) -> None:
        """Remove entries stored at `after` (Unix seconds) or before, which would take the place of fresh candidates.

        Of very many, as after an idle night, the rest is left for the next time.
        """
        for _ in range(EXPIRED):
            if not self._oldest or self._oldest[0][0] > after:
                return
            stored_at, id_ = heapq.heappop(self._oldest)
            if (entry := self._entries.get(id_)) is not None and entry.stored_at == stored_at:
                self.drop(id_)

    def hit(self, id_: str) -> None:
        """Note that an entry was served: it stays longer."""
        if id_ in self._entries:
            self._chances[id_] = min(CHANCES, self._chances.get(id_, 0) + 1)

    def evict(self) -> Stored:
        """Remove the entry that has been there longest without a hit, and return it. There must be one."""
        while True:
            id_ = next(iter(self._entries))
            if not (chances := self._chances.pop(id_, 0)):
                break
            if chances > 1:
                self._chances[id_] = chances - 1
            self._entries.move_to_end(id_)
        entry = self._entries[id_]
        self.drop(id_)
        return entry

    def nearest(self, vector: Vector, least: float = -1.0) -> list[tuple[float, Stored]]:
        """Return up to `NEAREST` (cosine, entry), nearest first. Those further than `least` need not all be there."""
        effort = ALONE if len(self.segments) == 1 else TOGETHER
        found = [pair for segment in self.segments for pair in segment.nearest(vector, effort, least)]
        live = [(cosine, self._entries[id_]) for cosine, id_ in found if id_ in self._entries]
        return sorted(live, key=lambda pair: -pair[0])[:NEAREST]

    def step(self) -> None:
        """Do a little of what is to be done."""
        if (segment := self._unfinished) is not None:
            self._matrix_only = not segment.index_step()
        elif (segment := self._sparse) is not None:
            self._move_from(segment)
        elif (segment := self._unchecked) is not None:
            segment.check_step()
        elif (segment := self._small) is not None:
            self._move_from(segment)

    def restore(self, segment: Segment, places: Places) -> None:
        """Take a segment from a snapshot, with its places by id. These are changed.

        Its entries come later, by `put`; `claimed` tells that all have come.
        """
        for id_ in places.keys() & self._unclaimed.keys():
            segment.remove(places.pop(id_)[1])
        for id_ in places.keys() & self._places.keys():
            other, row = self._places[id_]
            other.remove(row)
            self._places[id_] = places.pop(id_)
        self._unclaimed |= places
        self.segments = [segment, *(each for each in self.segments if each.live)]

    def claimed(self) -> None:
        """Remove the rows whose entries have not come: these are no more. Go on filling the fullest with room."""
        for segment, row in self._unclaimed.values():
            segment.remove(row)
        self._unclaimed.clear()
        self.segments.sort(key=lambda each: 0 if each.is_full else each.rows)

    @property
    def _sparse(self) -> Segment | None:
        return next((each for each in self.segments if each.is_sparse and not self._unclaimed), None)

    @property
    def _small(self) -> Segment | None:
        """Return a segment that should be emptied, since a search would look into too many of them."""
        if self._unclaimed or len(self.segments) == 1:
            return None
        enough = (1 - SPARSE) * room_for(len(self._entries))
        return next((each for each in self.segments[:-1] if each.live < enough), None)

    @property
    def _unfinished(self) -> Segment | None:
        """Return a segment with rows that are not in an index, but should be."""
        if not self._has_index or self._unclaimed:
            return None
        unfinished = [segment for segment in self.segments if segment.indexed < segment.rows]
        return next((each for each in unfinished if not each.is_sparse and each is not self._small), None)

    @property
    def _has_index(self) -> bool:
        is_large = len(self._entries) > self._index_above or any(segment.has_index for segment in self.segments)
        return is_large and not self._matrix_only

    @property
    def _unchecked(self) -> Segment | None:
        return next((segment for segment in self.segments if segment.needs_check), None)

    def _append(self, id_: str, vector: Vector) -> None:
        room = room_for(len(self._entries))
        if not self.segments or self.segments[-1].is_full or self.segments[-1].room < room:
            self.segments.append(Segment(self._dimensions, room))
        self._places[id_] = self.segments[-1], self.segments[-1].add(id_, vector)

    def _move_from(self, segment: Segment) -> None:
        """Move some entries of a sparse segment to the last one, and drop it once it is empty."""
        if segment is self.segments[-1]:
            self.segments.append(Segment(self._dimensions, room_for(len(self._entries))))
        left = ((row, id_) for row, id_ in enumerate(segment.ids) if id_ is not None)
        for row, id_ in [pair for pair, _ in zip(left, range(MOVED), strict=False)]:
            self._append(id_, segment.vector(row))
            segment.remove(row)
        if not segment.live:
            self.segments.remove(segment)
            self.emptied.append(segment.key)


def places_in(segment: Segment) -> Places:
    """Return where each of a segment's rows is; it takes some milliseconds."""
    return {id_: (segment, row) for row, id_ in enumerate(segment.ids) if id_ is not None}
