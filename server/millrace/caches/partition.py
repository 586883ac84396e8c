"""The entries of one scope in memory: a matrix that is searched exactly and, above some size, an hnswlib index.

Not thread-safe: hnswlib's query and add must not run concurrently, so one thread owns every partition. The index
takes rows in small steps; rows that are not in it yet are searched in the matrix.
"""

from collections.abc import Collection
from dataclasses import dataclass
from sys import getsizeof
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace import log

NEAREST = 32  # rows that a search returns, at most
STEP = 8  # rows added to an index per step: about 4 ms, which a lookup may have to wait

_DELETED_SHARE = 0.25  # of all rows; above it the partition is compacted
_FIRST_ROWS = 16
_LINKS, _EF_BUILD, _EF_SEARCH = 16, 100, 100  # hnswlib's M and ef

_ENTRY_BYTES = 500  # in memory, of an entry beside its texts and its vector
_LINK_BYTES = 4 * (2 * _LINKS + 1) + 40  # in the index, of a row beside its vector, about

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stored:
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
    """Entries by label. A label is a row of the matrix; it is not reused until compaction renumbers all rows."""

    def __init__(self, dimensions: int, index_above: int) -> None:
        self._matrix: Vector = np.zeros((_FIRST_ROWS, dimensions), np.float32)
        self._rows = 0
        self._entries: dict[int, Stored] = {}  # oldest first
        self._entries_bytes = 0
        self._labels: dict[str, int] = {}  # by question
        self._index_above = index_above
        self._index: Any = None
        self._indexed = 0  # rows before this one are in the index unless deleted
        self._matrix_only = False

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes in memory, about. Rows of removed entries count until compaction."""
        vector: int = self._matrix.shape[1] * self._matrix.itemsize
        indexed = 0 if self._index is None else self._indexed * (vector + _LINK_BYTES)
        return self._rows * vector + indexed + self._entries_bytes

    @property
    def unindexed(self) -> int:
        """Rows that each search looks at one by one."""
        return self._rows if self._index is None else self._rows - self._indexed

    @property
    def needs_catch_up(self) -> bool:
        """Whether rows are missing from the index, so that `catch_up` has work to do."""
        wanted = not self._matrix_only and (self._index is not None or len(self) > self._index_above)
        return wanted and self._indexed < self._rows

    def put(self, entry: Stored, vector: Vector) -> None:
        """Add an entry; it replaces one with the same question."""
        self.drop(entry.question)
        if self._rows == len(self._matrix):
            self._grow()
        self._matrix[self._rows] = vector
        self._entries[self._rows] = entry
        self._entries_bytes += entry.size
        self._labels[entry.question] = self._rows
        self._rows += 1

    def drop(self, question: str) -> None:
        """Remove the entry with this question, if there is one."""
        self._remove(question)
        self._compact_if_sparse()

    def expire(self, after: float) -> None:
        """Remove entries stored at `after` (Unix seconds) or before, which would take the place of fresh candidates."""
        while self._entries and (oldest := self.oldest()).stored_at <= after:
            self._remove(oldest.question)
        self._compact_if_sparse()  # once, after all removals

    def discard(self, ids: Collection[str]) -> None:
        """Remove the entries with these ids."""
        for entry in [entry for entry in self._entries.values() if entry.id in ids]:
            self._remove(entry.question)
        self._compact_if_sparse()

    def oldest(self) -> Stored:
        """Return the entry that was added first."""
        return next(iter(self._entries.values()))

    def nearest(self, vector: Vector) -> list[tuple[float, Stored]]:
        """Return up to `NEAREST` (cosine, entry), nearest first."""
        indexed = self._by_index(vector)
        found = self._by_row(vector, 0) if indexed is None else indexed + self._by_row(vector, self._indexed)
        live = [(cosine, self._entries[label]) for cosine, label in found if label in self._entries]
        return sorted(live, key=lambda pair: -pair[0])[:NEAREST]

    def catch_up(self) -> None:
        """Add up to `STEP` rows to the index, which is created on the first call."""
        if self._index is None and not self._start_index():
            return
        end = min(self._indexed + STEP, self._rows)
        labels = [label for label in range(self._indexed, end) if label in self._entries]
        if end > self._index.get_max_elements():
            self._index.resize_index(len(self._matrix))
        if labels:
            self._index.add_items(self._matrix[labels], labels, num_threads=1)
        self._indexed = end

    def _remove(self, question: str) -> None:
        label = self._labels.pop(question, None)
        if label is None:
            return
        self._entries_bytes -= self._entries.pop(label).size
        if label < self._indexed:
            self._index.mark_deleted(label)
        self._matrix[label] = 0  # cosine 0 with every question

    def _grow(self) -> None:
        """Make room for more rows. The system gives memory for a row only once it is written."""
        grown: Vector = np.zeros((self._rows + max(self._rows // 4, _FIRST_ROWS), self._matrix.shape[1]), np.float32)
        grown[: self._rows] = self._matrix
        self._matrix = grown

    def _compact_if_sparse(self) -> None:
        if self._rows - len(self) > _DELETED_SHARE * self._rows:
            self._compact()

    def _by_row(self, vector: Vector, begin: int) -> list[tuple[float, int]]:
        """Search all rows from `begin` on."""
        cosines = self._matrix[begin : self._rows] @ vector
        best = np.argpartition(-cosines, NEAREST)[:NEAREST] if len(cosines) > NEAREST else np.arange(len(cosines))
        return [(float(cosines[row]), begin + int(row)) for row in best]

    def _by_index(self, vector: Vector) -> list[tuple[float, int]] | None:
        """Search the indexed rows. None if the index cannot do it."""
        if self._index is None or self._indexed < 2 * NEAREST:  # of fewer, too many may be deleted
            return None
        try:
            labels, distances = self._index.knn_query(vector, k=NEAREST, num_threads=1)
        except RuntimeError:  # it reached fewer that are not deleted
            return None
        return [(1.0 - float(distance), int(label)) for label, distance in zip(labels[0], distances[0], strict=True)]

    def _start_index(self) -> bool:
        try:
            import hnswlib  # noqa: PLC0415 - compiled and large; most scopes stay too small for an index
        except ImportError:
            _warn_once()
            self._matrix_only = True
            return False
        self._index = hnswlib.Index(space="ip", dim=self._matrix.shape[1])
        self._index.init_index(max_elements=len(self._matrix), M=_LINKS, ef_construction=_EF_BUILD)
        self._index.set_ef(_EF_SEARCH)
        self._indexed = 0
        return True

    def _compact(self) -> None:
        """Drop deleted rows and start the index again, because hnswlib still visits deleted rows in every search."""
        live = list(self._entries)
        matrix = np.zeros((max(len(live), _FIRST_ROWS), self._matrix.shape[1]), np.float32)
        matrix[: len(live)] = self._matrix[live]
        self._matrix, self._rows = matrix, len(live)
        self._entries = dict(enumerate(self._entries.values()))
        self._labels = {entry.question: label for label, entry in self._entries.items()}
        self._index, self._indexed = None, 0


_warned: set[str] = set()


def _warn_once() -> None:
    if not _warned:
        _warned.add("hnswlib")
        log.get().warning("hnswlib cannot be imported; large scopes are searched row by row, which is slow")
