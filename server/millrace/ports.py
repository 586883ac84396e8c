"""What the funnel needs of the world, as protocols. Adapters implement them; only `assembly` knows which."""

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

# Before numpy is first imported, which is here: its vectors are small, and a BLAS with a thread for every core spends
# them on waiting for each other and for the loop's core: a burst of lookups took five times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from millrace.types import Answer, Call, Entry, Finish, SemanticHit, SemanticMiss, StoredAnswer, Usage

Clock = Callable[[], float]  # seconds
Sink = Callable[[list[str]], None]  # takes the text deltas of one read; must not raise


class Attempt(Protocol):
    """One upstream call being read. Its words go synchronously to `sink`; its end to `done`."""

    sink: Sink
    done: asyncio.Future[Finish]  # or UpstreamError
    parts: list[str]  # every text delta so far
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


class ExactCache(Protocol):
    """Answers by the key of the whole request."""

    def recall(self, key: bytes) -> StoredAnswer | None:
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


class Ledger(Protocol):
    """Where bills go. Rows are written behind, in order, never on the loop."""

    def opened(self, entry: Entry) -> None:
        """Note that a request began; what it may cost stands in the entry until it is settled."""
        ...

    def settled(self, entry: Entry) -> None:
        """Note how it ended."""
        ...
