"""Sketches of prompts: like for like, and no word in them."""

import itertools

import numpy as np

from millrace.funnel.routing.features import WIDTH, Features, features_of
from millrace.funnel.routing.sketch import SUMS, sketched, unsketched
from millrace.types import Message, Prompt

LIKE = ("How do I reset the password of my account?", "How can I reset my account's password?")
UNLIKE = "Write a limerick about seven copper kettles in a thunderstorm"


def of(text: str) -> Features:
    found = unsketched(sketched(features_of(Prompt(messages=(Message(role="user", parts=(text,)),)))))
    assert found is not None
    return found


def likeness(one: str, other: str) -> float:
    first, second = of(one).values[:-1], of(other).values[:-1]
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def test_like_prompts_have_like_sums() -> None:
    assert likeness(*LIKE) > likeness(LIKE[0], UNLIKE)


def test_a_sketch_is_as_short_whatever_the_prompt() -> None:
    texts = ("", "?", *LIKE, "word " * 50_000, "\ud800 \0 日本語")
    features = [features_of(Prompt(messages=(Message(role="user", parts=(text,)),))) for text in texts]
    assert {len(sketched(each)) for each in features} == {1 + SUMS}


def test_hundreds_of_words_fall_together_in_each_sum() -> None:
    """So one that is not empty says of no word that it was there."""
    always = np.uint32(WIDTH - 1)
    alone = [
        sketched(Features(slots=np.array([slot, always], np.uint32), values=np.ones(2, np.float32)))
        for slot in range(0, 60_000, 5)
    ]
    counts = [len(list(same)) for _, same in itertools.groupby(sorted(alone))]
    assert len(counts) == 2 * SUMS  # each sum, and its sign
    assert min(counts) > 100


def test_of_another_version_it_is_none() -> None:
    sketch = sketched(features_of(Prompt(messages=())))
    assert unsketched(sketch) is not None
    for other in (b"", sketch[:-1], sketch + b"\0", bytes([sketch[0] + 1]) + sketch[1:]):
        assert unsketched(other) is None
