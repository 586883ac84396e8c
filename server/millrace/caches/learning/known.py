"""Pairs of questions of one scope that were judged: which are known to have one answer, and which are not.

Each verdict moves the log odds of its pair by how much likelier it is if both have one answer, so that a few agreeing
ones outweigh a judge's errors, and later ones outweigh earlier ones that were wrong. Having one answer is transitive:
if A and C have one, and C and B, then A and B do; if only one of these is true, then they do not. So what is known of
two pairs with a question in common says something of the third one.
"""

import math
from collections.abc import Iterator

MOST = 9.0  # log odds of a pair
MOST_BY_OTHERS = 6.0  # that other pairs may say of one
RATHER = 1.0  # log odds from which on a pair is followed
FOLLOWED = 32  # pairs of a question, at most
_BOTH_WRONG = 0.02  # chance that A and B have one answer where neither has that of C


class KnownPairs:
    """What was said of pairs, by the ids of their questions."""

    def __init__(self) -> None:
        self.count = 0  # pairs
        self._of: dict[str, dict[str, float]] = {}  # log odds, by both ids, in both orders

    def add(self, a: str, b: str, log_ratio: float) -> None:
        """Take in a verdict."""
        if a == b:
            return
        pairs = self._of.setdefault(a, {})
        self.count += b not in pairs
        pairs[b] = self._of.setdefault(b, {})[a] = max(-MOST, min(MOST, pairs.get(b, 0.0) + log_ratio))

    def log_odds(self, a: str, b: str) -> float:
        """Return by how much what is known moves the log odds that a pair has one answer; 0 if nothing is."""
        of_a, of_b = self._of.get(a), self._of.get(b)
        if of_a is None or of_b is None:
            return 0.0
        few, many = (of_a, of_b) if len(of_a) <= len(of_b) else (of_b, of_a)
        by_others = sum(_by(few[each], many[each]) for each in _first(few) if each in many)
        return of_a.get(b, 0.0) + max(-MOST_BY_OTHERS, min(MOST_BY_OTHERS, by_others))

    def same_as(self, a: str) -> Iterator[str]:
        """Yield the ids of questions that seem to have the same answer, those known directly first."""
        of_a = self._of.get(a, {})
        near = [each for each in _first(of_a) if of_a[each] >= RATHER]
        yield from near
        for middle in near:
            of_middle = self._of[middle]
            yield from (each for each in _first(of_middle) if of_middle[each] >= RATHER and each != a)


def _first(pairs: dict[str, float]) -> Iterator[str]:
    """Yield the latest pairs of a question."""
    for each, _ in zip(reversed(pairs), range(FOLLOWED), strict=False):
        yield each


def _by(first: float, second: float) -> float:
    """Return what the log odds of A and C, and of C and B, say of A and B."""
    if max(first, second) < RATHER:
        return 0.0
    p, q = 1 / (1 + math.exp(-first)), 1 / (1 + math.exp(-second))
    neither = (1 - p) * (1 - q)
    same = p * q + neither * _BOTH_WRONG
    return math.log(same / (p * (1 - q) + q * (1 - p) + neither * (1 - _BOTH_WRONG)))
