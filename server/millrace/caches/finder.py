"""Finds candidates for MiniLM in a fiftieth of its time, in two steps. What it misses is a miss.

The first is a vector, which is searched for. One part of it is `Hashing` in fewer dimensions. The other is the mean of
MiniLM's vectors of the tokens before its layers, of which the leading directions are kept. On `qqp_dev` and
`paraphrases.jsonl`, 99.9 % of the partners that MiniLM puts first at a cosine of .70 or more are among the best 32 of
6,097; `tests/measure_semantic.py --recall` measures it.

The second aligns a question with each of these, token by token, because a vector cannot tell the many questions that
differ from it in one word only from one that says the same in other words. A question of which three tokens have no
likeness in the other says something else.
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.weights import MAX_TOKENS, WORDS, Array, installed, tensors, tokenizer

HASHED = 160  # dimensions of the first part
DIRECTIONS = 96  # of the second
FILE = Path(__file__).parent / "directions.npy"  # the mean and the directions, made by tests/training/directions.py
MOST_ALIGNED = 64  # tokens of a text, the rarest

_SHARE = 0.4  # of the first part in a cosine
_WORDS = 1995  # tokens before this one are no words or parts of words
_COMMON = 20  # words that weigh about the same, as the most frequent do
_SHARPNESS = 3  # exponent of the weight of a token in an alignment
_LIKENESS = np.float32(0.3)  # cosine of a token with its likeness, at least
_HEAVY = np.float32(0.05)  # part of the weight of the rarest token; what weighs less is grammar
_MOST_UNLIKE = 2  # tokens of one side without a likeness; 98 % of the pairs that are served have no more
_UNKNOWN = np.uint16(100).tobytes()  # the token of what has none
_TOKEN_BYTES = 2  # of a token, as an entry keeps it
_CHUNK = 2048  # tokens whose vectors are in memory at once
_LOADING = Lock()  # a lookup waits for what the start has begun to load
_PIECE = re.compile(r"[a-z0-9]+|[^a-z0-9\s]")  # of a plain text in lower case: each has its own tokens


class Finder:
    """Needs the weights, which stay on disk but for 6 MB."""

    name = "finder-1"  # vectors of another version cannot be compared
    dimensions = HASHED + DIRECTIONS
    quick = True
    threshold = 0.5  # 99 % of the partners at .70 or more of MiniLM are above it
    least = 0.65  # alignment of a candidate; of the pairs that would be served, 96 % are above it

    def __init__(self, folder: Path | None = None) -> None:
        """Look for the installed weights, or those in a folder. Raises `WeightsError` if there are none."""
        self._folder = folder or installed()
        self._hashing = Hashing(HASHED)
        tensors(self._folder)

    def load(self) -> None:
        """Load what `embed` needs; the first call of it does so otherwise. Blocks for about 0.1 s."""
        _load(self._folder)

    def embed(self, text: str) -> Array:
        """Return a vector of unit length, shape (256,)."""
        ids, units, lengths, _ = self._loaded
        tokens = ids(text)
        meaning: Array = lengths[tokens] @ units[tokens].astype(np.float32)
        length = float(meaning @ meaning) ** 0.5
        if length == 0:
            meaning[0] = length = 1.0
        meaning *= np.float32((1 - _SHARE) ** 0.5 / length)
        hashed = self._hashing.embed(text)
        hashed *= np.float32(_SHARE**0.5)
        return np.concatenate((hashed, meaning))

    def tokens(self, text: str) -> bytes:
        """Return what `align` needs of a text."""
        ids, _, _, _ = self._loaded
        return np.array(sorted(set(ids(text).tolist()))[-MOST_ALIGNED:], np.uint16).tobytes()

    def align(self, asked: bytes, others: Sequence[bytes]) -> list[float]:
        """Return, for each of the others, how similar its tokens are to those of the question, at most 1.

        That is the mean over all tokens of both sides of the cosine with the most similar one of the other side. It is
        0 if too many tokens of one side have no likeness on the other.
        """
        _, units, _, weights = self._loaded
        sizes = [len(tokens) // _TOKEN_BYTES for tokens in others]
        begins = [*accumulate(sizes[:-1], initial=0)]
        mine, theirs = np.frombuffer(asked, np.uint16), np.frombuffer(b"".join(others), np.uint16)
        cosines = units[mine].astype(np.float32) @ units[theirs].astype(np.float32).T
        my_weights, their_weights = weights[mine], weights[theirs]
        mine_at_best, theirs_at_best = np.maximum.reduceat(cosines, begins, axis=1), cosines.max(axis=0)
        forth = my_weights @ mine_at_best / my_weights.sum()
        back = np.add.reduceat(theirs_at_best * their_weights, begins) / np.add.reduceat(their_weights, begins)
        least = _HEAVY * np.maximum(my_weights.max(), np.maximum.reduceat(their_weights, begins))
        of_mine = ((mine_at_best < _LIKENESS) & (my_weights[:, None] >= least)).sum(axis=0)
        is_unlike = (theirs_at_best < _LIKENESS) & (their_weights >= np.repeat(least, sizes))
        unlike = np.maximum(of_mine, np.add.reduceat(is_unlike.astype(np.int32), begins))
        means: list[float] = np.where(unlike > _MOST_UNLIKE, 0, (forth + back) / 2).tolist()
        return means

    @property
    def _loaded(self) -> "_Loaded":
        return _load(self._folder)


class _Ids:
    """The tokens of a text. The words of a plain text are kept, since most come again and again."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._recent = lru_cache(64)(self._read)  # of one question they are needed twice
        self._of_piece = lru_cache(4096)(self._encoded)

    def __call__(self, text: str) -> NDArray[np.uint16]:
        return self._recent(text)

    def _read(self, text: str) -> NDArray[np.uint16]:
        # The tokenizer cuts such a text as `_PIECE` does, but for its special tokens, which are in brackets.
        if text.isascii() and text.isprintable() and "[" not in text and len(text) <= MAX_TOKENS:
            found = b"".join(map(self._of_piece, _PIECE.findall(text.lower())))
        else:
            found = self._encoded(text)
        return np.frombuffer(found or _UNKNOWN, np.uint16)

    def _encoded(self, text: str) -> bytes:
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.uint16).tobytes()


_Loaded = tuple[_Ids, NDArray[np.float16], Array, Array]


@cache
def _load(folder: Path) -> _Loaded:
    with _LOADING:
        return _read(folder)


@cache
def _read(folder: Path) -> _Loaded:
    """Return the tokens of texts and, for each, a unit vector, its length in a sum, and its weight in an alignment."""
    words = tensors(folder)[WORDS]
    # Words are numbered by falling frequency, so the logarithm of the number tells how rare one is (Zipf's law).
    ranks = np.maximum(0, np.arange(len(words), dtype=np.float32) - _WORDS)
    rarity = np.log(_COMMON + ranks) - np.float32(2.5)
    units, lengths = _reduced(words)
    return _Ids(tokenizer(folder)), units, lengths * rarity, rarity**_SHARPNESS


def _reduced(words: Array) -> tuple[NDArray[np.float16], Array]:
    """Return the direction of each token from the mean, in the leading directions: unit vectors and lengths."""
    found = np.load(FILE)
    mean, leading = found[0], found[1:].T
    units = np.empty((len(words), DIRECTIONS), np.float16)
    lengths = np.empty(len(words), np.float32)
    for begin in range(0, len(words), _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        reduced = _unit(words[chunk] - mean) @ leading
        lengths[chunk] = np.linalg.norm(reduced, axis=1)
        units[chunk] = _unit(reduced)
    return units, lengths


def _unit(rows: Array) -> Array:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
