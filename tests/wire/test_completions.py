"""What clients of chat completions send: the same requests in another form, with faults in that form's paths."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec import structs

from millrace.errors import MillraceError
from millrace.types import Api, Format, Media, Message, Sealed, Strategy, Tool, ToolCall
from millrace.types.tool_choice import ToolChoice
from millrace.wire import carried, requests
from millrace.wire.completions import PATHS, read_completion
from millrace.wire.reading import decode
from millrace.wire.requests import Create

CHECKS = ("empty", "form")
ASKED = {"role": "user", "content": "?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "4"}
SCHEMA = {"type": "object"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}
F = ToolCall(id="c1", name="f", arguments="{}")


def read(*messages: Any, **fields: Any) -> Create:
    """Read a body as it comes off the wire."""
    return read_completion(decode(json.dumps({"messages": messages or [ASKED]} | fields), "a body"), CHECKS)


MESSAGES: list[tuple[list[dict[str, Any]], list[Message]]] = [
    (
        [{"role": "system", "content": "s"}, {"role": "developer", "content": [{"type": "text", "text": "d"}]}, ASKED],
        [Message(role="system", parts=("s",)), Message(role="system", parts=("d",))],
    ),
    ([ASKED | {"name": "n"}], []),
    (
        [ASKED, CALLING, RESULT],
        [
            Message(role="user", parts=("?",)),
            Message(role="assistant", calls=(F,)),
            Message(role="tool", parts=("4",), call_id="c1"),
        ],
    ),
    ([CALLING | {"content": ""}, RESULT], [Message(role="assistant", calls=(F,))]),
    ([CALLING | {"content": "!"}, RESULT], [Message(role="assistant", parts=("!",), calls=(F,))]),
    (
        [{"role": "assistant", "content": "!", "reasoning_content": "Hm.", "audio": None, "tool_calls": []}, ASKED],
        [Message(role="assistant", parts=("!",), reasoning="Hm.")],
    ),
    ([{"role": "assistant", "refusal": "No."}, ASKED], [Message(role="assistant", refusal="No.")]),
    (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, ASKED],
        [Message(role="assistant", refusal="No.")],
    ),
    (
        [CALLING, RESULT | {"content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]}],
        [Message(role="assistant", calls=(F,)), Message(role="tool", parts=("4", "2"), call_id="c1")],
    ),
]


@pytest.mark.parametrize(("given_", "messages"), MESSAGES)
def test_messages(given_: list[dict[str, Any]], messages: list[Message]) -> None:
    """Of every role, with what a role may have."""
    made = list(read(*given_).prompt.messages)
    assert made[: len(messages)] == messages
    assert len(made) == len(given_)


PARTS: list[tuple[dict[str, Any], Any]] = [
    ({"type": "text", "text": "t"}, "t"),
    (
        {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
        Media(kind="image", fields={"url": "u", "detail": "low"}),
    ),
    (
        {"type": "file", "file": {"file_data": "d", "filename": "n", "file_id": None}},
        Media(kind="file", fields={"file_data": "d", "filename": "n"}),
    ),
    (
        {"type": "input_audio", "input_audio": {"data": "d", "format": "mp3"}},
        Media(kind="audio", fields={"data": "d", "format": "mp3"}),
    ),
]


@pytest.mark.parametrize(("part", "made"), PARTS)
def test_parts(part: dict[str, Any], made: Any) -> None:
    """Passed on as they came."""
    assert read({"role": "user", "content": [part]}).prompt.messages[0].parts == (made,)


PROMPT: list[tuple[dict[str, Any], str, Any]] = [
    ({"temperature": 0.5}, "temperature", 0.5),
    ({"top_p": 1}, "top_p", 1.0),
    ({"max_tokens": 7}, "max_output_tokens", 7),
    ({"max_tokens": 7, "max_completion_tokens": 8}, "max_output_tokens", 8),
    ({"reasoning_effort": "low"}, "reasoning_effort", "low"),
    ({"verbosity": "low"}, "verbosity", "low"),
    ({"response_format": {"type": "text"}}, "format", None),
    ({"response_format": {"type": "json_object"}}, "format", Format(kind="json_object")),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}},
        "format",
        Format(kind="json_schema", name="n", schema=SCHEMA, strict=True),
    ),
    ({"tools": [TOOL]}, "tools", (Tool(name="f", description="d", parameters=SCHEMA, strict=True),)),
    ({"tools": [TOOL], "tool_choice": "none"}, "tool_choice", ToolChoice("none")),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        "tool_choice",
        ToolChoice("function", "f"),
    ),
    ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, "parallel_tool_calls", None),
    ({"tools": [TOOL], "parallel_tool_calls": True}, "parallel_tool_calls", True),
    ({"stop": "a"}, "extras", {"stop": "a"}),
    ({"stop": ["a", "b"], "seed": -3}, "extras", {"stop": ["a", "b"], "seed": -3}),
    ({"presence_penalty": -2, "frequency_penalty": 0}, "extras", {"presence_penalty": -2.0, "frequency_penalty": 0.0}),
    ({"logit_bias": {"50256": -100}}, "extras", {"logit_bias": {"50256": -100.0}}),
    ({"stop": None, "stop_": 1, "logit_bias": {}, "seed": None, "n": 1, "logprobs": False}, "extras", {"stop_": 1}),
    ({"modalities": ["text"], "functions": [], "millrace": {}, "top_k": None}, "extras", {}),
    (
        {"service_tier": "auto", "user": "u", "prediction": {}},
        "extras",
        {"service_tier": "auto", "user": "u", "prediction": {}},
    ),
    ({"top_k": 5, "extra_body": {"min_p": 0.1}}, "extras", {"top_k": 5, "min_p": 0.1}),
]


@pytest.mark.parametrize(("fields", "name", "value"), PROMPT)
def test_a_field_of_the_prompt(fields: dict[str, Any], name: str, value: Any) -> None:
    """What has no field of its own is passed on under its name."""
    assert getattr(read(**fields).prompt, name) == value


FIELDS: list[tuple[dict[str, Any], str, Any]] = [
    ({"model": "gpt-4o"}, "model", "gpt-4o"),
    ({}, "model", "auto"),
    ({}, "paths", PATHS),
    ({"stream": True}, "stream", True),
    ({"stream": True, "stream_options": {"include_usage": True}}, "include_usage", True),
    ({"stream_options": {}}, "include_usage", False),
    ({"store": True}, "store", True),
    ({"metadata": {"a": "b", "millrace.strategy": "race"}}, "metadata", {"a": "b"}),
    ({"metadata": {"a": "b", "millrace.strategy": "race"}}, "strategy", Strategy.RACE),
    ({"millrace": {"checks": ["empty"]}}, "checks", ("empty",)),
]


@pytest.mark.parametrize(("fields", "name", "value"), FIELDS)
def test_a_field(fields: dict[str, Any], name: str, value: Any) -> None:
    """The options of Millrace are those of the other dialect."""
    assert getattr(read(**fields), name) == value


def user(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": parts}]}


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "messages", "length >= 1"),
    ({"messages": [ASKED] * 2001}, "messages", "length <= 2000"),
    ({"tools": [{"type": "function", "function": {"name": "t"}}] * 129}, "tools", "length <= 128"),
    ({"messages": None}, "messages", "an array"),
    ({"messages": [{"role": "user", "content": " "}]}, "messages", "nothing to answer"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "missing"),
    ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role", "system, developer, user, assistant"),
    ({"messages": [ASKED, {"role": "user"}]}, "messages[1].content", "missing"),
    ({"messages": [ASKED, {"role": "assistant"}]}, "messages[1].content", "missing; write the text"),
    ({"messages": [ASKED, RESULT]}, "messages[1].tool_call_id", "no tool call before it"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "missing"),
    (user({"type": "video"}), "messages[0].content[0].type", "write text, image_url, file, input_audio"),
    (user({"type": "image_url", "image_url": "u"}), "messages[0].content[0].image_url", "an object"),
    (user({"type": "image_url", "image_url": {"url": ""}}), "messages[0].content[0].image_url.url", "length >= 1"),
    (user({"type": "file", "file": {}}), "messages[0].content[0].file.file_data", "write file_data or file_id"),
    (
        {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
        "messages[0].content[0].type",
        "'image_url' is not supported; write text",
    ),
    (
        {"messages": [CALLING | {"tool_calls": [{"id": "c", "type": "telepathy"}]}]},
        "messages[0].tool_calls[0].type",
        "write function",
    ),
    ({"n": 2}, "n", "one answer"),
    ({"logprobs": 5}, "logprobs", "a boolean"),
    ({"top_logprobs": 5}, "top_logprobs", "needs logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "<= 20"),
    ({"extra_body": {"messages": []}}, "extra_body.messages", "at the top"),
    ({"extra_body": [1]}, "extra_body", "an object"),
    ({"functions": [{}]}, "functions", "write tools"),
    ({"function_call": "auto"}, "function_call", "write tool_choice"),
    ({"audio": {"voice": "v"}}, "audio", "answers are text"),
    ({"modalities": ["text", "audio"]}, "modalities", "answers are text"),
    ({"web_search_options": {}}, "web_search_options", "web search is not available"),
    ({"max_tokens": 0}, "max_tokens", ">= 1"),
    ({"temperature": 3}, "temperature", "<= 2"),
    ({"presence_penalty": 2.5}, "presence_penalty", "<= 2"),
    ({"logit_bias": {"1": 101}}, "logit_bias[...]", "<= 100"),
    ({"seed": 2**63}, "seed", "<="),
    ({"stop": ["x"] * 17}, "stop", "length <= 16"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "text, json_object, json_schema"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "not supported; write function, custom"),
    ({"tools": [{"type": "custom"}]}, "tools[0].custom", "missing"),
    ({"tool_choice": "required"}, "tool_choice", "no tools"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice.function.name",
        "not one of the tools",
    ),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "a boolean"),
    ({"millrace": {"delivery": "late"}}, "millrace.delivery", "speculate"),
]


@pytest.mark.parametrize(("fields", "param", "words"), FAULTS)
def test_a_fault_names_its_field(fields: dict[str, Any], param: str, words: str) -> None:
    """In the paths of this dialect, with what to write or why not."""
    with pytest.raises(MillraceError) as raised:
        read(**fields)
    assert (raised.value.code, raised.value.param) == ("invalid_request", param)
    assert raised.value.message.startswith(param)
    assert words in raised.value.message


MEANT = """
    messages role user assistant tool content type text image_url url file tool_calls function name arguments id
    tool_call_id tools tool_choice response_format json_schema schema stop logit_bias n metadata millrace stream_options
"""
WORDS = st.sampled_from(MEANT.split()) | st.text(max_size=4)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)


@given(st.dictionaries(WORDS, VALUES, max_size=5), st.lists(st.dictionaries(WORDS, VALUES, max_size=5), max_size=3))
def test_no_body_crashes_the_reader(fields: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    """It is read, or refused with the path of a fault."""
    refused = None
    try:
        read(**{"messages": messages or [ASKED]} | fields)
    except MillraceError as error:
        refused = error
    assert refused is None or (refused.code == "invalid_request" and refused.param is not None)


@given(st.sampled_from(["user", "system", "developer"]), st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_both_dialects_mean_the_same(role: str, texts: list[str]) -> None:
    """The same conversation makes the same prompt, and so the same key of the caches."""
    here = read({"role": role, "content": [{"type": "text", "text": text} for text in texts]}, ASKED)
    parts = [{"type": "input_text", "text": text} for text in texts]
    there = requests.read_create({"input": [{"role": role, "content": parts}, ASKED]}, CHECKS)
    assert structs.replace(here, paths=there.paths) == there


def test_a_providers_own_fields_stay_with_their_message_and_their_call() -> None:
    """As clients send them back that keep them; what is empty is nothing."""
    signed = {"extra_content": {"google": {"thought_signature": "s=="}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {"role": "assistant", "content": None, "tool_calls": [call | signed, call | {"id": "d", "index": 1}]}
    answer |= {"reasoning": "Hm.", "reasoning_details": [1], "refusal": None, "annotations": [], "audio": None, "x": ""}
    fields = {"messages": [{"role": "user", "content": "?"}, answer]}
    turn = read_completion(fields, ()).prompt.messages[1]
    assert (turn.reasoning, turn.own_fields) == ("Hm.", {"reasoning_details": [1]})
    assert [made.own_fields for made in turn.calls] == [signed, {}]


CUSTOM = {"type": "custom", "custom": {"name": "note", "description": "n"}}
LARK = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a+/"}}


def test_custom_tools_and_their_calls() -> None:
    """A grammar is what the Responses API has too, in another form."""
    call = {"id": "c", "type": "custom", "custom": {"name": "note", "input": "*{"}}
    history = [ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}, RESULT | {"tool_call_id": "c"}]
    tools = [CUSTOM, {"type": "custom", "custom": {"name": "strict", "format": LARK}}]
    chosen = {"type": "custom", "custom": {"name": "note"}}
    prompt = read_completion({"messages": history, "tools": tools, "tool_choice": chosen}, ()).prompt
    assert prompt.messages[1].calls == (ToolCall(id="c", name="note", arguments="*{", is_custom=True),)
    assert [(tool.name, tool.is_custom, tool.grammar) for tool in prompt.tools] == [
        ("note", True, None),
        ("strict", True, {"type": "grammar", "syntax": "lark", "definition": "start: /a+/"}),
    ]
    assert prompt.tool_choice == ToolChoice("function", "note")


def test_only_some_tools_are_allowed() -> None:
    allowed = [{"type": "custom", "custom": {"name": "note"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": allowed}}
    asked = {"messages": [ASKED], "tools": [CUSTOM, TOOL], "tool_choice": choice}
    assert read_completion(asked, ()).prompt.tool_choice == ToolChoice("required", allowed=(("", "note"),))
    with pytest.raises(MillraceError) as caught:
        read_completion(asked | {"tools": [TOOL]}, ())
    assert caught.value.param == "tool_choice.allowed_tools.tools[0]"


def test_what_only_one_api_understands_is_read_back_and_what_was_written_elsewhere_is_told() -> None:
    sealed = Sealed(api=Api.MESSAGES, fields={"type": "thinking", "signature": "s"}, calls_before=1, maker="m")
    said = {"role": "assistant", "content": "Yes.", "encrypted_content": carried.write({}, {}, [sealed])}
    asked = {"role": "user", "content": "?"}
    assert read(asked, said, asked).prompt.messages[1].sealed == (sealed,)
    for word in ("gAAA", 5, None):
        request = read(asked, said | {"encrypted_content": word}, asked)
        assert request.prompt.messages[1].sealed == ()
        assert request.not_passed_on == (() if word is None else ("messages[1].encrypted_content",))
