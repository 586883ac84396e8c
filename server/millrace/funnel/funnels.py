"""The funnels of one process: the one of the present settings, and earlier ones in which something still runs.

A request ends in the funnel in which it began. So it keeps the models, prices, checks and guards that it began with,
whatever is configured meanwhile. Requests of two funnels do not share a flight.
"""

import math
from collections.abc import Coroutine
from typing import Any

from millrace.evidence.evidence import Evidence
from millrace.funnel.catalog import Catalog
from millrace.funnel.checks import Checks
from millrace.funnel.funnel import Funnel
from millrace.funnel.health import Health
from millrace.funnel.hedging import Hedging
from millrace.funnel.response_log import ResponseLog
from millrace.ports import Admission
from millrace.types import Answer

LOOK_S = 0.2  # between two looks at what runs


class Funnels:
    """Takes requests to the funnel of the present settings."""

    def __init__(self, first: Funnel) -> None:
        self.current = first
        self.earlier: list[Funnel] = []  # in which something still runs, about
        self._evidence: Evidence | None = None
        self._meter_at = -math.inf

    @property
    def catalog(self) -> Catalog:
        """The models, as they are configured now."""
        return self.current.catalog

    @property
    def checks(self) -> Checks:
        """The checks that are on now."""
        return self.current.checks

    @property
    def health(self) -> Health:
        """How the models fare that are configured now."""
        return self.current.health

    @property
    def hedging(self) -> Hedging:
        """How soon they begin to answer."""
        return self.current.hedging

    @property
    def running(self) -> int:
        """The number of clients' requests in all funnels."""
        return self.current.running

    def answer(self, response: ResponseLog, admission: Admission | None = None) -> Coroutine[Any, Any, Answer | None]:
        """Take a request through all stages, by the settings of this moment; see `Funnel.answer`."""
        return self.current.answer(response, admission)

    def drop(self, response: ResponseLog, admission: Admission | None = None) -> None:
        """End a request that was cancelled while it was queued."""
        self.current.drop(response, admission)

    def meter(self, now: float) -> None:
        """Send every running response its cost so far, at most once a second. Called by the sweeper."""
        if now >= self._meter_at:
            self._meter_at = now + LOOK_S
            for funnel in (self.current, *self.earlier):
                funnel.meter(now)

    def covers(self, response: ResponseLog) -> bool:
        """Book more for an answer that has outgrown what is booked. False: its key's budget has no more."""
        return self.current.covers(response) and all(funnel.covers(response) for funnel in self.earlier)

    def replace(self, funnel: Funnel) -> None:
        """Take requests to another funnel from now on."""
        funnel.sampling.evidence = self._evidence
        self.earlier.append(self.current)
        self.current = funnel

    def tell(self, evidence: Evidence | None) -> None:
        """Have evidence told of what becomes of requests; None: nobody."""
        self._evidence = evidence
        for funnel in (self.current, *self.earlier):
            funnel.sampling.evidence = evidence
