"""The models that may answer a request, and their prices."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Tier(StrEnum):
    """Which of the two models: the fast, cheap one or the strong, expensive one."""

    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Dollars per million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None  # None: cached tokens cost as much as others


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One configured model: its name, tier, address, price and limits."""

    tier: Tier
    id: str  # the provider's name for it
    address: str  # of the server that runs it; a part of cache keys
    price: Price
    context_window: int  # tokens
    max_output_tokens: int | None = None  # the operator's cap of an answer; None: no cap
    cap_tool_calls: bool = False  # whether the cap also holds where a tool may be called
