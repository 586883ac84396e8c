"""Text for questions nobody wrote an answer to: harmless, endless, and the same for the same seed."""

import re
from collections.abc import Iterator
from itertools import chain, islice
from random import Random

# A word with the space before it; longer words come in pieces, as they do from a model.
# Joined again, the tokens are the text, to the last space.
_TOKEN = re.compile(r"\s*\S{1,8}|\s+")

_OPENINGS = (
    "This is a simulated answer: no model was asked and nothing was billed.",
    "What follows is simulated text, made up here and free of charge.",
    "Simulated: these words come from a small list, not from a model.",
    "You are reading a simulated reply, which always costs exactly nothing.",
)
_SUBJECTS = (
    "The miller",
    "A quiet stream",
    "The old wheel",
    "A patient heron",
    "The lock keeper",
    "A narrow channel",
    "The morning fog",
    "A wooden gate",
    "The village baker",
    "A flat grey boat",
)
_PREDICATES = (
    "waits beside the water",
    "keeps the same slow rhythm",
    "stays close to the stone bridge",
    "belongs to the lower valley",
    "comes and goes with the season",
    "asks for very little",
    "leans a little to the left",
    "has been here for a hundred years",
    "is easy to find and hard to hurry",
    "shares the bank with the willows",
)
_TAILS = (
    "until the evening comes",
    "while the rain goes by",
    "as in every other year",
    "before the village wakes",
    "and nobody minds",
    "where the river bends",
    "long after the harvest",
    "when the sluice is open",
)


def split(text: str) -> Iterator[str]:
    """Cut text into tokens; none is empty."""
    return iter(_TOKEN.findall(text))


def passage(rng: Random) -> str:
    """A few sentences, 20 to 80 words."""
    return "".join(islice(_sentences(rng), rng.randint(2, 5)))


def tokens(rng: Random, count: int) -> Iterator[str]:
    """Exactly so many tokens of text without end."""
    return islice(chain.from_iterable(map(split, _sentences(rng))), count)


def _sentences(rng: Random) -> Iterator[str]:
    yield rng.choice(_OPENINGS)
    while True:
        yield f" {rng.choice(_SUBJECTS)} {rng.choice(_PREDICATES)} {rng.choice(_TAILS)}."
