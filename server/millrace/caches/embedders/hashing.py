"""An embedder without weights: words, word pairs and letter triples, hashed to the same vector in every process.

The hashing trick of Weinberger et al. 2009 (arXiv 0902.2206): the hash of a feature gives its index and its sign, so
that collisions cancel out on average. It knows no meaning and only finds candidates; the strict guards decide.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 512

_WORD = re.compile(r"\w+")
_SHORT = 3  # letters; words this short are mostly grammar
_WEIGHTS = {"word": 1.0, "short": 0.2, "pair": 0.3, "triple": 0.25}


class Hashing:
    """The embedder that needs no extra package."""

    name = "hashing-1"
    dimensions = DIMENSIONS
    strict = True
    threshold = 0.5  # a rewording with the same content words must pass; the guards do the rest

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return a vector of unit length, shape (512,)."""
        vector = np.zeros(DIMENSIONS, np.float32)
        for (kind, feature), count in Counter(_features(text.lower())).items():
            hashed = zlib.crc32(f"{kind}:{feature}".encode())
            sign = 1 if hashed & 1 else -1
            vector[(hashed >> 1) % DIMENSIONS] += sign * _WEIGHTS[kind] * count**0.5
        length = np.linalg.norm(vector)
        if length == 0:  # only punctuation, or features that cancel out
            vector[0] = length = np.float32(1)
        unit: NDArray[np.float32] = vector / np.float32(length)
        return unit


def _features(text: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, feature)."""
    words = _WORD.findall(text)
    for word in words:
        short = len(word) <= _SHORT and not word.isdigit()
        yield ("short" if short else "word"), word
        if not short:
            padded = f"<{word}>"
            yield from (("triple", padded[at : at + 3]) for at in range(len(padded) - 2))
    yield from (("pair", f"{left} {right}") for left, right in pairwise(words))
