"""Tools as functions, for APIs that have nothing else: custom tools, and tools in a namespace. No I/O.

A custom tool is a function with one string, `input`. A tool in a namespace is called `namespace__name`.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from millrace.types import CallPiece, Tool, ToolCall

LONGEST = 64  # characters of a function's name
INPUT = "input"  # of a custom tool

_NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9_-]")
_SCHEMA = {
    "type": "object",
    "properties": {INPUT: {"type": "string"}},
    "required": [INPUT],
    "additionalProperties": False,
}


class Functions:
    """The tools of one prompt, each under a name of its own."""

    __slots__ = ("_names", "_tools")

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._tools: dict[str, Tool] = {}
        for tool in sorted((tool for tool in tools if tool.hosted is None), key=lambda tool: bool(tool.namespace)):
            name = _flat(tool.namespace, tool.name)
            while name in self._tools and self._key(name) != (tool.namespace, tool.name):
                name = _hashed(name, f"{tool.namespace} {tool.name}")
            self._names[tool.namespace, tool.name] = name
            self._tools.setdefault(name, tool)

    def name_of(self, namespace: str, name: str) -> str:
        """Return the function's name; also of a tool that is not offered any more."""
        return self._names.get((namespace, name)) or _flat(namespace, name)

    def tool_of(self, name: str) -> Tool | None:
        """Return the tool that a function stands for; None if it stands for none."""
        return self._tools.get(name)

    def is_plain(self, name: str) -> bool:
        """Whether calls of a function need no translation."""
        tool = self._tools.get(name)
        return tool is None or not (tool.is_custom or tool.namespace or tool.name != name)

    def _key(self, name: str) -> tuple[str, str]:
        tool = self._tools[name]
        return tool.namespace, tool.name


def schema_of(tool: Tool) -> dict[str, Any]:
    """Return the JSON schema of a function's arguments."""
    return _SCHEMA if tool.is_custom else tool.parameters or {"type": "object", "properties": {}}


def description_of(tool: Tool) -> str | None:
    """Return the description of a function, with the grammar of a custom tool, which a schema cannot express."""
    grammar = tool.grammar or {}
    if not grammar.get("definition"):
        return tool.description
    wanted = f"`{INPUT}` must match this grammar ({grammar.get('syntax', 'lark')}):\n{grammar['definition']}"
    return f"{tool.description}\n\n{wanted}" if tool.description else wanted


def arguments_of(call: ToolCall) -> str:
    """Return the arguments of a function as JSON."""
    return msgspec.json.encode({INPUT: call.arguments}).decode() if call.is_custom else call.arguments


def text_of(arguments: str) -> str:
    """Return the text that a custom tool is called with; as it came if a model has not kept to the schema."""
    try:
        given = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    text = given.get(INPUT) if isinstance(given, dict) else None
    return text if isinstance(text, str) else arguments


def whole_call(tool: Tool, index: int, id_: str, arguments: str, own_fields: dict[str, Any]) -> CallPiece:
    """Return a call of the tool that a function stands for."""
    return CallPiece(
        index=index,
        id=id_,
        name=tool.name,
        namespace=tool.namespace,
        is_custom=tool.is_custom,
        arguments=text_of(arguments) if tool.is_custom else arguments,
        own_fields=own_fields,
    )


def _flat(namespace: str, name: str) -> str:
    whole = f"{namespace}__{name}" if namespace else name
    plain = _NOT_OF_A_NAME.sub("_", whole)
    return plain if plain == whole and len(whole) <= LONGEST else _hashed(plain, whole)


def _hashed(name: str, whole: str) -> str:
    """Return a name that is short enough, and another one for each tool."""
    mark = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{name[: LONGEST - len(mark) - 1]}_{mark}"
