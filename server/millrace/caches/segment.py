"""Some thousands of vectors of a scope: a matrix that is searched exactly, then an hnswlib index.

A scope is made of segments, so nothing takes longer than the work on one of them: an index begins with room for all
rows and never grows, is saved and loaded by itself, and a sparse one is emptied into the segment that is being filled.
Not thread-safe: hnswlib's query and add must not run concurrently.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace import log

ROWS = 32_768  # at most; an index of so many is copied in some 10 ms
NEAREST = 32  # rows that a search returns, at most
STEP = 8  # rows added to an index per step: about 4 ms, which a lookup may have to wait
SPARSE = 0.25  # of all rows; when more are removed, a segment is emptied

_FIRST_ROWS = 16
_FEW = 4  # rows to look for where an index does not reach more
_LINKS, _EF_BUILD = 16, 100  # hnswlib's M and ef
ALONE, TOGETHER = 100, 48  # ef of a search: in the only segment, and in one of several, which find more together
_LINK_BYTES = 4 * (2 * _LINKS + 1) + 40  # in the index, of a row beside its vector, about
_ROW_BYTES = 24  # of a row beside its vector

Vector = NDArray[np.float32]
State = dict[str, Any]  # of an index: numbers and arrays


class Segment:
    """Vectors by row. A row is its label in the index too; it is never used again."""

    def __init__(self, dimensions: int) -> None:
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

    @classmethod
    def restored(cls, state: State, ids: list[str | None], dimensions: int) -> "Segment":
        """Return one as it was saved. Raises whatever hnswlib raises; the state must be exactly what was saved."""
        segment = cls(dimensions)
        segment._index = _hnswlib().Index(state)
        segment.ids = ids
        segment.live = segment._reachable = len(ids) - ids.count(None)
        segment.indexed = segment.saved = segment._first = len(ids)
        return segment

    @property
    def rows(self) -> int:
        """Rows in use, those that were removed included."""
        return len(self.ids)

    @property
    def is_full(self) -> bool:
        """Whether no row can be added."""
        return len(self.ids) >= ROWS

    @property
    def is_sparse(self) -> bool:
        """Whether so many rows are removed that the others should move to another segment."""
        return len(self.ids) - self.live > SPARSE * len(self.ids)

    @property
    def is_indexed(self) -> bool:
        """Whether all rows are in the index."""
        return self._index is not None and self.indexed == len(self.ids)

    @property
    def has_index(self) -> bool:
        """Whether its index has been begun."""
        return self._index is not None

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        vector = 4 * self._dimensions
        return (
            (len(self.ids) - self._first) * vector + self.indexed * (vector + _LINK_BYTES) + len(self.ids) * _ROW_BYTES
        )

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
        else:
            self._matrix[row - self._first] = 0  # cosine 0 with every question

    def vector(self, row: int) -> Vector:
        """Return the vector of a row that is not removed."""
        if row < self.indexed:
            return np.asarray(self._index.get_items([row])[0], np.float32)
        return np.array(self._matrix[row - self._first])

    def nearest(self, vector: Vector, effort: int = ALONE) -> list[tuple[float, str]]:
        """Return up to `NEAREST` (cosine, id) of the indexed rows and as many of the others, in any order.

        `effort` is hnswlib's ef.
        """
        found = self._by_index(vector, effort) if self._reachable else []
        if self.indexed < len(self.ids):
            found += self._by_row(vector)
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

    def state(self) -> State:
        """Return a copy of the index, to be saved."""
        (state,) = self._index.__getstate__()
        return dict(state)

    def _make_room(self, row: int) -> None:
        """Make room in the matrix for this row and more. The system gives memory for a row only once it is written."""
        kept = row - self.indexed
        grown: Vector = np.zeros(
            (min(ROWS - self.indexed, kept + max(kept // 4, _FIRST_ROWS)), self._dimensions), np.float32
        )
        grown[:kept] = self._matrix[self.indexed - self._first : row - self._first]
        self._matrix, self._first = grown, self.indexed

    def _begin_index(self) -> bool:
        try:
            hnswlib = _hnswlib()
        except ImportError:
            _warn_once()
            return False
        self._index = hnswlib.Index(space="ip", dim=self._dimensions)
        self._index.init_index(max_elements=ROWS, M=_LINKS, ef_construction=_EF_BUILD)
        self.indexed = 0
        return True

    def _by_row(self, vector: Vector) -> list[tuple[float, int]]:
        cosines = self._matrix[self.indexed - self._first : len(self.ids) - self._first] @ vector
        best = np.argpartition(-cosines, NEAREST)[:NEAREST] if len(cosines) > NEAREST else np.arange(len(cosines))
        return [(float(cosines[row]), self.indexed + int(row)) for row in best]

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


def _hnswlib() -> Any:
    import hnswlib  # noqa: PLC0415 - compiled and large; most scopes stay too small for an index

    return hnswlib


_warned: set[str] = set()


def _warn_once() -> None:
    if not _warned:
        _warned.add("hnswlib")
        log.get().warning("hnswlib cannot be imported; large scopes are searched row by row, which is slow")
