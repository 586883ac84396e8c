"""The declared form of an answer: a JSON object, or JSON after a schema."""

from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

from millrace.errors import MillraceError, invalid
from millrace.types import Format

SCHEMA_PATH = "text.format.schema"
MAX_SCHEMA = 64 * 1024  # bytes; a larger one takes too long to compile


def check_schema(form: Format | None) -> None:
    """Refuse a schema that cannot be used, before any model is asked."""
    if form is None or form.schema is None:
        return
    try:
        if len(msgspec.json.encode(form.schema)) > MAX_SCHEMA:
            raise ValueError(f"larger than {MAX_SCHEMA} bytes")
        _validator(form.schema)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise invalid(SCHEMA_PATH, f"{SCHEMA_PATH}: not a usable JSON schema: {reason}") from None


def holds(text: str, form: Format) -> bool:
    """Whether a whole answer is of its declared form."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    if form.schema is None:
        return isinstance(value, dict)
    return bool(_validator(form.schema).is_valid(value))


def _validator(schema: dict[str, Any]) -> Any:
    return _compiled(msgspec.json.encode(schema, order="sorted"))


@lru_cache(maxsize=256)
def _compiled(schema: bytes) -> Any:
    # A client's schema must never make this server fetch something.
    return jsonschema_rs.validator_for(msgspec.json.decode(schema), retriever=_no_fetch)


def _no_fetch(uri: str) -> Any:
    raise MillraceError("invalid_request", f"$ref to {uri} is not fetched; put the definition into the schema")
