"""JSON answers: the smallest document that a simple schema accepts, or one that it rejects."""

import math
from collections.abc import Callable
from typing import Any

import orjson

from millrace.simulator.question import Function, ResponseFormat
from millrace.simulator.shapes import BadRequestError

NOT_JSON = "Here is the JSON you asked for: {"


def write_document(response_format: ResponseFormat, text: str) -> str:
    """Return a document in the requested format; without a schema it contains `text`."""
    if response_format.json_schema is None:
        return orjson.dumps({"answer": text, "simulated": True}).decode()
    try:
        return orjson.dumps(minimal(response_format.json_schema.schema)).decode()
    except (AttributeError, TypeError, RecursionError):
        raise BadRequestError("Invalid schema for response_format.", param="response_format") from None


def write_wrong_document(response_format: ResponseFormat) -> str:
    """Return the answer of a weak model: required keys are missing, or it is not JSON."""
    has_required = response_format.json_schema is not None and response_format.json_schema.schema.get("required")
    return "{}" if has_required else NOT_JSON


def write_arguments(function: Function, *, weak: bool) -> str:
    """Return the smallest arguments that the schema accepts; from a weak model, arguments that it rejects."""
    schema = function.parameters or {"type": "object"}
    if weak:
        return "{}" if schema.get("required") else '{"'
    try:
        return orjson.dumps(minimal(schema)).decode()
    except (AttributeError, TypeError, RecursionError):
        raise BadRequestError(f"Invalid schema for function '{function.name}'.", param="tools") from None


def minimal(schema: Any) -> Any:
    """Return the smallest instance of a schema made of types, properties, enum and const."""
    if not isinstance(schema, dict):
        return "simulated"  # `true` accepts anything
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    build = _BUILDERS.get(_type(schema), _string)
    return build(schema)


def _type(schema: dict[str, Any]) -> str:
    declared = schema.get("type", "object" if "properties" in schema else "string")
    return str(declared[0] if isinstance(declared, list) and declared else declared)


def _object(schema: dict[str, Any]) -> Any:
    properties = schema.get("properties", {})
    return {key: minimal(properties.get(key)) for key in schema.get("required", ())}


def _number(schema: dict[str, Any]) -> Any:
    return max(0, schema.get("minimum", 0))


def _string(_schema: dict[str, Any]) -> Any:
    return "simulated"


_BUILDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "object": _object,
    "array": lambda _schema: [],
    "string": _string,
    "number": _number,
    "integer": lambda schema: math.ceil(_number(schema)),
    "boolean": lambda _schema: True,
    "null": lambda _schema: None,
}
