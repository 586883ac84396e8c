"""JSON answers: a small document that a schema accepts, or one that it rejects."""

import orjson

from millrace.simulator.instances import minimal
from millrace.simulator.question import Function, ResponseFormat
from millrace.simulator.shapes import BadRequestError

NOT_JSON = "Here is the JSON you asked for: {"


def write_document(response_format: ResponseFormat, text: str) -> str:
    """Return a document in the requested format; without a schema it contains `text`."""
    if response_format.json_schema is None:
        return orjson.dumps({"answer": text, "simulated": True}).decode()
    try:
        return orjson.dumps(minimal(response_format.json_schema.schema)).decode()
    except (AttributeError, TypeError, ValueError, LookupError, RecursionError):
        raise BadRequestError("Invalid schema for response_format.", param="response_format") from None


def write_wrong_document(response_format: ResponseFormat) -> str:
    """Return the answer of a weak model: required keys are missing, or it is not JSON."""
    has_required = response_format.json_schema is not None and response_format.json_schema.schema.get("required")
    return "{}" if has_required else NOT_JSON


def write_arguments(function: Function, *, weak: bool) -> str:
    """Return small arguments that the schema accepts; from a weak model, arguments that it rejects."""
    schema = function.parameters or {"type": "object"}
    if weak:
        return "{}" if schema.get("required") else '{"'
    try:
        return orjson.dumps(minimal(schema)).decode()
    except (AttributeError, TypeError, ValueError, LookupError, RecursionError):
        raise BadRequestError(f"Invalid schema for function '{function.name}'.", param="tools") from None
