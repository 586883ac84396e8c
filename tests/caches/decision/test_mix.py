"""The probability that one answer does for two questions."""

import itertools

import pytest

from millrace.caches.decision import features
from millrace.caches.decision.mix import before_networks, probability, shipped
from millrace.caches.guards import RULES, Kind, Question, agree, judge
from millrace.caches.learning.fitting import fitted
from millrace.caches.learning.knowledge import log_odds_of
from millrace.ports import Likeness
from millrace.types import Lesson

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
    a, b = Question.read("What is a hard exam?"), Question.read("What is a difficult exam?")
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


AGREED = (
    ("How do I reset my password?", "how can I reset my password"),
    ("How do I boil an egg?", "please tell me how to boil an egg"),
    ("What is the colour of Mars?", "what is the color of mars"),
    ("Can cats eat tuna?", "can cats eat tuna"),
)
# Rules do not object to all of these, though answers differ, or may.
DIFFERENT = (
    ("How do I re-sign a contract?", "How do I resign a contract?"),
    ("How do I build a green house?", "How do I build a greenhouse?"),
    ("Where do they buy cars in bulk?", "Where should I buy cars in bulk?"),
    ("How do people become homeless?", "How do I become homeless?"),
    ("Who is for abortion?", "Who is in abortion?"),
    ("What is inside a battery?", "What is on a battery?"),
    ("What is a safe way to lose weight?", "What is the most effective way to lose weight?"),
    ("What are other ways to log in?", "What are the best ways to log in?"),
    ("Where should I get a tattoo?", "Where can I get a tattoo?"),
    ("Might we colonize Mars?", "Can we colonize Mars?"),
    ("Define inflation", "Explain inflation"),
    ("List the planets", "Explain the planets"),
    ("How do I run in a wall?", "How do I run into a wall?"),
    ("Can I cancel in 14 days?", "Can I cancel within 14 days?"),
    ("What makes honey?", "What causes honey?"),
    ("What is the purpose of school?", "What does school do?"),
    ("how do i become a cna", "how do i become a can"),
    ("Should we eat, grandma?", "Should we eat grandma?"),
    ("how do i get an aid", "how do i get AIDS"),
    ("Could dinosaurs swim?", "Can dinosaurs swim?"),
    ("How do I start the app?", "How do I start using the app?"),
)


@pytest.mark.parametrize("pair", AGREED)
def test_what_has_the_same_words_needs_no_networks(pair: tuple[str, str]) -> None:
    """It is then as likely as the stricter weights say, and becomes less so as they learn that it is not."""
    a, b = map(Question.read, pair)
    found = before_networks(a, b, judge(a, b))
    networks, alone = shipped()["networks"], shipped()["alone"]
    assert found is not None
    known = alone.log_odds({name: value for name, value in found.items() if name != "agreed"})
    assert networks.log_odds(found) == pytest.approx(known)
    assert log_odds_of(networks.threshold) < known
    learned = networks.changed(fitted([lesson(found)] * 100, [known] * 100, log_odds_of(networks.threshold)))
    assert learned.log_odds(found) < known - 1


@pytest.mark.parametrize("pair", DIFFERENT)
def test_the_networks_are_asked_where_more_than_a_frame_differs(pair: tuple[str, str]) -> None:
    a, b = map(Question.read, pair)
    judgement = judge(a, b)
    assert judgement.hard or before_networks(a, b, judgement) is None
    assert not agree(b, a, judge(b, a))


def lesson(found: dict[str, float]) -> Lesson:
    """Return what a wrong hit teaches."""
    return Lesson(
        scope=b"s" * 32, tenant="t", asked_id="asked", entry_id="entry", features=found, log_ratio=-4.0, weight=1.0
    )
