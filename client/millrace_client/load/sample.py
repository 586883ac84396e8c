"""One request of a load test, from its intended start to its end."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from millrace_client.load.prompts import CANCELLED, COMPLETED, FAILED, Row

REFUSED, LOST, INCOMPLETE = "refused", "lost", "incomplete"  # statuses; the first two have no answer
ANSWERED = (COMPLETED, INCOMPLETE)
CAPPED = "max_output_tokens"  # counts as an answer
UNREACHABLE = "unreachable"  # no connection could be opened


@dataclass(slots=True)
class Timeline:
    """When the deltas of one answer were read from the socket, in seconds from its intended start."""

    due: float
    sent: float | None = None  # seconds from `due` until the request was handed to the socket
    first: float | None = None
    standing: float | None = None  # the first delta that was not taken back
    last: float | None = None
    gaps: array[float] = field(default_factory=lambda: array("d"))  # between deltas of the same model
    escalated: bool = False  # the other model took over
    revised: bool = False  # and deltas that had arrived were taken back
    _before: float | None = None
    _last_number: int = -1
    _standing_number: int = -1

    def send(self, now: float) -> None:
        """Record that the request was sent; of one that was sent again the first time counts."""
        if self.sent is None:
            self.sent = now - self.due

    def delta(self, now: float, number: int = 0) -> None:
        """Record text that was read at `now`; `number` is its sequence number."""
        since = now - self.due
        if self._before is not None:
            self.gaps.append(since - self._before)
        self._before = self.last = since
        self._last_number = number
        if self.first is None:
            self.first = since
        if self.standing is None:
            self.standing, self._standing_number = since, number

    def revise(self, keep_through: int) -> None:
        """Record that another model took over, and that deltas after `keep_through` do not stand."""
        self.escalated = True
        self.revised = self.revised or self._last_number > keep_through
        self._before = None  # the wait for the other model is no gap between tokens
        if self._standing_number > keep_through:
            self.standing = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the end of a request says of it: who answered, and the bill."""

    tokens: int = 0  # of the output
    reasoning: int = 0  # of these, not shown
    route: str = "?"
    cache: str = "?"
    cost: Decimal | None = None  # None: the server did not say
    saved: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The result of one request."""

    row: Row
    status: str  # completed, incomplete, cancelled, failed, refused (no response), lost (the connection)
    code: str | None  # of the error, or why it is incomplete
    timeline: Timeline
    total: float  # seconds from the intended start to the end
    answer: Answer | None  # None if it ended without a terminal
    knows_codes: bool = True  # whether its server fails with Millrace's codes, which rows may expect

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
        if not self.knows_codes and expect not in {COMPLETED, CANCELLED} and self.status not in ANSWERED:
            return None
        return f"{self.code or self.status} instead of {expect}"

    @property
    def service(self) -> float:
        """Seconds from when the request was sent to its end."""
        return self.total - (self.timeline.sent or 0.0)

    @property
    def tpot(self) -> float | None:
        """Seconds for each output token after the first; None where one model did not write all of a stream."""
        timeline, answer = self.timeline, self.answer
        tokens = answer.tokens - answer.reasoning if answer else 0
        if timeline.first is None or timeline.last is None or timeline.escalated or tokens < 2:  # noqa: PLR2004
            return None
        return (timeline.last - timeline.first) / (tokens - 1) if timeline.gaps else None


class Target(Protocol):
    """A server under load."""

    name: str

    @property
    def losses(self) -> int:
        """The number of connections that broke."""
        ...

    async def open(self) -> None:
        """Open the connections; raises what hinders it."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...

    async def ask(self, lane: int, row: Row, due: float) -> Sample:
        """Send a request in one of the lanes and wait for its end."""
        ...

    def cancel(self) -> None:
        """Cancel all requests that run; each still ends."""
        ...
