"""The facts of a response: what its log holds, in order.

A text delta is a plain `str`, any other fact a small frozen value, so that no object is made per token.
"""

from collections.abc import Iterable, Iterator
from sys import getsizeof
from typing import overload

from msgspec import Struct
from msgspec.structs import replace

from millrace.errors import MillraceError
from millrace.types import (
    Aside,
    CacheOutcome,
    CallPiece,
    Failure,
    OwnFields,
    Refusal,
    Request,
    Scored,
    Sealed,
    SemanticHit,
    Source,
    Statement,
    Status,
    Stop,
    StoredAnswer,
    Strategy,
    Thought,
    Tier,
)
from millrace.types.conversation import memory_bytes_of

# Bytes, about; a test holds what is counted of a run against what Python allocates.
FACT_SIZE = 150  # a fact, beside its text
SLOT_SIZE = 8  # a place in a list


class Started(Struct, frozen=True):
    """The request runs."""


class Routed(Struct, frozen=True, kw_only=True, tag=True):
    """Which model or cache is going to answer, and why."""

    strategy: Strategy
    model: str
    reason: str
    tier: Tier | None = None
    cache: CacheOutcome = CacheOutcome.MISS
    shown: str = ""  # what the router saw; may repeat words of the question
    missed: str = ""  # why the semantic cache did not answer; may repeat words of the question
    trimmed_tokens: int = 0  # cut from the prompt
    max_output_tokens: int | None = None  # the operator's cap of the model's answer, if no other one is lower
    score: float | None = None  # the router's
    age_s: float | None = None
    similarity: float | None = None
    entry_id: str | None = None  # of the stored answer
    failed: tuple[Failure, ...] = ()  # models that were asked before, or are not asked now, because they failed

    @classmethod
    def cached(
        cls,
        request: Request,
        stored: StoredAnswer,
        cache: CacheOutcome,
        reason: str,
        now: float,
        hit: SemanticHit | None,
    ) -> "Routed":
        """Return the fact for a cache hit; `now` in Unix seconds, `hit` if it came from the semantic cache."""
        return cls(
            strategy=request.strategy,
            model=stored.model_id,
            reason=reason,
            cache=cache,
            trimmed_tokens=request.trimmed_tokens,
            age_s=max(0.0, now - stored.stored_at),
            similarity=hit.similarity if hit else None,
            entry_id=hit.entry_id if hit else stored.id or None,
        )

    @property
    def explanation(self) -> str:
        """The reason, and why the semantic cache did not answer."""
        said = f"{self.reason} ({self.shown})" if self.shown else self.reason
        return f"{said}; cache: {self.missed}" if self.missed else said

    def joined(self) -> "Routed":
        """Return the fact for a request that joined a flight."""
        return replace(self, cache=CacheOutcome.JOINED)


class Revised(Struct, frozen=True, kw_only=True, tag=True):
    """All text so far is taken back; that of another model follows."""

    from_model: str
    to_model: str
    reason: str


class Committed(Struct, frozen=True, tag=True):
    """All text since the last `Revised`, and all later text, is final."""


class Metered(Struct, frozen=True):
    """What the response has used and cost so far."""

    statement: Statement


class Ended(Struct, frozen=True, kw_only=True):
    """How the response ended. The last fact."""

    status: Status
    reason: str | None = None  # why it is incomplete
    stop: Stop | None = None  # why the model stopped, where its API has a word for it
    error: MillraceError | None = None
    model: str | None = None  # of the answer shown
    source: Source | None = None
    cache: CacheOutcome = CacheOutcome.MISS
    check: str | None = None  # `PASSED`, or the check that failed; None: nothing was judged
    entry_id: str | None = None  # of the stored answer that a cache gave
    age_s: float | None = None  # of that answer
    stored_id: str = ""  # of this answer, if it may have gone into the caches
    trimmed_tokens: int = 0  # cut from the prompt
    failed: tuple[Failure, ...] = ()  # models that failed before another one was asked
    statement: Statement

    @property
    def accepted(self) -> bool:
        """Whether the text shown is the answer, even if a cap cut it."""
        return self.status is Status.COMPLETED or (self.status is Status.INCOMPLETE and self.error is None)


Fact = Started | Routed | Revised | Committed | Metered | Ended | Aside


@overload
def grouped(facts: Iterable[Aside | str]) -> Iterator[Aside | list[str]]: ...


@overload
def grouped(facts: Iterable[Fact | str]) -> Iterator[Fact | list[str]]: ...


def grouped(facts: Iterable[Fact | str]) -> Iterator[Fact | list[str]]:
    """Yield facts in order, with adjacent text deltas as one list."""
    texts: list[str] = []
    for fact in facts:
        if isinstance(fact, str):
            texts.append(fact)
            continue
        if texts:
            yield texts
            texts = []
        yield fact
    if texts:
        yield texts


def sizes_of(facts: Iterable[Fact | str]) -> int:
    """Return the bytes of facts, about."""
    texts: list[str] = []
    size = 0
    for fact in facts:
        if type(fact) is str:  # nearly all are
            texts.append(fact)
        else:
            size += _size_of(fact)
    return size + SLOT_SIZE * len(texts) + sum(map(getsizeof, texts))


def _size_of(fact: Fact | str) -> int:
    match fact:
        case str():
            return SLOT_SIZE + getsizeof(fact) + (getsizeof(fact.scores) if isinstance(fact, Scored) else 0)
        case Thought() | Refusal():
            return FACT_SIZE + getsizeof(fact.text)
        case CallPiece():
            return FACT_SIZE + getsizeof(fact.arguments) + memory_bytes_of(fact.own_fields)
        case OwnFields() | Sealed():
            return FACT_SIZE + memory_bytes_of(fact.fields)
        case Routed():
            return FACT_SIZE + sum(getsizeof(failure.message) for failure in fact.failed)
    return FACT_SIZE
