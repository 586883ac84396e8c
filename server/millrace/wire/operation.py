"""One HTTP endpoint, as the published contract describes it."""

from typing import Any

from msgspec import Struct, field

from millrace.wire import documents

Schema = dict[str, Any]

JSON = "application/json"


class Operation(Struct, frozen=True):
    """One HTTP endpoint: its request body, its answer, and the events that it can stream instead."""

    method: str
    path: str
    summary: str
    answer: type[Struct]
    body: type[Struct] | None = None
    streamed: tuple[type[Struct], ...] = ()
    parameters: dict[str, Schema] = field(default_factory=dict)  # of the query
    status: int = 200
    refusals: dict[int, type[Struct]] = field(default_factory=dict)  # answers with another status that are not errors
    takes: str = JSON  # the form of the body
    gives: str = JSON  # the form of the answer; of another one it is a line
    to_anthropic: type[Struct] | None = None  # the answer to a request with the header `anthropic-version`
    refused: tuple[type[Struct], ...] = (documents.Refused,)  # errors
