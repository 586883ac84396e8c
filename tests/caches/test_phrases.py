"""Phrases of the guards are replaced in groups as they are one by one."""

import re

import pytest

from millrace.caches.guards import questions, synonyms
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
