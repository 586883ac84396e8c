"""An embedder behind an OpenAI-compatible API, in place of what is installed here.

Vectors come over HTTP, so a text is prepared first, on the loop; `embed` then only looks. What several lookups and
stores want within `GATHER_S` goes in one request. What nobody waits for any more is not sent. After a failure nothing
is sent for `RETRY_S`, so that a provider that is down delays nothing.
"""

import asyncio
import base64
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from millrace import log
from millrace.errors import MillraceError, UpstreamError
from millrace.memory import Hold
from millrace.ports import EmbeddingsUpstream

GATHER_S = 0.003  # from the first text that waits until it is sent, with those that came meanwhile
MOST_TEXTS = 16  # in one request
MOST_CALLS = 4  # requests at once
MOST_WAITING = 1024  # texts
KEPT_BYTES = 8 * 2**20  # of vectors that may be asked for again: a store follows most lookups
RETRY_S = 5.0  # after a failure

Vector = NDArray[np.float32]


class EmbeddingError(RuntimeError):
    """A text has no vector now."""


class _Datum(msgspec.Struct):
    embedding: list[float] | str  # base64 of numbers in float32, where the provider prefers it
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Datum]


class RemoteEmbedder:
    """Implements `ports.Embedder` for texts that were prepared. All but `embed` is for the loop."""

    quick = False
    threshold = 0.5  # cosine; models differ, and the rest of the decision is made on what is found

    def __init__(
        self,
        upstream: EmbeddingsUpstream,
        hold: Callable[[], Hold],  # of what an answer takes while it is read
        *,
        base_url: str,
        model: str,
        dimensions: int,
        shortened: bool = False,  # whether the model is asked for vectors of that length
    ) -> None:
        self.name = f"{model}/{dimensions} at {base_url.rstrip('/')}"
        self.dimensions = dimensions
        self._upstream = upstream
        self._hold = hold
        self._body = {"model": model} | ({"dimensions": dimensions} if shortened else {})
        self._most_kept = max(MOST_TEXTS, KEPT_BYTES // (4 * dimensions))
        self._kept: OrderedDict[str, Vector] = OrderedDict()  # least recently wanted first
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._failed_at: float | None = None  # monotonic

    @property
    def bytes_used(self) -> int:
        """Bytes in memory, of the vectors that are kept."""
        return 4 * self.dimensions * len(self._kept)

    def embed(self, text: str) -> Vector:
        """Return the vector of a text that was prepared. Raises `EmbeddingError`. May be called on any thread."""
        vector = self._kept.get(text)
        if vector is None:
            raise EmbeddingError("it was not prepared, or too long ago")
        return vector

    async def prepare(self, text: str) -> None:
        """Have a text embedded. Raises `EmbeddingError`. Whoever waits too long is to cancel it."""
        if text in self._kept:
            self._kept.move_to_end(text)
            return
        if self._failed_at is not None and time.monotonic() - self._failed_at < RETRY_S:
            raise EmbeddingError("it failed a moment ago")
        if len(self._waiting) >= MOST_WAITING:
            raise EmbeddingError("too many texts wait")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(text, []).append(done)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._send)
        await done

    async def close(self) -> None:
        """End all calls; what waits fails."""
        if self._timer is not None:
            self._timer.cancel()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        _fail(self._waiting.values(), "closed")
        self._waiting.clear()

    def _send(self) -> None:
        """Send what is still waited for, as far as there may be more calls."""
        self._timer = None
        self._waiting = {text: these for text, these in self._waiting.items() if not all(each.done() for each in these)}
        while self._waiting and len(self._calls) < MOST_CALLS:
            texts = [*self._waiting][:MOST_TEXTS]
            call = asyncio.get_running_loop().create_task(self._call({text: self._waiting.pop(text) for text in texts}))
            self._calls.add(call)
            call.add_done_callback(self._on_called)

    def _on_called(self, call: "asyncio.Task[None]") -> None:
        self._calls.discard(call)
        if self._waiting and self._timer is None:
            self._send()

    async def _call(self, wanted: dict[str, list["asyncio.Future[None]"]]) -> None:
        """Embed texts, and tell those who wait. Whatever fails is their miss, and said once."""
        held = self._hold()
        texts = [*wanted]
        try:
            body = msgspec.json.encode(self._body | {"input": texts})
            embedded = await self._upstream.open(body, held).done
            vectors = await asyncio.to_thread(_vectors, embedded.pieces, len(texts), self.dimensions)
        except asyncio.CancelledError:
            _fail(wanted.values(), "closed")
            raise
        except (MillraceError, ValueError) as error:  # also where there is no memory for the answer
            self._failed_at = time.monotonic()
            cause = error.cause if isinstance(error, UpstreamError) else str(error)
            log.get().error("questions cannot be embedded", cause=cause, retry_s=RETRY_S)
            _fail(wanted.values(), "the embedder failed")
            return
        finally:
            held.close()
        self._failed_at = None
        self._kept |= zip(texts, vectors, strict=True)
        while len(self._kept) > self._most_kept:
            self._kept.popitem(last=False)
        for done in (each for these in wanted.values() for each in these):
            if not done.done():
                done.set_result(None)


def _fail(waiting: Iterable[list["asyncio.Future[None]"]], why: str) -> None:
    for done in (each for these in waiting for each in these):
        if not done.done():
            done.set_exception(EmbeddingError(why))


def _vectors(pieces: list[bytes], count: int, dimensions: int) -> list[Vector]:
    """Return unit vectors in the order of the texts. Raises `ValueError`, which quotes nothing."""
    try:
        data = msgspec.json.decode(b"".join(pieces), type=_Answer).data
    except msgspec.DecodeError:
        raise ValueError("the answer has no embeddings") from None
    if len(data) != count:
        raise ValueError(f"{len(data)} vectors came for {count} texts")
    if all(each.index is not None for each in data):
        data.sort(key=lambda each: each.index or 0)
    return [_unit(each.embedding, dimensions) for each in data]


def _unit(numbers: list[float] | str, dimensions: int) -> Vector:
    if isinstance(numbers, str):
        packed = base64.b64decode(numbers)
        if len(packed) % struct.calcsize("f"):
            raise ValueError("the answer has a vector that cannot be read")
        vector = np.frombuffer(packed, "<f4").astype(np.float64)
    else:
        vector = np.array(numbers, np.float64)
    if len(vector) != dimensions:
        raise ValueError(f"vectors have {len(vector)} numbers, not {dimensions}; correct [cache.embedder] dimensions")
    with np.errstate(over="ignore"):
        length = float(np.linalg.norm(vector))
    if not 0 < length < float("inf"):
        raise ValueError("the answer has a vector without a direction")
    return (vector / length).astype(np.float32)
