"""How the router would have kept another promise: the loops of the server, over the requests of a window."""

from collections import deque
from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from millrace.funnel.routing.learning import PAIRS, Memo, promise
from millrace.funnel.routing.pairs import LAST
from millrace.funnel.routing.promises import Place, Promised, Promises
from millrace.types import Judged, Past, Scores, Tier


class TriedPromise:
    """The promise at one moment of a window. A tenant has one loop, whatever model names it asks for."""

    def __init__(
        self, promised: Promised, judged: Sequence[Judged], scores: Mapping[str, Sequence[float]], since: float
    ) -> None:
        """`judged` are all, in any order. `scores` are those of each tenant's first requests.

        What was judged before `since` is known as the window begins; where it ranks, these scores tell.
        """
        self.now = since
        self._promises = Promises(promised, lambda: self.now)
        pairs: deque[tuple[Judged, Memo]] = deque()
        if promised.keep_quality is not None:
            pairs.extend((each, memo) for each in sorted(judged, key=_taken_at) if (memo := _memo(each)) is not None)
            for tenant, first in scores.items():
                for score in first:
                    self._promises.routed(_place(tenant), score, Tier.SMALL)
        self._pairs = pairs
        self._has_routed: Tier | None = None
        before = [pairs.popleft() for _ in range(sum(_taken_at(each) < since for each, _ in pairs))]
        for each, memo in before[-LAST:]:
            promise(self._promises, each, memo, _place(each.sample.tenant))

    def begin(self, row: Past) -> None:
        """Go on to a request: count what was judged before it."""
        self.now, self._has_routed = row.opened_at, None
        while self._pairs and _taken_at(self._pairs[0][0]) <= self.now:
            each, memo = self._pairs.popleft()
            promise(self._promises, each, memo, _place(each.sample.tenant))

    def tier(self, row: Past, score: float) -> Tier:
        """Return whom the score puts first."""
        return Tier.LARGE if score >= self._promises.threshold(_place(row.tenant)).value else Tier.SMALL

    def routed(self, row: Past, score: float, tier: Tier) -> None:
        """Count the request, and who was asked first in the end."""
        self._has_routed = tier
        self._promises.routed(_place(row.tenant), score, tier)

    def as_it_was(self, row: Past) -> None:
        """Count a request that is not decided again, as it was routed, and what it has cost."""
        scores: Scores | None = row.story.scores
        if scores is not None:
            self.routed(row, scores.score, scores.tier)
        self.spent(row, row.cost)

    def spent(self, row: Past, nanodollars: float) -> None:
        """Count what the request has cost, or would have, and what the checks said of the small model's answer."""
        self._promises.spent(_place(row.tenant), self._has_routed, Decimal(round(nanodollars)).scaleb(-9))
        score = None if row.story.scores is None else row.story.scores.score
        for judgement in row.story.judgements:
            self._promises.flagged(_place(row.tenant), judgement.tier, judgement.check is not None, score)


def _place(tenant: str) -> Place:
    return tenant, ""


def _taken_at(judged: Judged) -> float:
    return judged.sample.taken_at


def _memo(judged: Judged) -> Memo | None:
    """Return what is remembered of the prompt of a pair; None if it is no pair, or of another version."""
    sample = judged.sample
    if sample.lever not in PAIRS or not sample.prompt_features:
        return None
    try:
        return msgspec.msgpack.decode(sample.prompt_features, type=Memo)
    except msgspec.MsgspecError:
        return None
