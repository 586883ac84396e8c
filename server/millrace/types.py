"""The nouns of Millrace: frozen values, standard library only. Read this file first."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
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


class OnDisconnect(StrEnum):
    """What becomes of a request whose last client has gone."""

    CANCEL = "cancel"
    DETACH = "detach"  # it goes on, for someone to resume


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
class Media:
    """A part that is no text; it is passed on as it came and never looked into."""

    kind: str  # image, file or audio
    fields: dict[str, str]  # image: url, detail; file: file_data, file_id, filename; audio: data, format


Part = str | Media


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function the model wants called."""

    id: str
    name: str
    arguments: str  # JSON, as the model wrote it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None  # a JSON schema
    strict: bool | None = None

    @property
    def size(self) -> int:
        """Characters of its name, description and schema."""
        schema = 0 if self.parameters is None else len(json.dumps(self.parameters))
        return len(self.name) + len(self.description or "") + schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation: its parts in order, and what an assistant's turn has beside them."""

    role: str  # system, user, assistant or tool
    parts: tuple[Part, ...] = ()
    calls: tuple[ToolCall, ...] = ()  # an assistant's
    call_id: str | None = None  # of a tool: which call this is the result of
    reasoning: str = ""  # an assistant's, as its provider showed it
    refusal: str = ""  # an assistant's

    @property
    def texts(self) -> tuple[str, ...]:
        """The parts that are text."""
        return tuple(part for part in self.parts if isinstance(part, str))

    @property
    def text(self) -> str:
        """The text of all parts as one."""
        return "".join(self.texts)

    @property
    def size(self) -> int:
        """Characters of all it says; media are not counted."""
        called = sum(len(call.name) + len(call.arguments) for call in self.calls)
        return sum(map(len, self.texts)) + called + len(self.reasoning) + len(self.refusal)


@dataclass(frozen=True, slots=True)
class Thought:
    """Some words of a model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Some words that the provider marked as a refusal."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPiece:
    """A tool call, or a piece of one: the first piece of an index brings id and name, all bring arguments."""

    index: int  # of the call within the answer
    id: str = ""
    name: str = ""
    arguments: str = ""


Aside = Thought | Refusal | CallPiece  # what a model says that is not the text of its answer


def reasoning_of(asides: Iterable[Aside]) -> str:
    """Return all the reasoning as one text."""
    return "".join(aside.text for aside in asides if isinstance(aside, Thought))


def refusal_of(asides: Iterable[Aside]) -> str:
    """Return the refusal as one text; empty where there is none."""
    return "".join(aside.text for aside in asides if isinstance(aside, Refusal))


def calls_of(asides: Iterable[Aside]) -> tuple[ToolCall, ...]:
    """Put the tool calls together, in the order of their index."""
    pieces: dict[int, list[CallPiece]] = {}
    for aside in asides:
        if isinstance(aside, CallPiece):
            pieces.setdefault(aside.index, []).append(aside)
    return tuple(
        ToolCall(
            id="".join(piece.id for piece in call),
            name="".join(piece.name for piece in call),
            arguments="".join(piece.arguments for piece in call),
        )
        for _, call in sorted(pieces.items())
    )


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
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None  # auto, none, required, or the name of a tool after "function:"
    parallel_tool_calls: bool | None = None
    extras: dict[str, Any] = field(default_factory=dict)  # passed on under their own names: stop, seed, logit_bias, ...
    _tools_size: int | None = field(default=None, init=False, repr=False, compare=False)  # once it was asked for

    @property
    def sent(self) -> tuple[Message, ...]:
        """The messages as they are sent: the context goes with the last question."""
        if not self.context:
            return self.messages
        at = max((at for at, message in enumerate(self.messages) if message.role == "user"), default=None)
        if at is None:
            return (*self.messages, Message(role="user", parts=(self.context,)))
        question = replace(self.messages[at], parts=_joined(self.context, self.messages[at].parts))
        return (*self.messages[:at], question, *self.messages[at + 1 :])

    @property
    def size(self) -> int:
        """Characters of all its texts, those of tools, calls and reasoning included."""
        return sum(message.size for message in self.messages) + self.tools_size

    @property
    def tools_size(self) -> int:
        """Characters of its tools. Their schemas are written for it, once."""
        if self._tools_size is None:
            size = sum(tool.size for tool in self.tools)
            object.__setattr__(self, "_tools_size", size)
            return size
        return self._tools_size


def _joined(context: str, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    first, *rest = parts or ("",)
    return (context + first, *rest) if isinstance(first, str) else (context, *parts)


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
    key_id: str = ""  # whose limits it counts against; empty: nobody's
    instructions: str | None = None  # also the first message; not a part of the conversation
    previous_response_id: str | None = None
    store: bool | None = None
    generate: bool = True  # False: only get ready
    deadline_at: float | None = None  # by the clock of the process
    max_cost: Decimal | None = None  # dollars
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    cache_scope: str = ""  # one more wall between cached answers
    context_version: str | None = None  # stands in for the chunks where questions are compared by meaning
    checks: tuple[str, ...] | None = None  # the names of those to run; None: all
    check_schema: dict[str, Any] | None = None  # an answer must be JSON after it; no model is told
    concise: bool = False

    @property
    def commits_early(self) -> bool:
        """Whether the small model's words stand before they have all come: others must not be bound by that."""
        return self.delivery is Delivery.PREFIX and self.strategy not in (Strategy.SMALL, Strategy.LARGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one upstream is asked: a prompt, for one model, under its cap."""

    model: Model
    prompt: Prompt
    cap: int | None = None  # tokens that a budget buys, where that is the tightest cap

    @property
    def max_output_tokens(self) -> int:
        """The tightest of what was asked, what the model may and what the budget buys."""
        caps = (self.model.max_output_tokens, self.prompt.max_output_tokens, self.cap)
        return min(cap for cap in caps if cap is not None)


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
    key_id: str = ""  # whose limits it counts against
