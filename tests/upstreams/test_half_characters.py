"""Half characters anywhere in what a provider says: what is made of them can be written as JSON."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from millrace.errors import UpstreamError
from millrace.types import Call, Prompt, Sealed, Tool, calls_of
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.messages.api import MESSAGES
from millrace.upstreams.provider_api import ProviderApi
from millrace.upstreams.responses.api import RESPONSES
from tests.support.provider import CALL, DONE, END, HEAD, answer, body, says

HALF = "\ud83d"
FIRST, SECOND = '{"a": "\ud83d', '\ude00"}'
ARGUMENTS = '{"a": "😀"}'


def data(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    return data(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])


def piece(arguments: Any, **fields: Any) -> bytes:
    return chunk(tool_calls=[{"index": 0, **fields, "function": {"name": "f", "arguments": arguments}}])


def block(index: int, block: Any, *deltas: Any) -> bytes:
    events = [data(type="content_block_delta", index=index, delta=delta) for delta in deltas]
    start = data(type="content_block_start", index=index, content_block=block)
    return start + b"".join(events) + data(type="content_block_stop", index=index)


def stopped(**fields: Any) -> bytes:
    usage = {"output_tokens": 3, "service_tier": HALF}
    return data(type="message_delta", usage=usage, **fields) + data(type="message_stop")


def item(index: int, event: str = "done", **item: Any) -> bytes:
    return data(type=f"response.output_item.{event}", output_index=index, item=item)


def ended(**fields: Any) -> bytes:
    return data(type="response.completed", response={"status": "completed", "service_tier": HALF, **fields})


def begun_call(**fields: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"t{HALF}", "name": "f", "input": {}, **fields}


CALLED = item(0, "added", type="function_call", id="fc", call_id=HALF, name="f", arguments="", own=HALF)
DELTA = "response.function_call_arguments.delta"
WITH_A_CALL: dict[str, tuple[ProviderApi, bytes]] = {
    "chat": (CHAT, piece(FIRST, id=f"c{HALF}") + piece(SECOND) + chunk("tool_calls") + DONE),
    "chat, an object": (CHAT, piece({"a": "\ud83d\ude00"}, id="c", own=HALF) + chunk("tool_calls") + DONE),
    "messages": (
        MESSAGES,
        block(
            0,
            begun_call(caller={"type": HALF}),
            {"type": "input_json_delta", "partial_json": FIRST},
            {"type": "input_json_delta", "partial_json": SECOND},
        )
        + stopped(delta={"stop_reason": "tool_use"}),
    ),
    "messages, whole": (
        MESSAGES,
        block(0, begun_call(input={"a": "\ud83d\ude00"}, **{f"own{HALF}": 1})) + stopped(delta={"stop_reason": HALF}),
    ),
    "responses": (
        RESPONSES,
        CALLED
        + data(type=DELTA, output_index=0, delta=FIRST)
        + data(type=DELTA, output_index=0, delta=SECOND)
        + ended(),
    ),
    "responses, an object": (
        RESPONSES,
        item(0, type="function_call", call_id="c", name="f", arguments={"a": "\ud83d\ude00"}) + ended(phase=HALF),
    ),
}


async def said(api: ProviderApi, stream: bytes) -> list[Any]:
    """Return the asides of an answer; all that is known of it can be written."""
    call = replace(CALL, prompt=replace(CALL.prompt, tools=(Tool(name="f"),)))
    attempt, finish = await answer(says(HEAD + body(stream) + END), call, api)
    assert msgspec.json.encode([attempt.parts, attempt.asides, finish, attempt.service_tier])
    return attempt.asides


@pytest.mark.parametrize("name", WITH_A_CALL)
async def test_a_character_that_arguments_have_in_two_pieces(name: str) -> None:
    """Also where the name, the id and the fields beside have half characters that nothing completes."""
    (call,) = calls_of(await said(*WITH_A_CALL[name]))
    assert json.loads(call.arguments) == json.loads(ARGUMENTS)


@pytest.mark.parametrize("name", ["chat", "messages", "responses"])
async def test_arguments_that_end_in_half_a_character(name: str) -> None:
    api, stream = WITH_A_CALL[name]
    (call,) = calls_of(await said(api, stream.replace(rb"\ude00\"", rb"\"")))
    assert json.loads(call.arguments) == {"a": "�"}


THOUGHT = {"type": "thinking", "thinking": "", "signature": ""}
SEALED: dict[str, tuple[ProviderApi, bytes, Any]] = {
    "a signature in two pieces": (
        MESSAGES,
        block(
            0,
            THOUGHT,
            {"type": "thinking_delta", "thinking": "Hm"},
            {"type": "signature_delta", "signature": "S\ud83d"},
            {"type": "signature_delta", "signature": "\ude00"},
        ),
        {"type": "thinking", "thinking": "Hm", "signature": "S😀"},
    ),
    "redacted": (
        MESSAGES,
        block(0, {"type": "redacted_thinking", "data": HALF, f"a{HALF}": [HALF]}),
        {"type": "redacted_thinking", "data": "�", "a�": ["�"]},
    ),
    "the input of a tool that the provider runs": (
        MESSAGES,
        block(
            0,
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "input_json_delta", "partial_json": FIRST},
            {"type": "input_json_delta", "partial_json": SECOND},
        ),
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"a": "😀"}},
    ),
    "a delta of tomorrow": (
        MESSAGES,
        block(0, {"type": "new", "more": ""}, {"type": "new_delta", "more": HALF}),
        {"type": "new", "more": "�"},
    ),
    "encrypted reasoning": (
        RESPONSES,
        item(0, type="reasoning", summary=[], encrypted_content=HALF),
        {"type": "reasoning", "summary": [], "encrypted_content": "�"},
    ),
}


@pytest.mark.parametrize("name", SEALED)
async def test_what_only_the_api_understands(name: str) -> None:
    api, stream, expected = SEALED[name]
    rest = block(1, {"type": "text", "text": "Hi"}) + stopped(delta={"stop_reason": "end_turn", "stop_details": [HALF]})
    if api is RESPONSES:
        rest = data(type="response.output_text.delta", output_index=1, delta="Hi") + ended()
    (sealed,) = (aside for aside in await said(api, stream + rest) if isinstance(aside, Sealed))
    assert sealed.fields == expected


@pytest.mark.parametrize("api", [CHAT, MESSAGES, RESPONSES])
async def test_the_words_of_an_error(api: ProviderApi) -> None:
    error = data(type="error", error={"type": "api_error", "message": f"It broke{HALF}."})
    call: Call = replace(CALL, prompt=Prompt(messages=CALL.prompt.messages))
    with pytest.raises(UpstreamError) as raised:
        await answer(says(HEAD + body(error) + END), call, api)
    assert "It broke�." in raised.value.message
