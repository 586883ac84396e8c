"""Which words are common: any other word may be a name, since a city written in lower case looks like any noun.

`common.txt` has dictionary forms, most of them those that English texts write in lower case far more often than not.
"""

from functools import cache, lru_cache
from importlib.resources import files

from millrace.caches.guards.words import FUNCTION, lemmas

_MEMORY = 8192  # words whose answer is kept


@cache
def _common() -> frozenset[str]:
    return frozenset((files(__package__) / "common.txt").read_text("ascii").split())


@lru_cache(maxsize=_MEMORY)
def is_common(word: str) -> bool:
    """Whether a word in lower case is a common one, in any of its forms."""
    return word in FUNCTION or not _common().isdisjoint(lemmas(word))


_SAME_BEGINNING = 6  # letters that words which look alike share, if they differ in more than one
_RELATED = ("ing", "er", "ers", "ed", "ly", "s", "or", "al")  # endings of words that are related


def alike(left: str, right: str) -> bool:
    """Whether two words are easily taken for each other: causal and casual, principal and principle."""
    if left[0] != right[0] or min(len(left), len(right)) <= _SHORT:
        return False
    if near(left, right):
        return True
    begin = next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), 0)
    return begin > _SAME_BEGINNING and len(left) == len(right) and not left.endswith(_RELATED[:-1])


_SHORT = 3  # letters


def near(left: str, right: str) -> bool:
    """Whether two different words are one slip of the keys apart: one letter more, less or other, or two exchanged."""
    if len(left) > len(right):
        left, right = right, left
    if len(right) - len(left) > 1:
        return False
    at = next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(left))
    if len(left) < len(right):
        return left[at:] == right[at + 1 :]
    rest = left[at + 1 :] == right[at + 1 :]
    return rest or (left[at : at + 2] == right[at : at + 2][::-1] and left[at + 2 :] == right[at + 2 :])
