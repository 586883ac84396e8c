"""What a listener may see of an answer before it stands."""

from collections.abc import Callable
from typing import Any

import pytest

from millrace.dialects.visibility import Visibility
from millrace.funnel.facts import Committed
from millrace.types import (
    Delivery,
    Thought,
)
from tests.support.facts import CALL, DONE_WELL, OTHER_CALL, REVISED


def visibility_of(delivery: Delivery, *, speculative: bool) -> tuple[Visibility, list[Any]]:
    shown: list[Any] = []
    show_text: Callable[[list[str]], None] = shown.extend
    return Visibility(show_text, shown.append, delivery, speculative=speculative), shown


def say(what: Visibility, shown: list[Any], *deltas: str) -> None:
    """Take text as a projection does."""
    if what.passes_text:
        shown.extend(deltas)
    else:
        what.hold_back([*deltas])


def test_who_can_take_words_back_sees_them_at_once_but_no_call() -> None:
    """A call is shown once the answer is accepted."""
    what, shown = visibility_of(Delivery.SPECULATE, speculative=True)
    say(what, shown, "a")
    what.fact(Thought("b"))
    what.fact(CALL[0])
    assert shown == ["a", Thought("b")]
    what.fact(REVISED)
    say(what, shown, "c")
    what.fact(CALL[1])
    what.fact(Committed())
    what.fact(OTHER_CALL)
    assert shown == ["a", Thought("b"), "c"]
    what.fact(DONE_WELL)
    assert shown == ["a", Thought("b"), "c", CALL[1], OTHER_CALL]


@pytest.mark.parametrize("delivery", [Delivery.PREFIX, Delivery.COMMIT, Delivery.FINAL])
def test_who_asked_for_another_mode_waits_though_it_could_take_back(delivery: Delivery) -> None:
    """To be able to is not to want to."""
    what, shown = visibility_of(delivery, speculative=True)
    say(what, shown, "a", "b")
    assert shown == []
    what.fact(Committed())
    assert shown == ([] if delivery is Delivery.FINAL else ["ab"])
    what.fact(DONE_WELL)
    assert shown == ["ab"]
