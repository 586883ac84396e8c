"""Dollars from usage and price. Exact decimals, rounded once per call, so that a bill is the sum of its charges."""

from decimal import Decimal

from millrace.types import Call, Model, Price, Prompt, Usage

NANODOLLAR = Decimal("1e-9")
MILLION = Decimal(1_000_000)
ZERO = Decimal(0)
BOOKED = 1024  # output tokens that are booked for a call at first, and again each time it outgrows them
# Tokens of reasoning that are booked where a request asks for it: answers have some, and not all providers send them.
REASONING = {"minimal": 512, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 65_536}


def cost(usage: Usage, price: Price) -> Decimal:
    """Return dollars, exact to 1e-9. How long the input is decides what all of it costs, where the price has steps."""
    if price.steps:
        price = price.at(usage.input_tokens)
    plain = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    dollars = plain * price.input + usage.output_tokens * price.output
    if usage.cached_input_tokens:
        dollars += usage.cached_input_tokens * (price.input if price.cached_input is None else price.cached_input)
    if usage.cache_write_tokens:
        write_price = price.input if price.cache_write is None else price.cache_write
        hour_price = write_price if price.cache_write_1h is None else price.cache_write_1h
        dollars += (usage.cache_write_tokens - usage.cache_write_1h_tokens) * write_price
        dollars += usage.cache_write_1h_tokens * hour_price
    return (dollars / MILLION).quantize(NANODOLLAR)


def room(model: Model, input_tokens: int) -> int:
    """Return the tokens that a prompt of so many tokens leaves of a model's window: at least 1."""
    return max(1, model.context_window - input_tokens)


def worst_case(call: Call, input_tokens: int) -> Usage:
    """Return the most a call can use: no input from the provider's cache, and output up to its cap."""
    return Usage(input_tokens=input_tokens, output_tokens=call.max_output_tokens, estimated=True)


def booking(call: Call, input_tokens: int, output_tokens: int | None = None) -> Usage:
    """Return what is booked for a call at first: its input, and as much output as most answers have, or so much.

    Where it costs more to have the input kept in the provider's cache, all of it may be.
    """
    price = call.price.at(input_tokens)
    return Usage(
        input_tokens=input_tokens,
        cache_write_tokens=input_tokens if (price.cache_write or price.input) > price.input else 0,
        output_tokens=booked_output(call) if output_tokens is None else output_tokens,
        estimated=True,
    )


def booked_output(call: Call) -> int:
    """Return the output tokens that are booked for a call at first: those of most answers, and of their reasoning."""
    return min(call.max_output_tokens, BOOKED + reasoning_of(call.prompt))


def reasoning_of(prompt: Prompt) -> int:
    """Return the tokens of reasoning that a request asks for, about: its own budget, or what its effort stands for."""
    thinking = prompt.native.fields.get("thinking") if prompt.native is not None else None
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if isinstance(budget, int) and not isinstance(budget, bool):
        return max(0, budget)
    return REASONING.get(prompt.reasoning_effort or "", 0)


def output_booked(dollars: Decimal, call: Call, input_tokens: int) -> int:
    """Return how many output tokens can be booked for so much: at most the call's cap, at least 0."""
    price, cap = call.price.at(input_tokens), call.max_output_tokens
    left = (dollars - cost(booking(call, input_tokens, 0), price)) * MILLION
    if left < 0:
        return 0
    return cap if cap * price.output <= left else int(left // price.output)


def output_bought(dollars: Decimal, call: Call, input_tokens: int) -> int:
    """Return how many output tokens the money buys after the input: at most the call's cap, at least 0."""
    price, cap = call.dearest.at(input_tokens), call.max_output_tokens
    left = dollars * MILLION - input_tokens * price.input
    if left < 0:
        return 0
    return cap if cap * price.output <= left else int(left // price.output)
