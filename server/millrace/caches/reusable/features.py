"""What the learned part sees of a request: hashed words, word pairs, its verb beside its other words, and its shape."""

import zlib
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from millrace.caches.reusable.reading import Sentence

VERSION = 1  # of all that is below: weights belong to one version
SIZE = 32768

_STEM = 4  # letters of a longer word that are a feature of their own, so that a typo or an ending matters less
_OBJECTS = 10  # words that the verb is paired with, at most
_WORDS = 60  # of a sentence, and sentences of a text, that are looked at, at most
_SENTENCES = 6


def features(parts: list[Sentence]) -> NDArray[np.int64]:
    """Return the indices of the features of a text, each below `SIZE`."""
    found = [_index(f"sentences {min(len(parts), 3)}")]
    for part in parts[:_SENTENCES]:
        words = part.words[:_WORDS]
        for word in words:
            found += _of_word(word)
        found += [_index(f"{left} {right}") for left, right in pairwise(("^", *words, "$"))]
        rest = part.rest.split(None, _OBJECTS + 1)[: _OBJECTS + 1]
        if rest:
            verb = rest[0]
            found.append(_index(f"verb {verb} {part.mood}"))
            found += [_index(f"{verb} ... {word}") for word in rest[1:]]
        found.append(_index(f"shape {part.mood} {part.general} {part.statement} {min(len(words) // 3, 5)}"))
    return np.array(found, np.int64)


def _index(feature: str) -> int:
    return zlib.crc32(feature.encode()) % SIZE


@lru_cache(maxsize=2048)
def _of_word(word: str) -> tuple[int, ...]:
    if word[0].isdigit():
        return (_index("number"),)
    return (_index(word), _index(f"{word[:_STEM]}-")) if len(word) > _STEM else (_index(word),)
