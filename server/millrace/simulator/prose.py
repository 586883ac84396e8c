"""Generated text for questions without a prepared answer; the same for the same seed."""

import codecs
from collections.abc import Iterator
from itertools import chain, islice
from random import Random

from millrace.tokens import PIECE, encoding

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
    """Split text into tokens, as Millrace counts them; none is empty. Joined they are exactly the text."""
    decoded = codecs.getincrementaldecoder("utf-8")()  # a rare character is several tokens, and comes with the last
    pieces = (text[at : at + PIECE] for at in range(0, len(text), PIECE))
    found = chain.from_iterable(map(encoding().encode_ordinary, pieces))
    return filter(None, map(decoded.decode, map(encoding().decode_single_token_bytes, found)))


def passage(rng: Random) -> str:
    """Return a few sentences, 20 to 80 words."""
    return "".join(islice(_sentences(rng), rng.randint(2, 5)))


def markdown(rng: Random) -> str:
    """Return Markdown with a heading, a list and a block of code."""
    opening, words = rng.choice(_OPENINGS), rng.randint(2, 9)
    subjects = "\n".join(f"- **{subject}** {rng.choice(_PREDICATES)}" for subject in rng.sample(_SUBJECTS, 3))
    code = f"def turn(wheel: int) -> int:\n    return wheel + {words}  # simulated"
    return f"{opening}\n\n## Code\n\n```python\n{code}\n```\n\n{subjects}\n\nCall it as `turn({words})`."


def tokens(rng: Random, count: int) -> Iterator[str]:
    """Yield exactly `count` tokens of generated text. The last of several ends a sentence."""
    last = ""
    for last in islice(chain.from_iterable(map(split, _sentences(rng))), max(count - 1, min(count, 1))):
        yield last
    if count > 1:
        yield " ..." if last.endswith(".") else "."


def _sentences(rng: Random) -> Iterator[str]:
    yield rng.choice(_OPENINGS)
    while True:
        yield f" {rng.choice(_SUBJECTS)} {rng.choice(_PREDICATES)} {rng.choice(_TAILS)}."
