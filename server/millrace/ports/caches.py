"""Stored answers, how they are found, and what an operator does to them."""

import math
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple, Protocol

from millrace.types import (
    Answer,
    Decision,
    Deleted,
    KeptAnswer,
    Lesson,
    NearEntry,
    SemanticHit,
    SemanticMiss,
    Served,
    Steering,
    StoredAnswer,
    TenantCache,
)

if TYPE_CHECKING:  # only the caches load numpy
    import numpy as np
    from numpy.typing import NDArray


class ExactCache(Protocol):
    """Answers, found by the key of the whole request."""

    def peek(self, key: bytes) -> StoredAnswer | None:
        """Look in memory only: no I/O, takes microseconds."""
        ...

    async def find(self, key: bytes) -> StoredAnswer | None:
        """Look on disk too."""
        ...

    def store(self, key: bytes, tenant: str, answer: Answer) -> None:
        """Store an answer. Never waits; the write to disk is queued."""
        ...


class Embedder(Protocol):
    """Text -> a unit vector. Similar questions have similar vectors."""

    name: str  # vectors of two embedders cannot be compared
    dimensions: int
    quick: bool  # it takes some tenths of a millisecond once it is loaded, so it may run on the loop
    threshold: float  # lowest cosine of a candidate

    def embed(self, text: str) -> "NDArray[np.float32]":
        """Return a vector of unit length, shape (dimensions,). Blocks for part of a millisecond."""
        ...


class Aligner(Protocol):
    """Tells which of the candidates that an `Embedder` found are worth reading."""

    least: float  # alignment of a candidate

    def tokens(self, text: str) -> bytes:
        """Return what `align` needs of a text: some 30 bytes."""
        ...

    def align(self, asked: bytes, others: Sequence[bytes]) -> list[float]:
        """Return how well each of the others is aligned with the question, at most 1."""
        ...


class Likeness(NamedTuple):
    """How alike two questions are."""

    cosine: float
    log_odds: (
        float | None
    )  # that one answer does for both, by a network that reads both; None: they are too far apart to ask it


class Comparer(Protocol):
    """Tells better than an `Embedder` how similar questions are, but takes milliseconds, elsewhere."""

    name: str

    @property
    def is_starting(self) -> bool:
        """Whether the first answer takes a while longer."""
        ...

    def compare(self, question: str, others: Sequence[str], by: float = math.inf) -> "Future[list[Likeness]]":
        """Return how alike a question and each of the others are, or fail. Never blocks.

        It is not begun at `by` (monotonic) or later, but fails with `TimeoutError` then.
        """
        ...


class SemanticCache(Protocol):
    """Answers, found by the meaning of the question, within a scope."""

    async def find(self, scope: bytes, question: str, tenant: str = "") -> SemanticHit | SemanticMiss:
        """Return the nearest answer that passes every guard, or why there is none. The tenant is whose scope it is."""
        ...

    def store(self, scope: bytes, tenant: str, question: str, answer: Answer) -> None:
        """Store an answer. Never waits; the write to disk is queued."""
        ...


class Learner(Protocol):
    """A semantic cache that goes on learning which questions have one answer."""

    def teach(self, lessons: Sequence[Lesson]) -> None:
        """Learn from pairs that were judged. Never waits."""
        ...

    def steer(self, tenant: str, scope: bytes, steering: Steering) -> None:
        """Serve more or less freely from now on, in a scope; an empty one stands for new scopes of the tenant."""
        ...


class DeletedEntries(Protocol):
    """What was deleted from the caches."""

    def covers(self, entry_id: str, stored_at: float, tenant: str, scope: bytes | None = None) -> bool:
        """Whether an entry was deleted, so that it must not be served. `scope` is None in the exact cache."""
        ...


class ElsewhereDeleted(NamedTuple):
    """What another replica has deleted from the caches: one entry, or all that was stored until then."""

    at: float  # Unix seconds
    entry_id: str | None  # None: all
    tenant: str | None  # None: of all
    scope: bytes | None  # None: in all, and in the exact cache
    origin: str  # who told of it


class SharedEntry(NamedTuple):
    """An entry of the semantic cache, as replicas tell each other of it."""

    id: str
    scope: bytes
    tenant: str
    question: str
    answer: bytes  # JSON of a StoredAnswer
    blob: bytes  # the vector in float16, then the tokens
    stored_at: float  # Unix seconds


class SharedEntries(Protocol):
    """The entries on the disk of this replica. Its methods raise `TimeoutError` or `sqlite3.Error`."""

    made_by: str  # names all that vectors and tokens depend on; entries of another name cannot be compared

    async def untold(self) -> list[SharedEntry]:
        """Return some entries of which the other replicas are still to be told; none that was deleted."""
        ...

    async def told(self, entries: Sequence[SharedEntry]) -> None:
        """Note that the others were told of them."""
        ...

    async def tell_again(self, since: float) -> None:
        """Have the others told once more of what was stored here since then (Unix seconds)."""
        ...

    async def keep(self, entries: Sequence[SharedEntry]) -> None:
        """Keep what others have stored, as far as it may be served here. An older answer to a question is left out."""
        ...

    async def caught_up(self) -> None:
        """Return once more may be kept in bulk, so that lookups stay fast meanwhile; soon in any case."""
        ...

    async def numbers(self, since: float) -> Sequence[int]:
        """Return the numbers of all fresh entries stored, or come, since then, the newest first."""
        ...

    async def numbered(self, numbers: Sequence[int]) -> list[SharedEntry]:
        """Return the entries of these numbers that are still there."""
        ...


class HitCounts(Protocol):
    """How often the caches have answered, from the ledger."""

    async def served(self, since: float, tenant: str | None) -> dict[str, Served]:
        """Return the counts by tenant, of requests that were opened since then (Unix seconds)."""
        ...

    async def served_by(self, entry_id: str) -> int:
        """Return how many requests an entry has answered."""
        ...


class CacheControl(Protocol):
    """What an operator asks of the caches and does to them. `tenant`: only what is this tenant's."""

    async def stats(self, tenant: str | None = None) -> list[TenantCache]:
        """Return what the caches hold, by tenant."""
        ...

    async def search(
        self, text: str, *, tenant: str | None = None, scope: bytes = b"", most: int = 10
    ) -> list[NearEntry]:
        """Return the stored questions nearest to a text, those that would be served first.

        `scope` is the beginning of the digest of scopes. Nothing is searched for in the exact cache.
        """
        ...

    async def entry(self, entry_id: str, *, tenant: str | None = None) -> KeptAnswer | None:
        """Return a stored answer by its id in either cache; None if there is none."""
        ...

    async def delete(self, entry_ids: Sequence[str], *, tenant: str | None = None) -> Deleted:
        """Delete answers from both caches, also those that are still to be written. None of them is served again."""
        ...

    async def flush(self, *, tenant: str | None = None, scope: bytes | None = None) -> Deleted:
        """Delete all that is stored until now, of one tenant or in one scope if these are given."""
        ...

    async def count(self, *, tenant: str | None = None, scope: bytes | None = None) -> Deleted:
        """Return how many entries `flush` would delete."""
        ...

    async def why(self, stored: str, asked: str) -> Decision:
        """Return what the decision says of two questions."""
        ...
