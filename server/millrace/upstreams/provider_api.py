"""What differs between the APIs of model providers: requests, and how answers are read. No I/O."""

from collections.abc import Mapping
from typing import Any, Protocol

from millrace.errors import UpstreamError
from millrace.types import Call, Finish, Usage
from millrace.upstreams.asides import Placed
from millrace.upstreams.quirks import Change, Quirks
from millrace.upstreams.refusals import Refusals


class UnreadableError(UpstreamError):
    """An event that cannot be read, or half of one."""


class AnswerReader(Protocol):
    """Reads one answer from the events of a stream, or from a whole document."""

    heard: int  # pieces of text, reasoning, refusals and calls that it has read; one that brings nothing is none
    is_terminated: bool  # the provider has sent its own terminal, or a whole document
    has_scores: bool  # log-probabilities of some text have come

    @property
    def has_begun(self) -> bool:
        """Whether anything of the answer has come."""
        ...

    @property
    def has_finish(self) -> bool:
        """Whether the provider has said why it ended; more of the answer may follow."""
        ...

    @property
    def is_half_said(self) -> bool:
        """Whether a block or a call is incomplete."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What the provider has reported so far."""
        ...

    @property
    def input_usage(self) -> Usage | None:
        """The same, as soon as the input has been reported."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the answer is left out."""
        ...

    @property
    def service_tier(self) -> str:
        """The service tier that the provider says it has used; empty if it says none."""
        ...

    def take(self, data: bytes, deltas: list[str], placed: list[Placed]) -> None:
        """Take the data of one event; append what it brings. Raises `UpstreamError`."""
        ...

    def is_plain(self, data: bytes, text: str) -> bool:
        """Whether an event that was taken brought this text and nothing else, and no part of it is held back.

        Events that differ from it in their text alone are read without it then.
        """
        ...

    def end(self, deltas: list[str], placed: list[Placed]) -> Finish:
        """Return the end of the answer after its last event; append what was held back until now.

        Raises `upstream_truncated` if the provider has not ended it, or has said nothing at all.
        """
        ...

    def truncated(self) -> UpstreamError:
        """Return the error of a stream that ended before its answer."""
        ...


class ProviderApi(Protocol):
    """One API."""

    def url(self, base_url: str) -> str:
        """Return where requests go."""
        ...

    def headers(self, key: str | None, call: Call) -> dict[str, str]:
        """Return the headers that only this API has, with the key."""
        ...

    def request(self, call: Call, quirks: Quirks) -> tuple[dict[str, Any], bytes, list[str]]:
        """Return the fields of a request body, the body, and notes on what is left out."""
        ...

    def change_for(self, refusal: str, sent: Mapping[str, Any]) -> Change | None:
        """Return the difference that the words of a 400 or 422 ask for; None if it is something else."""
        ...

    def reader(self, call: Call, refusals: Refusals) -> AnswerReader:
        """Return what reads the answer to a call."""
        ...
