"""The models that may answer a request, and their prices."""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

from millrace.types.conversation import Api

# Names of the tier that every model has, and of what leaves the choice to the provider.
STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand"})

BATCH_TIER = "batch"  # that answers of a provider's batch are charged at; no request may ask for it


class Tier(StrEnum):
    """Which of the two models: the fast, cheap one or the strong, expensive one."""

    SMALL = "small"
    LARGE = "large"


class Price(Struct, frozen=True, kw_only=True, gc=False):
    """Dollars per million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None  # None: cached tokens cost as much as others
    cache_write: Decimal | None = None  # of tokens written to the provider's cache; None: as much as others
    cache_write_1h: Decimal | None = None  # of those to be kept for an hour; None: as much as others written
    above_tokens: int = 0  # of input, cached or not: this is the price of a call that has more of them
    steps: tuple["Price", ...] = ()  # of calls with longer input, by their `above_tokens`; all of a call costs as much

    def at(self, input_tokens: int) -> "Price":
        """Return the price of a call with so many tokens of input."""
        price = self
        for step in self.steps:
            if input_tokens > step.above_tokens:
                price = step
        return price

    @property
    def half(self) -> "Price":
        """Half of it, as providers charge for batches."""
        return Price(
            input=self.input / 2,
            output=self.output / 2,
            cached_input=self.cached_input and self.cached_input / 2,
            cache_write=self.cache_write and self.cache_write / 2,
            cache_write_1h=self.cache_write_1h and self.cache_write_1h / 2,
            above_tokens=self.above_tokens,
            steps=tuple(step.half for step in self.steps),
        )

    @property
    def dearest_input(self) -> Decimal:
        """The most that a token of input may cost: the provider may write all of it to its cache."""
        return max(self.input, self.cache_write or self.input, self.cache_write_1h or self.input)

    def dearer(self, other: "Price") -> "Price":
        """Return the most that tokens may cost at either price, without a discount for cached ones."""
        if not (self.steps or other.steps):
            return self._dearer(other)
        bounds = sorted({step.above_tokens for step in (*self.steps, *other.steps)})
        return replace(
            self._dearer(other), steps=tuple(self.at(bound + 1)._dearer(other.at(bound + 1), bound) for bound in bounds)
        )

    def _dearer(self, other: "Price", above_tokens: int = 0) -> "Price":
        return Price(
            input=max(self.dearest_input, other.dearest_input),
            output=max(self.output, other.output),
            above_tokens=above_tokens,
        )


class Encoding(Struct, frozen=True, kw_only=True, gc=False):
    """In which vocabulary the tokens of a model are counted."""

    name: str = "o200k_base"
    is_own: bool = False  # the model's own, so that counts are exact; else they are estimates, which are corrected
    factor: float = 1.0  # tokens of the model for one of the vocabulary, until its provider has reported some


class Model(Struct, frozen=True, kw_only=True, gc=False):
    """One configured model: its name, tier, address, price and limits."""

    tier: Tier  # for which it answers
    id: str  # the provider's name for it
    own_name: str = ""  # of its section in [models.more]; empty for the small and the large one
    address: str  # of the server that runs it, or of the first that does; a part of cache keys
    api: Api = Api.CHAT
    price: Price  # of the standard service tier
    context_window: int  # tokens
    encoding: Encoding = Encoding()
    max_output_tokens: int | None = None  # the operator's cap of an answer; None: no cap
    cap_tool_calls: bool = False  # whether the cap also holds where a tool may be called
    tier_prices: Mapping[str, Price] = field(default_factory=dict)  # of other service tiers

    def __hash__(self) -> int:
        return hash((self.tier, self.id, self.address))  # not of `tier_prices`, which has none

    @property
    def name(self) -> str:
        """The name of its section: small, large, or one of [models.more]."""
        return self.own_name or self.tier.value

    @property
    def stands_in(self) -> bool:
        """Whether it is neither the small nor the large model, but answers in place of one."""
        return bool(self.own_name)

    def price_at(self, service_tier: str) -> Price | None:
        """Return the price of a service tier; None if it has none of its own."""
        return self.price if service_tier in STANDARD_TIERS else self.tier_prices.get(service_tier)

    def price_of(self, service_tier: str) -> Price:
        """Return the price of a service tier; of the standard one where it has none of its own."""
        return self.price_at(service_tier) or self.price


class Deployment(Struct, frozen=True, kw_only=True, gc=False):
    """One of the places where a model is served."""

    label: str = ""  # for ledger, log and health: a region or a number; empty where the model has no other
    weight: float = 1.0  # its share of the calls, beside the weights of the others
