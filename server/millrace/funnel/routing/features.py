"""What the router knows of a prompt: its words and pairs of words, hashed, and some numbers. No word is stored.

Words, length and signs are those of the last user message alone. The system prompt, tools, context and history count
only as numbers. A long message costs no more than a short one: its middle is not read.
"""

import itertools
import math
import re
import zlib
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.types import Message, Prompt

VERSION = 1  # of the features; heads that were learned with others are of no use
SLOTS = 65_536  # for words and pairs of words
WORDS = 400  # of a message that are read: its first and last ones
SPAN = 2_000  # characters of a message that are read at either end
CALLS = 20  # the last tool calls, among which one may be repeated
LONG = 9  # letters of a long word
NUMBERS = (
    "length",
    "lines",
    "digits",
    "signs",
    "numbers",
    "questions",
    "long words",
    "length of words",
    "capitals",
    "code",
    "turns",
    "tools",
    "failed tool",
    "repeated call",
    "context",
    "always",  # the intercept
)
LENGTH = SLOTS + NUMBERS.index("length")
ALWAYS = SLOTS + NUMBERS.index("always")
WIDTH = SLOTS + len(NUMBERS)

_SCALE = 0.2  # of numbers beside words: the values of all words of a message have the norm 1
_MOST = 3.0  # a number lies within so many of its usual deviations; the length may pass that
_HEAD = 5  # bytes in front of packed features: version, and the count of slots
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"  # scripts
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W\d_{_UNSPACED}]+|\d+|[^\w\s]")  # without spaces each letter is a word
_FAILED = re.compile(r"\b(?:error|failed|failure|exception|traceback|not found|denied)\b", re.IGNORECASE)
_FAILED_WITHIN = 300  # characters of a tool's result in which a failure is named


class Features(Struct, frozen=True, kw_only=True):
    """The features of one prompt: the values of some of `WIDTH` slots, of which the last ones are `NUMBERS`."""

    slots: NDArray[np.uint32]
    values: NDArray[np.float32]
    terms: tuple[str, ...] = ()  # what each slot stands for; not packed

    def packed(self) -> bytes:
        """Return slots and values as bytes, without any word."""
        words = self.slots[: -len(NUMBERS)].astype(np.uint16)
        head = bytes([VERSION]) + len(words).to_bytes(_HEAD - 1, "little")
        return head + words.tobytes() + self.values.astype(np.float16).tobytes()

    @classmethod
    def unpacked(cls, packed: bytes) -> "Features | None":
        """Return them from bytes; None if another version packed them, or they are damaged."""
        if len(packed) < _HEAD or packed[0] != VERSION:
            return None
        count = int.from_bytes(packed[1:_HEAD], "little")
        if len(packed) != _HEAD + 4 * count + 2 * len(NUMBERS):
            return None
        words = np.frombuffer(packed, np.uint16, count, _HEAD).astype(np.uint32)
        values = np.frombuffer(packed, np.float16, count + len(NUMBERS), _HEAD + 2 * count).astype(np.float32)
        return cls(slots=np.concatenate([words, _OWN]), values=values) if bool(np.isfinite(values).all()) else None


_OWN = np.arange(SLOTS, WIDTH, dtype=np.uint32)  # slots of the numbers


def features_of(prompt: Prompt) -> Features:
    """Return the features of a prompt: of its last user message, and of the conversation around it."""
    messages = prompt.messages
    users = [message for message in messages if message.role == "user"]
    text = users[-1].text if users else ""
    around = (
        _about(math.log1p(len(users)), 0.7, 0.7),
        _about(math.log1p(len(prompt.tools)), 0.0, 1.5),
        float(last_tool_failed(messages)),
        float(is_call_repeated(messages)),
        _about(math.log1p(max(prompt.size + len(prompt.context) - len(text), 0)), 4.0, 4.0),
    )
    return _features(text, around)


def _features(text: str, around: Sequence[float]) -> Features:
    read = text if len(text) <= 2 * SPAN else f"{text[:SPAN]} {text[-SPAN:]}"
    found = _WORD.findall(read)
    words = [f"#{len(word)}" if word.isdigit() else word for word in map(str.lower, found)]
    if len(words) > WORDS:
        words = words[: WORDS // 2] + words[-WORDS // 2 :]
    counts: dict[int, int] = {}
    terms: list[str] = []  # the first one of each slot
    for term in (*words, *map(" ".join, itertools.pairwise(words))):
        slot = zlib.crc32(term.encode("utf-8", "replace")) % SLOTS
        if slot in counts:
            counts[slot] += 1
        else:
            counts[slot] = 1
            terms.append(term)
    values = np.log1p(np.fromiter(counts.values(), np.float32, len(counts)))
    norm = float(np.sqrt(values @ values)) or 1.0
    numbers = np.array([*_numbers(text, read, found), *around, 1 / _SCALE], np.float32) * _SCALE
    return Features(
        slots=np.concatenate([np.fromiter(counts, np.uint32, len(counts)), _OWN]),
        values=np.concatenate([values / norm, numbers]),
        terms=(*terms, *NUMBERS),
    )


def _numbers(text: str, read: str, found: list[str]) -> tuple[float, ...]:
    """Return the numbers of the text, each as its distance from what is usual, in usual deviations."""
    size = max(len(read), 1)
    words = [word for word in found if word[0].isalpha()]
    letters = sum(map(len, words))
    count = max(len(words), 1)
    figures = [word for word in found if word[0].isdigit()]
    return (
        (math.log1p(len(text)) - 5.5) / 1.5,
        _about(math.log1p(text.count("\n")), 1.0, 1.5),
        _about(sum(map(len, figures)) / size, 0.03, 0.05),
        _about(sum(map(read.count, "+-*/=<>^%")) / size, 0.02, 0.04),
        _about(math.log1p(len(figures)), 1.0, 1.0),
        _about(read.count("?"), 1.0, 1.5),
        _about(len([word for word in words if len(word) >= LONG]) / count, 0.1, 0.1),
        _about(letters / count, 5.0, 1.0),
        _about(len([word for word in words if word[0].isupper()]) / count, 0.15, 0.15),
        float("```" in read),
    )


def _about(value: float, usual: float, deviation: float) -> float:
    return min(max((value - usual) / deviation, -_MOST), _MOST)


def last_tool_failed(messages: Sequence[Message]) -> bool:
    """Whether the last message is a tool's result that is, or begins like, a failure."""
    last = messages[-1] if messages else None
    if last is None or last.role != "tool":
        return False
    return last.is_error or any(_FAILED.search(text[:_FAILED_WITHIN]) for text in last.texts[:1])


def is_call_repeated(messages: Sequence[Message]) -> bool:
    """Whether the last tool call is one of those shortly before it, with the same result: the model goes in circles.

    With another result it looked at what it had changed, such as by running the tests once more.
    """
    calls = (call for message in reversed(messages) for call in reversed(message.calls))
    recent = [*itertools.islice(calls, CALLS)]
    if not any((call.name, call.arguments) == (recent[0].name, recent[0].arguments) for call in recent[1:]):
        return False
    results = {message.call_id: message.text for message in messages if message.role == "tool"}
    said = [(call.name, call.arguments, results.get(call.id)) for call in recent]
    return said[0] in said[1:]
