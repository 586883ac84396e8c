"""The small JSON documents of the HTTP endpoints; what a response looks like is in `bodies` and `completions`."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from millrace.wire.responses import ErrorBody


class Refused(Struct):
    """Why there is no answer; `usage` is what it cost all the same, as answers of the same endpoint have it."""

    error: ErrorBody
    usage: dict[str, Any] | UnsetType = UNSET


class ModelName(Struct):
    """A name that a request may give as its `model`."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "millrace"


class ModelNames(Struct):
    """All names that a request may give as its `model`."""

    data: list[ModelName]
    object: Literal["list"] = "list"


class TicketRequest(Struct):
    """For which page a ticket is; without an origin it is the request's own."""

    origin: str | None = None


class TicketAnswer(Struct):
    """A ticket, and until when it is good, in Unix seconds."""

    ticket: str
    expires_at: int


class Health(Struct):
    """The process is alive. `epoch` names it; `running` requests are under way."""

    status: Literal["ok"]
    version: str
    epoch: str
    running: int


class Readiness(Struct):
    """Whether requests are taken."""

    status: Literal["ready", "draining"]
