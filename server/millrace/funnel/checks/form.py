"""The check of declared formats: an answer that must be JSON, and the arguments of a tool call."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

from millrace.errors import MillraceError, invalid
from millrace.funnel.checks.schema_cost import SchemaCost
from millrace.types import Format, Tool, ToolCall

MAX_SCHEMA = 64 * 1024  # bytes; a larger one takes too long to compile


def check_schema(form: Format | None, path: str) -> None:
    """Raise `invalid_request` if the schema of the answer's format cannot be used, before any model is called."""
    if form is not None:
        check_usable(form.schema, path)


def check_tools(tools: Iterable[Tool], path: str) -> None:
    """Raise `invalid_request` if the schema of a tool's parameters cannot be used; `path` takes the tool's index."""
    for index, tool in enumerate(tools):
        check_usable(tool.parameters, path.format(index))


def check_usable(schema: dict[str, Any] | None, path: str) -> None:
    """Raise `invalid_request` if a schema cannot be used; `path` is its field in the request."""
    if schema is None:
        return
    encoded = _encoded(schema)
    try:
        if len(encoded) > MAX_SCHEMA:
            raise ValueError(f"larger than {MAX_SCHEMA} bytes")
        _compiled(encoded)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise invalid(path, f"{path}: not a usable JSON schema: {reason}") from None


def conforms(text: str, schema: dict[str, Any] | None) -> bool:
    """Whether a text is JSON that matches a schema; without one, whether it is a JSON object.

    False if the validation would take too long.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    if schema is None:
        return isinstance(value, dict)
    compiled = _compiled(_encoded(schema))
    return compiled.cost.allows(value) and bool(compiled.validator.is_valid(value))


def callable_with(call: ToolCall, tools: Iterable[Tool]) -> bool:
    """Whether a call names an offered tool, and its arguments are a JSON object that matches the tool's schema."""
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None or not conforms(call.arguments, None):
        return False
    return tool.parameters is None or conforms(call.arguments, tool.parameters)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A compiled schema, and the cost of validating with it."""

    validator: Any
    cost: SchemaCost


def _encoded(schema: dict[str, Any]) -> bytes:
    return msgspec.json.encode(schema, order="sorted")


@lru_cache(maxsize=512)
def _compiled(encoded: bytes) -> _Compiled:
    schema = msgspec.json.decode(encoded)
    # A client's schema must never make this server fetch a URL.
    return _Compiled(jsonschema_rs.validator_for(schema, retriever=_no_fetch), SchemaCost(schema))


def _no_fetch(uri: str) -> Any:
    raise MillraceError("invalid_request", f"$ref to {uri} is not fetched; put the definition into the schema")
