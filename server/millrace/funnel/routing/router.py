"""The router: which model a request should be put to first, and what it is told of the answers.

It scores the prompt, a promise says from which score on the large model is asked, and a session may hold a request up.
Without a promise the small model is asked first, whatever the score: its answer is checked, and the large one follows
where it fails. What the router learns meanwhile shows what a promise would save (`millrace router show`).

All of it is called on the event loop, but for `learn`. Nothing is learned there: see `learning.py`.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from decimal import Decimal

import msgspec
from msgspec import Struct

from millrace import log
from millrace.errors import EXITS
from millrace.funnel.catalog import Catalog
from millrace.funnel.routing.features import Features, features_of
from millrace.funnel.routing.heads import PRIOR_LABELS
from millrace.funnel.routing.labels import NO_CHECK, Checked, Rated
from millrace.funnel.routing.learned import Learned
from millrace.funnel.routing.learning import PAIRS, Learning, Lesson, Memo
from millrace.funnel.routing.promises import Place, Promised, Promises, Threshold
from millrace.funnel.routing.sessions import Sessions
from millrace.funnel.routing.sketch import sketched
from millrace.ports import Clock
from millrace.types import Advice, Judged, Rating, Request, Statement, Tier, Verdict

REMEMBERED = 4000  # requests whose cost, or what a person says of them, may still come
ROUTED = 500  # bytes of one, beside its features, about
SHOWN = 3  # words, pairs of words or numbers that a client is told of


class _Routed(Struct):
    """A request that was routed."""

    place: Place
    tier: Tier  # asked first
    escalates: bool  # as in `Advice`
    features: bytes  # as in `Advice`
    shown: Tier | None = None  # whose answer was given; None: nothing is known of it


class Router:
    """Advises on one request at a time, in a fraction of a millisecond."""

    def __init__(
        self,
        wall: Clock,
        promises: Promises | None = None,
        sessions: Sessions | None = None,
        *,
        learns: bool = True,
    ) -> None:
        """`wall` in Unix seconds. Without `sessions` each request is routed by itself.

        `learns`: False, as if all were frozen: scores stay as they are, and promises are kept on.
        """
        self.promises = promises or Promises(Promised(), wall)
        self.learning = Learning(self.promises, wall, learns=learns)
        self._sessions = sessions
        self._wall = wall
        self._routed: OrderedDict[tuple[str, str], _Routed] = OrderedDict()  # by tenant and request, the oldest first
        self._bytes = 0  # of these, about

    def renew(self, catalog: Catalog, promised: Promised, *, learns: bool) -> None:
        """Route by other prices and keep another promise from now on. What was learned stays."""
        if self._sessions is not None:
            self._sessions.catalog = catalog
        self.promises.promise(promised)
        self.learning.learns = learns

    @property
    def bytes_used(self) -> int:
        """Bytes of what was learned and is to be, and of the requests that are remembered, about."""
        return self.learning.bytes_used + self._bytes

    def advise(self, request: Request) -> Advice:
        """Return whom to ask first. An error in the router means the large model."""
        try:
            return self._advise(request)
        except EXITS:
            raise
        except BaseException as error:
            log.get().error("router failed", id=request.id, exc_info=error)
            return Advice(tier=Tier.LARGE, reason="the router failed; large to be safe")

    def judged(self, request: Request, advice: Advice, verdicts: Sequence[tuple[Tier, Verdict]]) -> None:
        """Learn from what the checks say of the answers to a request. The last one was given."""
        if request.asked_again or not request.evidence or not verdicts:
            return
        place = _place(request)
        routed = self._routed.get((request.tenant, request.id))
        if routed is not None:
            routed.shown = verdicts[-1][0]
        if not advice.escalates:  # most checks have not looked, so that those that did not fail say little
            return
        for tier, verdict in verdicts:
            self.promises.flagged(place, tier, not verdict.passed, advice.score)
        if self._sessions is not None and verdicts[0][0] is Tier.SMALL:
            (self._sessions.passed if verdicts[0][1].passed else self._sessions.escalated)(request)
        if advice.features:
            said = tuple(Checked(tier, verdict.check or NO_CHECK) for tier, verdict in verdicts)
            self.learning.add(Lesson(request.tenant, self._wall(), advice.features, said))

    def feedback(self, tenant: str, response_id: str, rating: Rating) -> None:
        """Learn from what a person says of an answer, if its request is still remembered."""
        routed = self._routed.get((tenant, response_id))
        if routed is not None and routed.shown is not None and routed.features:
            self.learning.add(Lesson(tenant, self._wall(), routed.features, Rated(routed.shown, rating)))

    def learn(self, judged: Sequence[Judged]) -> None:
        """Learn from what was judged. It is a `ports.Student`, so it is called on another thread."""
        self.learning.count_errors(judged)
        for each in sorted(judged, key=lambda each: each.sample.taken_at):
            sample = each.sample
            if sample.lever in PAIRS and sample.prompt_features:
                self.learning.add(Lesson(sample.tenant, sample.taken_at, sample.prompt_features, each))

    def spent(self, request: Request, statement: Statement) -> None:
        """Count what a request has cost in all, once it has ended. One that nobody has routed counts too."""
        routed = self._routed.get((request.tenant, request.id))
        if routed is None:
            self.promises.spent(_place(request), None, statement.cost)
            return
        of_small = [charge.cost for charge in statement.charges if charge.tier is Tier.SMALL]
        alone, escalates = sum(of_small, Decimal(0)) if of_small else None, routed.escalates
        self.promises.spent(_place(request), routed.tier, statement.cost, escalates=escalates, alone=alone)
        if routed.tier is Tier.SMALL:
            large = statement.cost + statement.saved
            if large > Decimal(0):
                self.learning.known(request.tenant).spent(float(statement.cost), float(large))

    def _advise(self, request: Request) -> Advice:
        if request.asked_again:  # by evidence: nobody is promised anything, and nothing is learned
            return Advice(tier=Tier.SMALL, reason="small first")
        place, features, learned = _place(request), features_of(request.prompt), self.learning.known(request.tenant)
        small, large = learned.heads.scores(features)
        score, threshold = large - small, self.promises.threshold(place)
        tier, held = Tier.LARGE if score >= threshold.value else Tier.SMALL, ""
        if self._sessions is not None:
            tier, held = self._sessions.hold(request, tier, score, threshold)
        escalates = threshold.escalates or tier is Tier.LARGE
        self.promises.routed(place, score, tier, escalates=escalates)
        memo = b""
        if request.evidence:
            memo = msgspec.msgpack.encode(Memo(request.model, score, tier, features.packed()))
        self._remember(request, _Routed(place, tier, escalates, memo))
        labels = learned.labels
        reason = _reason(score, threshold, labels)
        return Advice(
            tier=tier,
            reason=f"{held}; {reason}" if held else reason,
            escalates=escalates,
            shown=_shown(learned, features) if labels else "",
            score=score,
            small=small,
            large=large,
            threshold=threshold.value if math.isfinite(threshold.value) else None,
            labels=labels,
            features=memo,
            sketch=sketched(features) if request.evidence else b"",
        )

    def _remember(self, request: Request, routed: _Routed) -> None:
        self._routed[request.tenant, request.id] = routed
        self._bytes += ROUTED + len(routed.features)
        if len(self._routed) > REMEMBERED:
            _, oldest = self._routed.popitem(last=False)
            self._bytes -= ROUTED + len(oldest.features)


def _place(request: Request) -> Place:
    return request.tenant, request.model


def _reason(score: float, threshold: Threshold, labels: int) -> str:
    """Return in one line why the score leads where it does."""
    limit = threshold.value
    against = "" if math.isinf(limit) else f" {'>=' if score >= limit else '<'} {limit:.3f}"
    if labels < PRIOR_LABELS:
        known = f"by length first: {labels} labels of {PRIOR_LABELS}"
    else:
        known = f"from {labels:,} labels"
    return f"{threshold.reason}; score {score:.3f}{against}, {known}"


def _shown(learned: Learned, features: Features) -> str:
    """Return what of the prompt moved the score most, in words that may be the client's own."""
    found = learned.heads.reasons(features, SHOWN)
    return ", ".join(f"{term!r} for {'large' if share > 0 else 'small'}" for term, share in found)
