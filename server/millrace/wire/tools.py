"""Tools and the choice of one, as clients of the Responses API send them, and what they become."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from millrace.errors import invalid
from millrace.types import Api, Path, Prompt, Sealed, Tool, Unread
from millrace.types.tool_choice import ToolChoice, ToolKey
from millrace.wire import limits
from millrace.wire.hosted import AnyHostedTool, HostedTool, Mcp
from millrace.wire.passed_on import placed, written

MAX_TOOLS, MOST = limits.MAX_TOOLS, limits.MOST_TOOLS

ToolName = Annotated[str, Meta(min_length=1, max_length=128)]
Choice = Literal["auto", "none", "required"]


class FunctionTool(Struct, tag="function"):
    """A function the model may call. `parameters` is a JSON schema."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class AnyText(Struct, tag="text"):
    """Any text."""


class Grammar(Struct, tag="grammar"):
    """Text that a grammar accepts. The provider sees to that; it is not checked here."""

    syntax: str
    definition: str


class CustomTool(Struct, tag="custom"):
    """A tool that is called with a text."""

    name: ToolName
    description: str | None = None
    format: AnyText | Grammar | None = None


class NamespaceTool(Struct, tag="namespace"):
    """Functions and custom tools whose names are unique among themselves."""

    name: ToolName
    tools: Annotated[list[FunctionTool | CustomTool], Meta(max_length=MAX_TOOLS)]
    description: str | None = None


AnyTool = FunctionTool | CustomTool | NamespaceTool | AnyHostedTool


class ChosenFunction(Struct, tag="function"):
    """The function the model must call."""

    name: ToolName
    namespace: str = ""


class ChosenCustom(Struct, tag="custom"):
    """The custom tool the model must call."""

    name: ToolName
    namespace: str = ""


class ChosenComputer(HostedTool, tag="computer_use"):
    """The model must use the computer."""


class AllowedTool(Struct):
    """A tool that may be called. `server_label` is of an MCP server."""

    type: str
    name: str = ""
    namespace: str = ""
    server_label: str = ""


class AllowedTools(Struct, tag="allowed_tools"):
    """The only tools that may be called, and whether one must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Meta(max_length=MOST)]


AnyChoice = Choice | ChosenFunction | ChosenCustom | AllowedTools | ChosenComputer | AnyHostedTool


def read_tools(
    given: Sequence[AnyTool], sent: Sequence[Any], left: Mapping[int, Unread], at: Path = ("tools",)
) -> tuple[tuple[Tool, ...], list[Path]]:
    """Return the tools as `Prompt.tools` holds them, and the paths of what is not passed on.

    `sent` is what the client wrote, `left` what was not read of it, `at` where it stands in the request.
    """
    tools: list[Tool] = []
    lost: list[Path] = []
    for index, (tool, fields) in enumerate(zip(given, sent, strict=True)):
        extras, place = left.get(index, ()), (*at, index)
        if isinstance(tool, HostedTool):
            label = tool.server_label if isinstance(tool, Mcp) else ""
            sealed = Sealed(api=Api.RESPONSES, fields=fields)
            tools.append(Tool(name=fields["type"], namespace=label, hosted=sealed, path=written(place)))
        elif isinstance(tool, NamespaceTool):
            for number, inner in enumerate(tool.tools):
                within = tuple((path[2:], value) for path, value in extras if path[:2] == ("tools", number))
                one, unplaced = _tool(inner, fields["tools"][number], within, (*place, "tools", number))
                tools.append(replace(one, namespace=tool.name, namespace_description=tool.description or ""))
                lost += unplaced
            lost += [(*place, *path) for path, _ in extras if path[0] != "tools"]
        else:
            one, unplaced = _tool(tool, fields, extras, place)
            tools.append(one)
            lost += unplaced
    if len(tools) > MOST:
        raise invalid(written(at), f"{written(at)}: at most {MOST} tools, with those of namespaces, got {len(tools)}")
    return tuple(tools), lost


def _tool(tool: FunctionTool | CustomTool, fields: dict[str, Any], extras: Unread, at: Path) -> tuple[Tool, list[Path]]:
    extras, lost = placed(extras, at)
    if isinstance(tool, CustomTool):
        return Tool(
            name=tool.name,
            description=tool.description,
            is_custom=True,
            grammar=fields.get("format"),
            unread=extras,
            path=written(at),
        ), lost
    return Tool(
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters,
        strict=tool.strict,
        unread=extras,
        path=f"{written(at)}.parameters",
    ), lost


def read_choice(choice: AnyChoice | None, sent: Any) -> ToolChoice | None:
    """Return the tool choice, None if there is none; `sent` is what the client wrote. `settled` looks at the tools."""
    given = sent if isinstance(sent, dict) else None
    match choice:
        case ChosenFunction() | ChosenCustom():
            return ToolChoice("function", choice.name, choice.namespace, given=given)
        case AllowedTools():
            return ToolChoice(choice.mode, allowed=tuple(map(_key, choice.tools)), given=given)
        case HostedTool():
            label = choice.server_label if isinstance(choice, Mcp) else ""
            return ToolChoice("hosted", str(sent["type"]), label, given=given)
    return None if choice is None else ToolChoice(choice)


def _key(allowed: AllowedTool) -> ToolKey:
    if allowed.type in ("function", "custom"):
        return allowed.namespace, allowed.name
    return (allowed.name, "") if allowed.type == "namespace" else (allowed.server_label, allowed.type)


def settled(prompt: Prompt, path: str = "tool_choice.name", allowed_at: str = "tool_choice.tools") -> Prompt:
    """Return a prompt whose messages are all there: with the tools that they bring, and a choice that fits all tools.

    `path` and `allowed_at` are the paths of a chosen tool's name, and of those allowed, in the request. Raises
    `invalid_request` if the tools do not allow the choice.
    """
    prompt = prompt.with_tools_of_messages()
    choice = prompt.tool_choice and _fitting(prompt.tool_choice, prompt.tools, path, allowed_at)
    parallel = prompt.parallel_tool_calls
    if not prompt.tools:  # providers refuse fields about tools without tools
        choice = parallel = None
    is_settled = (choice, parallel) == (prompt.tool_choice, prompt.parallel_tool_calls)
    return prompt if is_settled else replace(prompt, tool_choice=choice, parallel_tool_calls=parallel)


def _fitting(choice: ToolChoice, tools: Sequence[Tool], path: str, allowed_at: str) -> ToolChoice:
    """Return a choice with the namespace of the tool that it names, if there is only one of this name."""
    if choice.mode == "required" and not tools:
        raise invalid("tool_choice", "tool_choice: required, but there are no tools; send tools, or write auto")
    if choice.mode == "hosted" and not any(tool.hosted for tool in tools):
        raise invalid("tool_choice", f"tool_choice: {choice.name} is not one of the tools; send it, or write auto")
    offered = {tool.key for tool in tools}
    if choice.mode == "function":
        namespace, name = next(_found(choice.namespace, choice.name, offered), ("", ""))
        if not name:
            message = f"{path}: {choice.name[:40]!r} is not one of the tools; name one of them, or write auto"
            raise invalid(path, message)
        return replace(choice, namespace=namespace)
    if choice.allowed is None:
        return choice
    allowed: list[ToolKey] = []
    for index, (namespace, name) in enumerate(choice.allowed):
        found = [*_found(namespace, name, offered)]
        if not name:
            found = [tool.key for tool in tools if tool.namespace == namespace]
        if not found:
            at = f"{allowed_at}[{index}]"
            raise invalid(at, f"{at}: {(name or namespace)[:40]!r} is not one of the tools; name those that you send")
        allowed += found
    return replace(choice, allowed=tuple(dict.fromkeys(allowed)))


def _found(namespace: str, name: str, offered: set[ToolKey]) -> Iterator[ToolKey]:
    """Yield the tool of a name, if it is offered; without a namespace, also the only one that has the name in one."""
    if (namespace, name) in offered:
        yield namespace, name
    elif not namespace and len(named := [key for key in offered if key[1] == name]) == 1:
        yield named[0]
