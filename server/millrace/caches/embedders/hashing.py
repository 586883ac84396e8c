"""An embedder without weights: words, word pairs and letter triples, hashed to the same vector in every process.

The hashing trick of Weinberger et al. 2009 (arXiv 0902.2206): the hash of a feature gives its index and its sign, so
that collisions cancel out on average. It knows no meaning and only finds candidates; where it stands alone,
the decision is stricter.
"""

import re
import zlib
from collections import Counter
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 512

_WORD = re.compile(r"\w+")
_SHORT = 3  # letters; words this short are mostly grammar
_LONG = 24  # letters; the features of a longer word are not kept, so that those of 8192 words take some 10 MB at most
_WORD_WEIGHT, _SHORT_WEIGHT, _PAIR_WEIGHT, _TRIPLE_WEIGHT = 1.0, 0.2, 0.3, 0.25


class Hashing:
    """The embedder that needs no extra package."""

    name = "hashing-1"
    quick = True
    threshold = 0.5  # a rewording with the same content words must pass; the rules and the decision do the rest

    def __init__(self, dimensions: int = DIMENSIONS) -> None:
        self.dimensions = dimensions

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return a vector of unit length, shape (dimensions,)."""
        words = _WORD.findall(text.lower())
        hashes = [zlib.crc32(f"pair:{left} {right}".encode()) for left, right in pairwise(words)]
        weights = [_PAIR_WEIGHT] * len(hashes)
        for word in words:
            more, weighing = _kept(word) if len(word) <= _LONG else _of_word(word)
            hashes += more
            weights += weighing
        if len(set(hashes)) < len(hashes):  # twice the same counts as the root of two
            counts = Counter(hashes)
            weights = [weight * counts[hashed] ** -0.5 for hashed, weight in zip(hashes, weights, strict=True)]
        vector = np.zeros(self.dimensions, np.float32)
        if hashes:
            found = np.array(hashes)
            vector += np.bincount((found >> 1) % self.dimensions, ((found & 1) * 2 - 1) * weights, self.dimensions)
        length = np.linalg.norm(vector)
        if length == 0:  # only punctuation, or features that cancel out
            vector[0] = length = np.float32(1)
        unit: NDArray[np.float32] = vector / np.float32(length)
        return unit


def _of_word(word: str) -> tuple[list[int], list[float]]:
    """Return the hashes of its features, and their weights."""
    if len(word) <= _SHORT and not word.isdigit():
        return [zlib.crc32(f"short:{word}".encode())], [_SHORT_WEIGHT]
    padded = f"<{word}>"
    triples = [zlib.crc32(f"triple:{padded[at : at + 3]}".encode()) for at in range(len(padded) - 2)]
    return [zlib.crc32(f"word:{word}".encode()), *triples], [_WORD_WEIGHT] + [_TRIPLE_WEIGHT] * len(triples)


_kept = lru_cache(maxsize=2048)(_of_word)
