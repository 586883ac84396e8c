"""What a check says: the words of both texts that it objects to."""

from collections import Counter
from collections.abc import Iterable

Said = tuple[str, str]  # the words of the left and the right text; empty where none are named
NOTHING = ("", "")  # an objection that names no words


def only(left: Iterable[str], right: Iterable[str]) -> Said:
    """Return what each side has and the other has not; all of both if only the order differs."""
    one, other = Counter(left), Counter(right)
    a, b = list((one - other).elements()), list((other - one).elements())
    return (" ".join(a), " ".join(b)) if a or b else (" ".join(left), " ".join(right))


def turned(said: Said | None) -> Said | None:
    """Return what a check says when it is given the texts the other way round."""
    return None if said is None else (said[1], said[0])
