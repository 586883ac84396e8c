"""What is answered: its end, its usage, as it is stored and found again, and what the checks say of it."""

from dataclasses import dataclass, replace
from enum import StrEnum

from millrace.types.conversation import Message
from millrace.types.model import Model


class Source(StrEnum):
    """Who gave the answer."""

    SMALL = "small"
    LARGE = "large"
    CACHE = "cache"


class CacheOutcome(StrEnum):
    """How the caches took part."""

    MISS = "miss"
    EXACT = "exact"
    SEMANTIC = "semantic"
    JOINED = "joined"


class FinishReason(StrEnum):
    """Why a model stopped."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call; `input_tokens` includes the cached, `output_tokens` the reasoning."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    def less(self, share: "Usage") -> "Usage":
        """Return what is left when a share has been charged to someone else."""
        return replace(
            self,
            input_tokens=max(0, self.input_tokens - share.input_tokens),
            output_tokens=max(0, self.output_tokens - share.output_tokens),
            cached_input_tokens=max(0, self.cached_input_tokens - share.input_tokens),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """A provider's own end of a stream."""

    reason: FinishReason
    refused: bool = False  # the provider marked the words as a refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer, worth storing."""

    text: str
    model: Model
    usage: Usage
    check: str | None  # what `millrace.check` said of it
    reasoning: str = ""

    def stored(self, at: float) -> "StoredAnswer":
        """Return it as a cache keeps it; `at` in Unix seconds."""
        return StoredAnswer(
            text=self.text,
            model_id=self.model.id,
            usage=self.usage,
            check=self.check,
            stored_at=at,
            reasoning=self.reasoning,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """An answer as it comes back from a cache; its model may no longer be configured."""

    text: str
    model_id: str
    usage: Usage
    check: str | None
    stored_at: float  # Unix seconds
    reasoning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """A response that is kept on disk, for a later request to continue."""

    id: str
    tenant: str
    conversation: tuple[Message, ...]  # up to and with its answer
    body: bytes  # the response itself, as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticHit:
    """An answer to another wording of the same question."""

    answer: StoredAnswer
    similarity: float  # cosine
    entry_id: str
    question: str  # as it was worded then


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticMiss:
    """Why no stored answer may be served; fit to be shown to the asker."""

    reason: str
    similarity: float | None  # cosine of the nearest question; None where nothing was compared


PASSED = "passed"  # the value of `check` where checks ran and none failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the checks say of an answer; `check` names the one that failed."""

    check: str | None = None

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return self.check is None
