"""The nouns of Millrace: frozen values, standard library only. Read this file first."""

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any


class Tier(StrEnum):
    """Which of the two models: the quick cheap one or the strong dear one."""

    SMALL = "small"
    LARGE = "large"


class Strategy(StrEnum):
    """How a request may fall through the models."""

    AUTO = "auto"
    CASCADE = "cascade"
    SMALL = "small"
    LARGE = "large"
    RACE = "race"
    HEDGE = "hedge"


class Delivery(StrEnum):
    """What a listener may see before the answer is accepted."""

    SPECULATE = "speculate"  # every word at once; words may be taken back
    PREFIX = "prefix"  # nothing until the beginning has been judged; then it stands
    COMMIT = "commit"  # nothing until the whole answer is accepted
    FINAL = "final"  # the accepted answer as one delta


class CacheMode(StrEnum):
    """What a request wants of the caches."""

    ON = "on"
    OFF = "off"
    REFRESH = "refresh"  # do not read, but write
    ONLY = "only"  # never call a model


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
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"


class Status(StrEnum):
    """How a response ended, or that it has not."""

    OPEN = "open"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"
    FAILED = "failed"
    KILLED = "killed"  # the process died; closed by the next start


class Outcome(StrEnum):
    """What became of one upstream call."""

    RUNNING = "running"
    ANSWERED = "answered"
    REVISED = "revised"  # its words were judged weak and taken back
    LOST = "lost"  # the other model won the race
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Dollars per million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None  # None: cached tokens cost what others do


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model as configured: what to call it, where it is weak or strong, what it costs."""

    tier: Tier
    id: str  # the provider's name for it
    address: str  # who serves it; a part of its identity in cache keys
    price: Price
    context_window: int  # tokens
    max_output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation: text parts, in order."""

    role: str  # system, user or assistant
    parts: tuple[str, ...]

    @property
    def text(self) -> str:
        """The parts as one text."""
        return "".join(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A declared form of the answer: any JSON object, or JSON after a schema."""

    kind: str  # json_object or json_schema
    name: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What is asked, whoever is going to answer."""

    messages: tuple[Message, ...]
    context: str = ""  # what belongs to the question, as it is sent before it
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None  # as asked; a model's own cap may be lower
    format: Format | None = None
    verbosity: str | None = None
    reasoning_effort: str | None = None

    @property
    def sent(self) -> tuple[Message, ...]:
        """The messages as they are sent: the context goes with the last question."""
        if not self.context:
            return self.messages
        at = max((at for at, message in enumerate(self.messages) if message.role == "user"), default=None)
        if at is None:
            return (*self.messages, Message(role="user", parts=(self.context,)))
        first, *rest = self.messages[at].parts or ("",)
        question = replace(self.messages[at], parts=(self.context + first, *rest))
        return (*self.messages[:at], question, *self.messages[at + 1 :])

    @property
    def size(self) -> int:
        """Characters of all its texts."""
        return sum(len(part) for message in self.messages for part in message.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One accepted `response.create`."""

    id: str
    tenant: str
    model: str  # as requested: auto, small, large or a configured name, aliases resolved
    strategy: Strategy
    delivery: Delivery
    cache: CacheMode
    prompt: Prompt
    metadata: dict[str, str]
    context: tuple[str, ...] = ()  # chunks, most relevant first
    context_budget: int | None = None  # tokens of context and history; None: the operator's
    input_tokens: int = 0  # of the prompt as it is sent, once it has been trimmed
    grace_ms: int | None = None
    hedge_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one upstream is asked: a prompt, for one model, under its cap."""

    model: Model
    prompt: Prompt

    @property
    def max_output_tokens(self) -> int:
        """The tighter of what was asked and what the model may."""
        asked = self.prompt.max_output_tokens
        return self.model.max_output_tokens if asked is None else min(asked, self.model.max_output_tokens)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """An answer as it comes back from a cache; its model may no longer be configured."""

    text: str
    model_id: str
    usage: Usage
    check: str | None
    stored_at: float  # Unix seconds


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the checks say of an answer; `check` names the one that failed."""

    check: str | None = None

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return self.check is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One upstream call on the bill, whatever became of it."""

    model: str
    tier: Tier
    usage: Usage
    cost: Decimal  # dollars, exact to 1e-9
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a request has used and cost until now."""

    usage: Usage  # of the answer shown
    cost: Decimal  # dollars, all calls
    saved: Decimal  # dollars against the large model alone; negative where the funnel cost more
    charges: tuple[Charge, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One settled row of the ledger."""

    request_id: str
    tenant: str
    opened_at: float  # Unix seconds
    status: Status
    source: Source | None
    cache: CacheOutcome
    strategy: Strategy
    check: str | None  # the check that failed, if one did
    code: str | None  # error code, or why the answer is incomplete
    statement: Statement
    ttft_ms: float | None
    latency_ms: float
    trimmed_tokens: int = 0  # cut from the prompt
