"""When the beginning of an answer is judged: as soon as more text can change nothing."""

import re
import string
from typing import Any

import pytest

from millrace import tokens
from millrace.funnel import checks
from millrace.funnel.checks import words
from millrace.funnel.checks.beginning import MOST_DELTAS, Beginning
from millrace.simulator import prose
from millrace.simulator.easy_questions import EASY_ANSWERS
from millrace.types import Delivery, Refusal, Status
from tests.funnel.test_checks import REFUSALS, UNSURE
from tests.support.inline_schemas import InlineSchemas
from tests.support.scripted_models import STOP, request, scripted_funnel

WEAK = [*UNSURE, *REFUSALS]
FINE = [
    "James runs 3 sprints in each session.",
    "There are 60 seconds in a minute.",
    "To find the answer, add both.",
    "So the total is 180.",
    "1. First, take the lid off.",
    "**Answer:** 12",
    "```python\nprint(1)\n```",
    '{"city": "Rome"}',
    "As a result, the total falls.",
    "Well, the mill turns.",
    "Île de France",
    "你好",
]


def judged_after(text: str, names: tuple[str, ...] | None = None) -> tuple[int, checks.Candidate, str | None]:
    """Return after how many tokens a beginning was judged, what was judged, and what it failed."""
    deltas = [*prose.split(text)]
    said: list[str] = []

    def candidate() -> checks.Candidate:
        return checks.Candidate(text="".join(said), finish=None)

    beginning = Beginning(checks.Checks(InlineSchemas()), request(checks=names), candidate)
    for delta in deltas:
        said.append(delta)
        verdict = beginning.verdict(said)
        if verdict is not None:
            return len(said), candidate(), verdict.check
    return len(said), candidate(), ""


@pytest.mark.parametrize("text", FINE)
def test_most_answers_show_after_a_few_tokens_that_they_are_not_weak(text: str) -> None:
    held, _, check = judged_after(text + " And so on, as in every other year." * 3)
    assert check is None
    assert held <= 6


@pytest.mark.parametrize("text", [*EASY_ANSWERS.values()])
def test_so_do_the_simulators_answers(text: str) -> None:
    held, _, check = judged_after(text)
    assert not check
    assert held <= 6


@pytest.mark.parametrize("text", WEAK)
def test_what_is_weak_as_a_whole_was_not_let_pass_before(text: str) -> None:
    """It was found weak, or its end was still awaited."""
    held, _, check = judged_after(text)
    assert check in ("refusal", "unsure", "")
    assert held == tokens.count(text) or check


@pytest.mark.parametrize("text", WEAK)
@pytest.mark.parametrize("tail", [" And more words follow.", ".", ", ok"])
def test_no_cut_of_an_answer_is_judged_otherwise_than_the_whole(text: str, tail: str) -> None:
    """What a beginning says for good, the whole answer says too, and what it rules out the whole does not say."""
    whole = text + tail
    for opening in (words.REFUSAL, words.DOUBT):
        is_weak = opening.begin(whole)
        for size in range(len(whole)):
            if opening.begin(whole[:size], is_whole=False):
                assert is_weak
            elif not opening.may_begin(whole[:size]):
                assert not is_weak
                break


def test_no_answer_is_passed_over_by_its_first_two_characters_that_may_come_to_be_weak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    firsts = [f" {one}{other}" for one in string.printable for other in string.printable]

    def that_may() -> set[str]:
        return {first for first in firsts if words.REFUSAL.may_begin(first) or words.DOUBT.may_begin(first)}

    found = that_may()
    monkeypatch.setattr(words, "_MAY_BEGIN", re.compile(""))
    assert found == that_may()


def test_an_answer_that_never_tells_is_judged_after_forty_deltas() -> None:
    held, _, check = judged_after(" \n-" * 100)
    assert (held, check) == (MOST_DELTAS, None)


def test_without_a_check_of_a_beginning_nothing_is_held() -> None:
    assert judged_after("I'm sorry, I can't help.", ("empty", "form"))[0] == 1


@pytest.mark.parametrize("delivery", [Delivery.PREFIX, Delivery.SPECULATE, Delivery.COMMIT])
async def test_a_weak_beginning_is_left_before_the_rest_is_said(delivery: Delivery) -> None:
    said = [*prose.split("I'm not sure. " + "But then again the mill may turn. " * 20)]
    async with scripted_funnel((*said, STOP), ("Large.", STOP)) as funnel:
        response = await funnel.ask(request(delivery=delivery))
    assert response.message().text == "Large."
    assert funnel.small.attempts[0].aborted
    assert len(funnel.small.attempts[0].parts) < 12


async def test_what_the_provider_marked_as_a_refusal_is_not_shown_as_an_answer() -> None:
    """Though the words after it are not weak."""
    async with scripted_funnel((Refusal("No."), "James", " runs", " on", STOP), ("Large.", STOP)) as funnel:
        response = await funnel.ask(request(delivery=Delivery.PREFIX))
    assert response.message().text == "Large."


async def test_a_check_of_a_beginning_that_is_broken_ends_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for a fault of the provider, whose reader it ran in."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Beginning, "verdict", broken)
    async with scripted_funnel(("James", " runs", *[" on"] * 50, STOP)) as funnel:
        response = await funnel.ask(request(delivery=Delivery.PREFIX))
    assert response.ended is not None
    assert response.ended.status is Status.FAILED
    assert response.ended.error is not None
    assert response.ended.error.code == "internal_error"
