"""JSON schemas of clients."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

SCHEMA_TURN_S = 5.0  # that a schema, or a text to be checked, waits for its turn at most


class SchemaReport(Struct, frozen=True):
    """What became of a schema when it was compiled."""

    error: str | None = None  # why no one can use it
    unchecked: tuple[str, ...] = ()  # paths within it of what is not checked here; "": the whole schema


class SchemaValidator(Protocol):
    """Compiles and applies JSON schemas of clients, off the event loop and within bounds of time and memory."""

    async def compile(self, schemas: Sequence[bytes], tenant: str) -> list[SchemaReport]:
        """Compile schemas, given as JSON; return a report on each. What takes or waits too long is not checked."""
        ...

    async def matches(self, text: str, schema: bytes | None, tenant: str) -> bool:
        """Whether a text is JSON that matches a schema; with None, whether it is JSON. False if it takes too long.

        If it waits too long, nothing is checked but that it is JSON.
        """
        ...

    async def faults(self, text: str, schema: bytes | None, tenant: str) -> tuple[str, ...]:
        """Return what is wrong with a text, as `matches` judges it: each with its path, and what is expected there.

        Repeats no value of the text. Empty if nothing is, or if it takes or waits too long.
        """
        ...
