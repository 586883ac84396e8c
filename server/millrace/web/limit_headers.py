"""What is left of the limits of a request, as HTTP headers: those that OpenAI's SDKs know, and Millrace's own."""

import math

from millrace.types.budget import Left, Remaining


def limit_headers(left: Left | None) -> dict[str, str]:
    """Return the headers; none where nothing is limited."""
    if left is None:
        return {}
    headers: dict[str, str] = {}
    for name, remaining in (("requests", left.requests), ("tokens", left.tokens)):
        if remaining is not None:
            headers |= _of_a_minute(name, remaining)
    if (dollars := left.dollars) is not None:
        headers["x-millrace-budget-limit-usd"] = f"{dollars.limit:f}"
        headers["x-millrace-budget-remaining-usd"] = f"{dollars.left:f}"
        headers["x-millrace-budget-reset"] = f"{math.ceil(dollars.reset_s)}s"
    if left.step is not None:
        headers["x-millrace-budget-step"] = left.step.value
    return headers


def _of_a_minute(name: str, remaining: Remaining) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{name}": str(remaining.limit),
        f"x-ratelimit-remaining-{name}": str(remaining.left),
        f"x-ratelimit-reset-{name}": f"{math.ceil(remaining.reset_s)}s",
    }
