"""Text -> a vector that finds candidates for MiniLM, in a fiftieth of its time. Whatever it misses is a miss.

One part is `Hashing` in fewer dimensions. The other is the mean of MiniLM's vectors of the tokens before its layers, of
which the leading directions are kept. On `qqp_dev` and `paraphrases.jsonl`, 99.9 % of the partners that MiniLM puts
first at a cosine of .70 or more are among the best 32 of 6,097; `tests/measure_semantic.py --recall` measures it.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.weights import WORDS, Array, installed, tensors, tokenizer

HASHED = 160  # dimensions of the first part
DIRECTIONS = 96  # of the second

_SHARE = 0.4  # of the first part in a cosine
_SPECIAL = 1000  # tokens before this one stand for no text
_WORDS = 1995  # tokens before this one are no words or parts of words
_COMMON = 20  # words that weigh about the same, as the most frequent do
_SAMPLE = 6  # every sixth token tells the directions as well as all do
_UNKNOWN = 100  # the token of what has none
_CHUNK = 2048  # tokens whose vectors are in memory at once


class Finder:
    """Needs the weights, which stay on disk but for 6 MB."""

    name = "finder-1"  # vectors of another version cannot be compared
    dimensions = HASHED + DIRECTIONS
    strict = False
    threshold = 0.5  # 99 % of the partners at .70 or more of MiniLM are above it

    def __init__(self, folder: Path | None = None) -> None:
        """Look for the installed weights, or those in a folder. Raises `WeightsError` if there are none."""
        self._folder = folder or installed()
        self._hashing = Hashing(HASHED)
        tensors(self._folder)

    def load(self) -> None:
        """Load what `embed` needs; the first call of it does so otherwise. Blocks for about 0.2 s."""
        self._loaded  # noqa: B018 - for its effect

    def embed(self, text: str) -> Array:
        """Return a vector of unit length, shape (256,)."""
        tokenizer, table = self._loaded
        tokens = tokenizer.encode(text, add_special_tokens=False).ids or [_UNKNOWN]
        meaning = table[tokens].sum(axis=0, dtype=np.float32)
        length = float(meaning @ meaning) ** 0.5
        if length == 0:
            meaning[0] = length = 1.0
        meaning /= np.float32(length)
        vector: Array = np.concatenate((self._hashing.embed(text), meaning))
        vector[:HASHED] *= np.float32(_SHARE**0.5)
        vector[HASHED:] *= np.float32((1 - _SHARE) ** 0.5)
        return vector

    @cached_property
    def _loaded(self) -> tuple[Any, NDArray[np.float16]]:
        return tokenizer(self._folder), _table(tensors(self._folder)[WORDS])


def _table(words: Array) -> NDArray[np.float16]:
    """Return a row for each token: its direction from the mean, weighted by how rare it is, in the leading directions.

    Words are numbered by falling frequency, so the logarithm of the number tells how rare one is (Zipf's law).
    """
    sample = words[_SPECIAL::_SAMPLE]
    mean = sample.mean(axis=0)
    sample = _unit(sample - mean)
    _, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    leading = directions[:, : -DIRECTIONS - 1 : -1]
    leading *= np.sign(leading.sum(axis=0))  # else it is up to the library
    ranks = np.maximum(0, np.arange(len(words), dtype=np.float32) - _WORDS)
    weights = np.log(_COMMON + ranks) - np.float32(2.5)
    leading = leading.astype(np.float32)
    table = np.empty((len(words), DIRECTIONS), np.float16)
    for begin in range(0, len(words), _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        table[chunk] = _unit(words[chunk] - mean) @ leading * weights[chunk, None]
    return table


def _unit(rows: Array) -> Array:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
