"""The chat-completions dialect: what a call looks like, and what a provider's words mean."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

import orjson
import pytest

from millrace.errors import UpstreamError
from millrace.types import Call, FinishReason, Format, Media, Message, Model, Price, Prompt, Tier, Tool, ToolCall, Usage
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams import chat

USAGE = {"prompt_tokens": 5, "completion_tokens": 2}
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
    assert json.loads(chat.body(call, "max_tokens")) == PLAIN | fields
    assert json.loads(chat.body(call, "max_completion_tokens"))["max_completion_tokens"] == call.max_output_tokens


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
    assert chat.body(replace(CALL, prompt=prompt), "max_tokens").decode() == GOLDEN


def test_a_call_may_have_words_before_it() -> None:
    """Then they are its content."""
    turn = Message(role="assistant", parts=("I look.",), calls=(ToolCall(id="c", name="now", arguments="{}"),))
    (sent,) = json.loads(chat.body(replace(CALL, prompt=Prompt(messages=(turn,))), "max_tokens"))["messages"]
    assert (sent["content"], sent["tool_calls"][0]["id"]) == ("I look.", "c")


@pytest.mark.parametrize("choice", ["auto", "none", "required", None])
def test_a_choice_of_tools_is_said_where_there_are_tools(choice: Literal["auto", "none", "required"] | None) -> None:
    """As the provider calls it; a choice among no tools is refused by providers, and left out."""
    prompt = replace(CALL.prompt, tool_choice=choice and ToolChoice(choice), parallel_tool_calls=True)
    assert json.loads(chat.body(replace(CALL, prompt=prompt), "max_tokens")) == PLAIN
    sent = json.loads(chat.body(replace(CALL, prompt=replace(prompt, tools=TOOLS)), "max_tokens"))
    assert (sent.get("tool_choice"), sent["parallel_tool_calls"]) == (choice, True)


def test_extras_never_override_what_is_said_here() -> None:
    """Neither model, messages and stream, nor a cap under another name, nor several answers."""
    ours = {"model": "x", "messages": [], "stream": False, "stream_options": None, "n": 3, "functions": []}
    ours |= {"tools": [{}], "tool_choice": "auto", "parallel_tool_calls": True}
    extras = ours | {"max_tokens": 9, "max_completion_tokens": 9, "user": "u"}
    call = replace(CALL, prompt=replace(CALL.prompt, extras=extras))
    assert json.loads(chat.body(call, "max_tokens")) == PLAIN | {"user": "u"}


FINISHES = {
    FinishReason.STOP: "stop eos eos_token end_turn stop_sequence",
    FinishReason.LENGTH: "length max_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.TOOL_CALLS: "tool_calls function_call tool_use",
}


def test_finish_reasons() -> None:
    """What compatible servers say; an unknown word is no end of an answer."""
    for reason, words in FINISHES.items():
        assert {chat.finish_reason(word, "m") for word in words.split()} == {reason}
    for word in ("error", "STOP"):
        with pytest.raises(UpstreamError, match=word):
            chat.finish_reason(word, "m")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"type": "rate_limit_error", "message": "slow"}, "upstream_overloaded"),
        ({"type": "overloaded_error", "message": "slow"}, "upstream_overloaded"),
        ({"code": 429, "message": "slow"}, "upstream_overloaded"),
        ({"code": "timeout", "message": "slow"}, "upstream_timeout"),
        ({"type": "server_error", "message": "slow"}, "upstream_error"),
        ("slow", "upstream_error"),
        (["slow"], "upstream_error"),
    ],
)
def test_an_error_in_mid_stream_has_the_code_of_its_kind(error: object, code: str) -> None:
    """Its message is passed on."""
    with pytest.raises(UpstreamError, match=r"m failed in mid-stream: .*slow") as raised:
        chat.read_chunk(orjson.dumps({"error": error}), "m")
    assert (raised.value.code, raised.value.billable) == (code, True)


@pytest.mark.parametrize("data", [b"", b"3", b"[]", b'{"choices": 3}', b'{"choices":' + b"[" * 100_000, b"<html>"])
def test_what_is_no_chunk_is_an_error(data: bytes) -> None:
    """And never a crash."""
    with pytest.raises(UpstreamError, match="cannot be read"):
        chat.read_chunk(data, "m")


DETAILS = {b'{"error": {"message": "why"}}': ": why", b'{"error": "why"}': ": why"}
DETAILS |= {b'{"error": {"message": "' + b"y" * 500 + b'"}}': ": " + "y" * 300}
DETAILS |= dict.fromkeys((b"", b"why", b"[]", b"3", b'{"error": {}}', b'{"message": 1}', b"[" * 100_000), "")
STATUSES = dict.fromkeys((302, 400, 404, 500), "upstream_error")
STATUSES |= dict.fromkeys((408, 504), "upstream_timeout") | dict.fromkeys((429, 503, 529), "upstream_overloaded")


@pytest.mark.parametrize("status", STATUSES)
def test_a_refused_call_is_explained(status: int) -> None:
    """By its status, with the provider's own words where there are any, cut to 300 characters."""
    for answer_, detail in DETAILS.items():
        error = chat.refused(status, None, answer_, "m", lambda: 0.0)
        assert (error.code, error.billable, error.retry_after_ms) == (STATUSES[status], False, None)
        assert error.message == f"m answered HTTP {status}{detail}"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_repeated(status: int) -> None:
    """Providers quote a part of it."""
    error = chat.refused(status, None, b'{"error": {"message": "Incorrect API key: sk-secret"}}', "m", lambda: 0.0)
    assert "api_key_env" in error.message
    assert "sk-" not in error.message


RETRIES = {"5": 5000, " 5 ": 5000, "0": 0, "9" * 400: 86_400_000, "Wed, 21 Oct 2015 07:28:00 GMT": 10_000}
RETRIES |= {"Wed, 21 Oct 2015 07:27:00 GMT": 0, "Wed, 21 Oct 2065 07:27:00 GMT": 86_400_000}
NO_RETRIES = dict.fromkeys(("", "soon", "-3", "²", "Wed, 99 Oct 2015 07:28:00 GMT"))


@pytest.mark.parametrize(("given", "milliseconds"), [*RETRIES.items(), *NO_RETRIES.items()])
def test_retry_after(given: str, milliseconds: int | None) -> None:
    """Seconds or an HTTP date, against the wall clock, within a day; what is neither is ignored."""
    assert chat.refused(429, given, b"", "m", lambda: 1_445_412_470.0).retry_after_ms == milliseconds


@pytest.mark.parametrize(
    ("prompt", "cached", "completion", "reasoning", "usage"),
    [
        (5, None, 2, None, Usage(input_tokens=5, output_tokens=2)),
        (5, 4, 2, 1, Usage(input_tokens=5, output_tokens=2, cached_input_tokens=4, reasoning_tokens=1)),
        (5, 9, 2, 9, Usage(input_tokens=5, output_tokens=2, cached_input_tokens=5, reasoning_tokens=2)),
        (5, -1, 2, -1, Usage(input_tokens=5, output_tokens=2)),
        (-5, 3, -2, 3, Usage()),
    ],
)
def test_reported_usage_is_clamped(
    prompt: int, cached: int | None, completion: int, reasoning: int | None, usage: Usage
) -> None:
    """To what can be true: no negative counts, no more cached than sent, no more reasoning than output."""
    given = {"prompt_tokens": prompt, "prompt_tokens_details": {"cached_tokens": cached}}
    given |= {"completion_tokens": completion, "completion_tokens_details": {"reasoning_tokens": reasoning}}
    reported = chat.read_chunk(orjson.dumps({"usage": given}), "m").usage
    assert reported is not None
    assert chat.usage(reported) == usage


def test_usage_may_be_reported_without_details() -> None:
    """Null, absent or empty ones, as small servers do."""
    cases: list[dict[str, Any]] = [{}, {"prompt_tokens_details": None}, {"completion_tokens_details": {}}]
    for details in cases:
        reported = chat.read_chunk(orjson.dumps({"usage": USAGE | details}), "m").usage
        assert reported is not None
        assert chat.usage(reported) == Usage(input_tokens=5, output_tokens=2)
