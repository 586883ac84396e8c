"""The interfaces between the funnel and its adapters. Only `assembly` knows which adapter implements which."""

import asyncio
import math
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from millrace.memory import Hold
from millrace.principal import Key, Principal
from millrace.types import (
    Answer,
    Answered,
    Aside,
    Call,
    Change,
    Decision,
    Deleted,
    Embedded,
    Entry,
    Feedback,
    Finish,
    Judged,
    KeptAnswer,
    Lesson,
    Lever,
    NearEntry,
    Request,
    Says,
    SemanticHit,
    SemanticMiss,
    Served,
    Steering,
    StoredAnswer,
    StoredResponse,
    Strategy,
    TenantCache,
    Usage,
)

if TYPE_CHECKING:  # only the caches load numpy
    import numpy as np
    from numpy.typing import NDArray

Clock = Callable[[], float]  # seconds
Sink = Callable[[list[str]], None]  # receives the text deltas of one read; must not raise


class Attempt(Protocol):
    """One upstream call that is being read. Text deltas go to `sink` and other deltas to `aside`, synchronously."""

    sink: Sink
    aside: Callable[[Aside], None]  # receives one delta that is not text, in order with the text; must not raise
    done: asyncio.Future[Finish]  # fails with UpstreamError
    parts: list[str]  # all text deltas so far
    asides: list[Aside]  # all other deltas so far
    sent: bool  # the request has been sent; before that the provider charges nothing
    usage: Usage | None  # as the provider reported it at the end; None until then
    notes: tuple[str, ...]  # how the call differs from what was asked
    retried_after: str  # why it was tried once more; empty if it was not

    @property
    def input_usage(self) -> Usage | None:
        """The input as the provider has reported it, which some do at the beginning; None until then."""
        ...

    @property
    def service_tier(self) -> str:
        """The service tier that the provider reports, until then the one asked for; empty where nobody names one."""
        ...

    def abort(self) -> None:
        """Close the socket at once and cancel `done`, if the call has not ended. Idempotent.

        Must not wait: the socket is closed within 250 ms of a cancel (PROTOCOL.md, What always holds, 7).
        """
        ...

    def pause(self) -> None:
        """Stop reading until `resume`."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...


class Upstream(Protocol):
    """The API of a model provider."""

    def open(self, call: Call) -> Attempt:
        """Start a call. Returns at once; `sink` is not called before the caller next awaits."""
        ...


class EmbeddingsCall(Protocol):
    """One call for embeddings."""

    sent: bool  # the request has been sent; before that the provider charges nothing
    done: asyncio.Future[Embedded]  # fails with UpstreamError; cancelling it closes the socket


class EmbeddingsUpstream(Protocol):
    """The API of a provider of embeddings."""

    def open(self, body: bytes, held: Hold) -> EmbeddingsCall:
        """Start a call with a body in the provider's form. What it has read is counted in `held`."""
        ...


class Database(Protocol):
    """One SQLite file that caches and stores share. Writes are queued; lookups wait for none of them."""

    def write(
        self,
        operation: Callable[[sqlite3.Connection], Any],
        size: int = 0,
        *,
        droppable: bool = False,
        on_written: Callable[[], object] | None = None,
    ) -> bool:
        """Queue an operation that writes about `size` bytes. Never waits. False if it was dropped, being droppable.

        `on_written` is called once it is committed, on another thread.
        """
        ...

    async def commit(self, operation: Callable[[sqlite3.Connection], Any], *, within_s: float) -> Any:
        """Run an operation after all that are queued; return its result once it is committed, or raise its error.

        Raises `TimeoutError` if it takes too long; then it is not done, unless it had begun.
        """
        ...

    async def read(self, operation: Callable[[sqlite3.Connection], Any], *, within_s: float) -> Any:
        """Look something up in what is committed. Raises `TimeoutError` if it takes too long."""
        ...

    def scan(self, operation: Callable[[sqlite3.Connection], Any], *, within_s: float) -> Any:
        """Read many rows. Blocks, so never call it on the loop. Raises `TimeoutError` if it takes too long."""
        ...


class Backlog(Protocol):
    """What waits to be written."""

    @property
    def queued(self) -> int:
        """The number of writes that wait."""
        ...

    @property
    def queued_bytes(self) -> int:
        """The bytes of all writes that wait, about."""
        ...

    @property
    def oldest_s(self) -> float:
        """For how many seconds the first write has waited; 0 if none waits."""
        ...

    @property
    def dropped(self) -> int:
        """The number of writes of caches that were dropped, because too much waited."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no new request should be taken."""
        ...


class Claim(Protocol):
    """The right of one process to serve a data_dir."""

    def release(self) -> None:
        """Let another process serve. Idempotent."""
        ...


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


class AskAgain(Protocol):
    """Has a request answered once more, at the operator's cost."""

    async def __call__(self, request: Request, strategy: Strategy | None = None) -> str | None:
        """Return the text of a new answer from a model, by another strategy if one is given.

        None if there is no money for it, or no whole answer.
        """
        ...


class AnswerJudge(Protocol):
    """Tells whether two answers to one question say the same."""

    name: str

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Return whether either answer does in place of the other. It may take long, raise, or never return."""
        ...


class EvidenceStore(Protocol):
    """Keeps what was judged, and how the levers were steered by it."""

    async def add(self, judged: Sequence[Judged], changes: Sequence[Change] = ()) -> None:
        """Store all of it or nothing; return once it is on disk. A sample that is stored already is left as it is.

        Raises `TimeoutError` if that takes too long; then nothing is stored.
        """
        ...

    async def judged(self, lever: Lever | None, since: float, most: int, tenant: str | None = None) -> list[Judged]:
        """Return what was judged last, of samples taken since then (Unix seconds), the oldest first."""
        ...

    async def steered(self) -> list[Change]:
        """Return the changes that are kept, the oldest first; the last one of a scope says how it is steered."""
        ...


class EndedRequests(Protocol):
    """How requests were answered, from the ledger."""

    async def answered(self, tenant: str, response_id: str) -> Answered | None:
        """Return where an answer came from and went; None if it has not ended. Raises `TimeoutError` if late."""
        ...


class FeedbackStore(Protocol):
    """Keeps what people say of responses."""

    async def has_feedback(self, tenant: str, response_id: str, key_id: str) -> bool:
        """Whether the key has said something of the response. Raises `TimeoutError` if late."""
        ...

    async def add_feedback(self, feedback: Feedback) -> bool:
        """Store it on disk; False if the key has said something already. Raises `TimeoutError` if nothing is stored."""
        ...


class DeletedEntries(Protocol):
    """What was deleted from the caches."""

    def covers(self, entry_id: str, stored_at: float, tenant: str, scope: bytes | None = None) -> bool:
        """Whether an entry was deleted, so that it must not be served. `scope` is None in the exact cache."""
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


class Archive(Protocol):
    """Responses of requests with `store: true`."""

    def store(self, response: StoredResponse) -> None:
        """Store a response. Never waits; the write to disk is queued."""
        ...

    async def find(self, tenant: str, response_id: str) -> StoredResponse | None:
        """Return a response of this tenant; None if it is not stored. Raises `overloaded` if the disk is late."""
        ...

    async def delete(self, tenant: str, response_id: str) -> bool:
        """Delete a response on disk; False if there was none. Raises `overloaded` if the disk is late."""
        ...


class KeyStore(Protocol):
    """Stores API keys. Other processes may add and revoke keys at any time."""

    async def load(self) -> list[Key]:
        """Return all keys, revoked ones included, oldest first. Returns the same list object if nothing has changed."""
        ...

    async def add(self, key: Key) -> None:
        """Store a new key; return when it is on disk."""
        ...

    async def revoke(self, key_id: str, at: float) -> bool:
        """Mark a key as revoked at Unix seconds; False if there is no such key or it was revoked before."""
        ...


class Admission(Protocol):
    """The reservation of an admitted request, until its cost is known."""

    limits_cost: bool  # dollars may run out while the request runs

    def reserve_more(self, cost: Decimal, tokens: int) -> Decimal:
        """Reserve up to `cost` dollars more, and the tokens that they buy; return the dollars that there were left."""
        ...

    def settle(self, cost: Decimal, tokens: int) -> None:
        """Replace the reservation by what was used, in dollars and tokens. Only the first call has an effect."""
        ...


class Limiter(Protocol):
    """Rate limits and budgets of keys."""

    def limits(self, principal: Principal) -> bool:
        """Whether anything is limited, so that what a request is likely to cost is of interest."""
        ...

    def admit(self, principal: Principal, likely_cost: Decimal, likely_tokens: int) -> Admission:
        """Reserve dollars and tokens for one request. The caller must settle the admission on every path.

        Raises `too_many_in_flight`, `rate_limit_exceeded` or `budget_exceeded`.
        """
        ...


SCHEMA_TURN_S = 5.0  # that a schema, or a text to be checked, waits for its turn at most


@dataclass(frozen=True, slots=True)
class SchemaReport:
    """What became of a schema when it was compiled."""

    error: str | None = None  # why no one can use it
    unchecked: tuple[str, ...] = ()  # paths within it of what is not checked here; "": the whole schema


class SchemaValidator(Protocol):
    """Compiles and applies JSON schemas of clients, off the event loop and within bounds of time and memory."""

    async def compile(self, schemas: Sequence[bytes], tenant: str) -> list[SchemaReport]:
        """Compile schemas, given as JSON; return a report on each. What takes or waits too long is not checked."""
        ...

    async def matches(self, text: str, schema: bytes | None, tenant: str) -> bool:
        """Whether a text is JSON that matches a schema; with None, whether it is JSON. False if it takes too long.

        If it waits too long, nothing is checked but that it is JSON.
        """
        ...


class Ledger(Protocol):
    """Stores bills. Rows are written in order, off the event loop."""

    def opened(self, entry: Entry) -> None:
        """Record that a request began, or that more is booked for it: what it counts as if the process dies."""
        ...

    @property
    def wants_progress(self) -> bool:
        """Whether another process counts what this one spends, so that `progressed` is of use."""
        ...

    def progressed(self, entry: Entry) -> None:
        """Record what an open request has cost so far."""
        ...

    def settled(self, entry: Entry) -> None:
        """Record how it ended and what it cost."""
        ...
