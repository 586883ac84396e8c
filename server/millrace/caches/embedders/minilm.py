"""all-MiniLM-L6-v2 in numpy: no torch, no download.

The network is BERT (Devlin et al. 2018, arXiv 1810.04805) with six layers. The mean of its token vectors is the vector
of the text, as in Sentence-BERT (Reimers and Gurevych 2019, arXiv 1908.10084).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from millrace.caches.embedders.transformer import WIDTH, embedding, in_columns, layer, layer_norm, spans
from millrace.caches.embedders.weights import NAME, Array, check, installed, tensors, tokenizer

LAYERS = 6


class MiniLM:
    """The network and its tokenizer. Loading takes about 0.3 s, a short question about 6 ms."""

    name = NAME
    dimensions = WIDTH
    quick = False

    def __init__(self, folder: Path | None = None) -> None:
        """Load the installed weights, or a folder's. Raises `WeightsError` if they are not the published ones."""
        folder = folder or installed()
        check(folder)
        self._tokenizer = tokenizer(folder)
        named = tensors(folder)
        self._embedding = embedding(folder)
        self._norm = layer_norm(named, "embeddings.LayerNorm")
        self._layers = [layer(named, f"encoder.layer.{index}") for index in range(LAYERS)]

    def embed(self, text: str) -> Array:
        """Return a vector of unit length, shape (384,). Text after the first 256 tokens is ignored."""
        vector: Array = self.embed_all([text])[0]
        return vector

    def embed_all(self, texts: Sequence[str]) -> Array:
        """Return a vector of unit length for each text, shape (texts, 384)."""
        rows = [self._tokenizer.encode(text).ids for text in texts]
        columns = spans(rows)
        x = self._norm(in_columns(self._embedding(rows)))
        for each in self._layers:
            x = each(x, columns)
        means: Array = np.stack([x[:, begin:end].mean(axis=1) for begin, end in columns])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        return means
