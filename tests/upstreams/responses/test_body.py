"""Requests of the Responses API: what a prompt becomes, what is kept byte for byte, and what is left out and told."""

import dataclasses
import json
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.types import (
    Api,
    Call,
    Format,
    Media,
    Message,
    Native,
    Price,
    Prompt,
    Sealed,
    Tool,
    ToolCall,
)
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams.quirks import PRESETS, Quirks
from millrace.upstreams.responses.body import change_for, request
from tests.support import responses_wire as wire
from tests.support.provider import CALL
from tests.support.responses_server import ResponsesServer, always

ASKED = Message(role="user", parts=("Hi",))
HI = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
THOUGHT = wire.reasoning("Hm.", encrypted="gAAAAAB=")
WITHOUT_ID = {name: value for name, value in THOUGHT.items() if name != "id"}
SEARCHED = wire.web_search("x")
PAINTED = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "iVBOR"}
SIGNED = Sealed(api=Api.MESSAGES, fields={"type": "thinking", "thinking": "Hm.", "signature": "s"})


def sealed(fields: dict[str, Any], parts: int = 0, calls: int = 0) -> Sealed:
    return Sealed(api=Api.RESPONSES, fields=fields, parts_before=parts, calls_before=calls)


def asking(*messages: Message, model: Any = None, **fields: Any) -> Call:
    return dataclasses.replace(CALL, model=model or CALL.model, prompt=Prompt(messages=messages or (ASKED,), **fields))


def sent(*messages: Message, quirks: Quirks = PRESETS["auto"], **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a request, which the API takes, and the notes."""
    sent_fields, raw, notes = request(asking(*messages, **fields), quirks)
    assert json.loads(raw) == sent_fields
    server = ResponsesServer(always())
    server.issued.add("gAAAAAB=")
    if quirks == PRESETS["auto"]:
        server.check(sent_fields)
    return sent_fields, notes


def test_a_plain_question() -> None:
    """Nothing is stored; what the model thinks can come back; it is streamed."""
    assert sent() == (
        {
            "model": "m",
            "input": [HI],
            "stream": True,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "max_output_tokens": 100,
        },
        [],
    )


def test_instructions_are_a_message_of_the_system() -> None:
    fields, _ = sent(Message(role="system", parts=("Be brief.",)), ASKED)
    assert fields["input"][0] == {
        "type": "message",
        "role": "system",
        "content": [{"type": "input_text", "text": "Be brief."}],
    }
    assert "instructions" not in fields
    as_developer, _ = sent(
        Message(role="system", parts=("B",)), quirks=replace(PRESETS["auto"], system_role="developer")
    )
    assert as_developer["input"][0]["role"] == "developer"


def test_all_kinds_of_media() -> None:
    parts = (
        "What is this?",
        Media(kind="image", fields={"url": "data:image/png;base64,AA", "detail": "low"}),
        Media(kind="image", fields={"file_id": "file_1"}),
        Media(kind="file", fields={"file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"}),
        Media(kind="audio", fields={"data": "AA", "format": "wav"}),
    )
    fields, _ = sent(Message(role="user", parts=parts))
    assert fields["input"][0]["content"] == [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
    ]


TURN = Message(
    role="assistant",
    parts=("I look.", "It rains."),
    calls=(
        ToolCall(id="c1", name="weather", arguments="{}", namespace="sky"),
        ToolCall(id="c2", name="patch", arguments="***", is_custom=True),
    ),
    sealed=(sealed(THOUGHT), sealed(SEARCHED, 1), sealed(THOUGHT, 2, 1), sealed(PAINTED, 2, 2)),
)
RESULTS = (
    Message(role="tool", parts=("21",), call_id="c1"),
    Message(role="tool", parts=("ok", Media(kind="image", fields={"url": "data:"})), call_id="c2"),
)


def test_a_turn_is_its_items_in_their_order() -> None:
    """What only this API understands stands where it stood. A custom tool's result is one of its kind."""
    fields, notes = sent(ASKED, TURN, *RESULTS)
    said = [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": t}]} for t in TURN.parts
    ]
    assert fields["input"] == [
        HI,
        WITHOUT_ID,
        said[0],
        {"type": "web_search_call", "status": "completed", "action": SEARCHED["action"]},
        said[1],
        {"type": "function_call", "call_id": "c1", "name": "weather", "namespace": "sky", "arguments": "{}"},
        WITHOUT_ID,
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "***"},
        PAINTED,
        {"type": "function_call_output", "call_id": "c1", "output": "21"},
        {
            "type": "custom_tool_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "ok"}, {"type": "input_image", "image_url": "data:"}],
        },
    ]
    assert notes == []


def test_tools_that_messages_brought_are_among_the_others() -> None:
    """No message is left of them."""
    brought = Message(role="system", tools=(TOOLS[0],))
    prompt = Prompt(messages=(brought, ASKED)).with_tools_of_messages()
    fields, _, _ = request(dataclasses.replace(CALL, prompt=prompt), PRESETS["auto"])
    assert (fields["input"], [tool["name"] for tool in fields["tools"]]) == ([HI], ["f"])


def test_the_phase_of_a_message_goes_back_with_it() -> None:
    """Models that have phases answer worse without."""
    turn = Message(role="assistant", parts=("I look.",), own_fields={"phase": "commentary"})
    fields, notes = sent(ASKED, turn, ASKED)
    assert (fields["input"][1]["phase"], notes) == ("commentary", [])


def test_a_refusal_of_an_answer_is_a_part_of_it() -> None:
    fields, _ = sent(ASKED, Message(role="assistant", refusal="No."), ASKED)
    assert fields["input"][1]["content"] == [{"type": "refusal", "refusal": "No."}]


def test_blocks_of_another_api_are_left_out_and_told() -> None:
    """Its thinking was text too, which is not this model's."""
    turn = Message(role="assistant", parts=("Yes.",), reasoning="Hm.", sealed=(SIGNED,))
    fields, notes = sent(ASKED, turn, ASKED)
    assert [item["type"] for item in fields["input"]] == ["message"] * 3
    assert notes == ["without signed thinking"]


def test_a_block_of_a_user_goes_to_its_own_api_and_as_its_text_to_this_one() -> None:
    own = Media(kind="block", fields={}, sealed=sealed({"type": "input_image", "image_url": "data:"}))
    foreign = Media(
        kind="block", fields={"text": "A page."}, sealed=Sealed(api=Api.MESSAGES, fields={"type": "document"})
    )
    silent = Media(kind="block", fields={}, sealed=Sealed(api=Api.MESSAGES, fields={"type": "document"}))
    fields, notes = sent(Message(role="user", parts=(own, foreign, silent)))
    assert fields["input"][0]["content"] == [
        {"type": "input_image", "image_url": "data:"},
        {"type": "input_text", "text": "A page."},
    ]
    assert notes == ["without document"]


def test_the_result_of_a_tool_that_only_this_api_knows_goes_back_as_it_came() -> None:
    output = {"type": "computer_call_output", "call_id": "cc", "output": {"type": "computer_screenshot"}}
    fields, _ = sent(ASKED, Message(role="tool", sealed=(sealed(output),)))
    assert fields["input"][1:] == [output]


def test_what_failed_is_told_in_words() -> None:
    turn = Message(role="assistant", calls=(ToolCall(id="c1", name="f", arguments="{}"),))
    fields, _ = sent(ASKED, turn, Message(role="tool", parts=("no file",), call_id="c1", is_error=True))
    assert fields["input"][2]["output"] == "The tool failed: no file"


def test_a_long_id_of_a_call_is_replaced_always_by_the_same() -> None:
    long = "toolu_" + "x" * 80
    turn = Message(role="assistant", calls=(ToolCall(id=long, name="f", arguments="{}"),))
    fields, _ = sent(ASKED, turn, Message(role="tool", parts=("1",), call_id=long))
    call, result = fields["input"][1:]
    assert call["call_id"] == result["call_id"]
    assert len(call["call_id"]) <= 64


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
SEARCH = {"type": "web_search", "external_web_access": True, "filters": {"allowed_domains": ["a.test"]}}
TOOLS = (
    Tool(name="f", description="d", parameters=SCHEMA, strict=True),
    Tool(
        name="exec",
        description="e",
        is_custom=True,
        grammar=GRAMMAR,
        namespace="functions",
        namespace_description="Of it.",
    ),
    Tool(name="web_search", hosted=sealed(SEARCH)),
    Tool(name="wait", namespace="functions"),
    Tool(name="plain", is_custom=True),
    Tool(name="computer", hosted=Sealed(api=Api.MESSAGES, fields={"type": "computer_20250124"})),
)


def test_tools_of_all_kinds() -> None:
    """Those of a namespace are one tool again; the provider's own are passed on untouched."""
    fields, notes = sent(tools=TOOLS, parallel_tool_calls=False)
    empty = {"type": "object", "properties": {}}
    assert fields["tools"] == [
        {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True},
        {
            "type": "namespace",
            "name": "functions",
            "description": "Of it.",
            "tools": [
                {"type": "custom", "name": "exec", "description": "e", "format": GRAMMAR},
                {"type": "function", "name": "wait", "parameters": empty},
            ],
        },
        SEARCH,
        {"type": "custom", "name": "plain"},
    ]
    assert fields["parallel_tool_calls"] is False
    assert notes == ["without computer"]


CHOICES: dict[str, tuple[ToolChoice, Any]] = {
    "auto": (ToolChoice("auto"), "auto"),
    "none": (ToolChoice("none"), "none"),
    "required": (ToolChoice("required"), "required"),
    "a function": (ToolChoice("function", "f"), {"type": "function", "name": "f"}),
    "a custom tool": (ToolChoice("function", "plain"), {"type": "custom", "name": "plain"}),
    "a tool in a namespace": (
        ToolChoice("function", "exec", "functions"),
        {"type": "custom", "name": "exec", "namespace": "functions"},
    ),
    "a hosted tool": (ToolChoice("hosted", "web_search"), {"type": "web_search"}),
    "some tools": (
        ToolChoice("required", allowed=(("", "f"), ("", "web_search"))),
        {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
        },
    ),
    "as the client gave it": (
        ToolChoice("hosted", "mcp", "docs", given={"type": "mcp", "x": 1}),
        {"type": "mcp", "x": 1},
    ),
    "a tool of another API": (ToolChoice("hosted", "computer"), None),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_choices_of_all_kinds(choice: str) -> None:
    given, expected = CHOICES[choice]
    fields, notes = sent(tools=TOOLS, tool_choice=given)
    assert fields.get("tool_choice") == expected
    assert ("without tool_choice" in notes) == (expected is None)


def test_without_tools_there_is_no_choice() -> None:
    fields, _ = sent(tools=TOOLS[-1:], tool_choice=ToolChoice("required"), parallel_tool_calls=True)
    assert not fields.keys() & {"tools", "tool_choice", "parallel_tool_calls"}


def test_forms_and_verbosity() -> None:
    form = Format(kind="json_schema", name="town", schema=SCHEMA, strict=True, description="d")
    fields, _ = sent(format=form, verbosity="low")
    schema = {"type": "json_schema", "name": "town", "schema": SCHEMA, "strict": True, "description": "d"}
    assert fields["text"] == {"format": schema, "verbosity": "low"}
    assert sent(format=Format(kind="json_object"))[0]["text"] == {"format": {"type": "json_object"}}


def test_reasoning_is_asked_for_as_the_client_asks() -> None:
    """All of it; the effort may come from another API."""
    given = {"effort": "high", "summary": "auto", "context": "all_turns"}
    native = Native(
        api=Api.RESPONSES,
        fields={"reasoning": given, "truncation": "auto", "include": ["web_search_call.action.sources"]},
    )
    fields, notes = sent(native=native, reasoning_effort="high")
    assert fields["reasoning"] == given
    assert fields["truncation"] == "auto"
    assert fields["include"] == ["reasoning.encrypted_content", "web_search_call.action.sources"]
    assert notes == []
    assert sent(reasoning_effort="low")[0]["reasoning"] == {"effort": "low"}
    fields, notes = sent(extras={"reasoning": {"effort": "low", "enabled": True}})
    assert (fields["reasoning"], notes) == ({"effort": "low"}, ["without reasoning.enabled"])


THOUGHT_OF: dict[str, tuple[dict[str, Any], str | None, dict[str, Any] | None]] = {  # thinking, effort, reasoning
    "adaptive": ({"type": "adaptive"}, "high", {"summary": "auto", "effort": "high"}),
    "not shown": ({"type": "adaptive", "display": "omitted"}, "low", {"effort": "low"}),
    "little": ({"type": "enabled", "budget_tokens": 1024}, None, {"summary": "auto", "effort": "low"}),
    "more": ({"type": "enabled", "budget_tokens": 8000}, None, {"summary": "auto", "effort": "medium"}),
    "much": ({"type": "enabled", "budget_tokens": 32_000}, None, {"summary": "auto", "effort": "high"}),
    "none": ({"type": "disabled"}, None, None),
}


@pytest.mark.parametrize("kind", THOUGHT_OF)
def test_thinking_in_the_words_of_the_messages_api_is_reasoning(kind: str) -> None:
    """What is shown of it is a summary. What has a counterpart is not told as left out."""
    thinking, effort, reasoning = THOUGHT_OF[kind]
    fields, notes = sent(native=Native(api=Api.MESSAGES, fields={"thinking": thinking}), reasoning_effort=effort)
    assert (fields.get("reasoning"), notes) == (reasoning, [] if reasoning else ["without thinking"])


def test_a_summary_that_nobody_wants_is_not_asked_for() -> None:
    native = Native(api=Api.RESPONSES, fields={"reasoning": {"summary": "none", "effort": "none"}})
    assert sent(native=native)[0]["reasoning"] == {"effort": "none"}


def test_what_only_the_provider_reads_is_passed_on() -> None:
    given = {"prompt_cache_key": "k", "safety_identifier": "s", "user": "u", "service_tier": "auto", "top_p": 0.5}
    fields, notes = sent(extras=given, top_p=0.25, temperature=0.5)
    assert {name: fields[name] for name in given} == given | {"top_p": 0.25}
    assert (fields["temperature"], notes) == (0.5, [])


def test_log_probabilities() -> None:
    fields, notes = sent(extras={"logprobs": True, "top_logprobs": 2})
    assert fields["include"] == ["reasoning.encrypted_content", "message.output_text.logprobs"]
    assert (fields["top_logprobs"], notes) == (2, [])
    assert "logprobs" not in fields


def test_fields_of_other_apis_are_left_out_and_told() -> None:
    """The notes name each."""
    given = {"seed": 1, "presence_penalty": 0.5, "frequency_penalty": 0.5, "logit_bias": {"1": 1}}
    fields, notes = sent(extras=given | {"stop": ["x"]}, native=Native(api=Api.MESSAGES, fields={"top_k": 5}))
    assert not fields.keys() & {*given, "top_k", "stop"}  # the answer is ended at stop sequences all the same
    told = (*given, "top_k", "stop: Millrace ends the answer there")
    assert sorted(notes) == sorted(f"without {name}" for name in told)


def test_what_millrace_decides_is_not_the_clients() -> None:
    """A second input, or an answer that does not stream."""
    given = {"instructions": "x", "previous_response_id": "resp_1", "background": True, "stream_options": {}}
    given |= {"store": True}
    fields, notes = sent(extras=given | {"stream": False, "model": "x", "input": []})
    assert (fields["stream"], fields["store"], fields["model"], fields["input"]) == (True, False, "m", [HI])
    assert notes == [f"without {name}" for name in (*given, "input")]


def test_a_tier_without_a_price_is_not_asked_for() -> None:
    priced = replace(CALL.model, tier_prices={"flex": Price(input=Decimal(1), output=Decimal(1))})
    assert sent(extras={"service_tier": "flex"}, model=priced)[0]["service_tier"] == "flex"
    fields, notes = sent(extras={"service_tier": "priority"}, model=priced)
    assert "service_tier" not in fields
    assert notes == ["without service_tier priority: it has no price here"]


@pytest.mark.parametrize(("asked", "cap"), [(1, 16), (15, 16), (16, 16), (50, 50)])
def test_a_cap_is_at_least_what_the_api_takes(asked: int, cap: int) -> None:
    """The answer is cut at the lower one here."""
    assert sent(max_output_tokens=asked)[0]["max_output_tokens"] == cap


def test_extras_within_messages_and_tools_go_to_their_places() -> None:
    """Where this API has the same place. Marks for another provider's cache have none."""
    unread = (
        (("content", 0, "prompt_cache_breakpoint"), {"mode": "explicit"}),
        (("content", 0, "cache_control"), {"type": "ephemeral"}),
        (("content", 0, "image_url", "x"), 1),
        (("phase",), "commentary"),
    )
    tool = Tool(name="f", unread=((("defer_loading",), True), (("function", "output_schema"), {})))
    said = Message(role="assistant", parts=("I look.",)).with_unread(unread)
    fields, notes = sent(ASKED, said, ASKED, tools=(tool,))
    assert fields["input"][1]["phase"] == "commentary"
    assert fields["input"][1]["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit"}
    assert (fields["tools"][0]["defer_loading"], fields["tools"][0]["output_schema"]) == (True, {})
    assert notes == ["without cache_control", "without x"]


def test_a_name_and_own_fields_of_other_providers_are_told() -> None:
    call = ToolCall(id="c1", name="f", arguments="{}", own_fields={"extra_content": {}, "caller": {"type": "direct"}})
    turn = Message(role="assistant", calls=(call,), own_fields={"reasoning_details": []})
    fields, notes = sent(replace(ASKED, name="bob"), turn, Message(role="tool", parts=("1",), call_id="c1"))
    assert fields["input"][1]["caller"] == {"type": "direct"}
    assert notes == ["without user.name", "without reasoning_details", "without extra_content"]


WANTED: dict[str, tuple[str, dict[str, Any], str | None]] = {  # a refusal's words, what was sent, what is tried
    "no reasoning to encrypt": (
        "Encrypted content is not supported with this model.",
        {"input": [HI], "include": ["reasoning.encrypted_content"]},
        "without reasoning.encrypted_content",
    ),
    "no summaries for this account": (
        "Your organization must be verified to generate reasoning summaries.",
        {"input": [HI], "reasoning": {"summary": "auto"}},
        "without reasoning.summary",
    ),
    "an unknown field": (
        "Unknown parameter: 'prompt_cache_key'.",
        {"input": [HI], "prompt_cache_key": "k"},
        "without prompt_cache_key",
    ),
    "include": (
        "Unrecognized request argument supplied: include",
        {"input": [HI], "include": ["x"]},
        "without include",
    ),
    "reasoning of another account": (
        '{"error":{"message":"The encrypted content for item rs_1 could not be verified. Reason: Encrypted content '
        'organization_id did not match","code":"invalid_encrypted_content"}}',
        {"input": [HI, THOUGHT]},
        "without encrypted_content",
    ),
    "the role": (
        "Invalid value: 'developer'. Supported values for role are: 'system', 'user'",
        {"input": [{"role": "developer"}]},
        "with system",
    ),
    "what was not sent": ("Unknown parameter: 'store'.", {"input": [HI]}, None),
    "what must not be left out": ("Unknown parameter: 'tools'.", {"input": [HI], "tools": []}, None),
}


@pytest.mark.parametrize("words", WANTED)
def test_a_refusal_says_what_to_leave_out(words: str) -> None:
    refusal, fields, what = WANTED[words]
    change = change_for(refusal, fields)
    assert (change.what if change else None) == what


def test_what_was_learned_is_left_out() -> None:
    quirks = PRESETS["auto"]
    left_out = ("reasoning.encrypted_content", "reasoning.summary", "store", "encrypted_content")
    for change in (f"without {name}" for name in left_out):
        wanted = change_for(
            "Encrypted content is not supported", {"input": [], "include": ["reasoning.encrypted_content"]}
        )
        assert wanted is not None
        quirks = replace(wanted, what=change).applied(quirks)
    turn = Message(role="assistant", parts=("Yes.",), sealed=(sealed(THOUGHT), sealed(SEARCHED, 1)))
    native = Native(api=Api.RESPONSES, fields={"reasoning": {"summary": "auto"}})
    fields, notes = sent(ASKED, turn, ASKED, quirks=quirks, native=native)
    assert not fields.keys() & {"store", "include", "reasoning"}
    assert [item["type"] for item in fields["input"]] == ["message", "message", "web_search_call", "message"]
    assert notes == ["without encrypted reasoning"]
