"""What is decided of two questions by themselves."""

import threading

from millrace.caches.embedders.hashing import Hashing
from millrace.caches.pairs import PairJudge
from millrace.caches.segment import Vector


class Told(Hashing):
    """Says on which threads it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[threading.Thread] = set()

    def embed(self, text: str) -> Vector:
        self.threads.add(threading.current_thread())
        return super().embed(text)


async def test_judging_leaves_the_event_loop() -> None:
    """Of two long texts it takes a second."""
    embedder = Told()
    decision = await PairJudge(embedder).decide("How do I reset my password?", "how do I reset my password")
    assert decision.served
    assert embedder.threads.isdisjoint({threading.current_thread()})
    assert embedder.threads
