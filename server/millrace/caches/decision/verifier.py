"""The verifier: a network that reads two questions together and tells whether one answer does for both.

It is a cross-encoder (Nogueira and Cho 2019, arXiv 1901.04085), made from the layers of MiniLM and trained by
`tests/training`. Its vectors of words are MiniLM's own, so that only its layers are in the package, in int8 with a
scale for each row.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from millrace.caches.embedders.transformer import WIDTH, embedding, gelu, in_columns, layer, layer_norm, linear, spans
from millrace.caches.embedders.weights import installed, tokenizer

FILE = Path(__file__).parent / "verifier.npz"
MOST_TOKENS = 110  # of each question; the rest is not read

_BEGIN, _BETWEEN = 101, 102  # the tokens [CLS] and [SEP]


class Verifier:
    """The network and its tokenizer. Loading takes about 0.2 s, a pair of short questions about 6 ms."""

    def __init__(self, folder: Path | None = None, file: Path = FILE) -> None:
        """Load the layers, and the vectors of words from a folder. Raises `WeightsError` if these are not there."""
        folder = folder or installed()
        self._embedding = embedding(folder)
        with np.load(file) as stored:
            named = dict(stored)
        self._tokenizer = tokenizer(folder)
        self._sides = named["sides"]  # (2, 384), added to the tokens of the first and the second question
        self._norm = layer_norm(named, "embeddings.LayerNorm")
        count = len({name.split(".")[2] for name in named if name.startswith("encoder.layer.")})
        self._layers = [layer(named, f"encoder.layer.{index}") for index in range(count)]
        self._hidden, self._last = linear(named, "hidden"), linear(named, "last")

    def judge_all(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return, for each pair, the logarithm of the odds that one answer does for both. The order does not matter."""
        sides = [sorted((self._tokens(a), self._tokens(b))) for a, b in pairs]
        rows = [[_BEGIN, *a, _BETWEEN, *b, _BETWEEN] for a, b in sides]
        columns = spans(rows)
        second = [
            int(len(a) + 2 <= at < len(row) - 1)
            for (a, _), row in zip(sides, rows, strict=True)
            for at in range(len(row))
        ]
        x = self._norm(in_columns(self._embedding(rows) + self._sides[second]))
        for each in self._layers:
            x = each(x, columns)
        pooled = np.empty((4 * WIDTH, len(rows)), np.float32)
        for at, ((a, _), (begin, end)) in enumerate(zip(sides, columns, strict=True)):
            middle = begin + 1 + len(a)
            u, v = x[:, begin + 1 : middle].mean(axis=1), x[:, middle + 1 : end - 1].mean(axis=1)
            pooled[:, at] = np.concatenate((u + v, np.abs(u - v), u * v, x[:, begin]))
        logits: list[float] = self._last(gelu(self._hidden(pooled)))[0].tolist()
        return logits

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids[:MOST_TOKENS]
        return tokens or [_BETWEEN]
