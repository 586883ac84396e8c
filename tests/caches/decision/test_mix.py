"""The probability that one answer does for two questions."""

import itertools

import pytest

from millrace.caches.decision import features
from millrace.caches.decision.mix import probability, shipped
from millrace.caches.guards import RULES, Kind, Question, judge
from millrace.ports import Likeness

SURE, UNSURE = Likeness(0.97, 4.0), Likeness(0.85, -2.0)
PAIRS = (
    ("How do I reset my password?", "What's the best way to reset my password?"),
    ("How do I reset my password?", "How can I change my password?"),
    ("reset password", "How do I reset my password?"),
)


@pytest.mark.parametrize("name", ["networks", "alone"])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_order_makes_no_difference(name: str, pair: tuple[str, str]) -> None:
    a, b = map(Question.read, pair)
    likeness = SURE if name == "networks" else None
    there, back = (probability(shipped()[name], x, y, judge(x, y), likeness) for x, y in ((a, b), (b, a)))
    assert there == pytest.approx(back)
    assert 0 < there < 1


@pytest.mark.parametrize("pair", PAIRS)
def test_what_the_networks_say_counts(pair: tuple[str, str]) -> None:
    a, b = map(Question.read, pair)
    judgement = judge(a, b)
    surer, less = (probability(shipped()["networks"], a, b, judgement, each) for each in (SURE, UNSURE))
    assert surer > 0.5 > less


def test_no_feature_of_the_networks_speaks_against_what_they_say() -> None:
    """The surer the verifier and the nearer the vectors, the likelier."""
    weights = shipped()["networks"]
    grid = itertools.product((0.75, 0.82, 0.88, 0.93, 0.99), (-4.0, -1.0, 0.0, 1.0, 2.5, 4.0))
    log_odds = {at: weights.log_odds(features.of_networks(Likeness(*at))) for at in grid}
    for (cosine, said), found in log_odds.items():
        assert all(found <= log_odds[cosine, more] + 0.05 for c, more in log_odds if c == cosine and more > said)


def test_what_the_verifier_was_not_asked_about_is_not_served() -> None:
    """However little the rules object: the weights have not learned what its silence means."""
    a, b = Question.read("What is a hard drive?"), Question.read("What is a difficult drive?")
    assert not judge(a, b).hard
    assert probability(shipped()["networks"], a, b, judge(a, b), Likeness(0.68, None)) == 0


def test_every_soft_rule_has_been_weighed() -> None:
    """Else its objection would rule out whatever it objects to."""
    soft = {f"objects: {rule.name}" for rule in RULES.values() if rule.kind is Kind.SOFT}
    for weights in shipped().values():
        assert soft <= weights.weights.keys()


def test_texts_that_are_compared_as_they_stand_need_no_weighing() -> None:
    a, b = Question.read("Wie alt ist der Papst?"), Question.read("wie alt ist der papst")
    assert probability(shipped()["alone"], a, b, judge(a, b), None) == 1
