"""One scope in memory: a matrix searched exactly, and above some size an hnswlib index that catches up with it.

Not thread-safe, on purpose: hnswlib's query and add must not overlap, so one thread owns every partition.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace import log

CANDIDATES = 4  # the true partner is among the first four in 96 of 100, the first in 83 (anchors/semantic-cache.md)
STEP = 32  # rows an index takes in at once: some 15 ms

_DEAD_SHARE = 0.25  # of all rows; above it the partition is packed
_FIRST_ROWS = 16
_LINKS, _EF_BUILD, _EF_SEARCH = 16, 100, 100  # hnswlib's M and ef; recall@1 .998 at 100,000 rows

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as it is kept in memory."""

    id: str
    question: str
    answer: bytes  # JSON of a StoredAnswer; read when it is served
    stored_at: float  # Unix seconds


class Partition:
    """Entries by label. A label is a row of the matrix; it is never used twice, only given up when rows are packed."""

    def __init__(self, dimensions: int, index_above: int) -> None:
        self._matrix: Vector = np.zeros((_FIRST_ROWS, dimensions), np.float32)
        self._rows = 0
        self._entries: dict[int, Stored] = {}  # oldest first
        self._labels: dict[str, int] = {}  # by question
        self._index_above = index_above
        self._index: Any = None
        self._indexed = 0  # rows before this one are in the index, if alive
        self._matrix_only = False

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_behind(self) -> bool:
        """Whether `catch_up` has something to do."""
        wanted = not self._matrix_only and (self._index is not None or len(self) > self._index_above)
        return wanted and self._indexed < self._rows

    def put(self, entry: Stored, vector: Vector) -> None:
        """Add an entry; an older one of the same question goes."""
        self.drop(entry.question)
        if self._rows == len(self._matrix):
            self._matrix = np.concatenate([self._matrix, np.zeros_like(self._matrix)])
        self._matrix[self._rows] = vector
        self._entries[self._rows] = entry
        self._labels[entry.question] = self._rows
        self._rows += 1

    def drop(self, question: str) -> None:
        """Remove the entry of this question, if there is one."""
        self._kill(question)
        self._pack_if_sparse()

    def expire(self, after: float) -> None:
        """Remove what was stored at `after` or before; they would stand among the nearest in place of fresh ones."""
        while self._entries and (oldest := self.oldest()).stored_at <= after:
            self._kill(oldest.question)
        self._pack_if_sparse()  # once, however many went

    def oldest(self) -> Stored:
        """Return the entry that was put first."""
        return next(iter(self._entries.values()))

    def nearest(self, vector: Vector) -> list[tuple[float, Stored]]:
        """Return up to four (cosine, entry), nearest first."""
        found = self._by_index(vector) + self._by_matrix(vector)
        alive = [(cosine, self._entries[label]) for cosine, label in found if label in self._entries]
        return sorted(alive, key=lambda pair: -pair[0])[:CANDIDATES]

    def catch_up(self) -> None:
        """Take some rows into the index. Until all are in, the rest is searched exactly."""
        if self._index is None and not self._start_index():
            return
        end = min(self._indexed + STEP, self._rows)
        labels = [label for label in range(self._indexed, end) if label in self._entries]
        if end > self._index.get_max_elements():
            self._index.resize_index(len(self._matrix))
        if labels:
            self._index.add_items(self._matrix[labels], labels, num_threads=1)
        self._indexed = end

    def _kill(self, question: str) -> None:
        label = self._labels.pop(question, None)
        if label is None:
            return
        del self._entries[label]
        if label < self._indexed:
            self._index.mark_deleted(label)
        self._matrix[label] = 0  # no question is near it

    def _pack_if_sparse(self) -> None:
        if self._rows - len(self) > _DEAD_SHARE * self._rows:
            self._pack()

    def _by_matrix(self, vector: Vector) -> list[tuple[float, int]]:
        cosines = self._matrix[self._indexed : self._rows] @ vector
        best = np.argsort(-cosines)[:CANDIDATES] if len(cosines) <= CANDIDATES else _largest(cosines)
        return [(float(cosines[row]), self._indexed + int(row)) for row in best]

    def _by_index(self, vector: Vector) -> list[tuple[float, int]]:
        alive = sum(1 for label in self._entries if label < self._indexed) if self._indexed < CANDIDATES else CANDIDATES
        if self._index is None or not alive:
            return []
        try:
            labels, distances = self._index.knn_query(vector, k=min(alive, CANDIDATES), num_threads=1)
        except RuntimeError:  # too few reached, as among deleted ones: a miss
            return []
        return [(1.0 - float(distance), int(label)) for label, distance in zip(labels[0], distances[0], strict=True)]

    def _start_index(self) -> bool:
        try:
            import hnswlib  # noqa: PLC0415 - compiled and large; most scopes never need one
        except ImportError:
            _warn_once()
            self._matrix_only = True
            return False
        self._index = hnswlib.Index(space="ip", dim=self._matrix.shape[1])
        self._index.init_index(max_elements=len(self._matrix), M=_LINKS, ef_construction=_EF_BUILD)
        self._index.set_ef(_EF_SEARCH)
        self._indexed = 0
        return True

    def _pack(self) -> None:
        """Leave the dead rows behind. The index is begun anew: hnswlib goes on walking through what is deleted."""
        alive = list(self._entries)
        matrix = np.zeros((max(len(alive), _FIRST_ROWS), self._matrix.shape[1]), np.float32)
        matrix[: len(alive)] = self._matrix[alive]
        self._matrix, self._rows = matrix, len(alive)
        self._entries = dict(enumerate(self._entries.values()))
        self._labels = {entry.question: label for label, entry in self._entries.items()}
        self._index, self._indexed = None, 0


def _largest(cosines: Vector) -> NDArray[np.intp]:
    return np.argpartition(-cosines, CANDIDATES)[:CANDIDATES]


_warned: set[str] = set()


def _warn_once() -> None:
    if not _warned:
        _warned.add("hnswlib")
        log.get().warning("hnswlib cannot be imported; large scopes are searched row by row, which is slow")
