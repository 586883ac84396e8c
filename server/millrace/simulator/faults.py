"""The faults that a caller can request, and how they are parsed."""

from enum import StrEnum
from typing import Self

from msgspec import Struct, field

from millrace.simulator.shapes import BadRequestError, error_body

DEFAULT_AFTER = 3


class Kind(StrEnum):
    """The name of a fault, as it is written after `fault=`."""

    ERROR = "error"  # HTTP 500, or with @N an error event after N tokens
    RATE_LIMITED = "429"
    OVERLOADED = "overloaded"
    UNAUTHORIZED = "unauthorized"
    HANGUP = "hangup"  # the socket closes mid-stream, without the last chunk of the chunked encoding
    RESET = "reset"  # as hangup, but with a TCP RST
    END = "end"  # the body ends early, with correct framing
    STALL = "stall"  # the stream stops, but the socket stays open
    SILENT = "silent"  # not even a status line
    MALFORMED = "malformed"  # a `data:` line that is not JSON
    NO_USAGE = "nousage"  # the usage is not reported
    HTML = "html"  # HTTP 200 with a web page


_MIDSTREAM = frozenset({Kind.HANGUP, Kind.RESET, Kind.END, Kind.STALL, Kind.MALFORMED})


class Fault(Struct, frozen=True):
    """A fault; `after` is the number of tokens before it, if it happens mid-stream."""

    kind: Kind
    after: int | None = None

    @property
    def breaks_off(self) -> bool:
        """Whether the answer starts but is not completed."""
        return self.after is not None

    @property
    def replaces(self) -> bool:
        """Whether something else is sent in place of the answer."""
        return self.after is None and self.kind is not Kind.NO_USAGE

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `KIND` or `KIND@N`. Raises `BadRequestError`."""
        name, separator, number = text.strip().lower().partition("@")
        if name not in list(Kind):
            raise BadRequestError(f"unknown fault {name!r}; known: {', '.join(Kind)}")
        kind = Kind(name)
        if not separator:
            return cls(kind, DEFAULT_AFTER if kind in _MIDSTREAM else None)
        if kind not in _MIDSTREAM | {Kind.ERROR}:
            raise BadRequestError(f"fault {name!r} takes no @N, got {text!r}")
        if not (number.isascii() and number.isdigit()):
            raise BadRequestError(f"bad number {number!r} in fault {text!r}")
        return cls(kind, int(number))


class HttpError(Struct, frozen=True):
    """An HTTP error that replaces the answer."""

    status: int
    type: str
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """Return OpenAI's error object, encoded."""
        return error_body(f"{self.message} (simulated)", self.type, code=self.code)


SERVER_ERROR = HttpError(500, "server_error", "internal_error", "The server had an error.")

HTTP_ERRORS = {
    Kind.ERROR: SERVER_ERROR,
    Kind.RATE_LIMITED: HttpError(429, "requests", "rate_limit_exceeded", "Rate limit reached.", {"Retry-After": "2"}),
    Kind.OVERLOADED: HttpError(529, "overloaded_error", "overloaded", "The model is overloaded."),
    Kind.UNAUTHORIZED: HttpError(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
}
