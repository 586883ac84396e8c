"""What is known of pairs: verdicts add up, and say something of pairs with a question in common."""

import pytest

from millrace.caches.learning.known import FOLLOWED, MOST, MOST_BY_OTHERS, KnownPairs


def test_verdicts_add_up_and_later_ones_outweigh_earlier_ones() -> None:
    """In either order of the two; there is a most that is ever known."""
    known = KnownPairs()
    known.add("a", "b", 2.5)
    known.add("b", "a", 2.5)
    assert known.log_odds("a", "b") == known.log_odds("b", "a") == 5.0
    for _ in range(3):
        known.add("a", "b", -2.5)
    assert known.log_odds("a", "b") == -2.5
    for _ in range(30):
        known.add("a", "b", 2.5)
    assert known.log_odds("a", "b") == MOST
    assert known.count == 1


def test_nothing_is_known_of_strangers_or_kept_of_a_question_and_itself() -> None:
    """It is 0, which changes nothing."""
    known = KnownPairs()
    known.add("a", "a", 2.0)
    known.add("a", "b", 2.0)
    assert known.log_odds("a", "c") == known.log_odds("c", "d") == 0.0
    assert known.count == 1


def test_two_pairs_tell_of_the_third() -> None:
    """Both the same: it is likely the same. One of them different: it is different. Both different: nothing."""
    known = KnownPairs()
    known.add("a", "c", 5.0)
    known.add("c", "b", 5.0)
    assert known.log_odds("a", "b") > 3.0
    known.add("c", "d", -5.0)
    assert known.log_odds("a", "d") < -3.0
    known.add("d", "e", -5.0)
    assert known.log_odds("c", "e") == 0.0


def test_many_pairs_tell_no_more_than_a_bound() -> None:
    """Judges may err alike."""
    known = KnownPairs()
    for number in range(20):
        known.add("a", f"m{number}", 6.0)
        known.add(f"m{number}", "b", 6.0)
    assert known.log_odds("a", "b") == MOST_BY_OTHERS


@pytest.mark.parametrize(("log_ratio", "expected"), [(2.0, ["b", "c"]), (-2.0, [])])
def test_what_seems_to_have_the_same_answer_is_followed(log_ratio: float, expected: list[str]) -> None:
    """Over one question in between."""
    known = KnownPairs()
    known.add("a", "b", log_ratio)
    known.add("b", "c", 2.0)
    known.add("c", "d", 2.0)
    assert list(known.same_as("a")) == expected


def test_only_the_latest_pairs_of_a_question_are_followed() -> None:
    """A question of everybody must not take long."""
    known = KnownPairs()
    for number in range(3 * FOLLOWED):
        known.add("a", f"m{number}", 2.0)
    assert list(known.same_as("a")) == [f"m{number}" for number in reversed(range(2 * FOLLOWED, 3 * FOLLOWED))]
