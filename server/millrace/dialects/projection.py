"""What every dialect has in common: a projection of a response's log, and how one is named and made."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from millrace.dialects.event_log import EventLog
from millrace.dialects.visibility import OVER, Visibility
from millrace.errors import EXITS, MillraceError, internal_error
from millrace.funnel.facts import Ended, Fact
from millrace.funnel.response_log import ResponseLog
from millrace.types import Aside, Request


class Projection(ABC):
    """A subscriber of a response that makes its events in one dialect, from what its clients may see."""

    __slots__ = ("_is_plain", "_log", "_visibility", "event_log")

    def __init__(self, response: ResponseLog, *, speculative: bool = False) -> None:
        self.event_log = EventLog(response)
        self._is_plain = False  # more text may be seen, and is an event by itself
        self._log = response
        self._visibility = Visibility(response.request.delivery, speculative=speculative)

    @property
    def _request(self) -> Request:
        """What was asked. It is not stored here, because its log may keep less of it after the end."""
        return self._log.request

    @property
    def congested(self) -> bool | None:
        """Whether all listeners are congested; None if there are none."""
        return self.event_log.congested

    @property
    def whole_text(self) -> str:
        """The text of the answer, if an event repeats it as a whole; or else empty."""
        return ""

    @property
    def is_metered(self) -> bool:
        """Whether the dialect shows what the response has cost so far."""
        return False

    def text(self, deltas: list[str]) -> None:
        """Add the text deltas of one read, once they may be seen."""
        if self._is_plain:
            self.event_log.text(deltas)
        elif self._visibility.passes_text:
            self._show_text(deltas)
        else:
            self._visibility.hold_back(deltas)

    def fact(self, fact: Fact) -> None:
        """Add what a fact makes visible, then the events of the fact itself."""
        self.event_log.hold()
        try:
            self._visibility.fact(fact, self._show_text, self._show_aside)
            self._show_fact(fact)
            if isinstance(fact, Ended):
                self._visibility = OVER
        finally:
            self.event_log.release()

    def fail(self) -> None:
        """End with `internal_error`. What it holds cannot be trusted any more."""
        if self.event_log.is_finished:
            return
        try:
            self._show_fault(internal_error())
        except EXITS:
            raise
        except BaseException:  # the second fault of the same projection
            self.event_log.is_broken = True
        self.event_log.finish()

    def _show_fault(self, error: MillraceError) -> None:
        """Add the event that ends a response which cannot be shown any more, if the dialect has one."""
        self.event_log.is_broken = True

    def _go_on(self) -> None:
        """Note that more text needs nothing but to be added to the event log, if it may be seen at once."""
        self._is_plain = self._visibility.passes_text

    @abstractmethod
    def _show_text(self, deltas: list[str]) -> None:
        """Add text that may be seen. If it calls `_go_on`, more text goes to the event log without it."""

    @abstractmethod
    def _show_aside(self, aside: Aside) -> None:
        """Add an aside that may be seen."""

    @abstractmethod
    def _show_fact(self, fact: Fact) -> None:
        """Add the events of a fact."""


P_co = TypeVar("P_co", bound=Projection, covariant=True)


@dataclass(frozen=True, slots=True)
class Dialect(Generic[P_co]):
    """How responses are projected. Listeners of equal dialects share one projection."""

    name: str
    variant: bool  # whether it is negotiated, or has a chunk of usage
    make: Callable[[ResponseLog, int], P_co] = field(compare=False)  # takes `created_at` in Unix seconds
