"""Text -> vectors: MiniLM where its weights are installed, hashed n-grams everywhere else."""

from functools import cache

from millrace.caches.embedders import minilm
from millrace.caches.embedders.hashing import Hashing
from millrace.ports import Embedder


@cache
def best_installed() -> Embedder:
    """Return MiniLM where weights and loaders are importable, else the hashing embedder; one for the whole process.

    Blocks for some 0.3 s. Raises `minilm.WeightsError` where the weights are not the published ones.
    """
    return minilm.MiniLM() if minilm.available() else Hashing()
