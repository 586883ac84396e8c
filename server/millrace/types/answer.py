"""An answer: its finish reason and usage, its stored forms, what a cache lookup returns, and the verdict on it."""

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from millrace.types.conversation import Api, Message
from millrace.types.evidence import NearAnswer
from millrace.types.model import Model


class Source(StrEnum):
    """Where the answer came from."""

    SMALL = "small"
    LARGE = "large"
    CACHE = "cache"


class CacheOutcome(StrEnum):
    """Whether a cache or a shared generation gave the answer."""

    MISS = "miss"
    EXACT = "exact"
    SEMANTIC = "semantic"
    JOINED = "joined"


class FinishReason(StrEnum):
    """Why a model stopped generating."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"


class Usage(Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one call. `input_tokens` includes those read from and written to the provider's cache.

    `cache_write_tokens` includes those written for an hour. `output_tokens` includes reasoning.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0  # read from the provider's cache
    cache_write_tokens: int = 0  # written to it
    cache_write_1h_tokens: int = 0  # written to be kept for an hour
    reasoning_tokens: int = 0
    estimated: bool = False  # counted by Millrace, not reported by the provider

    def minus(self, share: "Usage") -> "Usage":
        """Return what remains after `share` has been charged to another request."""
        if share == NO_USAGE:
            return self
        input_tokens = max(0, self.input_tokens - share.input_tokens)
        cached = max(0, self.cached_input_tokens - share.input_tokens)
        written = min(self.cache_write_tokens, input_tokens - cached)
        return replace(
            self,
            input_tokens=input_tokens,
            output_tokens=max(0, self.output_tokens - share.output_tokens),
            cached_input_tokens=cached,
            cache_write_tokens=written,
            cache_write_1h_tokens=min(self.cache_write_1h_tokens, written),
        )


NO_USAGE = Usage()


class Stop(Struct, frozen=True, kw_only=True, gc=False):
    """Why a model stopped, in the words of its API. A client of the same API is told the same."""

    api: Api
    reason: str
    sequence: str | None = None  # the stop sequence that it came to
    beside: dict[str, Any] = {}  # what the API says besides, by its own names


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The end of a stream as the provider reported it."""

    reason: FinishReason
    stop: Stop | None = field(default=None, compare=False)  # None: nothing beyond the reason
    refused: bool = False  # the provider marked the text as a refusal
    word: str = field(default="", compare=False)  # the provider's own, if it is not known
    guard: str = ""  # that ended it; empty: none did


class Failure(Struct, frozen=True, kw_only=True, gc=False):
    """Why a model did not answer. `message` names it and may repeat its provider's words, without the key."""

    model: str
    code: str
    message: str


def answer_id() -> str:
    """Return an id for an answer that is to be stored."""
    return f"ans_{secrets.token_hex(12)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer that may be stored. Both caches store it under its `id`, so that it is deleted from both."""

    text: str
    model: Model
    usage: Usage
    check: str | None  # the value of `millrace.check`
    reasoning: str = ""
    id: str = field(default_factory=answer_id, compare=False)

    def stored(self, at: float) -> "StoredAnswer":
        """Return it as a cache stores it; `at` in Unix seconds."""
        return StoredAnswer(
            text=self.text,
            model_id=self.model.id,
            usage=self.usage,
            check=self.check,
            stored_at=at,
            reasoning=self.reasoning,
            id=self.id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """An answer read from a cache. Its model may no longer be configured."""

    text: str
    model_id: str
    usage: Usage
    check: str | None
    stored_at: float  # Unix seconds
    reasoning: str = ""
    id: str = field(default="", compare=False)  # empty: stored by an earlier version


class Embedded(Struct, frozen=True, kw_only=True, gc=False):
    """A provider's answer to a request for embeddings, and the tokens that it reports, if it does."""

    pieces: list[bytes]  # as they came: it may have megabytes, and joining them would take its time
    input_tokens: int | None


class StoredResponse(Struct, frozen=True, kw_only=True, gc=False):
    """A response stored on disk, so that a later request can continue it."""

    id: str
    tenant: str
    conversation: tuple[Message, ...]  # up to and including its answer
    body: bytes  # the response object, as JSON


class SemanticHit(Struct, frozen=True, kw_only=True, gc=False):
    """A stored answer to the same question in other words."""

    answer: StoredAnswer
    age_s: float  # since the answer was stored
    near: NearAnswer  # the same, as it was weighed
    needed: float | None = None  # log odds that it needed

    @property
    def similarity(self) -> float:
        """The cosine."""
        return self.near.similarity

    @property
    def entry_id(self) -> str:
        """The id of the entry."""
        return self.near.entry_id


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticMiss:
    """Why no stored answer may be served. Clients see the reason."""

    reason: str
    similarity: float | None  # cosine of the nearest question; None if nothing was compared
    near: tuple[NearAnswer, ...] = ()  # that were compared, the likeliest first
    kind: str = field(default="", compare=False)  # the reason without a word of a question, for the ledger
    needed: float | None = None  # log odds that a hit needs; None: nothing was compared


PASSED = "passed"  # the value of `check` where checks ran and none failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of the checks on an answer; `check` names the one that failed."""

    check: str | None = None
    reason: str = ""  # why it failed, in a few words of ours; holds nothing that a client or a model wrote
    features: dict[str, float] = field(default_factory=dict, compare=False)  # of the answer, that can be learned from

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return self.check is None
