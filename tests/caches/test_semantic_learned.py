"""The semantic cache goes by what it was taught: known answers are served at once, refused ones not, and how freely.

It is a real cache on a real database; only the comparer says what the test wants.
"""

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.process import ComparingError
from millrace.caches.semantic import SqliteSemanticCache
from millrace.ports import Likeness
from millrace.stores.database import SqliteDatabase
from millrace.types import Lesson, SemanticHit, SemanticMiss, Steering, entry_id
from tests.support.semantic_cache import SCOPE, answer, cache_of, stored

STORED = "How do I reset my password?"
ASKED = "How do I reset the password of my account?"
FAR = "How can I get back into an account whose password is lost?"  # nothing finds the stored one by it
TENANT = "t"


class Saying:
    """Says the same of all pairs, and counts."""

    name = "saying"
    is_starting = False

    def __init__(self, log_odds: float, cosine: float = 0.9) -> None:
        self.asked = 0
        self.likeness = Likeness(cosine, log_odds)

    def compare(self, question: str, others: Sequence[str], by: float = 0.0) -> "Future[list[Likeness]]":
        """Say it."""
        self.asked += 1
        said: Future[list[Likeness]] = Future()
        said.set_result([self.likeness] * len(others))
        return said


class Silent(Saying):
    """Fails."""

    def compare(self, question: str, others: Sequence[str], by: float = 0.0) -> "Future[list[Likeness]]":
        """Fail."""
        self.asked += 1
        said: Future[list[Likeness]] = Future()
        said.set_exception(ComparingError("gone"))
        return said


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    """Return one on disk."""
    database = SqliteDatabase(str(tmp_path))
    yield database
    database.close()


async def taught(cache: SqliteSemanticCache, asked: str, log_ratio: float) -> None:
    """Teach that a question and the stored one have one answer, or not."""
    lesson = Lesson(
        scope=SCOPE,
        tenant=TENANT,
        asked_id=entry_id(SCOPE, asked),
        entry_id=entry_id(SCOPE, STORED),
        features={},
        log_ratio=log_ratio,
        weight=1.0,
    )
    cache.teach([lesson])
    await stored(cache)


async def kept(cache: SqliteSemanticCache) -> None:
    """Store an answer to the one question."""
    cache.store(SCOPE, TENANT, STORED, answer("Click on it."))
    await stored(cache)


async def test_what_is_known_to_have_the_answer_is_served_at_once(database: SqliteDatabase) -> None:
    """However far it is, and without asking the networks; a hit says what it was weighed by."""
    comparer = Silent(0.0)
    cache = cache_of(database, Hashing(), comparer=comparer)
    await kept(cache)
    assert isinstance(await cache.find(SCOPE, FAR, TENANT), SemanticMiss)
    await taught(cache, FAR, 6.0)
    found = await cache.find(SCOPE, FAR, TENANT)
    assert isinstance(found, SemanticHit)
    assert (found.near.asked_id, found.near.question) == (entry_id(SCOPE, FAR), STORED)
    assert found.similarity < 1.0
    assert comparer.asked == 0
    await cache.close()


async def test_what_is_known_to_have_another_answer_is_not_served(database: SqliteDatabase) -> None:
    """Although the networks are sure; later verdicts can mend it."""
    cache = cache_of(database, Hashing(), comparer=Saying(6.0, 0.97))
    await kept(cache)
    assert isinstance(await cache.find(SCOPE, ASKED, TENANT), SemanticHit)
    await taught(cache, ASKED, -9.0)
    found = await cache.find(SCOPE, ASKED, TENANT)
    assert isinstance(found, SemanticMiss)
    assert [each.entry_id for each in found.near] == [entry_id(SCOPE, STORED)]
    await taught(cache, ASKED, 9.0)
    assert isinstance(await cache.find(SCOPE, ASKED, TENANT), SemanticHit)
    await cache.close()


async def test_a_rule_that_keeps_questions_apart_is_not_overruled_by_what_is_known(database: SqliteDatabase) -> None:
    """A number that differs stays a reason."""
    cache = cache_of(database, Hashing(), comparer=Saying(6.0, 0.99))
    await kept(cache)
    other = "How do I reset my 2 passwords?"
    await taught(cache, other, 9.0)
    assert isinstance(await cache.find(SCOPE, other, TENANT), SemanticMiss)
    await cache.close()


async def test_a_scope_that_is_off_serves_nothing_and_says_what_it_would_have(database: SqliteDatabase) -> None:
    """So that it can be judged; other tenants' scopes serve on."""
    cache = cache_of(database, Hashing(), comparer=Saying(6.0, 0.97))
    await kept(cache)
    cache.steer(TENANT, b"", Steering(is_off=True))
    await stored(cache)
    found = await cache.find(SCOPE, ASKED, TENANT)
    assert isinstance(found, SemanticMiss)
    assert [each.is_off for each in found.near] == [True]
    assert "wrong lately" in found.reason
    assert isinstance(await cache.find(SCOPE, ASKED, "another"), SemanticHit)
    cache.steer(TENANT, SCOPE, Steering())
    await stored(cache)
    assert isinstance(await cache.find(SCOPE, ASKED, TENANT), SemanticHit)
    await cache.close()


async def test_a_stricter_scope_wants_to_be_surer(database: SqliteDatabase) -> None:
    """What it does not serve any more is a near miss."""
    cache = cache_of(database, Hashing(), comparer=Saying(6.0, 0.97))
    await kept(cache)
    hit = await cache.find(SCOPE, ASKED, TENANT)
    assert isinstance(hit, SemanticHit)
    cache.steer(TENANT, SCOPE, Steering(strictness=hit.near.log_odds))
    await stored(cache)
    found = await cache.find(SCOPE, ASKED, TENANT)
    assert isinstance(found, SemanticMiss)
    assert found.near[0].log_odds == pytest.approx(hit.near.log_odds)
    assert not found.near[0].is_off
    await cache.close()
