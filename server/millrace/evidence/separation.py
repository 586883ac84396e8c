"""How well a check tells wrong answers of the small model from right ones.

`catch` is the share of the wrong answers that it flags, `false_alarms` the share of the right ones. An answer is wrong
if judges say that the large model's differs. Answers that passed were sampled with a small probability, those that were
taken back were nearly all judged, so each stands for 1/probability others (Horvitz and Thompson 1952); bounds of 95 %
each are exact ones of a simple sample of the effective size (Clopper and Pearson 1934; Kish 1965).

The features of a sample say which checks flagged its answer: 1 or 0 under the name of a check, which is an identifier;
other features are not.
"""

import math
from collections.abc import Iterable

from msgspec import Struct

from millrace.evidence import intervals
from millrace.evidence.rates import TAIL, Weighted
from millrace.types import Judged, Lever, Rate, Says

LEVERS = frozenset({Lever.SMALL, Lever.CHECK})
ENOUGH = 30.0  # wrong and right answers, as simple samples, from which on a check is said to separate or not
LEAST = 0.1  # by which the catch exceeds the false alarms of a check that separates
TIMES = 2.0  # as often flagged, or more: wrong answers by a check that flags seldom, but rightly


class Separation(Struct, frozen=True, kw_only=True):
    """What is known of one check."""

    catch: Rate
    false_alarms: Rate

    @property
    def is_known(self) -> bool:
        """Whether enough was judged."""
        return min(self.catch.effective, self.false_alarms.effective) >= ENOUGH

    @property
    def is_good(self) -> bool:
        """Whether it separates, for sure."""
        lower, _ = self.difference
        return self.is_known and lower >= LEAST

    @property
    def is_bad(self) -> bool:
        """Whether it does not separate, for sure.

        Its catch does not exceed its false alarms by `LEAST`, nor are wrong answers flagged `TIMES` as often as right
        ones. The second keeps checks that flag little and are right: a rare fault has a small catch.
        """
        if not self.is_known:
            return False
        _, upper = self.difference
        return upper < LEAST and (self.catch.upper or 0.0) < TIMES * (self.false_alarms.lower or 0.0)

    @property
    def difference(self) -> tuple[float, float]:
        """The bounds of 95 % each of the catch less the false alarms (Newcombe 1998, the hybrid method)."""
        catch, alarms = self.catch, self.false_alarms
        one, low, high = catch.estimate or 0.0, catch.lower or 0.0, catch.upper or 0.0
        other, least, most = alarms.estimate or 0.0, alarms.lower or 0.0, alarms.upper or 0.0
        difference = one - other
        return difference - math.hypot(one - low, most - other), difference + math.hypot(high - one, other - least)


def separations(judged: Iterable[Judged]) -> dict[str, Separation]:
    """Return what is known of each check that has looked at answers, by name."""
    wrong: dict[str, _Counted] = {}
    right: dict[str, _Counted] = {}
    for each in judged:
        if each.sample.lever not in LEVERS or not each.sample.is_random:
            continue
        side = wrong if is_wrong(each) else right
        for name, value in each.sample.features.items():
            if name.isidentifier():
                side.setdefault(name, _Counted()).add(each, flagged=value > 0)
    names = sorted({*wrong, *right})
    return {
        name: Separation(catch=wrong.get(name, _Counted()).rate(), false_alarms=right.get(name, _Counted()).rate())
        for name in names
    }


def is_wrong(judged: Judged) -> bool:
    """Whether the answer was wrong, as the last and dearest judge says."""
    return judged.opinions[-1].says is Says.DIFFERENT


class _Counted:
    def __init__(self) -> None:
        self._weighted = Weighted()
        self._count = 0
        self._since: float | None = None

    def add(self, judged: Judged, *, flagged: bool) -> None:
        at = judged.sample.taken_at
        self._count += 1
        self._since = at if self._since is None else min(self._since, at)
        self._weighted.add(1 / judged.sample.probability, counts=flagged)

    def rate(self) -> Rate:
        size, share = self._weighted.effective, self._weighted.share
        if not self._count:
            return Rate(judged=0, effective=0.0)
        return Rate(
            judged=self._count,
            effective=size,
            estimate=share,
            lower=intervals.lower(share * size, size, TAIL),
            upper=intervals.upper(share * size, size, TAIL),
            since=self._since,
        )
