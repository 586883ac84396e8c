"""Costs: the charge of one upstream call, the statement of one request, and its row in the ledger."""

from decimal import Decimal
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from millrace.types.answer import CacheOutcome, Source, Usage
from millrace.types.model import Price, Tier
from millrace.types.request import Strategy
from millrace.types.story import NO_STORY, Shape, Story
from millrace.types.trace import Trace

EMBEDDINGS: Literal["embeddings"] = "embeddings"  # the tier and the strategy of requests for embeddings


class Status(StrEnum):
    """How a response ended; `open` if it has not."""

    OPEN = "open"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"
    FAILED = "failed"
    KILLED = "killed"  # the process died while it was open; set by the next start


class Outcome(StrEnum):
    """How one upstream call ended."""

    RUNNING = "running"
    ANSWERED = "answered"
    REVISED = "revised"  # a check failed, and its text was taken back
    LOST = "lost"  # the other model won the race
    FAILED = "failed"
    CANCELLED = "cancelled"


class Charge(Struct, frozen=True, kw_only=True, gc=False):
    """What one upstream call used and cost, however it ended."""

    model: str
    tier: Tier | Literal["embeddings"]
    usage: Usage
    cost: Decimal  # dollars, exact to 1e-9
    outcome: Outcome
    price: Price | None = None  # that it is charged at; None: not known any more
    standard: Price | None = None  # of the standard service tier, where it is charged at another one
    service_tier: str = ""  # that it is charged at, as the provider names it; empty if nobody named one
    finish_word: str = ""  # the provider's own for the end, if it is not known
    deployment: str = ""  # the label of the one that was asked; empty where the model has no other
    span_id: str = ""  # of its span, which its provider was told; empty: there is none
    began_at: float | None = None  # on the process's clock, as all times of a call; None: it was not sent
    spoke_at: float | None = None  # when its first word came
    ended_at: float | None = None  # None: it still runs, or went on for another request


class Statement(Struct, frozen=True, kw_only=True, gc=False):
    """What a request has used and cost so far."""

    usage: Usage  # of the answer shown
    cost: Decimal  # dollars, of all calls
    saved: Decimal  # dollars: what it would have cost (`levers.py`) less `cost`; negative if the funnel cost more
    charges: tuple[Charge, ...]
    trimmed_tokens: int = 0  # cut from the prompt
    max_output_tokens: int | None = None  # the operator's cap, if it held for the answer shown
    notes: tuple[str, ...] = ()  # how calls differ from what was asked, and what their provider said that is not known
    service_tier: str = ""  # of the answer shown


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """One row of the ledger."""

    request_id: str
    tenant: str
    opened_at: float  # Unix seconds
    status: Status
    source: Source | None
    cache: CacheOutcome
    strategy: Strategy | Literal["embeddings"]
    check: str | None  # the check that failed, if one did
    code: str | None  # error code, or the reason why the answer is incomplete
    statement: Statement
    ttft_ms: float | None
    latency_ms: float
    trimmed_tokens: int = 0  # cut from the prompt
    key_id: str = ""  # the key whose limits it counts against
    session: str = ""  # that the request belongs to; its own id if it names none, empty for embeddings
    entry_id: str = ""  # of the stored answer that a cache gave
    stored_id: str = ""  # of the answer, if it may have gone into the caches
    booked: Decimal = Decimal(0)  # dollars; while it is open, what it has cost so far
    user: str = ""  # the end user, as the client names it (`safety_identifier`, `user`); empty if it does not
    tag: str = ""  # `metadata["millrace.tag"]`; empty without one
    batch: str = ""  # the id of the batch that it is a line of; empty if it is none
    baseline: Price | None = None  # of the large model, when the request began; None: nothing is compared to it
    story: Story = NO_STORY  # what each stage decided
    shape: Shape | None = None  # of the request; None: it has not ended, or was for embeddings
    began_at: float | None = None  # on the process's clock, as the times of its calls
    dialect: str = ""  # that it was asked in; this and the next one are in no row
    trace: Trace | None = None


class Answered(Struct, frozen=True, kw_only=True, gc=False):
    """Where the answer of a request that has ended came from, and where it went."""

    cache: CacheOutcome
    entry_ids: tuple[str, ...]  # of stored answers: the one that a cache gave, and its own


class Selection(Struct, frozen=True, kw_only=True, gc=False):
    """Which rows of the ledger are wanted. What is None selects nothing by itself."""

    tenant: str | None = None
    user: str | None = None
    tag: str | None = None
    status: Status | None = None
    since: float | None = None  # opened at or after it, in Unix seconds
    until: float | None = None  # opened before it
    source: str | None = None  # of the answer; `none`: there is none, or it was for embeddings
    code: str | None = None
    strategy: str | None = None
    model: str | None = None  # as `levers.model_of` has it


class SessionBill(Struct, frozen=True, kw_only=True, gc=False):
    """What the requests of one session have used and cost together. Times are Unix seconds."""

    session: str
    tenant: str
    began_at: float
    last_at: float
    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost: Decimal  # dollars
    saved: Decimal  # dollars
