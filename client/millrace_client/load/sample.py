"""One request of a load test, from its intended start to its terminal."""

from __future__ import annotations

import asyncio
from array import array
from dataclasses import dataclass, field

from millrace.errors import MillraceError
from millrace.wire import responses as wire
from millrace_client.load.prompts import CANCELLED, COMPLETED, FAILED, Row
from millrace_client.stream import ConnectionLostError, Event, Stream

REFUSED, LOST, INCOMPLETE = "refused", "lost", "incomplete"  # statuses; the first two have no response
ANSWERED = (COMPLETED, INCOMPLETE)
CAPPED = "max_output_tokens"  # counts as an answer


@dataclass(slots=True)
class Timeline:
    """When the deltas of one answer arrived, in seconds from its intended start."""

    due: float
    first: float | None = None
    standing: float | None = None  # the first delta that was not taken back
    gaps: array[float] = field(default_factory=lambda: array("d"))  # between deltas of the same model
    escalated: bool = False  # the other model took over
    revised: bool = False  # and deltas that had arrived were taken back
    _last: float | None = None
    _last_number: int = -1
    _standing_number: int = -1

    def take(self, event: Event, now: float) -> None:
        """Record an event that arrived at `now`."""
        if isinstance(event, wire.TextDelta):
            if self._last is not None:
                self.gaps.append(now - self._last)
            self._last, self._last_number = now, event.sequence_number
            if self.first is None:
                self.first = now - self.due
            if self.standing is None:
                self.standing, self._standing_number = now - self.due, event.sequence_number
        elif isinstance(event, wire.Revise):
            self.escalated = True
            self.revised = self.revised or self._last_number > event.keep_through
            self._last = None  # the wait for the other model is no gap between tokens
            if self._standing_number > event.keep_through:
                self.standing = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The result of one request."""

    row: Row
    status: str  # completed, incomplete, cancelled, failed, refused (no response), lost (the connection)
    code: str | None  # of the error, or why it is incomplete
    timeline: Timeline
    total: float  # seconds from the intended start to the end
    response: wire.ResponseBody | None  # with its bill, if it ended with a terminal

    @property
    def error(self) -> str | None:
        """The name of the error; None if the request ended as its row expects."""
        endings, expect = {self.status, self.code}, self.row.expect
        if expect is None:
            is_expected = self.status == COMPLETED or self.code == CAPPED
            is_expected = is_expected or (self.status == CANCELLED and self.row.cancel_after_ms is not None)
            return None if is_expected else self.code or self.status
        if expect in endings or (expect == FAILED and self.status == REFUSED):
            return None
        return f"{self.code or self.status} instead of {expect}"


async def watch(stream: Stream, row: Row, due: float) -> Sample:
    """Read a request to its end; cancel it after `cancel_after_ms`, if its row has that."""
    loop = asyncio.get_running_loop()
    timeline = Timeline(due)
    timer = None if row.cancel_after_ms is None else loop.call_later(row.cancel_after_ms / 1000, stream.cancel)
    status, code = LOST, None
    try:
        async for event in stream:
            timeline.take(event, loop.time())
    except MillraceError as error:
        status, code = REFUSED, error.code
    except ConnectionLostError:
        code = "connection_lost"
    finally:
        if timer is not None:
            timer.cancel()
    total = loop.time() - due
    if code is not None:
        return Sample(row=row, status=status, code=code, timeline=timeline, total=total, response=None)
    response = stream.response
    assert response is not None, "a stream that ends without an error has a terminal"
    return Sample(
        row=row, status=response.status, code=_code(response), timeline=timeline, total=total, response=response
    )


def unreachable(row: Row, due: float) -> Sample:
    """Return the sample of a request for which no connection could be opened."""
    total = asyncio.get_running_loop().time() - due
    return Sample(row=row, status=LOST, code="unreachable", timeline=Timeline(due), total=total, response=None)


def _code(response: wire.ResponseBody) -> str | None:
    if response.error is not None:
        return response.error.code
    return response.incomplete_details.reason if response.incomplete_details else None
