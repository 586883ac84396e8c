"""Some thousands of vectors of a scope: a matrix that is searched exactly, then an hnswlib index.

A scope is made of segments, so nothing takes longer than the work on one of them: an index begins with room for all
rows and never grows, is saved and loaded by itself, and a sparse one is emptied into the segment that is being filled.
Of a very large scope the segments are larger, since a search looks into each.
Not thread-safe: hnswlib's query and add must not run concurrently.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace import log

ROWS = 32_768  # at most, but in a very large scope; an index of so many is copied in some 10 ms
MANY, LARGER = 4, 8  # segments of that size that a scope may have; in a larger scope all are so many times as large
NEAREST = 32  # rows that a search returns, at most
STEP = 8  # rows added to an index per step: about 2 ms, which a lookup may have to wait
CHECKED = 16  # rows per step that are looked for in the index
LOST, PART_LOST = 1024, 64  # rows beside an index that does not find them: the more of 1024 and a 64th of the room
SPARSE = 0.25  # of all rows; when more are removed, a segment is emptied

_FIRST_ROWS = 16
_NEARLY = 1e-4  # of a cosine: so near is as good as the same
_FEW = 4  # rows to look for where an index does not reach more
_LINKS, _EF_BUILD = 16, 100  # hnswlib's M and ef; 200 finds hardly more of the nearest, and takes twice as long
ALONE, TOGETHER = 100, 64  # ef of a search: in the only segment, and in one of several, which find more together
_LINK_BYTES = 4 * (2 * _LINKS + 1) + 40  # in the index, of a row beside its vector, about
_ROW_BYTES = 24  # of a row beside its vector

Vector = NDArray[np.float32]
State = dict[str, Any]  # of an index: numbers and arrays


class Lost:
    """Rows that an index has and does not find, of many that are much alike: they are searched one by one."""

    def __init__(self, dimensions: int, most: int) -> None:
        """`most`: rows, at most. Of more, the last ones stay."""
        self._most = most
        self._places: dict[int, int] = {}  # in the matrix, by row; the first one that was added comes first
        self._free: list[int] = []  # places of rows that were removed
        self._matrix: Vector = np.zeros((0, dimensions), np.float32)
        self._row_at: list[int] = []  # by place; of a free one, the row that was there

    @property
    def rows(self) -> list[int]:
        """The rows, the first one that was added first."""
        return [*self._places]

    @property
    def places(self) -> int:
        """For how many vectors there is memory."""
        return len(self._matrix)

    def add(self, row: int, vector: Vector) -> None:
        """Search a row from now on."""
        if self._free:
            at = self._free.pop()
        elif len(self._places) == self._most:
            at = self._places.pop(next(iter(self._places)))
        else:
            at = len(self._row_at)
            self._row_at.append(row)
            if at == len(self._matrix):
                grown: Vector = np.zeros((max(2 * at, _FIRST_ROWS), len(vector)), np.float32)
                grown[:at] = self._matrix
                self._matrix = grown
        self._places[row] = at
        self._row_at[at] = row
        self._matrix[at] = vector

    def remove(self, row: int) -> None:
        """Search a row no more, if it is one of these."""
        if (at := self._places.pop(row, None)) is not None:
            self._matrix[at] = 0  # cosine 0 with every question
            self._free.append(at)

    def nearest(self, vector: Vector, least: float) -> list[tuple[float, int]]:
        """Return (cosine, row) of the nearest ones, as `_best` does."""
        if not self._places:
            return []
        return [(cosine, self._row_at[at]) for cosine, at in _best(self._matrix[: len(self._row_at)] @ vector, least)]


class Segment:
    """Vectors by row. A row is its label in the index too; it is never used again."""

    def __init__(self, dimensions: int, room: int) -> None:
        """`room`: rows, at most."""
        self.room = room
        self.ids: list[str | None] = []  # by row; None: removed
        self.live = 0  # rows that are not
        self.indexed = 0  # rows before this one are in the index
        self.saved = 0  # so many of these are in its snapshot
        self.key = ""  # of its snapshot, if there is one
        self._dimensions = dimensions
        self._matrix: Vector = np.zeros((_FIRST_ROWS, dimensions), np.float32)  # of the rows that are not in the index
        self._first = 0  # row of the segment that is the first one in the matrix
        self._index: Any = None
        self._reachable = 0  # rows that are in the index and not removed
        self._lost = Lost(dimensions, most_lost(room))
        self._checked = 0  # rows before this one were looked for
        self._is_checked_again = False

    @classmethod
    def restored(cls, state: State, ids: list[str | None], lost: list[int], dimensions: int) -> "Segment":
        """Return one as it was saved. Raises whatever hnswlib raises; the state must be exactly what was saved."""
        index = _hnswlib().Index(state)
        segment = cls(dimensions, index.max_elements)
        segment._index = index
        segment.ids = ids
        segment.live = segment._reachable = len(ids) - ids.count(None)
        segment.indexed = segment.saved = segment._first = segment._checked = len(ids)
        segment._is_checked_again = segment.is_full
        for row in lost:
            if ids[row] is not None:
                segment._lost.add(row, segment.vector(row))
        return segment

    @property
    def rows(self) -> int:
        """Rows in use, those that were removed included."""
        return len(self.ids)

    @property
    def is_full(self) -> bool:
        """Whether no row can be added."""
        return len(self.ids) >= self.room

    @property
    def is_sparse(self) -> bool:
        """Whether so many rows are removed that the others should move to another segment."""
        return len(self.ids) - self.live > SPARSE * len(self.ids)

    @property
    def is_indexed(self) -> bool:
        """Whether all rows are in the index, and were looked for there."""
        return self._index is not None and self._checked == len(self.ids)

    @property
    def needs_check(self) -> bool:
        """Whether rows of the index are to be looked for."""
        return self._checked < self.indexed

    @property
    def lost(self) -> list[int]:
        """The rows that are searched beside the index, the first one noted first."""
        return self._lost.rows

    @property
    def has_index(self) -> bool:
        """Whether its index has been begun."""
        return self._index is not None

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        vector = 4 * self._dimensions
        alone = len(self.ids) - self._first + self._lost.places
        return alone * vector + self.indexed * (vector + _LINK_BYTES) + len(self.ids) * _ROW_BYTES

    @property
    def size_soon(self) -> int:
        """Bytes in memory, about, while the last row comes into the index: those before it are there twice."""
        return self.size + (len(self.ids) - self.indexed) * (4 * self._dimensions + _LINK_BYTES)

    def add(self, id_: str, vector: Vector) -> int:
        """Return the row of a new vector. There must be room."""
        row = len(self.ids)
        if row - self._first == len(self._matrix):
            self._make_room(row)
        self._matrix[row - self._first] = vector
        self.ids.append(id_)
        self.live += 1
        return row

    def remove(self, row: int) -> None:
        """Return this row no more."""
        if self.ids[row] is None:
            return
        self.ids[row] = None
        self.live -= 1
        if row < self.indexed:
            self._index.mark_deleted(row)
            self._reachable -= 1
            self._lost.remove(row)
        else:
            self._matrix[row - self._first] = 0  # cosine 0 with every question

    def vector(self, row: int) -> Vector:
        """Return the vector of a row that is not removed."""
        if row < self.indexed:
            return np.asarray(self._index.get_items([row])[0], np.float32)
        return np.array(self._matrix[row - self._first])

    def nearest(self, vector: Vector, effort: int = ALONE, least: float = -1.0) -> list[tuple[float, str]]:
        """Return up to `NEAREST` (cosine, id) of the index, and as many of the rows not in it, and not found there.

        In any order. Of the latter two only the nearest one may be further than `least`. `effort` is hnswlib's ef.
        """
        found = self._by_index(vector, effort) if self._reachable else []
        if self.indexed < len(self.ids):
            found += self._by_row(vector, least)
        found += self._lost.nearest(vector, least)
        return [(cosine, id_) for cosine, row in found if (id_ := self.ids[row]) is not None]

    def index_step(self) -> bool:
        """Add up to `STEP` rows to the index, which is begun on the first call. False if there is no hnswlib."""
        if self._index is None and not self._begin_index():
            return False
        end = min(self.indexed + STEP, len(self.ids))
        rows = [row for row in range(self.indexed, end) if self.ids[row] is not None]
        if rows:
            self._index.add_items(self._matrix[np.array(rows) - self._first], rows, num_threads=1)
            self._reachable += len(rows)
        self.indexed = end
        if end == len(self.ids):
            self._matrix, self._first = np.zeros((_FIRST_ROWS, self._dimensions), np.float32), end
        return True

    def check_step(self) -> None:
        """Look for some rows of the index with their own vectors. What it does not find is searched beside it.

        Of vectors that are all about as much alike, hnswlib's rule links each with the same few, and those with it no
        more: it is never reached. Rows that come later can cut one off, so those of a full index are looked for again.
        """
        end = min(self._checked + CHECKED, self.indexed)
        for row in range(self._checked, end):
            if self.ids[row] is not None and not self._is_found(row):
                self._lost.add(row, self.vector(row))
        self._checked = end
        if end == self.room and not self._is_checked_again:
            self._is_checked_again = True
            self._lost, self._checked = Lost(self._dimensions, most_lost(self.room)), 0

    def state(self) -> State:
        """Return a copy of the index, to be saved."""
        (state,) = self._index.__getstate__()
        return dict(state)

    def _make_room(self, row: int) -> None:
        """Make room in the matrix for this row and more. The system gives memory for a row only once it is written."""
        kept = row - self.indexed
        grown: Vector = np.zeros(
            (min(self.room - self.indexed, kept + max(kept // 4, _FIRST_ROWS)), self._dimensions), np.float32
        )
        grown[:kept] = self._matrix[self.indexed - self._first : row - self._first]
        self._matrix, self._first = grown, self.indexed

    def _is_found(self, row: int) -> bool:
        vector = self.vector(row)
        least = float(vector @ vector) - _NEARLY
        return any(found == row or cosine >= least for cosine, found in self._by_index(vector, TOGETHER))

    def _begin_index(self) -> bool:
        try:
            hnswlib = _hnswlib()
        except ImportError:
            _warn_once()
            return False
        self._index = hnswlib.Index(space="ip", dim=self._dimensions)
        self._index.init_index(max_elements=self.room, M=_LINKS, ef_construction=_EF_BUILD)
        self.indexed = 0
        return True

    def _by_row(self, vector: Vector, least: float) -> list[tuple[float, int]]:
        rows = self._matrix[self.indexed - self._first : len(self.ids) - self._first]
        return [(cosine, self.indexed + at) for cosine, at in _best(rows @ vector, least)]

    def _by_index(self, vector: Vector, effort: int) -> list[tuple[float, int]]:
        self._index.set_ef(effort)
        for count in (NEAREST, _FEW):
            try:
                labels, distances = self._index.knn_query(vector, k=min(count, self._reachable), num_threads=1)
            except RuntimeError:  # it has reached fewer that are not removed
                continue
            return [
                (1.0 - float(distance), int(label)) for label, distance in zip(labels[0], distances[0], strict=True)
            ]
        return []


def most_lost(room: int) -> int:
    """Return how many rows that its index does not find a segment with that room searches one by one, at most."""
    return max(LOST, room // PART_LOST)


def _best(cosines: Vector, least: float) -> list[tuple[float, int]]:
    """Return the greatest of some cosines, each with its place: up to `NEAREST` that reach `least`, or the greatest."""
    (best,) = np.nonzero(cosines >= least)
    if len(best) > NEAREST:
        best = best[np.argpartition(-cosines[best], NEAREST)[:NEAREST]]
    elif not len(best):
        best = np.array([cosines.argmax()])
    return list(zip(cosines[best].tolist(), best.tolist(), strict=True))


def room_for(entries: int) -> int:
    """Return the rows of each segment of a scope with so many entries."""
    return ROWS if entries <= MANY * ROWS else LARGER * ROWS


def _hnswlib() -> Any:
    import hnswlib  # noqa: PLC0415 - compiled and large; most scopes stay too small for an index

    return hnswlib


_warned: set[str] = set()


def _warn_once() -> None:
    if not _warned:
        _warned.add("hnswlib")
        log.get().warning("hnswlib cannot be imported; large scopes are searched row by row, which is slow")
