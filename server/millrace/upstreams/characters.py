"""Joins characters that a provider has cut: surrogate halves and UTF-8 bytes that came in two events. No I/O.

Text of an event that is no valid UTF-8 is decoded with `surrogateescape`, so that a stray byte is one of U+DC80 to
U+DCFF. Halves that a JSON escape brings are surrogates too. What never becomes a character is shown as U+FFFD.
"""

import json
import re
from typing import Any

_CUT = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]+")
_LONGEST = 3  # bytes of a UTF-8 character that is not complete


class Characters:
    """The text of one kind in one answer."""

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending = ""  # half a character; it waits for its other half

    def join(self, text: str) -> str:
        """Return the whole characters of the pending half and a text."""
        text = self.pending + text
        self.pending = _tail(text)
        return whole(text.removesuffix(self.pending))

    def flush(self) -> str:
        """Return what is pending at the end of the answer, as U+FFFD."""
        text, self.pending = self.pending, ""
        return whole(text) if text else ""


def is_cut(text: str) -> bool:
    """Whether a text has half characters."""
    return not text.isascii() and _CUT.search(text) is not None


def whole(text: str) -> str:
    """Return a text without half characters."""
    if not is_cut(text):
        return text
    text = _PAIR.sub(lambda pair: pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), text)
    text = _BYTES.sub(lambda run: run[0].encode("utf-8", "surrogateescape").decode("utf-8", "replace"), text)
    return _CUT.sub("\ufffd", text)


def mended(given: Any) -> Any:
    """Return a JSON value whose texts and names have no half characters.

    It goes through JSON, which takes any depth that could be read.
    """
    text = json.dumps(given, ensure_ascii=False)
    return json.loads(whole(text), strict=False) if is_cut(text) else given


def _tail(text: str) -> str:
    """Return the end of a text that the next event may complete."""
    if "\ud800" <= text[-1:] <= "\udbff":
        return text[-1]
    for size in range(min(_LONGEST, len(text)), 0, -1):
        tail = text[-size:]
        if _BYTES.fullmatch(tail) and _may_begin_a_character(tail.encode("utf-8", "surrogateescape")):
            return tail
    return ""


def _may_begin_a_character(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.start == 0
    return False
