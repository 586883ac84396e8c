"""An accepted request with its options, and one call to an upstream."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from sys import getsizeof
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from msgspec import Struct
from msgspec.structs import replace

from millrace.types.budget import Budget, Rest, Step
from millrace.types.conversation import Prompt, Tool
from millrace.types.model import Model, Price
from millrace.types.trace import Trace, span_of

MERGE_TOKENS = 64  # of a merge window at most: what one turn of the loop joins


class Strategy(StrEnum):
    """Which models a request may call, and in which order."""

    AUTO = "auto"
    CASCADE = "cascade"
    SMALL = "small"
    LARGE = "large"
    RACE = "race"
    HEDGE = "hedge"


class Delivery(StrEnum):
    """What a client may see before the answer is accepted."""

    SPECULATE = "speculate"  # every delta at once; deltas may be taken back
    PREFIX = "prefix"  # nothing until the beginning has passed the checks; after that nothing is taken back
    COMMIT = "commit"  # nothing until the whole answer is accepted
    FINAL = "final"  # the accepted answer as one delta

    def shows(self, *, committed: bool) -> bool:
        """Whether text is shown before its answer is accepted; `committed`: whether it can no longer be taken back."""
        return self is Delivery.SPECULATE or (committed and self is not Delivery.FINAL)


class CacheMode(StrEnum):
    """How a request uses the caches."""

    ON = "on"
    OFF = "off"
    REFRESH = "refresh"  # write, but do not read
    ONLY = "only"  # never call a model


class OnDisconnect(StrEnum):
    """What happens to a request when its last client disconnects."""

    CANCEL = "cancel"
    DETACH = "detach"  # it runs on and can be resumed


class Paths(Struct, frozen=True, kw_only=True, gc=False):
    """Where fields are in the dialect of a client, for errors that name one."""

    dialect: str = "responses"
    input: str = "input"
    schema: str = "text.format.schema"
    tool: str = "tools[{}].parameters"  # with a tool's index
    max_cost: str = "millrace.max_cost_usd"
    check_schema: str = ""  # where the request has one
    check_pattern: str = ""  # the same

    def of_tool(self, tool: Tool, index: int) -> str:
        """Return the path of the schema of a tool, which is the one of this index."""
        return tool.path or self.tool.format(index)


RESPONSES_PATHS = Paths()


class Counted(NamedTuple):
    """What was counted of a prompt in the encoding of a model, and how many tokens of the model each of these is."""

    tokens: int
    ratio: float = 1.0

    @property
    def input_tokens(self) -> int:
        """Tokens of the prompt as the model counts them; about, unless the encoding is its own."""
        return math.ceil(self.tokens * self.ratio)


NOT_COUNTED = Counted(0)


_NO_COUNTS: Mapping[str, Counted] = MappingProxyType({})  # of a request that is not trimmed yet


class Request(Struct, frozen=True, kw_only=True, gc=False):
    """One accepted `response.create`."""

    id: str
    tenant: str
    session: str = ""  # the requests that belong together; its own id, if it names none and continues none
    model: str  # as requested: auto, small, large or a configured name, aliases resolved
    strategy: Strategy
    delivery: Delivery
    cache: CacheMode
    prompt: Prompt
    metadata: dict[str, str]
    context: tuple[str, ...] = ()  # chunks, most relevant first
    context_budget: int | None = None  # tokens of context and history; None: the configured budget
    input_tokens: int = 0  # of the trimmed prompt, about as the large model counts them; 0 before that
    counts: Mapping[str, Counted] = _NO_COUNTS  # of the trimmed prompt, by the names of the models
    key_cap: int | None = None  # output tokens that the operator lets the key's answers have; None: no cap
    trimmed_tokens: int = 0  # cut from the prompt
    cut_history: bytes = b""  # SHA-256 of the messages that were cut; empty if none were
    cut_context: bytes = b""  # SHA-256 of the chunks that were cut; empty if none were
    grace_ms: int | None = None
    hedge_ms: int | None = None
    key_id: str = ""  # the key whose limits it counts against; empty: no limits
    instructions: str | None = None  # also the first message; not carried over to the next request
    previous_response_id: str | None = None
    store: bool | None = None
    generate: bool = True  # False: prepare, but call no model
    deadline_at: float | None = None  # on the process's clock
    max_cost: Decimal | None = None  # dollars
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    cache_scope: str = ""  # requests share cached answers only within one scope
    context_version: str | None = None  # replaces the chunks in the key of the semantic cache
    evidence: bool = True  # whether it may be sampled and judged
    user: str = ""  # the end user, as the client names it; empty if it does not
    tag: str = ""  # what its cost is put down to, as the client names it; empty without one
    batch: str = ""  # the id of the batch that it is a line of; empty if it is none
    budget: Budget | None = None  # the scarcest of its budgets, if that has reached a step
    rest: Rest | None = None  # what is left of a budget and so `max_cost`, if that is less than it is likely to cost
    in_frames: bool = False  # its client has negotiated, so it is told of such a step in frames
    asked_again: bool = False  # at the operator's cost: it takes no place, and all it may cost is booked at once
    checks: tuple[str, ...] | None = None  # names of the checks to run; None: all
    check_schema: dict[str, Any] | None = None  # the answer must be JSON that matches it; not sent to the model
    check_pattern: str | None = None  # a regular expression that the answer must match; not sent to the model
    not_passed_on: tuple[str, ...] = ()  # "without FIELD": it has no place in a provider's API
    unchecked: tuple[str, ...] = ()  # paths of schemas, or of patterns in them, that are not checked here
    concise: bool = False
    reasoning_summary: bool = False  # the Responses dialect shows the reasoning as a summary
    paths: Paths = RESPONSES_PATHS
    trace: Trace | None = None  # that it belongs to; None: its client names none, and none is recorded

    def counted_for(self, model: Model) -> Counted:
        """Return what was counted of its prompt for a model."""
        return self.counts.get(model.name) or Counted(self.input_tokens)

    @property
    def memory_bytes(self) -> int:
        """Bytes that it holds, about."""
        return self.prompt.memory_bytes + sum(map(getsizeof, self.context))

    def kept(self, *, continued: bool) -> Self:
        """Return it as it is kept after its end: without its context, and with its messages only to be continued."""
        if continued and not (self.prompt.context or self.context or self.check_schema or self.check_pattern):
            return self
        prompt = dataclasses.replace(self.prompt, context="", messages=self.prompt.messages if continued else ())
        return replace(self, prompt=prompt, context=(), check_schema=None, check_pattern=None)

    @property
    def budget_is_low(self) -> bool:
        """Whether so little of a budget is left that the large model is not asked."""
        return self.budget is not None and self.budget.step is not Step.WARN

    @property
    def commits_early(self) -> bool:
        """Whether the small model's text may be committed before the answer is complete.

        Requests that differ in this never share a generation: a commit binds everyone who takes part in it.
        """
        return self.delivery is Delivery.PREFIX and self.strategy not in (Strategy.SMALL, Strategy.LARGE)


class Prefix(Struct, frozen=True, kw_only=True, gc=False):
    """How the beginning of a prompt is kept in the provider's cache, where the client does not say it."""

    key: str = ""  # that it is found by, where the provider takes one; it tells nothing of tenant or prompt
    is_read_again: bool = True  # most likely, so that it pays to have it kept


UNKNOWN_PREFIX = Prefix()  # nothing is known of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One upstream call: a prompt for one model, and the caps on its output."""

    model: Model
    prompt: Prompt
    prefix: Prefix = UNKNOWN_PREFIX
    cap: int | None = None  # output tokens that the budget buys, if no other cap is lower
    room: int | None = None  # tokens that the prompt leaves of the model's window; None: it is not counted yet
    key_cap: int | None = None  # output tokens that the operator lets the key's answers have; None: no cap
    counted: Counted = NOT_COUNTED  # of its prompt
    deployment: str = ""  # the label of the one that is asked
    traceparent: str = ""  # that is sent along; empty: none
    tracestate: str = ""
    once: bool = False  # a transient fault is not tried once more there: another deployment is, or nothing
    _sent_cap: int | None = field(default=-1, init=False, repr=False, compare=False)  # -1: it is not computed yet

    @property
    def span_id(self) -> str:
        """Its span, which its provider is told; empty if there is none."""
        return span_of(self.traceparent)

    @property
    def service_tier(self) -> str:
        """The service tier that is asked for; empty without one, and where the model has no price for it."""
        asked = self.prompt.service_tier
        return asked if asked and self.model.price_at(asked) is not None else ""

    @property
    def price(self) -> Price:
        """The price of the tier that is asked for."""
        return self.model.price_at(self.service_tier) or self.model.price

    @property
    def dearest(self) -> Price:
        """The most that a token may cost: a provider may serve the standard tier instead of the one asked for."""
        return self.price.dearer(self.model.price)

    @property
    def operator_cap(self) -> int | None:
        """The cap of the model's configuration, or of the key if that is lower.

        None where a tool may be called: it would cut the call's arguments.
        """
        cap = self.model.max_output_tokens
        if self.key_cap is not None:
            cap = self.key_cap if cap is None else min(cap, self.key_cap)
        if cap is None or self.model.cap_tool_calls or not self.prompt.tools:
            return cap
        may_call = self.prompt.tool_choice is None or self.prompt.tool_choice.mode != "none"
        return None if may_call else cap

    @property
    def sent_cap(self) -> int | None:
        """The lowest cap that somebody has set: the operator, the client or the budget. None: nobody has."""
        sent_cap = self._sent_cap
        if sent_cap == -1:
            caps = [cap for cap in (self.operator_cap, self.prompt.max_output_tokens, self.cap) if cap is not None]
            sent_cap = min(*caps, self.most) if caps else None
            object.__setattr__(self, "_sent_cap", sent_cap)
        return sent_cap

    @property
    def max_output_tokens(self) -> int:
        """The most output tokens there can be: the lowest cap, or what the prompt leaves of the model's window."""
        return self.sent_cap or self.most

    @property
    def most_output_tokens(self) -> int:
        """The tokens after which its model is cut off. Providers count a little differently."""
        return self.max_output_tokens + MERGE_TOKENS

    @property
    def most_counted(self) -> int:
        """The same, as they are counted here."""
        return math.ceil(self.most_output_tokens / self.counted.ratio)

    @property
    def capped_by_operator(self) -> int | None:
        """The operator's cap, if it is the lowest one."""
        cap = self.operator_cap
        return cap if cap is not None and cap == self.sent_cap else None

    @property
    def most(self) -> int:
        """The tokens that fit the model's window beside the prompt."""
        return self.model.context_window if self.room is None else self.room
