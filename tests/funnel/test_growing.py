"""Regular expressions against a text that still grows, held against all short texts."""

import itertools
import re
from functools import cache

import pytest

from millrace.funnel.checks.growing import begun, looks_elsewhere, scoped, sure, widest

PATTERNS = [
    "ab",
    "a|ab",
    "a(?:b|cb)?c",
    "a{2,3}b?",
    "(?:ab){1,2}c",
    "a+c",
    r"a\b",
    r"ab\b|c",
    "a(?!b)",
    "a(?!bc)b?",
    "a(?=b|cc)[bc]",
    "(?<!a)b",
    "(?<=a)bc",
    "ab?$",
    r"a(?:b|\Z)",
    "[^ab]c",
    "(?i:A)b",
    "(?i)AB",
    "a.?b",
    "(a)(?:b(c))?",
    "a*?b",
    r"a\s{1,2}b",
    r"\w\W",
    "(?>a|ab)c",
    "a{0}b",
    "a?+b",
]
TEXTS = ["".join(letters) for size in range(6) for letters in itertools.product("abc ", repeat=size)]


@cache
def tails() -> list[str]:
    return [text for text in TEXTS if len(text) <= 2]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_text_that_may_become_a_match_is_known(pattern: str) -> None:
    """Each beginning of each match, up to where the match can no longer be undone."""
    found, begins = re.compile(pattern), begun(pattern)
    for text in TEXTS:
        match = found.match(text)
        if match is None:
            continue
        for size in range(1, match.end()):
            assert begins.match(text[:size]), (text, size)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_sure_stays_so_however_the_text_goes_on(pattern: str) -> None:
    found, stays = re.compile(pattern), sure(pattern)
    for text in TEXTS:
        if len(text) <= 3 and stays.match(text):
            assert all(found.match(text + tail) for tail in tails()), text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_match_is_sure_or_may_still_be_undone(pattern: str) -> None:
    """Nothing is lost between the two."""
    found, stays, begins = re.compile(pattern), sure(pattern), begun(pattern)
    for text in TEXTS:
        match = found.match(text)
        if match is not None and match.end() > 0:
            assert stays.match(text) or begins.match(text), text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_scoped_pattern_means_the_same_within_another(pattern: str) -> None:
    found, within = re.compile(pattern), re.compile(f"(?:{scoped(pattern)})|(?!)")
    for text in TEXTS:
        one, other = found.match(text), within.match(text)
        assert (one and one[0]) == (other and other[0]), text


def test_most_texts_cannot_become_a_match() -> None:
    """Else nothing would be gained."""
    begins = begun(r"(?<!\w)sk-[a-z]{4}")
    held = [text for text in ("s", "sk", "sk-", "sk-abc", "a s") if begins.search(text)]
    assert held == ["s", "sk", "sk-", "sk-abc", "a s"]
    assert not [text for text in ("", "k", "ask-", "sk a", "sk-a1", "sk-abcde") if begins.search(text)]


@pytest.mark.parametrize(
    ("pattern", "width"),
    [
        ("abc", 3),
        ("a{2,5}|b", 5),
        ("a(?!bcd)", 4),
        (r"\bab\b", 2),
        ("(?:ab?){3}", 6),
        ("a+", None),
        ("(a)\\1", None),
        ("a(?=b*)", None),
        ("(?<=ab)c", 1),
    ],
)
def test_the_width_counts_what_it_looks_at(pattern: str, width: int | None) -> None:
    assert widest(pattern) == width


def test_what_looks_elsewhere() -> None:
    assert [looks_elsewhere(each) for each in ("a(?!b)", "(?<=a)b", r"(a)\1", r"\ba{1,3}(?:b|c)$")] == [
        True,
        True,
        True,
        False,
    ]
