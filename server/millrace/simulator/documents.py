"""JSON answers: the smallest document that a simple schema accepts, or one that it does not."""

import math
from collections.abc import Callable
from typing import Any

import orjson

from millrace.simulator.question import Function, ResponseFormat
from millrace.simulator.shapes import BadRequestError

NOT_JSON = "Here is the JSON you asked for: {"


def write_document(form: ResponseFormat, text: str) -> str:
    """A document of the asked form; without a schema it carries the text."""
    if form.json_schema is None:
        return orjson.dumps({"answer": text, "simulated": True}).decode()
    try:
        return orjson.dumps(minimal(form.json_schema.schema)).decode()
    except (AttributeError, TypeError, RecursionError):
        raise BadRequestError("Invalid schema for response_format.", param="response_format") from None


def write_wrong_document(form: ResponseFormat) -> str:
    """What a weak model answers: keys are missing, or it is not JSON at all."""
    has_keys = form.json_schema is not None and form.json_schema.schema.get("required")
    return "{}" if has_keys else NOT_JSON


def write_arguments(function: Function, *, weak: bool) -> str:
    """What a function is called with: the least that its schema accepts, or something that it does not."""
    schema = function.parameters or {"type": "object"}
    if weak:
        return "{}" if schema.get("required") else '{"'
    try:
        return orjson.dumps(minimal(schema)).decode()
    except (AttributeError, TypeError, RecursionError):
        raise BadRequestError(f"Invalid schema for function '{function.name}'.", param="tools") from None


def minimal(schema: Any) -> Any:
    """The smallest instance of a schema made of types, properties, items, enum and const."""
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
