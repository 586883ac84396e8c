"""The models that may answer a request, and their prices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from millrace.types.conversation import Api

# Names of the tier that every model has, and of what leaves the choice to the provider.
STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand"})


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
    cache_write: Decimal | None = None  # of tokens written to the provider's cache; None: as much as others
    cache_write_1h: Decimal | None = None  # of those to be kept for an hour; None: as much as others written

    @property
    def dearest_input(self) -> Decimal:
        """The most that a token of input may cost: the provider may write all of it to its cache."""
        return max(self.input, self.cache_write or self.input, self.cache_write_1h or self.input)

    def dearer(self, other: "Price") -> "Price":
        """Return the most that tokens may cost at either price, without a discount for cached ones."""
        return Price(input=max(self.dearest_input, other.dearest_input), output=max(self.output, other.output))


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One configured model: its name, tier, address, price and limits."""

    tier: Tier
    id: str  # the provider's name for it
    address: str  # of the server that runs it; a part of cache keys
    api: Api = Api.CHAT
    price: Price  # of the standard service tier
    context_window: int  # tokens
    max_output_tokens: int | None = None  # the operator's cap of an answer; None: no cap
    cap_tool_calls: bool = False  # whether the cap also holds where a tool may be called
    tier_prices: Mapping[str, Price] = field(default_factory=dict, hash=False)  # of other service tiers

    def price_at(self, service_tier: str) -> Price | None:
        """Return the price of a service tier; None if it has none of its own."""
        return self.price if service_tier in STANDARD_TIERS else self.tier_prices.get(service_tier)
