"""A judge that compares the meaning of two answers by the networks of the semantic cache.

They run in a process that live lookups share, some 20 to 80 ms for two answers. So it is asked so often a minute at
most, reads the beginning of an answer only, and gives way where others wait. An answer that differs in one fact has
nearly the same vector, so nothing is "same" in which the facts leave a doubt.
"""

import asyncio
import time

from millrace.evidence.judges.facts import Pair, of_pair
from millrace.evidence.judges.plain import LONGEST
from millrace.ports import Clock, Comparer, Likeness
from millrace.types import Says

A_MINUTE = 12  # pairs that are compared: some hundredth of a core
AT_ONCE = 3  # after a while without any
READ = 600  # characters of each answer that are compared
WAIT_S = 2.0  # for its turn

# Chosen on one part of tests/data/answers.jsonl (docs/evidence-judges.md).
LONG = 25  # words from which on the cosine alone tells answers apart
SAME, DIFFERENT = 0.85, 0.55  # cosines of long answers
SAME_SHORT, ODDS_SHORT = 0.9, -0.5  # cosine and log odds of short ones
SAME_POLARITY = 0.6  # cosine of short ones that both begin with yes, or both with no


class LikenessJudge:
    """Compares what two answers mean."""

    name = "likeness"

    def __init__(
        self, comparer: Comparer, *, a_minute: int = A_MINUTE, wait_s: float = WAIT_S, clock: Clock = time.monotonic
    ) -> None:
        self._comparer = comparer
        self._clock = clock
        self._wait_s = wait_s
        self._a_minute = a_minute
        self._left = float(min(AT_ONCE, a_minute))  # pairs that may be compared now
        self._at = clock()

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Return whether both mean the same.

        It cannot tell while the process is busy or has not been needed for a lookup yet, or once it was asked enough.
        """
        if self._comparer.is_starting:
            return Says.UNSURE
        texts = question, earlier[:LONGEST], fresh[:LONGEST]
        pair, contradict = await of_pair(lambda pair: (pair, pair.contradict), *texts)
        if contradict or not self._may_compare():
            return Says.UNSURE
        compared = self._comparer.compare(pair.texts[0][:READ], [pair.texts[1][:READ]], self._clock() + self._wait_s)
        try:
            likeness = (await asyncio.wrap_future(compared))[0]
        except Exception:  # its process has said why
            return Says.UNSURE
        return judged(pair, likeness)

    def _may_compare(self) -> bool:
        now = self._clock()
        self._left = min(AT_ONCE, self._a_minute, self._left + (now - self._at) * self._a_minute / 60)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def judged(pair: Pair, likeness: Likeness) -> Says:
    """Return what follows from the likeness of two answers. Short ones are never "different" by it."""
    if pair.shortest >= LONG:
        if likeness.cosine <= DIFFERENT and pair.is_english:
            return Says.DIFFERENT
        is_same = likeness.cosine >= SAME
    else:
        is_same = not pair.has_cjk and _is_same_short(pair, likeness)  # the networks have read little of Chinese
    return Says.SAME if is_same and not pair.is_doubtful and not pair.adds_numbers else Says.UNSURE


def _is_same_short(pair: Pair, likeness: Likeness) -> bool:
    if pair.same_polarity and likeness.cosine >= SAME_POLARITY:
        return True
    odds = likeness.log_odds
    is_like = likeness.cosine >= SAME_SHORT and odds is not None and odds >= ODDS_SHORT
    return is_like and not (pair.adds_names or pair.has_words_replaced)
