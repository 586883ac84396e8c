"""The chat-completions dialect: what a call looks like, and what a provider's words mean."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

import pytest

from millrace.types import Call, Format, Media, Message, Model, Price, Prompt, Tier, Tool, ToolCall
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams.chat import body as chat
from millrace.upstreams.quirks import Quirks

PRICE = Price(input=Decimal(1), output=Decimal(1))
MODEL = Model(tier=Tier.SMALL, id="m", address="", price=PRICE, context_window=1000, max_output_tokens=100)
CALL = Call(model=MODEL, prompt=Prompt(messages=(Message(role="user", parts=("Hi",)),)))

PLAIN = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": 100}
PLAIN |= {"stream_options": {"include_usage": True}}
TWO_PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
SCHEMA: dict[str, Any] = {"name": "n", "schema": {"type": "object"}, "strict": False}


@pytest.mark.parametrize(
    ("prompt", "fields"),
    [
        ({}, {}),
        ({"max_output_tokens": 7}, {"max_tokens": 7}),
        ({"max_output_tokens": 700}, {"max_tokens": 100}),
        ({"temperature": 0.0, "top_p": 0.5}, {"temperature": 0.0, "top_p": 0.5}),
        ({"verbosity": "low", "reasoning_effort": "high"}, {"verbosity": "low", "reasoning_effort": "high"}),
        ({"format": Format(kind="json_object")}, {"response_format": {"type": "json_object"}}),
        (
            {"format": Format(kind="json_schema", **SCHEMA)},
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
        ),
        (
            {"messages": (Message(role="system", parts=("a", "b")),)},
            {"messages": [{"role": "system", "content": TWO_PARTS}]},
        ),
    ],
)
def test_a_request_body(prompt: dict[str, Any], fields: dict[str, Any]) -> None:
    """Only what was asked for is sent, under the tighter cap; 0 and false are something."""
    call = replace(CALL, prompt=replace(CALL.prompt, **prompt))
    assert json.loads(chat.request(call)[1]) == PLAIN | fields
    renamed = chat.fields_of(call, Quirks(max_tokens_field="max_completion_tokens"))
    assert renamed["max_completion_tokens"] == call.max_output_tokens


MEDIA = (
    "Look:",
    Media(kind="image", fields={"url": "data:image/png;base64,AA==", "detail": "low"}),
    Media(kind="file", fields={"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}),
    "and hear:",
    Media(kind="audio", fields={"data": "AA==", "format": "wav"}),
)
ARGUMENTS = '{"b":  1.0,\n "a": "\\u00e9"} '  # as a model wrote it, spaces and all
TOOLS = (
    Tool(
        name="weather",
        description="Of a town.",
        parameters={"type": "object", "required": ["z", "a"], "properties": {"z": {}, "a": {"minimum": 1.0}}},
        strict=False,
    ),
    Tool(name="now"),
)
CONVERSATION = (
    Message(role="system", parts=("Be brief.",)),
    Message(role="user", parts=MEDIA),
    Message(
        role="assistant",
        reasoning="Hm.",
        calls=(ToolCall(id="c1", name="weather", arguments=ARGUMENTS), ToolCall(id="c2", name="now", arguments="")),
    ),
    Message(role="tool", call_id="c1", parts=("rain",)),
    Message(role="tool", call_id="c2"),
    Message(role="assistant", refusal="No."),
    Message(role="user", parts=(MEDIA[1],)),
)
GOLDEN = (
    '{"model":"m","messages":['
    '{"role":"system","content":"Be brief."},'
    '{"role":"user","content":[{"type":"text","text":"Look:"},'
    '{"type":"image_url","image_url":{"url":"data:image/png;base64,AA==","detail":"low"}},'
    '{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,AA=="}},'
    '{"type":"text","text":"and hear:"},'
    '{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}]},'
    '{"role":"assistant","content":null,"tool_calls":['
    '{"id":"c1","type":"function","function":{"name":"weather","arguments":'
    + json.dumps(ARGUMENTS)
    + '}},{"id":"c2","type":"function","function":{"name":"now","arguments":""}}],"reasoning_content":"Hm."},'
    '{"role":"tool","content":"rain","tool_call_id":"c1"},'
    '{"role":"tool","content":"","tool_call_id":"c2"},'
    '{"role":"assistant","content":null,"refusal":"No."},'
    '{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA==","detail":"low"}}]}],'
    '"stream":true,"stream_options":{"include_usage":true},'
    '"tools":[{"type":"function","function":{"name":"weather","description":"Of a town.","parameters":'
    '{"type":"object","required":["z","a"],"properties":{"z":{},"a":{"minimum":1.0}}},"strict":false}},'
    '{"type":"function","function":{"name":"now"}}],'
    '"tool_choice":{"type":"function","function":{"name":"weather"}},"parallel_tool_calls":false,'
    '"stop":["\\n"],"seed":7}'
)


def test_a_conversation_with_tools_and_media_leaves_as_it_came() -> None:
    """Byte for byte: the order of parts and of a schema's keys, numbers, and the arguments as the model wrote them."""
    prompt = Prompt(
        messages=CONVERSATION,
        tools=TOOLS,
        tool_choice=ToolChoice("function", "weather"),
        parallel_tool_calls=False,
        extras={"stop": ["\n"], "seed": 7},
    )
    assert chat.request(replace(CALL, prompt=prompt))[1].decode() == GOLDEN


def test_a_call_may_have_words_before_it() -> None:
    """Then they are its content."""
    turn = Message(role="assistant", parts=("I look.",), calls=(ToolCall(id="c", name="now", arguments="{}"),))
    (sent,) = json.loads(chat.request(replace(CALL, prompt=Prompt(messages=(turn,))))[1])["messages"]
    assert (sent["content"], sent["tool_calls"][0]["id"]) == ("I look.", "c")


@pytest.mark.parametrize("choice", ["auto", "none", "required", None])
def test_a_choice_of_tools_is_said_where_there_are_tools(choice: Literal["auto", "none", "required"] | None) -> None:
    """As the provider calls it; a choice among no tools is refused by providers, and left out."""
    prompt = replace(CALL.prompt, tool_choice=choice and ToolChoice(choice), parallel_tool_calls=True)
    assert json.loads(chat.request(replace(CALL, prompt=prompt))[1]) == PLAIN
    sent = json.loads(chat.request(replace(CALL, prompt=replace(prompt, tools=TOOLS)))[1])
    assert (sent.get("tool_choice"), sent["parallel_tool_calls"]) == (choice, True)


def test_extras_never_override_what_is_said_here() -> None:
    """Neither model, messages and stream, nor a cap under another name, nor several answers."""
    ours = {"model": "x", "messages": [], "stream": False, "stream_options": None, "n": 3, "functions": []}
    ours |= {"tools": [{}], "tool_choice": "auto", "parallel_tool_calls": True}
    extras = ours | {"max_tokens": 9, "max_completion_tokens": 9, "user": "u"}
    call = replace(CALL, prompt=replace(CALL.prompt, extras=extras))
    assert json.loads(chat.request(call)[1]) == PLAIN | {"user": "u"}
