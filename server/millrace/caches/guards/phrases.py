"""Patterns of whole tokens that are replaced one after the other. Hardly any of them is in a text, so they are grouped.

A look for all of a group at once takes about as long as one for a single pattern.
"""

import re
from collections.abc import Sequence

_TOGETHER = 8

Replacements = tuple[tuple[re.Pattern[str], str], ...]  # in order
Groups = tuple[tuple[re.Pattern[str], Replacements], ...]  # each with a pattern that is found if any of its own is


def grouped(patterns: Sequence[tuple[str, str]]) -> Groups:
    """Compile patterns, each with what replaces it; they are to be applied in order."""
    groups = [patterns[at : at + _TOGETHER] for at in range(0, len(patterns), _TOGETHER)]
    return tuple(
        (
            _compiled("|".join(f"(?:{pattern})" for pattern, _ in group)),
            tuple((_compiled(pattern), replacement) for pattern, replacement in group),
        )
        for group in groups
    )


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\S)(?:{pattern})(?:(?!\S)|(?<=\s))")
