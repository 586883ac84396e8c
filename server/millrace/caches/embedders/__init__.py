"""Text -> vectors: MiniLM if its weights are installed, else hashed n-grams."""

from functools import cache

from millrace.caches.embedders import minilm
from millrace.caches.embedders.hashing import Hashing
from millrace.ports import Embedder


@cache
def best_installed() -> Embedder:
    """Return MiniLM if weights and loaders are installed, else the hashing embedder; one instance per process.

    Blocks for about 0.3 s. Raises `minilm.WeightsError` if the weights are not the published ones.
    """
    return minilm.MiniLM() if minilm.available() else Hashing()
