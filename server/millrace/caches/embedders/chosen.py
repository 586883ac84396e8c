"""Which embedder finds candidates, and what aligns and compares them: what is installed decides."""

from dataclasses import dataclass

from millrace.caches.embedders import weights
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.process import MiniLMProcess
from millrace.caches.finder import Finder
from millrace.ports import Embedder


@dataclass(frozen=True, slots=True)
class Embedders:
    """What a semantic cache works with."""

    embedder: Embedder
    finder: Finder | None = None
    comparer: MiniLMProcess | None = None

    @property
    def name(self) -> str:
        """The name that is a part of every scope."""
        return (self.comparer or self.embedder).name

    def close(self) -> None:
        """End the comparer's process. Blocks for a moment."""
        if self.comparer is not None:
            self.comparer.close()


def installed() -> Embedders:
    """Return MiniLM with its finder where its weights are installed, else hashed n-grams."""
    if not weights.available():
        return Embedders(Hashing())
    finder = Finder()
    return Embedders(finder, finder, MiniLMProcess())
