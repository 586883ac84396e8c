"""How freely the semantic cache would have served under another promise, from the same judged hits."""

from collections import deque
from collections.abc import Sequence

from millrace.evidence.trust import Trust
from millrace.types import Change, Judged, Lever, Says, Steering


class Steered:
    """The steering of all scopes at one moment of a window. What was judged is counted when it was taken."""

    def __init__(
        self, judged: Sequence[Judged], changes: Sequence[Change], *, limit: float, needed: float, since: float
    ) -> None:
        """`changes` are all, the oldest first; those before `since` stand. `needed` is the log odds of a hit."""
        self._trust = Trust(None, limit=limit, needed=needed)
        before = [each for each in judged if each.sample.taken_at < since]
        self._trust.restore(before, [each for each in changes if each.at < since])
        self._later = deque(sorted((each for each in judged if each.sample.taken_at >= since), key=_taken_at))
        self._scopes = {
            (tenant, scope.hex()[:16]): scope
            for tenant, scope in (
                *((each.sample.tenant, each.sample.scope) for each in judged),
                *((each.tenant, each.scope) for each in changes),
            )
        }

    def until(self, now: float) -> list[Judged]:
        """Count what was judged until then, and return the hits that were wrong: their answers were deleted."""
        wrong = []
        while self._later and self._later[0].sample.taken_at <= now:
            each = self._later.popleft()
            self._trust.learn([each], self._trust.changes([each], now))
            if each.sample.lever is Lever.SEMANTIC and each.opinions[-1].says is Says.DIFFERENT:
                wrong.append(each)
        return wrong

    def steering(self, tenant: str, scope: str) -> Steering:
        """Return how a scope is steered, by the beginning of its digest."""
        return self._trust.steering(tenant, self._scopes.get((tenant, scope), b""))


def _taken_at(judged: Judged) -> float:
    return judged.sample.taken_at
