"""Makes labels of what is said about answers: by the checks, by judges of evidence, and by people.

A check errs, and so does a judge, so a label is how likely an answer was right, given what was said of it. What a
check's word means is estimated from pairs of answers: where a check has failed the small model's answer, the large one
is asked in any case, and a judge compares the two. If a check fails as many good answers as others, its word teaches
nothing. For the large model's answers the same errors are taken, since nothing better is there to be compared to them.

A small answer that stands says that nothing was to be gained, so both answers count as if right. All that can be seen
of the large model's errors, when the small one is asked first, is where both fail; and that is what has to be known,
since there its call is of no use.
"""

import math
from collections.abc import Sequence

from msgspec import Struct

from millrace.evidence.trust import log_ratio
from millrace.funnel.checks.table import HARD
from millrace.types import PASSED, Judged, JudgeErrors, Label, LabelSource, Lever, Rating, Says, Tier

NO_CHECK = ""  # in place of the check that an answer failed
RIGHT, HARD_RIGHT, SOFT_RIGHT = 0.9, 0.1, 0.3  # of answers that passed or failed, until pairs tell
ASSUMED = 20.0  # pairs for which that counts
LAST = 500.0  # pairs that count: older ones say little of today
APART = 0.1  # by how much answers that passed are right more often, or a check teaches nothing

VERDICT = 0.6  # labels for which the verdict of a check counts
RATED = 0.5  # the same, for what a person says
MOST = 3.0  # the same, for a pair that stands for many requests
CHECKED = 0.3  # the same, for a pair of which a check has spoken already

BOTH = 0.95  # answers that say the same are right so often
# Of answers that differ and passed their checks, nobody knows which one is wrong: the small one more often.
DIFFERENT = (0.3, 0.7)
FAILED_AND_DIFFERENT = (0.2, 0.9)


class Separation(Struct, array_like=True):
    """How often small answers were the same as the large model's, after one word of the checks."""

    same: float = 0.0
    pairs: float = 0.0

    def add(self, same: float) -> None:
        """Count a pair; `same` from 0 to 1."""
        if self.pairs >= LAST:
            self.same, self.pairs = self.same / 2, self.pairs / 2
        self.same += same
        self.pairs += 1

    def right(self, assumed: float) -> float:
        """Return how often an answer is right, with what is assumed without pairs."""
        return (self.same + ASSUMED * assumed) / (self.pairs + ASSUMED)


class Checked(Struct, frozen=True):
    """What a check says of an answer: `NO_CHECK`, or the name of the one that it failed."""

    tier: Tier
    check: str


class Rated(Struct, frozen=True):
    """What a person says of the answer of a model."""

    tier: Tier
    rating: Rating


def of_verdicts(verdicts: Sequence[Checked], known: dict[str, Separation]) -> Label | None:
    """Return the label for the answers to one request; None if nothing is to be learned from it."""
    passed = _right(NO_CHECK, known)
    right: dict[Tier, float] = {}
    for each in verdicts:
        share = _right(each.check, known)
        if each.check != NO_CHECK and passed - share < APART:
            return None
        right[each.tier] = share
    small, large = right.get(Tier.SMALL), right.get(Tier.LARGE)
    if small == passed and large is None:
        large = passed
    if small is None and large is None:
        return None
    return Label(small=small, large=large, weight=VERDICT, source=LabelSource.CHECK)


def of_judged(judged: Judged, errors: JudgeErrors) -> Label | None:
    """Return the label for a pair of answers; None if it was none, or if it does not stand for others.

    It weighs as much as the requests for which it stands, up to `MOST`.
    """
    sample = judged.sample
    if sample.lever not in (Lever.SMALL, Lever.LARGE, Lever.CHECK) or not sample.is_random:
        return None
    is_check = sample.lever is Lever.CHECK
    has_failed = sample.detail not in ("", PASSED)
    same = 1 / (1 + math.exp(-log_ratio(judged, errors)))
    small, large = FAILED_AND_DIFFERENT if has_failed else DIFFERENT
    return Label(
        small=same * BOTH + (1 - same) * small,
        large=same * BOTH + (1 - same) * large,
        weight=CHECKED if is_check else min(1 / sample.probability, MOST),
        source=LabelSource.SHADOW,
    )


def of_rating(rated: Rated) -> Label:
    """Return the label for what a person says of the answer of one model."""
    right = RIGHT if rated.rating is Rating.UP else 1 - RIGHT
    small, large = (right, None) if rated.tier is Tier.SMALL else (None, right)
    return Label(small=small, large=large, weight=RATED, source=LabelSource.FEEDBACK)


def count_pair(judged: Judged, known: dict[str, Separation], most: int = 64) -> None:
    """Count what a pair says of the checks' words, of at most so many checks."""
    sample = judged.sample
    if sample.lever not in (Lever.SMALL, Lever.CHECK):
        return
    word = sample.detail if sample.lever is Lever.CHECK else NO_CHECK
    if word in known or len(known) < most:
        known.setdefault(word, Separation()).add(float(judged.opinions[-1].says is Says.SAME))


def _right(word: str, known: dict[str, Separation]) -> float:
    assumed = RIGHT if word == NO_CHECK else HARD_RIGHT if word in HARD else SOFT_RIGHT
    found = known.get(word)
    return assumed if found is None else found.right(assumed)
