"""What a listener may see of an answer before it stands."""

from typing import Any

import pytest

from millrace.dialects.visibility import Visibility
from millrace.funnel.facts import Committed, Fact
from millrace.types import (
    Delivery,
    Thought,
)
from tests.support.facts import CALL, DONE_WELL, OTHER_CALL, REVISED


def visibility_of(delivery: Delivery, *, speculative: bool) -> tuple[Visibility, list[Any]]:
    return Visibility(delivery, speculative=speculative), []


def tell(what: Visibility, shown: list[Any], fact: Fact) -> None:
    """Pass a fact on as a projection does."""
    what.fact(fact, shown.extend, shown.append)


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
    tell(what, shown, Thought("b"))
    tell(what, shown, CALL[0])
    assert shown == ["a", Thought("b")]
    tell(what, shown, REVISED)
    say(what, shown, "c")
    tell(what, shown, CALL[1])
    tell(what, shown, Committed())
    tell(what, shown, OTHER_CALL)
    assert shown == ["a", Thought("b"), "c"]
    tell(what, shown, DONE_WELL)
    assert shown == ["a", Thought("b"), "c", CALL[1], OTHER_CALL]


@pytest.mark.parametrize("delivery", [Delivery.PREFIX, Delivery.COMMIT, Delivery.FINAL])
def test_who_asked_for_another_mode_waits_though_it_could_take_back(delivery: Delivery) -> None:
    """To be able to is not to want to."""
    what, shown = visibility_of(delivery, speculative=True)
    say(what, shown, "a", "b")
    assert shown == []
    tell(what, shown, Committed())
    assert shown == ([] if delivery is Delivery.FINAL else ["ab"])
    tell(what, shown, DONE_WELL)
    assert shown == ["ab"]
