"""The router: which model a request should be put to first, and what it learns from how the answers were judged."""

from collections.abc import Sequence

from millrace import log
from millrace.errors import EXITS
from millrace.types import Advice, Judged, Request, Tier, Verdict


class Router:
    """Advises on one request at a time, in a fraction of a millisecond."""

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
        """Learn from what the checks say of the answers to a request."""

    def learn(self, judged: Sequence[Judged]) -> None:
        """Learn from what was judged. It is a `ports.Student`."""

    def _advise(self, request: Request) -> Advice:
        return Advice(tier=Tier.SMALL, reason="small first")
