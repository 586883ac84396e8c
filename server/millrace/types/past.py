"""A request that has ended, as its row in the ledger tells it. Money is in whole nanodollars (1e-9 dollars)."""

from msgspec import Struct

from millrace.types.answer import CacheOutcome, Usage
from millrace.types.model import Price
from millrace.types.money import Outcome, Status
from millrace.types.story import NO_STORY, Story


class PastCall(Struct, kw_only=True):
    """One upstream call that has ended. Not frozen: a million are made at once, and that takes twice as long."""

    model: str
    tier: str
    usage: Usage
    cost: int
    outcome: Outcome
    price: Price | None = None  # that it was charged at; None: not known any more
    standard: Price | None = None  # of the model's standard service tier, where it was charged at another one
    service_tier: str = ""


class Past(Struct, kw_only=True):
    """One row of the ledger. Not frozen, as `PastCall`."""

    request_id: str
    tenant: str
    opened_at: float  # Unix seconds
    status: Status
    source: str | None
    cache: CacheOutcome
    strategy: str
    code: str | None
    check: str | None  # that an answer failed, if one did
    usage: Usage  # of the answer shown
    cost: int
    saved: int
    latency_ms: float
    trimmed_tokens: int
    calls: list[PastCall]
    baseline: Price | None = None  # of the large model, when the request began; None: of an earlier version
    key_id: str = ""
    user: str = ""
    tag: str = ""
    stored_id: str = ""
    ttft_ms: float | None = None
    story: Story = NO_STORY  # read only where it is asked for
