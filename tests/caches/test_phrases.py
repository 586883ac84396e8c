"""Phrases of the guards are replaced in groups as they are one by one."""

import re

import pytest

from millrace.caches.guards import questions, synonyms, words
from millrace.caches.guards.phrases import Groups, whole

TEXTS = (
    "hi , can you tell me how to log in to my account please",
    "what is the best way to get rid of rust",
    "is it possible to turn the lights off",
    "how much does it cost to go to the  usa",
    "who is the author of it and when was it born",
    "the app 's language",
    "nothing of it",
    "",
)


@pytest.mark.parametrize("groups", [questions._POLITE, questions._FRAMES, synonyms._PHRASES])
@pytest.mark.parametrize("text", TEXTS)
def test_a_group_is_found_if_and_only_if_one_of_its_own_is(groups: Groups, text: str) -> None:
    """It must not be passed over then."""
    for any_of_them, phrases in groups:
        assert bool(whole(any_of_them).search(text)) == any(whole(pattern).search(text) for pattern, _ in phrases)


@pytest.mark.parametrize("groups", [questions._POLITE, questions._FRAMES, synonyms._PHRASES])
def test_no_pattern_refers_to_its_groups_by_number(groups: Groups) -> None:
    """They have other numbers together than alone."""
    assert not [pattern for _, phrases in groups for pattern, _ in phrases if re.search(r"\\\d", pattern)]


BARE = ("Cannot", "dont.", "whats", "x im,", "IVE", "e-mail", "my e-mails", "Wi-Fi", "wi-fis", "wouldnt", "hows that")
NONE_BARE = ("want", "images", "time", "five", "cants", "dont_x", "who's", "e mail", "thatss", "", "a-e-mail")


@pytest.mark.parametrize("text", [*BARE, *NONE_BARE, *TEXTS, *(word.upper() for word in sorted(words._BARE_WORDS))])
def test_words_tell_whether_a_contraction_has_lost_its_apostrophe(text: str) -> None:
    """They may say so of a text where no pattern matches, but never pass over one."""
    assert words._has_bare(text) or words._ANY_BARE.search(text) is None
    if text not in ("a-e-mail", "wi-fis"):
        assert words._has_bare(text) == (words._ANY_BARE.search(text) is not None)
