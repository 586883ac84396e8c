"""What is asked: an accepted request with its options, and one call to an upstream."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from millrace.types.conversation import Prompt
from millrace.types.model import Model


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

    def shows(self, *, committed: bool) -> bool:
        """Whether words are shown before their answer is accepted, once they are committed or already before that."""
        return self is Delivery.SPECULATE or (committed and self is not Delivery.FINAL)


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
