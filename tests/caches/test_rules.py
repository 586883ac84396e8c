"""The table of rules: each example of each rule, and pairs of the kinds that a cache must not take for each other."""

import time
from statistics import median

import pytest

from millrace.caches.guards import RULES, Kind, Question, judge
from tests.measure_semantic import Pair, read
from tests.support.paths import REPOSITORY

DATA = REPOSITORY / "tests" / "data"
EXAMPLES = [
    (rule.name, wanted, *pair)
    for rule in RULES.values()
    for wanted, pairs in ((True, rule.objects), (False, rule.agrees))
    for pair in pairs
]
NEAR = read(DATA / "near_pairs.jsonl")
LANGUAGES = read(DATA / "languages.jsonl")


def rules_of(a: str, b: str) -> set[str]:
    """Return the names of all rules that object."""
    return {each.rule for each in judge(Question.read(a), Question.read(b), fully=True).objections}


@pytest.mark.parametrize(("name", "wanted", "a", "b"), EXAMPLES)
def test_an_example(name: str, wanted: bool, a: str, b: str) -> None:
    """In either direction."""
    assert (name in rules_of(a, b)) is wanted
    assert (name in rules_of(b, a)) is wanted


def test_every_rule_has_examples_and_a_reason() -> None:
    for rule in RULES.values():
        assert rule.objects
        assert rule.agrees
        assert rule.reason
        assert ":" not in rule.reason  # the words of both sides follow a colon


def test_names_are_unique() -> None:
    assert all(name == rule.name for name, rule in RULES.items())
    assert {rule.kind for rule in RULES.values()} == {Kind.HARD, Kind.SOFT}


@pytest.mark.parametrize("pair", NEAR, ids=lambda pair: f"{pair.kind}-{pair.a[:30]}")
def test_a_near_pair_has_a_hard_objection(pair: Pair) -> None:
    """In either direction."""
    a, b = Question.read(pair.a), Question.read(pair.b)
    assert judge(a, b).hard
    assert judge(b, a).hard


@pytest.mark.parametrize("pair", [pair for pair in LANGUAGES if not pair.same], ids=lambda pair: pair.a)
def test_a_near_pair_in_another_language_has_one_too(pair: Pair) -> None:
    assert judge(Question.read(pair.a), Question.read(pair.b)).hard


def test_marks_and_case_make_no_difference_in_another_language() -> None:
    """Of the equal pairs, five in each language differ in nothing else."""
    same = [pair for pair in LANGUAGES if pair.same]
    served = [pair for pair in same if not rules_of(pair.a, pair.b)]
    assert len(served) >= 5 * 8


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I reset my password?", "how do i resett my password"),
        ("How do I cancel a flight?", "How do I cancle a flight?"),
        ("What is the tallest tree?", "waht is teh tallest tree"),
        ("How do I set up two factor authentication?", "How do I setup two-factor authentication?"),
        ("Where do bees sleep?", "Hi there, where do bees sleep? Thanks!"),
        ("Where do bees sleep?", "Sorry to bother you, but where do bees sleep?"),
        ("How do I fix a fence?", "ok so how do i fix a fence"),
        ("What is a lien?", "Could you please explain what a lien is?"),
        ("How is cheese made?", "How do they make cheese?"),
        ("Who wrote Emma?", "By whom was Emma written?"),
        ("fix fence", "How do I fix a fence?"),
        ("In Excel, how do I freeze a row?", "How do I freeze a row in Excel?"),
        ("What is the depth of the Red Sea?", "How deep is the Red Sea?"),
        ("What is a **lien**?", "What is a **lien**?"),
        ("What\u00a0is a lien?", "What is a lien?"),
        ("What is tea/coffee?", "What is tea coffee?"),
        ("I am unable to log in to my account", "I can't log in to my account"),
    ],
)
def test_a_rewording_has_no_hard_objection(a: str, b: str) -> None:
    assert judge(Question.read(a), Question.read(b), fully=True).hard == ()


def test_reading_and_judging_are_quick() -> None:
    """They share a process with the event loop. Ten words take a third of a millisecond to read on a free core."""
    texts = [f"{pair.a} and what else may matter for the answer" for pair in NEAR]
    read_s = median(_timed(Question.read, text) for text in texts)
    pairs = [(Question.read(pair.a), Question.read(pair.b)) for pair in NEAR]
    judged_s = median(_timed(judge, a, b) for a, b in pairs)
    assert read_s < 0.01
    assert judged_s < 0.001


def _timed(work: object, *args: object) -> float:
    assert callable(work)
    began = time.thread_time()
    work(*args)
    return time.thread_time() - began
