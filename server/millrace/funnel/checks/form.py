"""Declared forms: of an answer, a JSON object or JSON after a schema; of a tool call, its arguments."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

from millrace.errors import MillraceError, invalid
from millrace.funnel.checks.schema_cost import SchemaCost
from millrace.types import Format, Tool, ToolCall

SCHEMA_PATH = "text.format.schema"
MAX_SCHEMA = 64 * 1024  # bytes; a larger one takes too long to compile


def check_schema(form: Format | None) -> None:
    """Refuse a declared schema that cannot be used, before any model is asked."""
    if form is not None:
        check_usable(form.schema, SCHEMA_PATH)


def check_tools(tools: Iterable[Tool]) -> None:
    """Refuse tools whose parameters are no schema that can be used."""
    for index, tool in enumerate(tools):
        check_usable(tool.parameters, f"tools[{index}].parameters")


def check_usable(schema: dict[str, Any] | None, path: str) -> None:
    """Refuse a schema that cannot be used; `path` says where in the request it stands."""
    if schema is None:
        return
    written = _written(schema)
    try:
        if len(written) > MAX_SCHEMA:
            raise ValueError(f"larger than {MAX_SCHEMA} bytes")
        _compiled(written)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise invalid(path, f"{path}: not a usable JSON schema: {reason}") from None


def holds(text: str, schema: dict[str, Any] | None) -> bool:
    """Whether a whole text is JSON after a schema; any JSON object where there is none.

    What would take too long to be checked does not hold.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    if schema is None:
        return isinstance(value, dict)
    compiled = _compiled(_written(schema))
    return compiled.cost.allows(value) and bool(compiled.validator.is_valid(value))


def callable_with(call: ToolCall, tools: Iterable[Tool]) -> bool:
    """Whether a call names an offered tool, and its arguments are a JSON object that fits the tool's parameters."""
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None or not holds(call.arguments, None):
        return False
    return tool.parameters is None or holds(call.arguments, tool.parameters)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A schema, ready to be used, and what using it takes."""

    validator: Any
    cost: SchemaCost


def _written(schema: dict[str, Any]) -> bytes:
    return msgspec.json.encode(schema, order="sorted")


@lru_cache(maxsize=512)
def _compiled(written: bytes) -> _Compiled:
    schema = msgspec.json.decode(written)
    # A client's schema must never make this server fetch something.
    return _Compiled(jsonschema_rs.validator_for(schema, retriever=_no_fetch), SchemaCost(schema))


def _no_fetch(uri: str) -> Any:
    raise MillraceError("invalid_request", f"$ref to {uri} is not fetched; put the definition into the schema")
