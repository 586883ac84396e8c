"""What it costs: a charge for each call, a statement of a request so far, and its row in the ledger."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from millrace.types.answer import CacheOutcome, Source, Usage
from millrace.types.model import Tier
from millrace.types.request import Strategy


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
