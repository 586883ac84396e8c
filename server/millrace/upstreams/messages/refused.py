"""What is learned from what the Messages API refuses. No I/O."""

import re
from collections.abc import Mapping
from typing import Any

from millrace.upstreams.quirks import DROPPABLE, SAMPLING, SIGNED_THINKING, STRICT, Change, is_meant

# The words of a refusal, and what mends it.
_MENDED = (
    (re.compile(r"adaptive thinking is not supported|thinking\.adaptive"), "with thinking.budget_tokens"),
    (re.compile(r"thinking\.type\.enabled\W+is not supported|thinking\.enabled"), "with adaptive thinking"),
    (re.compile(r"not support the effort parameter|output_config\.effort|does not support effort"), "without effort"),
    (re.compile(r"[Ii]nvalid `?signature`? in `?thinking"), f"without {SIGNED_THINKING}"),
    (re.compile(r"role\W+system\W+is not supported|messages\.\d+\.role|unexpected role"), "with system as user"),
)
_LIMIT = re.compile(r"max_tokens: \d+ > (\d+), which is the maximum")
_ROOM = re.compile(r"input length and `?max_tokens`? exceed context limit: (\d+) \+ \d+ > (\d+)")
_OF_STRICT_TOOLS = re.compile(r"\bstrict\b|tools\.\d+\S*(input_schema|strict)|schema is too complex", re.IGNORECASE)
_LEAST = 1


def change_for(refusal: str, sent: Mapping[str, Any]) -> Change | None:
    """Return the difference that the words of a 400 or 422 ask for; None if it is something else.

    `sent` are the fields of the refused request. Only what was sent can be left out.
    """
    if limit := _LIMIT.search(refusal):
        return Change(f"with at most {limit[1]} tokens")
    if room := _ROOM.search(refusal):
        return Change(f"with max_tokens {max(_LEAST, int(room[2]) - int(room[1]))}")
    is_mended = (what for pattern, what in _MENDED if pattern.search(refusal))
    if what := next(is_mended, None):
        return Change(what)
    if _OF_STRICT_TOOLS.search(refusal) and any(tool.get(STRICT) for tool in sent.get("tools", ())):
        return Change(f"without {STRICT}")
    words = set(re.findall(r"[a-z_]+", refusal.lower()))
    names = [name for name in (*SAMPLING, *DROPPABLE) if name in words and (name in sent or name == "cache_control")]
    return next((Change(f"without {name}") for name in names if is_meant(refusal, name)), None)
