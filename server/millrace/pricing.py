"""Usage x Price -> dollars. Exact decimals, rounded once per call, so that a bill is the sum of its charges."""

from decimal import Decimal

from millrace.types import Price, Usage

NANODOLLAR = Decimal("1e-9")
MILLION = Decimal(1_000_000)
ZERO = Decimal(0)


def cost(usage: Usage, price: Price) -> Decimal:
    """Return dollars, exact to 1e-9."""
    cached_price = price.input if price.cached_input is None else price.cached_input
    fresh = usage.input_tokens - usage.cached_input_tokens
    dollars = fresh * price.input + usage.cached_input_tokens * cached_price + usage.output_tokens * price.output
    return (dollars / MILLION).quantize(NANODOLLAR)
