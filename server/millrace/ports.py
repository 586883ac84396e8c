"""What the funnel needs of the world, as protocols. Adapters implement them; only `assembly` knows which."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

# Before numpy is first imported, which is here: its vectors are small, and a BLAS with a thread for every core spends
# them on waiting for each other and for the loop's core: a burst of lookups took five times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from millrace.principal import Key, Principal
from millrace.types import (
    Answer,
    Aside,
    Call,
    Entry,
    Finish,
    SemanticHit,
    SemanticMiss,
    StoredAnswer,
    StoredResponse,
    Usage,
)

Clock = Callable[[], float]  # seconds
Sink = Callable[[list[str]], None]  # takes the text deltas of one read; must not raise


class Attempt(Protocol):
    """One upstream call being read. Its words go synchronously to `sink`; its end to `done`."""

    sink: Sink
    aside: Callable[[Aside], None]  # takes what is not text, in order with it; must not raise
    done: asyncio.Future[Finish]  # or UpstreamError
    parts: list[str]  # every text delta so far
    asides: list[Aside]  # everything else it has said so far
    sent: bool  # the request has left; before that nothing can be charged
    usage: Usage | None  # as the provider reported it with the end

    def abort(self) -> None:
        """Close the socket at once, if it is still open; `done` is cancelled. Idempotent."""
        ...

    def pause(self) -> None:
        """Read no further until `resume`."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...


class Upstream(Protocol):
    """A provider's API."""

    def open(self, call: Call) -> Attempt:
        """Start a call. Returns at once; nothing reaches the sink before the caller next awaits."""
        ...


class Database(Protocol):
    """One SQLite file that caches and stores share. Operations run in their order, on a thread of its own."""

    def write(self, operation: Callable[[sqlite3.Connection], Any]) -> None:
        """Do this soon; never waits. A failure is logged."""
        ...

    async def read(self, operation: Callable[[sqlite3.Connection], Any]) -> Any:
        """Return what the operation returns, after all that was written before."""
        ...


class ExactCache(Protocol):
    """Answers by the key of the whole request."""

    def peek(self, key: bytes) -> StoredAnswer | None:
        """Look in memory only: no I/O, microseconds."""
        ...

    async def find(self, key: bytes) -> StoredAnswer | None:
        """Look further than memory."""
        ...

    def store(self, key: bytes, tenant: str, answer: Answer) -> None:
        """Remember; written behind, never waits."""
        ...


class Embedder(Protocol):
    """Text -> a direction; near questions point the same way."""

    name: str  # part of every scope
    dimensions: int
    strict: bool  # it may only serve under the strict guards
    threshold: float  # cosine under which nothing is a candidate

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return unit length, shape (dimensions,). Blocks for milliseconds: never call it on the loop."""
        ...


class SemanticCache(Protocol):
    """Answers by what was meant, within a scope."""

    async def find(self, scope: bytes, question: str) -> SemanticHit | SemanticMiss:
        """Return the nearest answer on which every guard agrees, or why there is none."""
        ...

    def store(self, scope: bytes, tenant: str, question: str, answer: Answer) -> None:
        """Remember; written behind, never waits."""
        ...


class Archive(Protocol):
    """Responses that their requests wanted stored."""

    def store(self, response: StoredResponse) -> None:
        """Keep; written behind, never waits."""
        ...

    async def find(self, tenant: str, response_id: str) -> StoredResponse | None:
        """Return a tenant's response, if it is still kept."""
        ...

    async def delete(self, tenant: str, response_id: str) -> bool:
        """Keep it no longer; False where there was none."""
        ...


class KeyStore(Protocol):
    """Where keys are kept. Other processes add and revoke while this one runs."""

    async def load(self) -> list[Key]:
        """Return every key, the revoked too, oldest first; the same list again where nothing has changed."""
        ...

    async def add(self, key: Key) -> None:
        """Keep a new key; return when it is on disk."""
        ...

    async def revoke(self, key_id: str, at: float) -> bool:
        """Mark a key as revoked, at Unix seconds; False where there is no such key that was good until now."""
        ...


class Admission(Protocol):
    """A request that was let through, until what it came to is known."""

    def settle(self, cost: Decimal, tokens: int) -> None:
        """Book dollars and tokens in place of what was reserved. Only the first call counts."""
        ...


class Limiter(Protocol):
    """How much a key may do."""

    def admit(self, principal: Principal, likely_cost: Decimal, likely_tokens: int) -> Admission:
        """Reserve dollars and tokens for one request; whoever gets an admission settles it on every way out.

        Raises `too_many_in_flight`, `rate_limit_exceeded` or `budget_exceeded`.
        """
        ...


class Ledger(Protocol):
    """Where bills go. Rows are written behind, in order, never on the loop."""

    def opened(self, entry: Entry) -> None:
        """Note that a request began; what it may cost stands in the entry until it is settled."""
        ...

    def settled(self, entry: Entry) -> None:
        """Note how it ended."""
        ...
