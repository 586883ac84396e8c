"""What guards know, and what of an operator's patterns they take."""

import random

import pytest

from millrace.funnel.checks.growing import widest
from millrace.funnel.checks.guards import (
    _ADDRESSES,
    _CARDS,
    _SECRETS,
    WIDEST,
    BadPatternError,
    Guards,
    is_card,
    usable,
    word_pattern,
)
from tests.support.planted import KINDS, guards_with, planted

ALL = guards_with(secrets=True, cards=True, addresses=True)

CLEAN = [
    "The risk-averse use a task-oriented approach, as in sk-learn-like-names-with-many-hyphens.",
    "A key begins with sk- and one at AWS with AKIA, on GitHub with ghp_, in Slack with xoxb-.",
    "-----BEGIN PUBLIC KEY-----\nMIIB",
    "-----BEGIN CERTIFICATE-----",
    "Base64 of {} is e30=, and a token has the form eyJ… . eyJ… . signature.",
    "Call +49 1512 3456 7890 or 0800 123 4567; the order is 4111 1111 1111 1112.",
    "1234567890123456 and 0.4111111111111111 and 41111111111111111111111 are numbers.",
    "3.14159265358979323846264338327950288",
    "Write to us @millrace, or user at example dot com; a@b, x@y.",
    "It costs $4,111.11 at 11:11 on 2026-11-29, 4 5 6 7 8 9.",
    "https://host.example/a/very/long/path/with-0123456789abcdef0123456789abcdef",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "0000 0000 0000 0000 and 4444444444444444",
]


@pytest.mark.parametrize("kind", range(KINDS))
def test_well_known_forms_are_known(kind: int) -> None:
    for seed in range(50):
        secret = planted(random.Random(seed), kind)
        hit = ALL.find(f"It is {secret}.", 0, is_whole=True)
        assert hit is not None, secret
        assert hit.at == len("It is "), secret


@pytest.mark.parametrize("text", CLEAN)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert ALL.find(text, 0, is_whole=True) is None


@pytest.mark.parametrize("pattern", [*_SECRETS, _CARDS, _ADDRESSES])
def test_each_form_decides_within_what_is_held_back(pattern: str) -> None:
    width = widest(pattern)
    assert width is not None
    assert width <= WIDEST


@pytest.mark.parametrize("number", ["4111111111111111", "5500 0000 0000 0004", "340000000000009"])
def test_the_last_digit_of_a_card_checks_the_others(number: str) -> None:
    assert is_card(number)
    assert not is_card(f"{number[:-1]}{(int(number[-1]) + 1) % 10}")


def test_words_are_found_in_any_case_and_not_within_others() -> None:
    guards = guards_with(words=["Project Nightingale", "C++"])
    for text in ("project  nightingale", "(PROJECT\nNightingale)", "in C++, too", "c++"):
        assert guards.find(text, 0, is_whole=True), text
    for text in ("Project Nightingales", "Projects Nightingale", "ABC++"):
        assert guards.find(text, 0, is_whole=True) is None, text


def test_the_flags_of_a_pattern_are_its_own() -> None:
    guards = guards_with(patterns=["(?i)acme-[0-9]{6}", "SECRET"])
    assert guards.find("ACME-123456", 0, is_whole=True)
    assert guards.find("secret", 0, is_whole=True) is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("ACME-[0-9]+", "any number of characters"),
        ("a{65}", "may match 65 characters"),
        ("(", "is no regular expression"),
        ("a{0,3}", "empty"),
        ("a(?!b)", "ahead or behind"),
        (r"(a)\1", "refers to a group"),
        ("", "empty"),
    ],
)
def test_a_pattern_that_cannot_be_searched_in_a_stream_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(BadPatternError, match=why):
        usable(pattern)


@pytest.mark.parametrize("word", ["", "  ", "a" * 65])
def test_a_word_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(BadPatternError):
        word_pattern(word)


def test_without_a_guard_there_are_none_and_others_are_others() -> None:
    assert Guards.of(secrets=False, cards=False, addresses=False, patterns=(), words=()) is None
    assert guards_with(secrets=True).signature != guards_with(secrets=True, words=("a",)).signature
    assert guards_with(words=("a",)).signature != guards_with(words=("b",)).signature


@pytest.mark.parametrize("escape", [r"\n", r"\t", r"\r"])
def test_white_space_that_json_or_code_escapes_comes_before_a_word_too(escape: str) -> None:
    """In the arguments of a call a new line is written so."""
    text = f'{{"text": "first{escape}%s"}}'
    words = guards_with(words=["Project Nightingale"])
    for guards, found in ((ALL, "AKIA" + "Q" * 16), (ALL, "ghp_" + "a1" * 18), (words, "Project Nightingale")):
        whole = text % found
        hit = guards.find(whole, 0, is_whole=False)
        assert hit is not None, whole
        assert whole[hit.at :].startswith(found)
    assert words.find(r"C:\trunk\nProject Nightingales", 0, is_whole=True) is None
