"""What the router would have scored, had it learned from the answers that other settings would have brought.

If the small model is asked more often, more is known of it, and other requests gain most from the large one: no fewer
of them, but cheaper or dearer ones. So two pairs of heads learn in step from the sketches of prompts that rows keep:
one from what happened, one from what would have. Only what sets them apart is added to the score that a row tells. So
nothing changes as long as both have learned the same, and what the router knew before the window is in the score.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace
from numpy.typing import NDArray

from millrace.accounts.comparable import is_escalated
from millrace.funnel.routing.features import Features
from millrace.funnel.routing.heads import Heads
from millrace.funnel.routing.labels import NO_CHECK, Checked, Separation, count_pair, of_judged, of_verdicts
from millrace.funnel.routing.learning import PAIRS
from millrace.funnel.routing.sketch import SUMS, unsketched
from millrace.types import PASSED, Judged, JudgeErrors, Label, Lever, Past, Scores, Tier

FIRST = 500  # requests of a tenant that tell how large sums are
CURVATURE = 0.25  # of a label, for a sum of 1: of both heads, each p * (1 - p) at a p of 0.8 or so
NOISE = 0.015  # of the cost: what is sampled to be judged, and so learned, differs from run to run
NEW = 0.045  # more, if the router has learned all that it knows in the window
UNSURE = "unsure"  # the check that small answers fail, where none has failed yet

_Said = tuple[Checked, ...]


class _Begun(Struct):
    """What is known of a tenant's router from the rows of a window."""

    first: int  # labels that it had learned: as many at least as rows tell of later, less one for each row until then
    last: int
    rows: int = 0
    squares: NDArray[np.float32] = field(default_factory=lambda: np.zeros(SUMS + 1, np.float32))
    count: int = 0


class _Pupil(Struct):
    was: Heads
    tried: Heads
    words: dict[str, Separation]


class Begun:
    """What the router knew as a window began, as far as its rows tell."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Begun] = {}
        self._failed: Counter[str] = Counter()

    def learn(self, rows: Iterable[Past]) -> None:
        """Learn from requests of the window, the oldest first."""
        for row in rows:
            if (scores := row.story.scores) is None or (features := unsketched(scores.sketch)) is None:
                continue
            begun = self._tenants.setdefault(row.tenant, _Begun(scores.labels, scores.labels))
            # As a server starts, the first requests may come before what was learned is read.
            begun.first = max(begun.first, scores.labels - begun.rows)
            begun.last = scores.labels
            begun.rows += 1
            if row.check is not None:
                self._failed[row.check] += 1
            if begun.count < FIRST:
                begun.squares += features.values**2
                begun.count += 1

    @property
    def failed(self) -> str:
        """The check that small answers fail most often."""
        return self._failed.most_common(1)[0][0] if self._failed else UNSURE

    @property
    def doubt(self) -> float:
        """The standard deviation of a cost that is predicted for another promise, as a part of it: as was measured.

        0 if nothing was learned in the window: scores are what they were then.
        """
        last = sum(each.last for each in self._tenants.values())
        new = last - sum(each.first for each in self._tenants.values())
        return NOISE + NEW * new / last if new > 0 else 0.0

    def heads(self, tenant: str) -> Heads | None:
        """Return heads that are as hard to teach as those of a tenant were; None if these have learned nothing."""
        begun = self._tenants.get(tenant)
        if begun is None or begun.last == begun.first:
            return None
        return Heads.of(begun.squares * np.float32(CURVATURE * begun.first / begun.count))


class Relearned:
    """The scores of one window under settings that are tried. Not thread-safe."""

    def __init__(
        self,
        begun: Begun,
        judged: Iterable[Judged],
        errors: JudgeErrors,
        words: Mapping[str, Mapping[str, Separation]],
    ) -> None:
        """`judged` are the pairs of the window; `words` is what the checks' words mean today, by tenant."""
        self._begun = begun
        self._errors = errors
        self._words = words
        self._pupils: dict[str, _Pupil | None] = {}
        self._judged: defaultdict[str, list[Judged]] = defaultdict(list)
        for each in judged:
            if each.sample.lever in PAIRS:
                self._judged[each.sample.request_id].append(each)

    def score(self, row: Past, scores: Scores) -> float:
        """Return the score that the prompt of these scores would have had, by what was learned until this request."""
        pupil, features = self._pupil(row.tenant), unsketched(scores.sketch)
        if pupil is None or features is None or scores.small is None or scores.large is None:
            return scores.score
        before, after = pupil.was.odds(features), pupil.tried.odds(features)
        if before == after:
            return scores.score
        common, gain = after[0] - before[0], after[1] - before[1]
        small, large = _odds(scores.small) + common - gain, _odds(scores.large) + common + gain
        return _probability(large) - _probability(small)

    def learn(self, row: Past, tier: Tier | None, escalated: float) -> None:
        """Learn from a request that was scored.

        `tier`: whom the tried settings put first; None: no model was asked. `escalated`: how likely the small model's
        answer is taken back, where it was not asked.
        """
        scores = row.story.scores
        features = None if scores is None else unsketched(scores.sketch)
        pupil = self._pupil(row.tenant)
        if scores is None or features is None or pupil is None or scores.small is None or scores.large is None:
            return
        odds = _odds(scores.small), _odds(scores.large)
        before = pupil.was.odds(features)
        beside = (odds[0] + odds[1]) / 2 - before[0], (odds[1] - odds[0]) / 2 - before[1]
        said = _said(row)
        _teach(pupil.was, features, of_verdicts(said, pupil.words), 1.0, beside)
        for each, share in self._would_say(said, scores.tier, tier, escalated):
            _teach(pupil.tried, features, of_verdicts(each, pupil.words), share, beside)
        for judged in self._judged.get(row.request_id, ()):
            count_pair(judged, pupil.words)
            _teach(pupil.was, features, of_judged(judged, self._errors), 1.0, beside)
            if tier is not None:
                would = judged if tier is scores.tier else _moved(judged, tier)
                _teach(pupil.tried, features, of_judged(would, self._errors), 1.0, beside)

    def _would_say(self, said: _Said, was: Tier, tier: Tier | None, escalated: float) -> Sequence[tuple[_Said, float]]:
        """Return what the checks would say, with how likely that is."""
        if tier is was:
            return ((said, 1.0),)
        if tier is None:
            return ()
        if tier is Tier.LARGE:
            return (((Checked(Tier.LARGE, NO_CHECK),), 1.0),)
        failed = (Checked(Tier.SMALL, self._begun.failed), Checked(Tier.LARGE, NO_CHECK))
        return ((Checked(Tier.SMALL, NO_CHECK),), 1 - escalated), (failed, escalated)

    def _pupil(self, tenant: str) -> _Pupil | None:
        if tenant not in self._pupils:
            was, tried = self._begun.heads(tenant), self._begun.heads(tenant)
            judged = [each for pairs in self._judged.values() for each in pairs if each.sample.tenant == tenant]
            words = _before(self._words.get(tenant, {}), judged)
            self._pupils[tenant] = None if was is None or tried is None else _Pupil(was, tried, words)
        return self._pupils[tenant]


def _before(words: Mapping[str, Separation], judged: Iterable[Judged]) -> dict[str, Separation]:
    """Return what the checks' words meant before some pairs were judged."""
    since: dict[str, Separation] = {}
    for each in judged:
        count_pair(each, since)
    none = Separation()
    return {
        word: Separation(
            max(now.same - since.get(word, none).same, 0.0), max(now.pairs - since.get(word, none).pairs, 0.0)
        )
        for word, now in words.items()
    }


def _without(now: Separation, some: Separation) -> Separation:
    return Separation(max(now.same - some.same, 0.0), max(now.pairs - some.pairs, 0.0))


def _said(row: Past) -> _Said:
    """Return what the checks said of the answers. A draft that was taken back before its end is in no judgement."""
    judgements = row.story.judgements
    said = tuple(Checked(each.tier, each.check or NO_CHECK) for each in judgements)
    if is_escalated(row) and row.check is not None and all(each.tier is not Tier.SMALL for each in judgements):
        return Checked(Tier.SMALL, row.check), *said
    return said


def _moved(judged: Judged, tier: Tier) -> Judged:
    """Return the pair as it would have been taken if another model had been asked first."""
    sample = judged.sample
    lever = Lever.LARGE
    if tier is Tier.SMALL:
        lever = Lever.SMALL if sample.detail in ("", PASSED) else Lever.CHECK
    return replace(judged, sample=replace(sample, lever=lever))


def _teach(heads: Heads, features: Features, label: Label | None, share: float, beside: tuple[float, float]) -> None:
    if label is not None:
        heads.learn(features, label.small, label.large, label.weight * share, beside)


def _odds(probability: float) -> float:
    within = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(within / (1 - within))


def _probability(odds: float) -> float:
    return 1 / (1 + math.exp(-max(min(odds, 30.0), -30.0)))
