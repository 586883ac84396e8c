"""One upstream call for one response: opened, flowing into the log, on the bill, and closed on every way out."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from millrace.errors import UpstreamError
from millrace.ledger import Line, Tab
from millrace.ports import Attempt, Upstream
from millrace.response import Response
from millrace.types import Call, Model, Outcome, Tier


class Caller:
    """Opens calls to the configured models."""

    def __init__(self, upstreams: Mapping[Tier, Upstream]) -> None:
        self._upstreams = upstreams

    @contextmanager
    def call(self, model: Model, response: Response, tab: Tab) -> Iterator[Line]:
        """Open a call whose words flow into the response; leaving the block closes its socket if it is still open."""
        with self.undecided(model, response, tab) as line:
            response.attach(line.attempt)
            yield line

    @contextmanager
    def undecided(self, model: Model, response: Response, tab: Tab) -> Iterator[Line]:
        """Open a call whose words go nowhere until someone attaches it."""
        call = Call(model=model, prompt=response.request.prompt)
        attempt = self._upstreams[model.tier].open(call)
        try:
            line = tab.open(call, attempt)
            try:
                yield line
            except asyncio.CancelledError:
                line.outcome = Outcome.CANCELLED
                raise
            finally:
                if (error := _failure(attempt)) is not None:
                    line.billable = error.billable
                if line.outcome is Outcome.RUNNING:
                    line.outcome = Outcome.FAILED  # whoever is content says so before leaving
        finally:
            attempt.abort()


def _failure(attempt: Attempt) -> UpstreamError | None:
    if not attempt.done.done() or attempt.done.cancelled():
        return None
    error = attempt.done.exception()
    return error if isinstance(error, UpstreamError) else None
