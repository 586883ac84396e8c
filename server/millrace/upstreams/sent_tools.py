"""Tools for an API that has only functions: namespaces and custom tools as functions, and calls of them back. No I/O.

A tool in a namespace is a function `namespace__name`. A custom tool is a function with one text, `input`.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from millrace.types import CallPiece, Tool, ToolCall
from millrace.types.tool_choice import ToolChoice, ToolKey

LONGEST = 64  # characters of a function's name
_MARK = 9  # of them that tell names apart which would be equal: "_" and 8 of a hash
_UNNAMED = re.compile(r"[^A-Za-z0-9_-]")
_INPUT = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The text that the tool gets, exactly as it is."}},
    "required": ["input"],
    "additionalProperties": False,
}
_OPENING = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_WHOLE = re.compile(  # of a JSON string all characters that are whole; a pair of surrogates is one
    r'(?:[^"\\]|\\(?:["\\/bfnrt]|u(?![dD][89abAB])[0-9a-fA-F]{4}|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))*'
)
_CLOSING = re.compile(r'"\s*\}?\s*$')


class SentTools:
    """The tools of one prompt as functions. Those that the provider runs are left out, and those not allowed."""

    __slots__ = ("_inputs", "_names", "_tools", "functions")

    def __init__(self, tools: Sequence[Tool], choice: ToolChoice | None = None) -> None:
        self._tools: dict[str, Tool] = {}
        self._names: dict[ToolKey, str] = {}
        self._inputs: dict[int, _Input] = {}  # of calls of custom tools, by their indices
        self.functions: tuple[Tool, ...] = ()
        if tools:
            self._offer([tool for tool in tools if tool.hosted is None], choice)

    def _offer(self, offered: Sequence[Tool], choice: ToolChoice | None) -> None:
        self._tools = {tool.name: tool for tool in reversed(offered) if not tool.namespace}
        for tool in offered:
            if tool.namespace and tool.key not in self._names:
                name = self._names[tool.key] = self._unique(*tool.key)
                self._tools[name] = tool
        sent = [tool for tool in offered if choice is None or choice.allows(tool.key)]
        told: set[str] = set()  # namespaces that a function has described
        self.functions = tuple(self._function(tool, told) for tool in sent)

    def name_of(self, tool: ToolKey) -> str:
        """Return the name under which a tool is sent, also one that is not offered any more."""
        namespace, name = tool
        return self._names.get(tool) or (_joined(namespace, name) if namespace else name)

    def sent(self, call: ToolCall) -> ToolCall:
        """Return a call as it is sent."""
        if not (call.namespace or call.is_custom):
            return call
        arguments = msgspec.json.encode({"input": call.arguments}).decode() if call.is_custom else call.arguments
        return replace(call, name=self.name_of(call.tool), namespace="", is_custom=False, arguments=arguments)

    def back(self, piece: CallPiece) -> CallPiece | None:
        """Return a piece of a call as one of the tool that is meant; None if it brings nothing yet."""
        if piece.name and (tool := self._tools.get(piece.name)) is not None and (tool.namespace or tool.is_custom):
            piece = replace(piece, name=tool.name, namespace=tool.namespace, is_custom=tool.is_custom)
            if tool.is_custom:
                self._inputs[piece.index] = _Input()
        read = self._inputs.get(piece.index)
        if read is None:
            return piece
        piece = replace(piece, arguments=read.feed(piece.arguments))
        return piece if piece.name or piece.arguments or piece.own_fields else None

    def rest(self) -> list[CallPiece]:
        """Return what the end of the answer adds."""
        rest = ((index, read.end()) for index, read in self._inputs.items())
        return [CallPiece(index=index, arguments=text) for index, text in rest if text]

    def _unique(self, namespace: str, name: str) -> str:
        joined = _joined(namespace, name)
        return joined if joined not in self._tools else _marked(joined, namespace, name)

    def _function(self, tool: Tool, told: set[str]) -> Tool:
        if not (tool.namespace or tool.is_custom):
            return tool
        said = [tool.description]
        if tool.namespace and tool.namespace not in told:
            told.add(tool.namespace)
            said += [f"It is one of {tool.namespace}: {tool.namespace_description}"] * bool(tool.namespace_description)
        grammar = tool.grammar or {}
        if grammar.get("type") == "grammar":
            said.append(f"`input` must be text of this grammar ({grammar['syntax']}):\n{grammar['definition']}")
        return dataclasses.replace(
            tool,
            name=self.name_of(tool.key),
            description="\n\n".join(filter(None, said)) or None,
            parameters=_INPUT if tool.is_custom else tool.parameters,
            namespace="",
            is_custom=False,
            grammar=None,
        )


class _Input:
    """The text in the arguments of a custom tool's call, while they come."""

    __slots__ = ("_held", "_is_open", "_is_over")

    def __init__(self) -> None:
        self._held = ""
        self._is_open = False  # the text has begun
        self._is_over = False

    def feed(self, arguments: str) -> str:
        """Return what more arguments add to the text."""
        if self._is_over:
            return ""
        self._held += arguments
        if not self._is_open:
            opening = _OPENING.match(self._held)
            if opening is None:
                return ""
            self._held, self._is_open = self._held[opening.end() :], True
        found = _WHOLE.match(self._held)
        whole = found.group() if found else ""
        self._held = self._held[len(whole) :]
        self._is_over = self._held.startswith('"')
        return _decoded(whole)

    def end(self) -> str:
        """Return the rest of the text. Arguments of another form are the text themselves, or have it somewhere."""
        held, self._held = self._held, ""
        if self._is_over:
            return ""
        return _CLOSING.sub("", held) if self._is_open else _text_in(held)


def _decoded(whole: str) -> str:
    return str(json.loads(f'"{whole}"', strict=False)) if "\\" in whole else whole


def _text_in(arguments: str) -> str:
    try:
        given: Any = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    if isinstance(given, dict):
        texts = [given["input"]] if "input" in given else [*given.values()]
        given = texts[0] if len(texts) == 1 else None
    return given if isinstance(given, str) else arguments


def _joined(namespace: str, name: str) -> str:
    joined = _UNNAMED.sub("_", f"{namespace}__{name}")
    return joined if len(joined) <= LONGEST else _marked(joined, namespace, name)


def _marked(joined: str, namespace: str, name: str) -> str:
    mark = hashlib.sha256(f"{namespace}\0{name}".encode()).hexdigest()[: _MARK - 1]
    return f"{joined[: LONGEST - _MARK]}_{mark}"
