"""What a caller may ask of the simulator, in `[name=value]` inside a prompt or in `X-Simulate`.

`ttft=S`, `rate=N` (tokens/s), `tokens=N` (of text), `fault=KIND` or `fault=KIND@N`; `weak`: the weak model answers
badly; `refuse`: the answer is marked as a refusal; `reason=N`: so many tokens of reasoning come first; `tool=NAME`: it
calls this function, given twice, two at once. `name.small` and `name.large` are for one profile only.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from millrace.simulator.faults import Fault
from millrace.simulator.shapes import BadRequestError

HEADER = "X-Simulate"
MAX_TOKENS = 100_000  # an answer is built in memory before it is sent

# Other text in brackets is the caller's own and stays in the prompt.
_SCOPE = r"(?:\.[\w-]+)?"
_IN_PROMPT = re.compile(
    rf"\[\s*((?:weak|refuse){_SCOPE}|(?:ttft|rate|tokens|fault|reason|tool){_SCOPE}\s*=[^\]\n]*)\s*\]",
    re.IGNORECASE,
)
_NAME = re.compile(r"[\w-]{1,64}")


@dataclass(frozen=True, slots=True)
class Directives:
    """The directives that act on one call; None where the profile decides."""

    ttft: float | None = None
    rate: float | None = None
    tokens: int | None = None
    fault: Fault | None = None
    weak: bool = False
    refuse: bool = False
    reason: int = 0
    tools: tuple[str, ...] = ()


def without_directives(text: str) -> str:
    """The text as a person would have typed it: no directives, single spaces."""
    return " ".join(_IN_PROMPT.sub(" ", text).split())


def read_directives(prompt: str, header: str, profile: str) -> Directives:
    """Read both places; the header goes first, and `name.profile` goes before `name`."""
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
    """Split and check one directive, also one for another profile: a typo should never pass."""
    key, _, written = item.partition("=")
    name, _, scope = key.strip().lower().partition(".")
    if name not in _READERS:
        raise BadRequestError(f"unknown directive {item.strip()!r}; known: {', '.join(_READERS)}")
    try:
        return name, scope, _READERS[name](written.strip())
    except ValueError:
        raise BadRequestError(f"bad number {written.strip()!r} in directive {item.strip()!r}") from None


def _measure(written: str) -> float:
    number = float(written)
    if not math.isfinite(number) or number < 0:
        raise ValueError(written)
    return number


def _count(written: str) -> int:
    number = int(written)
    if not 0 <= number <= MAX_TOKENS:
        raise ValueError(written)
    return number


def _function(written: str) -> str:
    if not _NAME.fullmatch(written):
        raise BadRequestError(f"bad name {written!r} in directive 'tool'")
    return written


def _flag(written: str) -> bool:
    if written:
        raise ValueError(written)
    return True


_READERS: dict[str, Callable[[str], Any]] = {
    "ttft": _measure,
    "rate": _measure,
    "tokens": _count,
    "fault": Fault.parse,
    "weak": _flag,
    "refuse": _flag,
    "reason": _count,
    "tool": _function,
}
