"""One request of a load test: watched from its intended start to its terminal."""

from __future__ import annotations

import asyncio
from array import array
from dataclasses import dataclass, field

from millrace.errors import MillraceError
from millrace.wire import responses as wire
from millrace_client.load.prompts import CANCELLED, COMPLETED, FAILED, Row
from millrace_client.stream import ConnectionLostError, Event, Stream

REFUSED, LOST, INCOMPLETE = "refused", "lost", "incomplete"  # statuses beside those of a response
ANSWERED = (COMPLETED, INCOMPLETE)
CAPPED = "max_output_tokens"  # an answer all the same


@dataclass(slots=True)
class Timeline:
    """When the words of one answer came, in seconds from its intended start."""

    due: float
    first: float | None = None
    standing: float | None = None  # the first of the words that were not taken back
    gaps: array[float] = field(default_factory=lambda: array("d"))  # between deltas of the same model
    escalated: bool = False  # the other model took over
    revised: bool = False  # and words that had been seen were taken back
    _last: float | None = None
    _last_number: int = -1
    _standing_number: int = -1

    def take(self, event: Event, now: float) -> None:
        """Note an event that came now."""
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
            self._last = None  # the other model's first word is no gap; `standing` has it
            if self._standing_number > event.keep_through:
                self.standing = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What became of one request."""

    row: Row
    status: str  # completed, incomplete, cancelled, failed, refused (no response), lost (the connection)
    code: str | None  # of the error, or why it is incomplete
    timeline: Timeline
    total: float  # seconds from the intended start to the end
    response: wire.ResponseBody | None  # with its bill, if it ended with a terminal

    @property
    def error(self) -> str | None:
        """What to call this end where it is not how the row should end."""
        ended, expect = {self.status, self.code}, self.row.expect
        if expect is None:
            fine = self.status == COMPLETED or self.code == CAPPED
            fine = fine or (self.status == CANCELLED and self.row.cancel_after_ms is not None)
            return None if fine else self.code or self.status
        if expect in ended or (expect == FAILED and self.status == REFUSED):
            return None
        return f"{self.code or self.status} instead of {expect}"


async def watch(stream: Stream, row: Row, due: float) -> Sample:
    """Read a request to its end, cancelling it where its row says so."""
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


def unreached(row: Row, due: float) -> Sample:
    """Return the sample of a request for which no connection could be opened."""
    total = asyncio.get_running_loop().time() - due
    return Sample(row=row, status=LOST, code="unreachable", timeline=Timeline(due), total=total, response=None)


def _code(response: wire.ResponseBody) -> str | None:
    if response.error is not None:
        return response.error.code
    return response.incomplete_details.reason if response.incomplete_details else None
