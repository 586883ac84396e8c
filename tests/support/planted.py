"""Made-up keys of well-known forms, to be planted in answers. None opens anything."""

import random
import string
from typing import Any

from millrace.funnel.checks.guards import Guards

_LETTERS = string.ascii_letters + string.digits
KINDS = 11


def planted(rng: random.Random, kind: int) -> str:
    """Return a key, a token, a card's number or an address of mail, of one of `KINDS` kinds."""

    def some(count: int, letters: str = _LETTERS) -> str:
        return "".join(rng.choices(letters, k=count))

    number = card(some(15, string.digits[1:]))
    kinds = (
        f"sk-{some(20)}7{some(27)}",
        f"sk-proj-{some(12)}4{some(40)}",
        f"AKIA{some(16, string.ascii_uppercase + string.digits)}",
        f"ghp_{some(36)}",
        f"xoxb-{some(12, string.digits)}-{some(24)}",
        f"AIza{some(35)}",
        f"eyJhbGciOiJIUzI1NiJ9.eyJ{some(40)}.{some(43)}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{some(60)}",
        number,
        " ".join(number[at : at + 4] for at in range(0, 16, 4)),
        f"{some(8, string.ascii_lowercase)}.x@{some(6, string.ascii_lowercase)}.example",
    )
    return kinds[kind]


def guards_with(**chosen: Any) -> Guards:
    """Return guards of which these are on."""
    off: dict[str, Any] = {"secrets": False, "cards": False, "addresses": False, "patterns": (), "words": ()}
    guards = Guards.of(**off | chosen)
    assert guards is not None
    return guards


def card(digits: str) -> str:
    """Return fifteen digits as a card's number: it begins with a 4, and the last of its digits checks the others."""
    number = [4, *map(int, digits[1:15])]
    checked = sum(sum(divmod(2 * each, 10)) if at % 2 == 0 else each for at, each in enumerate(number))
    return "".join(map(str, number)) + str(-checked % 10)


def in_pieces(rng: random.Random, text: str) -> list[str]:
    """Return a text cut at any places, in pieces of up to twelve characters."""
    pieces, at = list[str](), 0
    while at < len(text):
        size = rng.randint(1, 12)
        pieces.append(text[at : at + size])
        at += size
    return pieces
