"""An accepted request with its options, and one call to an upstream."""

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from sys import getsizeof
from typing import Any, Self

from millrace.types.conversation import Prompt
from millrace.types.model import Model


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where fields are in the dialect of a client, for errors that name one."""

    input: str = "input"
    schema: str = "text.format.schema"
    tool: str = "tools[{}].parameters"  # with a tool's index
    max_cost: str = "millrace.max_cost_usd"


RESPONSES_PATHS = Paths()


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
    context_budget: int | None = None  # tokens of context and history; None: the configured budget
    input_tokens: int = 0  # of the trimmed prompt; 0 before that
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
    checks: tuple[str, ...] | None = None  # names of the checks to run; None: all
    check_schema: dict[str, Any] | None = None  # the answer must be JSON that matches it; not sent to the model
    concise: bool = False
    paths: Paths = RESPONSES_PATHS

    @property
    def memory_bytes(self) -> int:
        """Bytes that it holds, about."""
        return self.prompt.memory_bytes + sum(map(getsizeof, self.context))

    def kept(self, *, continued: bool) -> Self:
        """Return it as it is kept after its end: without its context, and with its messages only to be continued."""
        prompt = self.prompt if continued else replace(self.prompt, messages=())
        return replace(self, prompt=replace(prompt, context=""), context=(), check_schema=None)

    @property
    def commits_early(self) -> bool:
        """Whether the small model's text may be committed before the answer is complete.

        Requests that differ in this never share a generation: a commit binds everyone who takes part in it.
        """
        return self.delivery is Delivery.PREFIX and self.strategy not in (Strategy.SMALL, Strategy.LARGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One upstream call: a prompt for one model, and a cap on its output."""

    model: Model
    prompt: Prompt
    cap: int | None = None  # output tokens that the budget buys, if no other cap is lower

    @property
    def max_output_tokens(self) -> int:
        """The lowest of the caps of the model, the request and the budget."""
        caps = (self.model.max_output_tokens, self.prompt.max_output_tokens, self.cap)
        return min(cap for cap in caps if cap is not None)
