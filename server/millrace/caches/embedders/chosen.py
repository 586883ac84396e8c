"""Which embedder finds candidates, and what aligns and compares them: what is installed or configured decides."""

from msgspec import Struct

from millrace.caches.embedders import weights
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.process import MiniLMProcess
from millrace.caches.embedders.remote import RemoteEmbedder
from millrace.caches.finder import Finder
from millrace.ports import Embedder


class Embedders(Struct, frozen=True):
    """What a semantic cache works with."""

    embedder: Embedder
    finder: Finder | None = None
    comparer: MiniLMProcess | None = None
    remote: RemoteEmbedder | None = None  # the embedder, if it is behind an API

    @property
    def name(self) -> str:
        """What finds and compares, in words."""
        compared = self.comparer.name if self.comparer is not None else ""
        return f"{self.remote.name} {compared}".strip() if self.remote is not None else compared or self.embedder.name

    def load(self) -> None:
        """Load what a first lookup waits for otherwise. Blocks for about 0.1 s."""
        if self.finder is not None:
            self.finder.load()

    def close(self) -> None:
        """End the comparer's process. Blocks for a moment."""
        if self.comparer is not None:
            self.comparer.close()


def installed(remote: RemoteEmbedder | None = None) -> Embedders:
    """Return MiniLM with its finder where its weights are installed, else hashed n-grams.

    An embedder behind an API takes the place of what finds; what compares stays.
    """
    comparer = MiniLMProcess() if weights.available() else None
    if remote is not None:
        return Embedders(remote, None, comparer, remote)
    if comparer is None:
        return Embedders(Hashing())
    finder = Finder()
    return Embedders(finder, finder, comparer)
