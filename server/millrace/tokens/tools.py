"""What tools and formats become in a prompt: the text that OpenAI's models are trained on, which their API counts.

OpenAI has published it with its open models (harmony): functions as types of TypeScript, a format as its schema.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from millrace.types import Format, Tool

AROUND = 9  # tokens around the tools of a request
IN_SYSTEM = 4  # of them that are not there where a system prompt takes the tools
DEEPEST = 8  # schemas within a schema; what is deeper counts as any value


def rendered(tools: Iterable[Tool]) -> str:
    """Return the functions as one text."""
    return "\n".join(["namespace functions {", "", *_declarations(tools), "} // namespace functions"])


def format_text(form: Format) -> str:
    """Return the format of an answer as text."""
    schema = {} if form.schema is None else form.schema
    return f"# Response Formats\n\n## {form.name}\n\n// {form.description or ''}\n{_json(schema)}"


def _declarations(tools: Iterable[Tool]) -> Iterator[str]:
    for tool in tools:
        if tool.description:
            yield f"// {tool.description}"
        if tool.hosted is not None or tool.grammar is not None:
            schemas = (tool.grammar, None if tool.hosted is None else tool.hosted.fields)
            yield f"type {tool.name} = " + "".join(_json(schema) for schema in schemas if schema is not None)
        elif isinstance(properties := (tool.parameters or {}).get("properties"), dict) and properties:
            yield f"type {tool.name} = (_: " + "{"
            yield from _fields(tool.parameters or {}, properties, 0)
            yield "}) => any;"
            for name, value in _definitions(tool.parameters or {}):
                yield f"type {name} = {_type(value, 0)};"
        else:
            yield f"type {tool.name} = () => any;"
        yield ""


def _definitions(schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for keyword in ("$defs", "definitions"):
        if isinstance(given := schema.get(keyword), dict):
            yield from ((name, value) for name, value in given.items() if isinstance(value, dict))


def _fields(schema: Mapping[str, Any], properties: Mapping[str, Any], depth: int) -> Iterator[str]:
    required = schema.get("required")
    required = required if isinstance(required, list) else ()
    for name, value in properties.items():
        given = value if isinstance(value, dict) else {}
        if isinstance(description := given.get("description"), str):
            yield f"// {description}"
        default = f" // default: {_json(given['default'])}" if "default" in given else ""
        yield f"{name}{'' if name in required else '?'}: {_type(given, depth)},{default}"


def _type(schema: Mapping[str, Any], depth: int) -> str:
    """Return a schema as a type."""
    if depth > DEEPEST:
        return "any"
    for name in ("anyOf", "oneOf", "allOf"):
        if isinstance(several := schema.get(name), list):
            return " | ".join(_type(one if isinstance(one, dict) else {}, depth + 1) for one in several)
    if isinstance(values := schema.get("enum"), list):
        return " | ".join(map(_json, values))
    if "const" in schema:
        return _json(schema["const"])
    if isinstance(reference := schema.get("$ref"), str):
        return reference.rpartition("/")[2]
    kinds = schema.get("type")
    names = [*dict.fromkeys(map(str, kinds if isinstance(kinds, list) else [kinds or "any"]))]
    return " | ".join(_plain(name, schema, depth) for name in names)


def _plain(kind: str, schema: Mapping[str, Any], depth: int) -> str:
    """Return a schema of one kind as a type."""
    if kind in ("object", "any") and isinstance(properties := schema.get("properties"), dict) and properties:
        return "\n".join(("{", *_fields(schema, properties, depth + 1), "}"))
    if kind == "array":
        items = schema.get("items")
        return f"{_type(items, depth + 1)}[]" if isinstance(items, dict) else "any[]"
    return "number" if kind == "integer" else kind


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
