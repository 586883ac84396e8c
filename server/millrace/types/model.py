"""The models a request may be answered by, and their prices."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Tier(StrEnum):
    """Which of the two models: the quick cheap one or the strong dear one."""

    SMALL = "small"
    LARGE = "large"


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
