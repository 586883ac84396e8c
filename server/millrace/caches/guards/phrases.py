"""Patterns of whole tokens that are replaced one after the other. Hardly any of them is in a text, so they are grouped.

A look for all of a group at once takes about as long as one for a single pattern. Each is compiled when a text first
needs it: to compile all of them would take a tenth of the time in which a server starts.
"""

import re
from collections.abc import Sequence
from functools import cache

_TOGETHER = 8
_SPACES = re.compile(r" +")

Phrases = Sequence[tuple[str, str]]  # patterns, each with what replaces it, in order
Groups = tuple[tuple[str, Phrases], ...]  # each with a pattern that is found if any of its own is


def grouped(phrases: Phrases) -> Groups:
    """Put phrases, which are to be replaced in order, into groups."""
    groups = [phrases[at : at + _TOGETHER] for at in range(0, len(phrases), _TOGETHER)]
    return tuple(("|".join(f"(?:{pattern})" for pattern, _ in group), group) for group in groups)


def replaced(groups: Groups, text: str) -> str:
    """Replace all phrases in a text of tokens; the result is joined by single spaces."""
    text = _joined(text)
    for any_of_them, phrases in groups:
        if whole(any_of_them).search(text) is not None:
            for pattern, replacement in phrases:
                text, found = whole(pattern).subn(replacement, text)
                if found:
                    text = _joined(text)
    return text


@cache
def whole(pattern: str) -> re.Pattern[str]:
    """Return a pattern that is found where whole tokens match `pattern`."""
    return re.compile(rf"(?<!\S)(?:{pattern})(?:(?!\S)|(?<=\s))")


def _joined(text: str) -> str:
    text = text.strip()
    return _SPACES.sub(" ", text) if "  " in text else text
