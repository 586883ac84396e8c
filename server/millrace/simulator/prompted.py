"""A format that the prompt asks for in words: some clients write the JSON schema into it."""

import json
from collections.abc import Iterable
from typing import Any

MOST = 200_000  # characters of a prompt that are searched
TRIES = 50  # braces that are tried
FENCE = "```json"
_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}


def schema_in(texts: Iterable[str]) -> dict[str, Any] | None:
    """Return the last JSON schema that stands in one of the texts, if one of them speaks of JSON."""
    found: dict[str, Any] | None = None
    searched = [text[:MOST] for text in texts]
    if not any("json" in text.casefold() for text in searched):
        return None
    for text in searched:
        for value in _objects(text):
            if value.get("type") in _TYPES and (value["type"] != "object" or isinstance(value.get("properties"), dict)):
                found = value
    return found


def is_fenced(texts: Iterable[str]) -> bool:
    """Whether the answer is to be in a code block."""
    return any(FENCE in text or "codeblock" in text or "code block" in text for text in texts)


def _objects(text: str) -> Iterable[dict[str, Any]]:
    """Yield the JSON objects in a text that are not within another one."""
    decoder, at = json.JSONDecoder(), text.find("{")
    for _ in range(TRIES):
        if at < 0:
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield value
        at = text.find("{", end)
