"""The semantic cache under load: never the long way round. No test waits for luck: the embedder waits for the test."""

import asyncio
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from millrace.caches import semantic, table
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.guards import Objection, Question, judge
from millrace.caches.objections import shown_objection
from millrace.caches.worker import StoppedError
from millrace.pruning import PRUNE_EVERY
from millrace.stores.database import SqliteDatabase
from millrace.types import SemanticHit, SemanticMiss
from tests.measure_semantic import read
from tests.support.looks import look
from tests.support.paths import REPOSITORY
from tests.support.semantic_cache import ASKED, REWORDED, SCOPE, answer, cache_of, stored
from tests.support.waiting import PATIENCE_S, until

KEPT = "How do I paint a fence?"


class Gated(Hashing):
    """Says what it is asked to embed, and waits at the gate."""

    quick = False

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.embedded: list[str] = []

    def embed(self, text: str) -> NDArray[np.float32]:
        self.embedded.append(text)
        assert self.gate.wait(30)
        return super().embed(text)


@pytest.fixture
def embedder() -> Iterator[Gated]:
    gated = Gated()
    yield gated
    gated.gate.set()


def reasons(found: list[semantic.Found]) -> Counter[str]:
    return Counter(miss.reason for miss in found if isinstance(miss, SemanticMiss))


async def kept(database: SqliteDatabase) -> int:
    (count,) = await look(
        database, lambda connection: connection.execute("SELECT count(*) FROM semantic_entries").fetchone()
    )
    assert isinstance(count, int)
    return count


async def test_a_burst_is_answered_in_time(database: SqliteDatabase, embedder: Gated) -> None:
    """60 at once before a worker that hangs: few wait, those until the deadline; later it serves none of the gone."""
    cache = cache_of(database, embedder, deadline_s=0.5, max_waiting=4)
    cache.store(SCOPE, "tenant", KEPT, answer("So."))
    await stored(cache)
    embedder.gate.clear()
    found = await asyncio.gather(*(cache.find(SCOPE, f"How do I build house {number}?") for number in range(60)))
    assert reasons(found) == {"the lookup took too long": 4, "too many lookups at once": 56}
    embedder.gate.set()
    await stored(cache)
    assert embedder.embedded == [KEPT, "How do I build house 0?"]  # three were in line, and are skipped
    await cache.close()


async def test_a_caller_that_leaves(database: SqliteDatabase, embedder: Gated) -> None:
    """Its place is free at once, and its question is not embedded."""
    cache = cache_of(database, embedder, max_waiting=2)
    cache.store(SCOPE, "tenant", KEPT, answer("So."))
    await stored(cache)
    embedder.gate.clear()
    asking = [asyncio.create_task(cache.find(SCOPE, f"How do I build house {number}?")) for number in range(2)]
    await until(lambda: len(embedder.embedded) == 2)
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    assert all(task.cancelled() for task in asking)
    last = asyncio.create_task(cache.find(SCOPE, KEPT))
    embedder.gate.set()
    assert isinstance(await last, SemanticHit)
    assert "How do I build house 1?" not in embedder.embedded
    await cache.close()


async def test_what_is_found_counts_though_the_loop_was_late(database: SqliteDatabase, embedder: Gated) -> None:
    """The deadline is for the worker."""
    cache = cache_of(database, embedder, deadline_s=1.0)
    cache.store(SCOPE, "tenant", ASKED, answer("So."))
    await stored(cache)
    asked = asyncio.create_task(cache.find(SCOPE, REWORDED))
    await asyncio.sleep(0)  # it has asked the worker
    cache._worker.submit_lookup(lambda: None).result(PATIENCE_S)  # the loop stands still until the worker is done
    time.sleep(1.1)  # noqa: ASYNC251 - and until the deadline has passed
    assert isinstance(await asked, SemanticHit)
    await cache.close()


async def test_lookups_overtake_stores(database: SqliteDatabase, embedder: Gated) -> None:
    """All but the one store that has begun."""
    cache = cache_of(database, embedder)
    cache.store(SCOPE, "tenant", KEPT, answer("So."))
    await stored(cache)
    embedder.gate.clear()
    for number in range(40):
        cache.store(SCOPE, "tenant", f"How do I build house {number}?", answer("So."))
    await until(lambda: len(embedder.embedded) == 2)
    asked = asyncio.create_task(cache.find(SCOPE, ASKED))
    await until(lambda: bool(cache._worker._first))
    embedder.gate.set()
    await asked
    await stored(cache)
    assert embedder.embedded[2] == ASKED
    assert len(embedder.embedded) == 42
    await cache.close()


async def test_too_many_stores_are_not_kept(database: SqliteDatabase, embedder: Gated) -> None:
    """And counted. What could never be served takes no place for long."""
    cache = cache_of(database, embedder, max_stores=3)
    embedder.gate.clear()
    for number in range(8):
        cache.store(SCOPE, "tenant", f"How do I build house {number}?", answer("So."))
    assert cache.skipped == 5
    embedder.gate.set()
    await stored(cache)
    cache.store(SCOPE, "tenant", ASKED, answer("So."))
    await cache.close()
    assert cache.skipped == 5
    assert await kept(database) == 4


async def test_a_miss_leaves_its_vector_for_the_store(database: SqliteDatabase, embedder: Gated) -> None:
    """A question is embedded once."""
    cache = cache_of(database, embedder)
    cache.store(SCOPE, "tenant", KEPT, answer("So."))
    await stored(cache)
    await cache.find(SCOPE, ASKED)
    cache.store(SCOPE, "tenant", ASKED, answer("So."))
    await stored(cache)
    assert embedder.embedded == [KEPT, ASKED]
    await cache.close()


async def test_closing_is_bounded(database: SqliteDatabase, embedder: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for what hangs; the rest is dropped and counted, and nothing more is begun or looked for."""
    monkeypatch.setattr(semantic, "_CLOSING_S", 0.02)
    cache = cache_of(database, embedder)
    embedder.gate.clear()
    for number in range(10):
        cache.store(SCOPE, "tenant", f"How do I build house {number}?", answer("So."))
    await until(lambda: len(embedder.embedded) == 1)
    await cache.close()
    assert not embedder.gate.is_set()
    assert cache.skipped == 9
    embedder.gate.set()
    await asyncio.to_thread(cache._worker._thread.join)
    assert len(embedder.embedded) == 1
    cache.store(SCOPE, "tenant", ASKED, answer("too late"))
    assert isinstance(await cache.find(SCOPE, ASKED), SemanticMiss)
    assert isinstance(cache._worker.submit_lookup(lambda: None).exception(), StoppedError)


async def test_closing_stores_what_is_in_line(database: SqliteDatabase, embedder: Gated) -> None:
    """Where there is time."""
    cache = cache_of(database, embedder)
    for number in range(10):
        cache.store(SCOPE, "tenant", f"How do I build house {number}?", answer("So."))
    await cache.close()
    assert (await kept(database), cache.skipped) == (10, 0)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
async def test_a_scope_that_cannot_be_loaded(
    database: SqliteDatabase, embedder: Gated, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A miss, whatever broke; the next lookup tries again."""
    cache = cache_of(database, embedder)
    cache.store(SCOPE, "tenant", ASKED, answer("So."))
    await stored(cache)
    await database.ready()
    cache._scopes.partitions.clear()

    def breaks(_: sqlite3.Connection) -> list[Any]:
        raise error

    monkeypatch.setattr(cache._table, "page", lambda *_: database.scan(breaks, within_s=30))
    found = await cache.find(SCOPE, ASKED)
    assert found == SemanticMiss(reason="the lookup failed", similarity=None)
    monkeypatch.undo()
    assert isinstance(await cache.find(SCOPE, ASKED), SemanticHit)
    await cache.close()


async def test_a_database_that_hangs(
    database: SqliteDatabase, embedder: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker goes on after a while, and what it no longer waits for is not read."""
    monkeypatch.setattr(table, "SELECT_S", 0.02)
    cache = cache_of(database, embedder)
    gate = threading.Event()
    scan = asyncio.create_task(asyncio.to_thread(database.scan, lambda _: gate.wait(30), within_s=30))
    await asyncio.sleep(0)
    assert await cache.find(SCOPE, ASKED) == SemanticMiss(reason="the lookup failed", similarity=None)
    gate.set()
    await scan
    await cache.close()


async def test_the_expired_crowd_out_nobody(database: SqliteDatabase, embedder: Gated) -> None:
    """Four expired ones are nearer than the fresh one; they leave memory, in scopes that nobody asks too."""
    now = 1000.0
    cache = cache_of(database, embedder, wall=lambda: now)
    for number in range(4):
        cache.store(SCOPE, "tenant", f"How do I reset my password {number}?", answer("old"))
    cache.store(b"o" * 32, "tenant", ASKED, answer("old"))
    await stored(cache)
    now = 1050.0
    cache.store(SCOPE, "tenant", "How can I reset the password 7?", answer("fresh"))
    await stored(cache)
    now = 1070.0
    found = await cache.find(SCOPE, "How do I reset the password 7?")
    assert isinstance(found, SemanticHit)
    assert found.answer.text == "fresh"
    assert len(cache._scopes.partitions[SCOPE]) == 1
    cache._table.pruner.stores = PRUNE_EVERY - 1
    cache.store(SCOPE, "tenant", KEPT, answer("fresh"))
    await stored(cache)
    assert len(cache._scopes.partitions[b"o" * 32]) == 0
    await cache.close()


async def test_a_clock_that_was_set_back(database: SqliteDatabase, embedder: Gated) -> None:
    """An expired entry behind a younger one is still not served."""
    now = 9000.0
    cache = cache_of(database, embedder, wall=lambda: now)
    cache.store(SCOPE, "tenant", KEPT, answer("of the future"))
    await stored(cache)
    now = 1000.0
    cache.store(SCOPE, "tenant", ASKED, answer("old"))
    await stored(cache)
    now = 1060.0
    assert isinstance(await cache.find(SCOPE, ASKED), SemanticMiss)
    await cache.close()


# What the asker is told.


@pytest.mark.parametrize(
    ("kept_question", "asked", "shown"),
    [
        ("How do I cancel order 1001?", "How do I cancel order 1002?", "numbers differ: 1002"),
        ("How long is a five day visa?", "How long is a ten day visa?", "numbers differ: 10"),
        ("What is the capital of France?", "What is the capital of Germany?", "names differ: germany"),
        ("How do I paint a secret fence?", "How do I paint a fence?", "only one says"),
        ("How do I paint a fence?", "How do I paint a red fence?", "only one says: red"),
    ],
)
def test_the_askers_side(kept_question: str, asked: str, shown: str) -> None:
    objection = judge(Question.read(kept_question), Question.read(asked)).objections[0]
    assert shown_objection(objection, Question.read(asked), asked) == shown


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def test_no_word_of_the_stored_question() -> None:
    """Of all the near misses there are, both ways: no word behind the colon but the asker's own."""
    for pair in read(REPOSITORY / "tests" / "data" / "paraphrases.jsonl"):
        for kept_question, asked in ((pair.a, pair.b), (pair.b, pair.a)):
            for each in judge(Question.read(kept_question), Question.read(asked), fully=True).objections:
                _, _, own = shown_objection(each, Question.read(asked), asked).partition(": ")
                of_the_other = _words(kept_question.lower()) - _words(asked.lower())
                assert not _words(own) & of_the_other
    theirs = Objection("replaced word", "words differ: secret / fence", ("secret", "fence"))
    assert shown_objection(theirs, Question.read("a gate"), "a gate") == "words differ"
