"""Directives: how a caller controls an answer, as `[name=value]` in the prompt or in the header `X-Simulate`.

`ttft=S` (seconds), `rate=N` (tokens/s), `tokens=N` (of text), `fault=KIND` or `fault=KIND@N` (after N tokens);
`weak`: the weak model answers badly; `refuse`: the answer is marked as a refusal; `reason=N`: N tokens of reasoning
come first; `tool=NAME`: the answer calls this function, and may be given several times for parallel calls.
`name.small` and `name.large` apply to that profile only.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from millrace.simulator.faults import Fault
from millrace.simulator.shapes import BadRequestError

HEADER = "X-Simulate"
MAX_TOKENS = 100_000  # the whole answer is built in memory before it is sent

# Any other text in brackets stays in the prompt.
_SCOPE = r"(?:\.[\w-]+)?"
_IN_PROMPT = re.compile(
    rf"\[\s*((?:weak|refuse){_SCOPE}|(?:ttft|rate|tokens|fault|reason|tool){_SCOPE}\s*=[^\]\n]*)\s*\]",
    re.IGNORECASE,
)
_NAME = re.compile(r"[\w-]{1,64}")


class Directives(Struct, frozen=True):
    """The directives of one call. None: the profile decides."""

    ttft: float | None = None
    rate: float | None = None
    tokens: int | None = None
    fault: Fault | None = None
    weak: bool = False
    refuse: bool = False
    reason: int = 0
    tools: tuple[str, ...] = ()


def without_directives(text: str) -> str:
    """Return the text without directives, with single spaces."""
    return " ".join(_IN_PROMPT.sub(" ", text).split())


def read_directives(prompt: str, header: str, profile: str) -> Directives:
    """Read the directives of the prompt and the header. Raises `BadRequestError`.

    The header overrides the prompt, and `name.profile` overrides `name`.
    """
    in_prompt = _values(_IN_PROMPT.findall(prompt), profile)
    in_header = _values(filter(str.strip, header.split(";")), profile)
    return Directives(**{**in_prompt, **in_header})


def _values(items: Iterable[str], profile: str) -> dict[str, Any]:
    general: dict[str, Any] = {}
    scoped: dict[str, Any] = {}
    for item in items:
        name, scope, value = _parse(item)
        if scope and scope != profile.lower():
            continue
        values = scoped if scope else general
        if name == "tool":
            values["tools"] = (*values.get("tools", ()), value)
        else:
            values[name] = value
    return {**general, **scoped}


def _parse(item: str) -> tuple[str, str, Any]:
    """Return name, scope and value of one directive; also checks those of other profiles, so that typos are found."""
    key, _, text = item.partition("=")
    name, _, scope = key.strip().lower().partition(".")
    if name not in _READERS:
        raise BadRequestError(f"unknown directive {item.strip()!r}; known: {', '.join(_READERS)}")
    try:
        return name, scope, _READERS[name](text.strip())
    except ValueError:
        raise BadRequestError(f"bad number {text.strip()!r} in directive {item.strip()!r}") from None


def _non_negative(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or number < 0:
        raise ValueError(text)
    return number


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MAX_TOKENS:
        raise ValueError(text)
    return number


def _function(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise BadRequestError(f"bad name {text!r} in directive 'tool'")
    return text


def _flag(text: str) -> bool:
    if text:
        raise ValueError(text)
    return True


_READERS: dict[str, Callable[[str], Any]] = {
    "ttft": _non_negative,
    "rate": _non_negative,
    "tokens": _count,
    "fault": Fault.parse,
    "weak": _flag,
    "refuse": _flag,
    "reason": _count,
    "tool": _function,
}
