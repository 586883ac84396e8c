"""Tools of the Responses dialect: every kind, where they stand, and the choice of one."""

from typing import Any

import pytest

from millrace.errors import MillraceError
from millrace.types import Api, Message, Native, Prompt, Sealed, Tool, ToolCall
from millrace.types.tool_choice import ToolChoice
from millrace.wire.requests import read_create
from millrace.wire.responses import tool_choice, tools_of

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /a+/"}
PLAIN = {"type": "function", "name": "depth", "description": "d", "parameters": SCHEMA, "strict": False}
CUSTOM = {"type": "custom", "name": "patch", "description": "p", "format": GRAMMAR}
FREE = {"type": "custom", "name": "note", "description": None, "format": {"type": "text"}}
NAMESPACE = {"type": "namespace", "name": "sea", "description": "Of the sea", "tools": [PLAIN, CUSTOM]}
SEARCH = {"type": "web_search", "external_web_access": True, "filters": None}
MCP = {"type": "mcp", "server_label": "wiki", "server_url": "https://wiki.example"}
EVERY = [PLAIN, CUSTOM, FREE, NAMESPACE, SEARCH, MCP]
ASKED = {"role": "user", "content": "?"}


def read(items: Any = "?", **fields: Any) -> Prompt:
    return read_create({"input": items, **fields}, ()).prompt


def test_every_kind_is_read_and_shown_as_it_came() -> None:
    """Those of a namespace one by one, since they are called one by one."""
    prompt = read(tools=EVERY)
    assert [(tool.namespace, tool.name, tool.is_custom, tool.path) for tool in prompt.tools] == [
        ("", "depth", False, "tools[0].parameters"),
        ("", "patch", True, "tools[1]"),
        ("", "note", True, "tools[2]"),
        ("sea", "depth", False, "tools[3].tools[0].parameters"),
        ("sea", "patch", True, "tools[3].tools[1]"),
        ("", "web_search", False, "tools[4]"),
        ("wiki", "mcp", False, "tools[5]"),
    ]
    assert prompt.tools[1].grammar == GRAMMAR
    assert prompt.tools[4].namespace_description == "Of the sea"
    assert prompt.tools[5].hosted == Sealed(api=Api.RESPONSES, fields=SEARCH)
    assert tools_of(prompt.tools) == EVERY


def test_tools_in_the_input_are_kept_with_the_conversation() -> None:
    """And are tools of the prompt; a tool of the request itself goes before one of the same name."""
    item = {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": [NAMESPACE, PLAIN, SEARCH]}
    prompt = read([item, ASKED], tools=[PLAIN | {"description": "own"}], tool_choice="required")
    first, question = prompt.messages
    assert (first.role, first.parts, [tool.key for tool in first.tools]) == (
        "system",
        (),
        [("sea", "depth"), ("sea", "patch"), ("", "depth"), ("", "web_search")],
    )
    assert [(tool.key, tool.description) for tool in prompt.tools] == [
        (("", "depth"), "own"),
        (("sea", "depth"), "d"),
        (("sea", "patch"), "p"),
        (("", "web_search"), None),
    ]
    assert (prompt.own_tools, prompt.sent) == (prompt.tools[:1], (question,))
    assert first.tools[0].path == "input[0].tools[0].tools[0].parameters"


CALLED = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "patch", "namespace": "sea", "input": "*{"}
RESULT: dict[str, Any] = {"type": "custom_tool_call_output", "id": "ctco_1", "call_id": "c"}


@pytest.mark.parametrize("output", ["ok", [{"type": "input_text", "text": "ok"}]])
def test_calls_of_custom_tools_and_their_outputs(output: Any) -> None:
    called, result = read([CALLED, RESULT | {"output": output}]).messages
    assert called.calls == (ToolCall(id="c", name="patch", namespace="sea", arguments="*{", is_custom=True),)
    assert result == Message(role="tool", parts=("ok",), call_id="c")


def test_what_an_output_repeats_of_its_call_is_not_sent() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "depth", "namespace": "sea", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "4", "name": "depth", "namespace": "sea"}
    called, result = read([call, output]).messages
    assert (called.calls[0].tool, result.unread) == (("sea", "depth"), ())


def test_items_that_only_this_api_has_keep_their_place_and_every_field() -> None:
    """In the answer's turn, or as the client's; null is kept too."""
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": None}
    shell = {"type": "local_shell_call", "id": "ls_1", "call_id": "l", "action": {"command": ["ls"]}}
    output = {"type": "local_shell_call_output", "id": "ls_2", "output": "a"}
    asked, turn, shown = read([ASKED, search, {"role": "assistant", "content": "!"}, shell, output]).messages
    assert (asked.parts, turn.parts) == (("?",), ("!",))
    assert [(one.fields, one.parts_before) for one in turn.sealed] == [(search, 0), (shell, 1)]
    assert (shown.role, shown.call_id, [one.fields for one in shown.sealed]) == ("tool", None, [output])


CHOICES: list[tuple[Any, ToolChoice]] = [
    ("auto", ToolChoice("auto")),
    ({"type": "function", "name": "depth"}, ToolChoice("function", "depth")),
    ({"type": "function", "name": "depth", "namespace": "sea"}, ToolChoice("function", "depth", "sea")),
    ({"type": "custom", "name": "note"}, ToolChoice("function", "note")),
    ({"type": "web_search"}, ToolChoice("hosted", "web_search")),
    ({"type": "mcp", "server_label": "wiki", "name": "find"}, ToolChoice("hosted", "mcp", "wiki")),
    (
        {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [
                {"type": "function", "name": "depth"},
                {"type": "namespace", "name": "sea"},
                {"type": "mcp", "server_label": "wiki"},
                {"type": "web_search"},
            ],
        },
        ToolChoice(
            "required",
            allowed=(("", "depth"), ("sea", "depth"), ("sea", "patch"), ("wiki", "mcp"), ("", "web_search")),
        ),
    ),
]


@pytest.mark.parametrize(("given", "choice"), CHOICES)
def test_every_choice_is_read_and_shown_as_it_came(given: Any, choice: ToolChoice) -> None:
    found = read(tools=EVERY, tool_choice=given).tool_choice
    assert found == choice
    assert tool_choice(found) == given


def test_a_name_that_only_one_namespace_has_needs_no_namespace() -> None:
    found = read(tools=[NAMESPACE], tool_choice={"type": "custom", "name": "patch"}).tool_choice
    assert found is not None
    assert (found.namespace, found.name) == ("sea", "patch")


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"tools": [NAMESPACE | {"tools": [SEARCH]}]}, "tools[0].tools[0].type", "'web_search' is not supported"),
    ({"tools": [{"type": "custom"}]}, "tools[0].name", "missing"),
    ({"tools": [CUSTOM | {"format": {"type": "json"}}]}, "tools[0].format.type", "write text, grammar"),
    ({"tools": [PLAIN], "tool_choice": {"type": "custom", "name": "x"}}, "tool_choice.name", "is not one of the tools"),
    ({"tools": [PLAIN], "tool_choice": {"type": "web_search"}}, "tool_choice", "is not one of the tools"),
    (
        {"tools": [PLAIN], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}},
        "tool_choice.tools[0]",
        "'mcp' is not one of the tools",
    ),
    ({"tools": [NAMESPACE | {"name": f"n{n}", "tools": [PLAIN] * 128} for n in range(9)]}, "tools", "at most 1024"),
    ({"input": [{"type": "additional_tools", "tools": [{"type": "x"}]}]}, "input[0].tools[0].type", "not supported"),
    ({"input": [RESULT | {"output": "4"}]}, "input[0].call_id", "no custom_tool_call before it"),
    ({"tool_choice": "required"}, "tool_choice", "there are no tools"),
]


@pytest.mark.parametrize(("fields", "param", "message"), WRONG)
def test_a_fault_names_its_field(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(MillraceError) as caught:
        read_create({"input": "?", **fields}, ())
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)
    assert message in caught.value.message


def test_a_continued_request_may_choose_among_tools_that_are_to_come() -> None:
    """Those of the conversation are not known yet. So what it says of parallel calls stays as well."""
    continued = {"previous_response_id": "resp_1", "tool_choice": "required", "parallel_tool_calls": False}
    prompt = read(**continued)
    assert (prompt.tool_choice, prompt.parallel_tool_calls) == (ToolChoice("required"), False)


def test_what_only_this_api_has_of_a_request() -> None:
    fields = {
        "include": ["reasoning.encrypted_content", "web_search_call.action.sources"],
        "reasoning": {"effort": "low", "context": "all_turns", "summary": "auto", "generate_summary": None},
        "truncation": "auto",
        "max_tool_calls": 3,
        "client_metadata": {"session_id": "s"},
        "context_management": [],
    }
    prompt = read(**fields)
    assert prompt.reasoning_effort == "low"
    assert prompt.native == Native(
        api=Api.RESPONSES,
        fields={
            "include": fields["include"],
            "reasoning": {"context": "all_turns", "summary": "auto"},
            "truncation": "auto",
            "max_tool_calls": 3,
        },
    )
    assert read(truncation="disabled").native is None


def test_a_tool_is_known_by_its_namespace_and_name() -> None:
    assert Tool(name="a", namespace="n").key == ("n", "a") != Tool(name="a").key


def test_what_an_mcp_server_is_told_in_secret_is_not_shown() -> None:
    """Nor kept with the response. The provider is told."""
    tool = MCP | {"authorization": "secret", "headers": {"x-key": "secret"}}
    create = read_create({"input": "?", "tools": [tool]}, ())
    assert create.prompt.tools[0].hosted == Sealed(api=Api.RESPONSES, fields=tool)
    assert tools_of(create.prompt.tools) == [MCP]
