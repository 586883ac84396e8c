"""What the router knows of a prompt: its words and pairs of words, hashed, and a dozen numbers. No word is kept."""

import itertools
import math
import re
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from millrace.types import Prompt

VERSION = 1  # of the features; heads that were learned with others are of no use
SLOTS = 65_536  # for words and pairs of words
NUMBERS = ("length", "lines", "digits", "signs", "questions", "long_words", "code", "turns", "tools")
LONG = 9  # characters of a long word
_HEAD = 5  # bytes in front of packed features: version and count
WORDS = 400  # of a question that are read: its first and last ones

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The features of one prompt: values of some slots, the numbers behind the hashed ones."""

    slots: NDArray[np.uint32]
    values: NDArray[np.float32]

    def packed(self) -> bytes:
        """Return them as bytes."""
        count = len(self.slots).to_bytes(4, "little")
        return bytes([VERSION]) + count + self.slots.tobytes() + self.values.astype(np.float16).tobytes()

    @classmethod
    def unpacked(cls, packed: bytes) -> "Features | None":
        """Return them from bytes; None if another version packed them, or they are damaged."""
        if len(packed) < _HEAD or packed[0] != VERSION:
            return None
        count = int.from_bytes(packed[1:5], "little")
        if len(packed) != _HEAD + 6 * count:
            return None
        slots = np.frombuffer(packed, np.uint32, count, _HEAD)
        if count and int(slots.max()) >= SLOTS + len(NUMBERS):
            return None
        return cls(slots=slots, values=np.frombuffer(packed, np.float16, count, _HEAD + 4 * count).astype(np.float32))


def features_of(prompt: Prompt) -> Features:
    """Return the features of a prompt: of its last user message, and of the conversation around it."""
    users = [message for message in prompt.messages if message.role == "user"]
    return features_of_text(users[-1].text if users else "", turns=len(users), tools=len(prompt.tools))


def features_of_text(text: str, *, turns: int = 1, tools: int = 0) -> Features:
    """Return the features of a question."""
    words = [word if not word.isdigit() else f"#{len(word)}" for word in _WORD.findall(text.lower())]
    if len(words) > WORDS:
        words = words[: WORDS // 2] + words[-WORDS // 2 :]
    counts: dict[int, int] = {}
    for term in (*words, *(f"{one} {other}" for one, other in itertools.pairwise(words))):
        slot = zlib.crc32(term.encode()) % SLOTS
        counts[slot] = counts.get(slot, 0) + 1
    slots = np.fromiter(counts, np.uint32, len(counts))
    values = np.log1p(np.fromiter(counts.values(), np.float32, len(counts)))
    norm = float(np.linalg.norm(values)) or 1.0
    numbers = np.array(_numbers(text, words, turns, tools), np.float32)
    own = np.arange(SLOTS, SLOTS + len(NUMBERS), dtype=np.uint32)
    return Features(slots=np.concatenate([slots, own]), values=np.concatenate([values / norm, numbers]))


def _numbers(text: str, words: list[str], turns: int, tools: int) -> list[float]:
    length = max(len(text), 1)
    return [
        math.log1p(length) / 10,
        math.log1p(text.count("\n")) / 5,
        sum(map(str.isdigit, text)) / length,
        sum(sign in "+-*/=<>^%" for sign in text) / length,
        min(text.count("?"), 5) / 5,
        sum(len(word) >= LONG for word in words) / max(len(words), 1),
        float("```" in text),
        math.log1p(turns) / 5,
        math.log1p(tools) / 5,
    ]
