"""Openings that were learned from judged answers: when one counts as weak, for whom, and for how long."""

from collections.abc import Iterable

import msgspec
import pytest

from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.openings import KEPT_S, OPENINGS, TENANTS, LearnedOpenings, opening_of
from millrace.types import Delivery, Finish, FinishReason, Judged, Lever, Opinion, Sample, Says
from tests.support.scripted_models import STOP, request, scripted_funnel

WRONG, RIGHT = Says.DIFFERENT, Says.SAME
GUESS = "It’s hard to tell, but roughly 12."


def judged(text: str, says: Says, *, tenant: str = "a", lever: Lever = Lever.SMALL, at: float = 0.0) -> Judged:
    features = msgspec.msgpack.decode(msgspec.msgpack.encode(opening_of(text, tenant)))  # as it is kept
    sample = Sample(
        id="s", lever=lever, tenant=tenant, request_id="r", taken_at=at, probability=0.01, features=features
    )
    return Judged(sample=sample, opinions=(Opinion(judge="plain", says=says),))


def taught(samples: Iterable[Judged], now: float = 0.0) -> LearnedOpenings:
    openings = LearnedOpenings(lambda: now)
    openings.learn([*samples])
    return openings


def fails(openings: LearnedOpenings, text: str, tenant: str = "a") -> bool:
    finish = Finish(reason=FinishReason.STOP)
    return openings.judge(Candidate(text=text, finish=finish, tenant=tenant)).check == "opening"


def test_an_opening_of_wrong_answers_becomes_weak() -> None:
    """Ten that are all wrong are enough, whatever comes after the opening."""
    openings = taught(judged(f"It's hard to {verb}.", WRONG) for verb in "abcdefghij")
    assert fails(openings, "It's hard to say")
    assert fails(openings, "IT’S HARD, TO")
    assert not fails(openings, "It's easy to say")
    assert not fails(openings, "It")


def test_nine_are_not_enough_nor_are_as_many_right_ones_as_wrong_ones() -> None:
    assert not fails(taught([judged(GUESS, WRONG)] * 9), GUESS)
    assert not fails(taught([judged(GUESS, WRONG)] * 20 + [judged(GUESS, RIGHT)] * 20), GUESS)
    assert fails(taught([judged(GUESS, WRONG)] * 60 + [judged(GUESS, RIGHT)] * 20), GUESS)


def test_one_word_alone_never_counts() -> None:
    """Too many answers begin with it."""
    openings = taught(judged(f"The {noun} it is", WRONG) for noun in "abcdefghijklmnopqrst")
    assert not fails(openings, "The mill")


def test_what_nobody_can_tell_and_what_is_no_small_answer_teaches_nothing() -> None:
    assert not fails(taught([judged(GUESS, Says.UNSURE)] * 30), GUESS)
    assert not fails(taught([judged(GUESS, WRONG, lever=Lever.LARGE)] * 30), GUESS)


def test_tenants_do_not_learn_from_each_other() -> None:
    openings = taught([judged(GUESS, WRONG)] * 30)
    assert fails(openings, GUESS, "a")
    assert not fails(openings, GUESS, "b")
    assert not opening_of(GUESS, "a").keys() & opening_of(GUESS, "b").keys()


def test_what_is_kept_has_no_word_of_the_answer() -> None:
    assert not any(word in str(opening_of(GUESS, "a")) for word in ("hard", "tell", "roughly"))


def test_a_weak_opening_is_forgotten_a_month_after_it_was_last_judged() -> None:
    samples = [judged(GUESS, WRONG, at=float(at)) for at in range(20)]
    assert fails(taught(samples, KEPT_S), GUESS)
    assert not fails(taught(samples, KEPT_S + 20), GUESS)


def test_memory_is_bounded() -> None:
    openings = taught(judged(f"a{at} b{at} c d e", WRONG) for at in range(OPENINGS))
    openings.learn([judged("a b c", WRONG, tenant=f"t{at}") for at in range(TENANTS + 10)])
    assert len(openings._counts) <= TENANTS
    assert all(len(each) <= OPENINGS for each in openings._counts.values())


NOT_WEAK = [(text, False) for text in ("Its ", "It's easy ", "James ", "It's hard to tell, but")]


@pytest.mark.parametrize(
    ("text", "may"),
    [(text, True) for text in ("", "It", "It'", "It's ", "It's hard", "It's ea")] + NOT_WEAK,
)
def test_a_beginning_is_held_only_while_it_may_become_a_weak_one(text: str, *, may: bool) -> None:
    openings = taught([judged("It's hard to tell", WRONG)] * 10)
    assert openings.may_begin(text, "a") is may
    assert not openings.may_begin(text, "b")


async def test_an_answer_with_a_weak_opening_is_taken_back() -> None:
    async with scripted_funnel(("It's hard", " to tell", ", but roughly", " 12", STOP), ("13.", STOP)) as funnel:
        for _ in range(2):
            response = await funnel.ask(request(delivery=Delivery.PREFIX))
            openings = funnel.funnel._caller.checks.openings
            assert openings is not None
            openings.learn([judged(GUESS, WRONG, tenant="anonymous", at=2e9)] * 10)
    assert response.ended is not None
    assert (response.message().text, response.ended.check) == ("13.", "opening")
