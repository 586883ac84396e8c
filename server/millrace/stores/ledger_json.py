"""What the ledger keeps as JSON in its columns, written and read in one place: prices, calls, stories, shapes."""

from decimal import Decimal
from functools import lru_cache
from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import asdict

from millrace.pricing import NANODOLLAR
from millrace.types import Charge, Outcome, Price, Shape, Story, Usage

T = TypeVar("T")


class Call(Struct, omit_defaults=True):
    """A call, as the column `calls` has it. Times are in milliseconds; what is as usual is left out."""

    model: str
    tier: str
    outcome: Outcome
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    estimated: bool
    cost_nanodollars: int
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    price: Raw | UnsetType = UNSET  # that it is charged at; rows of an earlier version have none
    standard: Raw | UnsetType = UNSET  # of the standard service tier, where it is charged at another price
    service_tier: str = ""
    finish_reason: str = ""  # the provider's own, if it is not known
    deployment: str = ""
    started_ms: float | None = None  # since the request's own start
    ttft_ms: float | None = None
    lasted_ms: float | None = None

    @property
    def usage(self) -> Usage:
        """What it has used."""
        return Usage(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cached_input_tokens=self.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens,
            reasoning_tokens=self.reasoning_tokens,
            estimated=self.estimated,
        )


_calls = msgspec.json.Decoder(list[Call]).decode


def read_calls(written: str) -> list[Call]:
    """Return the calls of a row."""
    return [] if written == "[]" else _calls(written)


def written_calls(charges: tuple[Charge, ...], began_at: float | None) -> str:
    """Return the calls of a request that began then, by the clock of its charges."""
    return msgspec.json.encode([_call(charge, began_at) for charge in charges]).decode() if charges else "[]"


def _call(charge: Charge, began_at: float | None) -> Call:
    usage = charge.usage
    return Call(
        model=charge.model,
        tier=charge.tier,
        outcome=charge.outcome,
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        estimated=usage.estimated,
        cost_nanodollars=nanodollars(charge.cost),
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        price=UNSET if charge.price is None else Raw(_price(charge.price)),
        standard=UNSET if charge.standard is None else Raw(_price(charge.standard)),
        service_tier=charge.service_tier,
        finish_reason=charge.finish_word,
        deployment=charge.deployment,
        started_ms=_milliseconds(began_at, charge.began_at),
        ttft_ms=_milliseconds(charge.began_at, charge.spoke_at),
        lasted_ms=_milliseconds(charge.began_at, charge.ended_at),
    )


def written_price(price: Price | None) -> str:
    """Return a price; empty if there is none."""
    return "" if price is None else _price(price).decode()


def read_price(written: str | Raw | UnsetType) -> Price | None:
    """Return the price that a column or a call has; None if it has none."""
    if not written:
        return None
    return _read_price(written.encode() if isinstance(written, str) else bytes(written))


@lru_cache(maxsize=256)
def _price(price: Price) -> bytes:
    return msgspec.json.encode(_known(price))


def _known(price: Price) -> dict[str, object]:
    """Return what is known of a price, as decimals of dollars per million tokens; a bound is a whole number."""
    by_name = asdict(price)
    steps, bound = by_name.pop("steps"), by_name.pop("above_tokens")
    return {
        **{name: str(dollars) for name, dollars in by_name.items() if dollars is not None},
        **({"above_tokens": bound} if bound else {}),
        **({"steps": [_known(step) for step in steps]} if steps else {}),
    }


@lru_cache(maxsize=256)
def _read_price(written: bytes) -> Price:
    return msgspec.json.decode(written, type=Price)


def written_story(story: Story) -> str:
    """Return a story."""
    return msgspec.json.encode(story).decode()


def read_story(written: str) -> Story | None:
    """Return a story; None if there is none, or it is of another version."""
    return _read(written, Story)


def written_shape(shape: Shape | None) -> str:
    """Return what of a shape is not as usual; empty if it is not known."""
    return "" if shape is None else msgspec.json.encode(shape.given).decode()


def read_shape(written: str) -> Shape | None:
    """Return a shape; None if there is none, or it is of another version."""
    return _read(written, Shape)


def _read(written: str, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(written, type=kind) if written else None
    except msgspec.MsgspecError:
        return None


def nanodollars(dollars: Decimal) -> int:
    """Return whole nanodollars, as all columns of money have them."""
    return int(dollars / NANODOLLAR)


def _milliseconds(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round((end - start) * 1000, 1)
