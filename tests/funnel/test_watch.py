"""What a watched answer lets pass, however it is cut."""

import random
from typing import Any

import pytest

from millrace.funnel.checks.watch import Watch
from millrace.types import CallPiece, Finish, FinishReason, OwnFields, Refusal, Scored, Thought
from tests.support.manual_attempt import ManualAttempt
from tests.support.planted import KINDS, guards_with, in_pieces, planted

STOP = Finish(reason=FinishReason.STOP)
ALL = guards_with(
    secrets=True, cards=True, addresses=True, patterns=[r"\bACME-[0-9]{2,6}\b"], words=["Project Nightingale"]
)
KEY = "AKIAABCDEFGHIJKLMNOP"
PROSE = (
    "The miller waits beside the water: 12 sacks at $4.50 each, risk-free. Skip 3, ask again at 10:30; "
    "see https://mill.example/a-b_c?d=1 or user at example. \n\n- **A quiet stream** keeps 4111 boats, 5.5 m long. "
    "In C++ `x == y`, e.g. sk-1 and AKIA, project plans, acme-1, ghp, eyJ; 1234-5678 and 2026-11-29. "
)


def watched(*, holds: bool) -> tuple[ManualAttempt, Watch, list[Any]]:
    attempt, passed = ManualAttempt(), list[Any]()
    attempt.sink, attempt.aside = passed.extend, passed.append
    return attempt, Watch(ALL, attempt, holds=holds), passed


def text_of(passed: list[Any]) -> str:
    return "".join(each for each in passed if isinstance(each, str))


@pytest.mark.parametrize("kind", range(KINDS + 2))
async def test_no_character_of_a_secret_passes_wherever_it_is_cut(kind: int) -> None:
    """What stands before it does, and nothing comes after it."""
    for seed in range(60):
        rng = random.Random(seed)
        secret = ["ACME-1234", "project nightingale"][kind - KINDS] if kind >= KINDS else planted(rng, kind)
        before = PROSE[: rng.randrange(len(PROSE))].rstrip("/-_.@+%0123456789") + " "
        attempt, watch, passed = watched(holds=True)
        for piece in in_pieces(rng, f"{before}{secret} {PROSE}"):
            attempt.read(piece)
        finish = watch.end(STOP)
        assert finish.reason is FinishReason.CONTENT_FILTER, secret
        assert text_of(passed) == before, secret
        assert watch.stopped.result() == finish


@pytest.mark.parametrize("kind", range(KINDS))
async def test_a_secret_at_the_very_end_does_not_pass_either(kind: int) -> None:
    """Where only the end tells that it is one."""
    for seed in range(20):
        rng = random.Random(seed)
        attempt, watch, passed = watched(holds=True)
        for piece in in_pieces(rng, f"It is {planted(rng, kind)}"):
            attempt.read(piece)
        assert watch.end(STOP).guard
        assert text_of(passed) == "It is "


@pytest.mark.parametrize("holds", [True, False])
async def test_clean_text_passes_whole_and_in_order(*, holds: bool) -> None:
    for seed in range(200):
        rng = random.Random(seed)
        text = " ".join(rng.sample(PROSE.split(" "), rng.randrange(1, 30)))
        attempt, watch, passed = watched(holds=holds)
        for piece in in_pieces(rng, text):
            attempt.read(piece)
        assert watch.end(STOP) == STOP
        assert text_of(passed) == text


async def test_clean_words_are_held_back_for_one_more_at_most() -> None:
    attempt, _, passed = watched(holds=True)
    words = (" James", " runs", " three", " sprints", " a", " week", " then", " rests")
    for many, word in enumerate(words):
        attempt.read(word)
        assert text_of(passed).startswith("".join(words[:many]))


async def test_what_may_be_taken_back_passes_at_once_but_not_what_completes_a_secret() -> None:
    attempt, watch, passed = watched(holds=False)
    for piece in ("The key is ", KEY[:9], KEY[9:], " and more "):
        attempt.read(piece)
    assert text_of(passed) == f"The key is {KEY[:9]}{KEY[9:]}"
    assert watch.stopped.result().guard == "secrets"


async def test_nothing_longer_than_the_longest_match_is_held_back() -> None:
    """A word without an end may begin an address for ever."""
    attempt, _, passed = watched(holds=True)
    attempt.read("a" * 500)
    assert len(text_of(passed)) >= 500 - 64


async def test_a_delta_with_log_probabilities_is_not_parted_from_them() -> None:
    attempt, watch, passed = watched(holds=True)
    attempt.read(Scored("see AKI", b"1"), Scored("A here", b"2"))
    watch.end(STOP)
    assert passed == ["see AKI", "A here"]
    assert [each.scores for each in passed] == [b"1", b"2"]


async def test_what_comes_between_keeps_its_place() -> None:
    """Nothing overtakes text that is held back."""
    attempt, watch, passed = watched(holds=True)
    fields = OwnFields({"a": 1})
    attempt.read("see AK")
    attempt.read_aside(fields)
    attempt.read("IA here. ")
    assert passed == ["see ", "AK", fields, "IA here. "]
    attempt.read("AKI")
    attempt.read_aside(fields)
    attempt.read(KEY[3:] + " ")
    assert passed == ["see ", "AK", fields, "IA here. "]
    assert watch.end(STOP).guard == "secrets"


@pytest.mark.parametrize("kind", [Thought, Refusal])
async def test_reasoning_and_refusals_are_watched_too(kind: Any) -> None:
    attempt, watch, passed = watched(holds=True)
    for piece in ("it is ", KEY[:5], KEY[5:], " now"):
        attempt.read_aside(kind(piece))
    assert watch.stopped.result().guard == "secrets"
    assert "".join(each.text for each in passed) == "it is "


async def test_a_call_waits_for_the_end_and_is_dropped_with_its_secret() -> None:
    attempt, watch, passed = watched(holds=True)
    attempt.read("Let me look. ")
    first = CallPiece(index=0, id="call_1", name="look", arguments='{"key": "')
    attempt.read_aside(first)
    assert passed == ["Let me look. "]
    attempt.read_aside(CallPiece(index=0, arguments=KEY))
    attempt.read_aside(CallPiece(index=0, arguments='"}'))
    assert watch.stopped.result().guard == "secrets"
    assert passed == ["Let me look. "]


async def test_a_clean_call_passes_at_the_end() -> None:
    attempt, watch, passed = watched(holds=True)
    pieces = [CallPiece(index=0, id="call_1", name="look", arguments='{"key": "'), CallPiece(index=0, arguments='1"}')]
    for piece in pieces:
        attempt.read_aside(piece)
    assert passed == []
    assert watch.end(STOP) == STOP
    assert passed == pieces


async def test_calls_are_read_each_for_itself() -> None:
    attempt, watch, _ = watched(holds=True)
    for at in range(0, len(KEY), 2):
        attempt.read_aside(CallPiece(index=0, id="call_1", name="look", arguments=KEY[at : at + 2]))
        attempt.read_aside(CallPiece(index=1, id="call_2", name="look", arguments="a "))
    attempt.read_aside(CallPiece(index=0, arguments='"'))
    assert watch.stopped.done()


@pytest.mark.parametrize("holds", [True, False])
async def test_reasoning_in_fields_of_a_providers_own_is_watched_but_not_their_signatures(*, holds: bool) -> None:
    said = {"type": "reasoning.text", "text": "Is it Project Nightingale?", "signature": "/Project Nightingale/"}
    attempt, watch, passed = watched(holds=holds)
    attempt.read("Fine! ")
    attempt.read_aside(OwnFields({"reasoning_details": [said]}))
    assert watch.end(STOP).reason is FinishReason.CONTENT_FILTER
    assert text_of(passed) == "Fine! "
    assert len(passed) == 1

    attempt, watch, passed = watched(holds=holds)
    signed = OwnFields({"reasoning_details": [said | {"text": "Is it?"}]})
    attempt.read_aside(signed)
    assert watch.end(STOP) == STOP
    assert passed == [signed]
