"""What the clients of the benchmark ask: ten words each, new every time."""

import json
from collections.abc import Iterator
from random import Random

from tests.support.paths import REPOSITORY

WORDS = 10
OPENINGS = ("how do i", "what is", "why does", "where can i", "which of", "when should i", "can you explain", "who")


def vocabulary() -> list[str]:
    """Return the words of the questions that the tests carry."""
    rows = (REPOSITORY / "tests" / "data" / "paraphrases.jsonl").read_text().splitlines()
    texts = [text for row in map(json.loads, rows) for text in (row["a"], row["b"])]
    return sorted({word for text in texts for word in text.lower().strip("?.!").split() if word.isalpha()})


def new(seed: str) -> Iterator[str]:
    """Yield questions, none of which was asked before; the same for the same seed."""
    random, words = Random(seed), vocabulary()
    while True:
        opening = random.choice(OPENINGS)
        rest = random.choices(words, k=WORDS - len(opening.split()))
        yield f"{opening} {' '.join(rest)}?"
