"""A stream of requests, as `tests/measure_router.py` measures it, teaches the router which words gain."""

import random

from tests.measure_router import Row, streamed

TOPICS = {"proofs": ("lemma", "theorem", "corollary"), "capitals": ("city", "river", "country")}


def rows(count: int) -> list[Row]:
    """Return prompts of two topics, of any length. The small model fails one of them."""
    chance = random.Random(1)
    found = []
    for _ in range(count):
        topic = chance.choice([*TOPICS])
        words = chance.choices(TOPICS[topic], k=chance.randrange(3, 30))
        found.append(Row(" ".join(words), small=topic == "capitals", large=True))
    return found


def test_what_the_small_model_fails_ranks_first_after_some_hundred_requests() -> None:
    """From noisy verdicts and few pairs, with the length of no use."""
    *_, (router, length) = streamed(rows(700), 1, requests=500, every=250)
    assert length < 0.6
    assert router > 0.7
