"""The judge that has the networks of the semantic cache compare two answers."""

import math
from collections.abc import Sequence
from concurrent.futures import Future

from millrace.evidence.judges.likeness import READ, WAIT_S, LikenessJudge
from millrace.ports import Likeness
from millrace.types import Says
from tests.support.clock import ManualClock

QUESTION = "How does a kettle work?"
ONE = (
    "A kettle has a coil of wire at the bottom. The current makes it hot, and the heat goes into the water until it "
    "boils. A switch then turns it off. "
)
TWO = (
    "At the bottom of it there is a heating wire. When electricity flows it gets hot and passes this to the water, "
    "which boils in the end. Steam trips the switch. "
)


class FixedComparer:
    """Finds the same likeness of all, or fails."""

    name = "fixed"
    is_starting = False

    def __init__(self, likeness: Likeness, error: Exception | None = None) -> None:
        self.asked: list[tuple[str, Sequence[str], float]] = []
        self._likeness = likeness
        self._error = error

    def compare(self, question: str, others: Sequence[str], by: float = math.inf) -> "Future[list[Likeness]]":
        self.asked.append((question, others, by))
        done: Future[list[Likeness]] = Future()
        if self._error is not None:
            done.set_exception(self._error)
        else:
            done.set_result([self._likeness])
        return done


async def says(cosine: float, earlier: str = ONE, fresh: str = TWO, odds: float | None = None) -> Says:
    return await LikenessJudge(FixedComparer(Likeness(cosine, odds))).says(QUESTION, earlier, fresh)


async def test_like_answers_are_the_same_and_unlike_ones_differ() -> None:
    assert await says(0.9) is Says.SAME
    assert await says(0.7) is Says.UNSURE
    assert await says(0.3) is Says.DIFFERENT


async def test_answers_are_not_the_same_where_facts_leave_a_doubt() -> None:
    assert await says(0.95, ONE + "It takes 3 minutes.", TWO + "It takes 7 minutes.") is Says.UNSURE
    assert await says(0.95, ONE + "It takes 3 minutes.", TWO) is Says.UNSURE


async def test_short_answers_are_never_different_by_likeness() -> None:
    assert await says(0.1, "A wire heats it.", "Steam turns a wheel.") is Says.UNSURE


async def test_it_reads_the_beginning_and_gives_way() -> None:
    clock = ManualClock()
    comparer = FixedComparer(Likeness(0.9, None))
    await LikenessJudge(comparer, clock=clock).says(QUESTION, ONE * 20, TWO * 20)
    ((question, others, by),) = comparer.asked
    assert max(len(question), *map(len, others)) <= READ
    assert by == clock.now + WAIT_S


async def test_it_compares_what_differs() -> None:
    comparer = FixedComparer(Likeness(0.9, None))
    await LikenessJudge(comparer).says(QUESTION, "Both say this. " * 60 + ONE, "Both say this. " * 60 + TWO)
    ((question, others, _),) = comparer.asked
    assert (question.strip(), others[0].strip()) == (ONE.strip(), TWO.strip())


async def test_it_is_asked_so_often_a_minute_at_most() -> None:
    clock = ManualClock()
    comparer = FixedComparer(Likeness(0.9, None))
    judge = LikenessJudge(comparer, a_minute=2, clock=clock)
    assert [await judge.says(QUESTION, ONE, TWO) for _ in range(3)] == [Says.SAME, Says.SAME, Says.UNSURE]
    clock.now += 30
    assert [await judge.says(QUESTION, ONE, TWO) for _ in range(2)] == [Says.SAME, Says.UNSURE]
    clock.now += 3600
    assert [await judge.says(QUESTION, ONE, TWO) for _ in range(3)] == [Says.SAME, Says.SAME, Says.UNSURE]


async def test_it_cannot_tell_where_the_process_is_busy_or_has_failed() -> None:
    for error in (TimeoutError(), RuntimeError("it failed a moment ago")):
        judge = LikenessJudge(FixedComparer(Likeness(1.0, None), error))
        assert await judge.says(QUESTION, ONE, TWO) is Says.UNSURE
