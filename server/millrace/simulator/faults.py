"""The ways in which a provider can fail on request, and how their names are read."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from millrace.simulator.shapes import BadRequestError, error_body

DEFAULT_AFTER = 3


class Kind(StrEnum):
    """The name of a fault, as it is written after `fault=`."""

    ERROR = "error"  # HTTP 500, or an error event when a number of tokens is given
    RATE_LIMITED = "429"
    OVERLOADED = "overloaded"
    UNAUTHORIZED = "unauthorized"
    HANGUP = "hangup"  # the socket closes in mid-stream, without the chunked terminator
    RESET = "reset"  # the same with a TCP RST
    END = "end"  # a well-formed body that stops too early
    STALL = "stall"  # the stream stops, the socket stays open
    SILENT = "silent"  # not even a status line
    MALFORMED = "malformed"  # a `data:` line that is not JSON
    NO_USAGE = "nousage"
    HTML = "html"  # 200, but a web page


_MIDSTREAM = frozenset({Kind.HANGUP, Kind.RESET, Kind.END, Kind.STALL, Kind.MALFORMED})


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and, if it strikes in mid-stream, the number of tokens before it."""

    kind: Kind
    after: int | None = None

    @property
    def breaks_off(self) -> bool:
        """Whether an answer begins and never reaches its end."""
        return self.after is not None

    @property
    def replaces(self) -> bool:
        """Whether there is no answer at all, but something in its place."""
        return self.after is None and self.kind is not Kind.NO_USAGE

    @classmethod
    def parse(cls, written: str) -> Self:
        """Read `KIND` or `KIND@N`."""
        name, at, number = written.strip().lower().partition("@")
        if name not in list(Kind):
            raise BadRequestError(f"unknown fault {name!r}; known: {', '.join(Kind)}")
        kind = Kind(name)
        if not at:
            return cls(kind, DEFAULT_AFTER if kind in _MIDSTREAM else None)
        if kind not in _MIDSTREAM | {Kind.ERROR}:
            raise BadRequestError(f"fault {name!r} takes no @N, got {written!r}")
        if not (number.isascii() and number.isdigit()):
            raise BadRequestError(f"bad number {number!r} in fault {written!r}")
        return cls(kind, int(number))


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP error that stands in for the whole answer."""

    status: int
    type: str
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The error in OpenAI's form."""
        return error_body(f"{self.message} (simulated)", self.type, code=self.code)


SERVER_ERROR = Refusal(500, "server_error", "internal_error", "The server had an error.")

REFUSALS = {
    Kind.ERROR: SERVER_ERROR,
    Kind.RATE_LIMITED: Refusal(429, "requests", "rate_limit_exceeded", "Rate limit reached.", {"Retry-After": "2"}),
    Kind.OVERLOADED: Refusal(529, "overloaded_error", "overloaded", "The model is overloaded."),
    Kind.UNAUTHORIZED: Refusal(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
}
