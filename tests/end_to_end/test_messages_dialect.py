"""Clients of the Messages API with models of all three APIs behind Millrace: what they ask, get and send back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.support import messages_wire as wire, responses_wire
from tests.support.http_client import MESSAGES, events_of, lines_of
from tests.support.messages_server import RefusedError, Turn, always, in_turn, messaging
from tests.support.messages_wire import Answer, Fields
from tests.support.provider import DONE, END, HEAD, body as chunk, listening, one_after_another, says, stay
from tests.support.responses_server import always as always_responding, responding
from tests.support.server import AT_ONCE_S, configuration_for, serving
from tests.support.waiting import until, within

PRICE = {"input": "10", "cached_input": "1", "cache_write": "12.5", "output": "20"}
BETAS = {"anthropic-version": "2023-06-01", "anthropic-beta": "interleaved-thinking-2025-05-14,x-2026-01-01"}
WEATHER = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SEARCH_TOOL = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
QUESTION: Fields = {"role": "user", "content": "How deep is the river?"}
MARK = {"type": "ephemeral"}
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@dataclass
class Behind:
    """A server in front of a scripted one, which is both its models, and a client of it."""

    url: str
    model: Any
    http: aiohttp.ClientSession

    async def ask(self, *turns: Fields, stream: bool = False, **fields: Any) -> Fields:
        """Return a message, put together by hand if it is streamed."""
        body = {"model": "small", "max_tokens": 2048, "messages": [*turns], "stream": stream, **fields}
        async with self.http.post(f"{self.url}{MESSAGES}", json=body, headers=BETAS) as answer:
            if not stream:
                assert answer.status == 200, await answer.text()
                whole: Fields = await answer.json()
                return whole
            return put_together(events_of(await lines_of(answer)))


def put_together(events: list[Fields]) -> Fields:
    """Return the message that a client makes of the events of a stream."""
    message: Fields = {}
    pieces: list[str] = []
    for event in events:
        match event:
            case {"type": "message_start"}:
                message = event["message"]
            case {"type": "content_block_start"}:
                message["content"].append(event["content_block"])
                pieces = []
            case {"delta": {"type": "signature_delta", "signature": signature}}:
                message["content"][-1]["signature"] = signature
            case {"delta": {"type": "citations_delta", "citation": citation}}:
                message["content"][-1].setdefault("citations", []).append(citation)
            case {"type": "content_block_delta", "delta": delta}:
                pieces.append(str(delta.get("text", delta.get("thinking", delta.get("partial_json")))))
            case {"type": "content_block_stop"} if pieces:
                block, text = message["content"][-1], "".join(pieces)
                name = block["type"] if block["type"] in ("text", "thinking") else "input"
                block[name] = json.loads(text or "{}") if name == "input" else text
            case {"type": "message_delta"}:
                message |= event["delta"] | {"usage": event["usage"], "metadata": event["metadata"]}
    return message


@asynccontextmanager
async def behind(
    model: AbstractAsyncContextManager[Any], upstream: str, *, cached: bool = False, **models: Any
) -> AsyncIterator[Behind]:
    async with model as server:
        url = server[1] if isinstance(server, tuple) else server.url
        configuration = configuration_for(url, url)
        for one in configuration["models"].values():
            one |= {"upstream": upstream, "price": PRICE, "context_window": 200_000, **models}
        configuration["cache"] = {"exact": cached, "semantic": False}
        async with serving(configuration) as address, aiohttp.ClientSession() as http:
            yield Behind(address, server[0] if isinstance(server, tuple) else server, http)


def anthropic(turn: Turn, **options: Any) -> AbstractAsyncContextManager[Behind]:
    return behind(messaging(turn, **options), "anthropic")


def answered(message: Fields) -> Fields:
    """Return an answer as a client sends it back."""
    return {"role": "assistant", "content": message["content"]}


def results(*calls: Fields, **fields: Any) -> Fields:
    content = [{"type": "tool_result", "tool_use_id": call["id"], "content": "21", **fields} for call in calls]
    return {"role": "user", "content": content}


SEARCH, FOUND = wire.server_tool_use("web_search", {"query": "rivers"})
CITED = wire.text("It is wet.", {"type": "char_location", "cited_text": "wet", "document_index": 0})
EVERYTHING = (
    wire.thinking("Hm ö, let me see."),
    wire.redacted(),
    wire.text("I look it up."),
    SEARCH,
    FOUND,
    CITED,
    wire.thinking("Now the weather."),
    wire.tool_use("get_weather", {"city": "Zürich"}, "toolu_1"),
    wire.tool_use("get_weather", {"city": "Bern"}, "toolu_2"),
)


@streamed
async def test_all_kinds_of_blocks_go_round_to_the_byte(*, stream: bool) -> None:
    """The same blocks, in their order, as the answer and in what is sent back. The server knows its signatures."""
    turn = in_turn(Answer(content=EVERYTHING, stop_reason="tool_use"), Answer(content=(wire.text("Cold."),)))
    fields: Fields = {"tools": [WEATHER, SEARCH_TOOL], "thinking": {"type": "adaptive"}, "top_k": 5}
    async with anthropic(turn) as setting:
        first = await setting.ask(QUESTION, stream=stream, **fields)
        assert first["content"] == [*EVERYTHING]
        assert first["stop_reason"] == "tool_use"
        second = await setting.ask(QUESTION, answered(first), results(*EVERYTHING[-2:]), stream=stream, **fields)
        assert second["content"] == [wire.text("Cold.")]
    asked = setting.model.asked[1]
    assert [_unmarked(block) for block in asked["messages"][1]["content"]] == [*EVERYTHING]
    assert (_unmarked(asked["tools"][1]), asked["thinking"], asked["top_k"]) == (SEARCH_TOOL, {"type": "adaptive"}, 5)
    assert "millrace.notes" not in second["metadata"]
    assert setting.model.refused == []
    assert {name: setting.model.heads[1][name] for name in BETAS} == BETAS


def _unmarked(block: Fields) -> Fields:
    return {name: value for name, value in block.items() if name != "cache_control"}


@streamed
async def test_the_callers_marks_are_where_they_were_and_what_they_bring_is_reported(*, stream: bool) -> None:
    """Written in the first turn and read in the second, at their prices; no mark is added to theirs."""
    system = [wire.text("Be brief. " * 40) | {"cache_control": MARK | {"ttl": "1h"}}]
    tools = [WEATHER | {"cache_control": MARK}]
    question = {"role": "user", "content": [wire.text("How deep?") | {"cache_control": MARK}]}
    async with anthropic(always(wire.text("Deep."))) as setting:
        first, second = [await setting.ask(question, system=system, tools=tools, stream=stream) for _ in range(2)]
    for asked in setting.model.asked:
        assert (asked["system"], asked["tools"], asked["messages"]) == (system, tools, [question])
    written, read = (answer["usage"] for answer in (first, second))
    assert written["cache_creation_input_tokens"] == read["cache_read_input_tokens"] > 0
    assert written["cache_read_input_tokens"] == read["cache_creation_input_tokens"] == 0
    assert written["cache_creation"]["ephemeral_1h_input_tokens"] > 0
    assert 0 < read["cost_usd"] < written["cost_usd"]


STOPS: list[tuple[Fields, str, str | None]] = [
    ({"stop_reason": "end_turn"}, "end_turn", None),
    ({"stop_reason": "max_tokens"}, "max_tokens", None),
    ({"stop_reason": "stop_sequence", "stop_sequence": "END"}, "stop_sequence", "END"),
    ({"stop_reason": "pause_turn"}, "pause_turn", None),
    ({"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": "bio"}}, "refusal", None),
    ({"stop_reason": "model_context_window_exceeded"}, "model_context_window_exceeded", None),
]


@streamed
@pytest.mark.parametrize(("fields", "reason", "sequence"), STOPS)
async def test_why_a_model_stopped(fields: Fields, reason: str, sequence: str | None, *, stream: bool) -> None:
    """In the words of the API, as it says it itself."""
    async with anthropic(always(wire.text("Deep."), **fields)) as setting:
        answer = await setting.ask(QUESTION, stream=stream, model="large", stop_sequences=["END"])
    assert (answer["stop_reason"], answer["stop_sequence"]) == (reason, sequence)
    assert answer.get("stop_details") == fields.get("stop_details")
    assert setting.model.asked[-1]["stop_sequences"] == ["END"]


@pytest.mark.parametrize(("fields", "asked"), [(STOPS[0][0], 1), (STOPS[2][0], 2), (STOPS[3][0], 2)])
async def test_an_answer_that_is_not_whole_by_itself_is_not_kept_in_the_cache(fields: Fields, asked: int) -> None:
    """A cached one has no stop sequence, and a model cannot go on with one that it has paused."""
    model = messaging(always(wire.text("Deep."), **fields))
    async with behind(model, "anthropic", cached=True) as setting:
        for _ in range(2):
            answer = await setting.ask(QUESTION, stop_sequences=["END"])
            assert answer["stop_reason"] == fields["stop_reason"]
    assert len(setting.model.asked) == asked


ERRORS = [
    (RefusedError("Slower", 429, "rate_limit_error", retry_after="7"), 429, "rate_limit_error"),
    (RefusedError("Overloaded", 529, "overloaded_error"), 529, "overloaded_error"),
    (RefusedError("Internal", 500, "api_error"), 502, "api_error"),
    (RefusedError("messages.0: bad", 400), 400, "invalid_request_error"),
    (RefusedError("no such key", 401, "authentication_error"), 502, "api_error"),
]


@streamed
@pytest.mark.parametrize(("error", "status", "kind"), ERRORS)
async def test_what_the_model_refuses(error: RefusedError, status: int, kind: str, *, stream: bool) -> None:
    async with anthropic(in_turn(error)) as setting:
        body = {"model": "large", "max_tokens": 9, "messages": [QUESTION], "stream": stream}
        async with setting.http.post(f"{setting.url}{MESSAGES}", json=body) as answer:
            assert answer.status == status
            refused = await answer.json()
    assert (refused["type"], refused["error"]["type"]) == ("error", kind)
    if status == 429:
        assert answer.headers["Retry-After"] == "7"


async def test_an_error_in_mid_stream() -> None:
    turn = always(wire.text("It is"), error={"type": "overloaded_error", "message": "Overloaded"})
    async with anthropic(turn) as setting:
        body = {"model": "large", "max_tokens": 9, "messages": [QUESTION], "stream": True}
        async with setting.http.post(f"{setting.url}{MESSAGES}", json=body) as answer:
            events = events_of(await lines_of(answer))
    assert (events[-1]["type"], events[-1]["error"]["type"]) == ("error", "overloaded_error")
    assert not any(event["type"] == "message_stop" for event in events)


@pytest.mark.parametrize("content", [wire.thinking("Long. " * 40), wire.tool_use("get_weather", {"city": "x" * 99})])
@pytest.mark.parametrize("number", [0, 4])
async def test_who_leaves_closes_the_models_socket(content: Fields, number: int) -> None:
    """Before the first word, in thinking and in a tool call."""
    async with anthropic(always(content, stop_reason="tool_use")) as setting:
        setting.model.pause_before = number
        body = {"model": "large", "max_tokens": 2048, "messages": [QUESTION], "tools": [WEATHER], "stream": True}
        asked = asyncio.ensure_future(setting.http.post(f"{setting.url}{MESSAGES}", json=body))
        await setting.model.begun.wait()
        if number and content["type"] == "thinking":
            answer = await asked
            while b"thinking_delta" not in await answer.content.readline():
                pass
            leave: Any = answer.close
        else:
            leave = asked.cancel
        async with within(AT_ONCE_S):
            leave()
            await until(lambda: setting.model.left_at is not None)


@streamed
async def test_encrypted_reasoning_of_the_responses_api_is_carried_by_signatures(*, stream: bool) -> None:
    """And comes back byte for byte; with other models it is left out, and told."""
    thoughts = responses_wire.reasoning("First.", "Second."), responses_wire.reasoning()
    call = responses_wire.function_call("get_weather", '{"city":"Paris"}')
    left = [(thoughts[0], thoughts[1], call), (responses_wire.message("Warm."),)]
    turn = lambda _: responses_wire.Answer(items=left.pop(0))  # noqa: E731
    fields: Fields = {"tools": [WEATHER], "output_config": {"effort": "high"}}
    async with behind(responding(turn), "responses") as setting:
        first = await setting.ask(QUESTION, stream=stream, **fields)
        assert [block["type"] for block in first["content"]] == ["thinking", "thinking", "tool_use"]
        assert "First." in first["content"][0]["thinking"]
        assert first["content"][2]["input"] == {"city": "Paris"}
        second = await setting.ask(QUESTION, answered(first), results(first["content"][2]), stream=stream, **fields)
    assert second["content"] == [wire.text("Warm.")]
    assert setting.model.refused == []
    came = [item for item in setting.model.asked[1]["input"] if item["type"] == "reasoning"]
    kept = [{name: value for name, value in item.items() if name != "id"} for item in thoughts]
    assert [{name: value for name, value in item.items() if name != "id"} for item in came] == kept
    assert setting.model.asked[0]["reasoning"]["effort"] == "high"
    async with behind(messaging(always(wire.text("Hi."))), "anthropic") as other:
        answer = await other.ask(QUESTION, answered(first), results(first["content"][2]), **fields)
    assert "without encrypted reasoning" in answer["metadata"]["millrace.notes"]


@streamed
async def test_a_refusal_of_the_responses_api(*, stream: bool) -> None:
    async with behind(
        responding(always_responding(responses_wire.message(refusal="I will not."))), "responses"
    ) as setting:
        answer = await setting.ask(QUESTION, stream=stream, model="large")
    assert (answer["content"], answer["stop_reason"]) == ([wire.text("I will not.")], "refusal")


def delta(**fields: Any) -> bytes:
    return chunk(b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": fields}]}).encode())


FINISHED = chunk(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n', DONE) + END
SAID = chunk(b'data: {"choices":[{"index":0,"delta":{"content":"21."},"finish_reason":"stop"}]}\n\n', DONE) + END


@streamed
async def test_a_providers_own_fields_are_carried_by_a_signature(*, stream: bool) -> None:
    """Signatures of thoughts as Gemini has them, beside a call: they come back at their places."""
    own = {"google": {"thought_signature": "c2lnbmVk"}}
    function = {"name": "get_weather", "arguments": '{"city":"Paris"}'}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function, "extra_content": own}
    script = one_after_another(
        says(HEAD, delta(reasoning_content="Hm."), delta(tool_calls=[call]), FINISHED, then=stay),
        says(HEAD, SAID, then=stay),
    )
    async with behind(listening(script), "openai", provider="gemini") as setting:
        first = await setting.ask(QUESTION, stream=stream, tools=[WEATHER], store=False)
        assert [block["type"] for block in first["content"]] == ["thinking", "tool_use"]
        second = await setting.ask(
            QUESTION, answered(first), results(first["content"][1], is_error=True), stream=stream, tools=[WEATHER]
        )
        assert second["content"] == [wire.text("21.")]
    _, sent = setting.model.requests[1]
    assert sent["messages"][1]["tool_calls"][0]["extra_content"] == own
    assert sent["messages"][2]["content"] == "The tool failed: 21"


async def test_what_only_its_own_api_has_is_told_over_chat_completions() -> None:
    """Thoughts, tools that the provider runs, fields of the body; not marks for a cache. What can be said is said."""
    script = says(HEAD, SAID, then=stay)
    history = {"role": "assistant", "content": [wire.thinking("Hm."), wire.text("Yes."), SEARCH, FOUND]}
    document = {
        "type": "document",
        "title": "Rivers",
        "source": {"type": "text", "media_type": "text/plain", "data": "Wet."},
    }
    question = {"role": "user", "content": [wire.text("And now?") | {"cache_control": MARK}, document]}
    async with behind(listening(script), "openai") as setting:
        answer = await setting.ask(
            QUESTION, history, question, tools=[SEARCH_TOOL, WEATHER], top_k=3, context_management={"edits": []}
        )
    _, sent = setting.model.requests[0]
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["get_weather"]
    assert sent["messages"][2]["content"] == [wire.text("And now?"), wire.text("Rivers\nWet.")]
    assert not {"top_k", "context_management", "thinking"} & sent.keys()
    notes = answer["metadata"]["millrace.notes"]
    for name in ("signed thinking", "web_search", "top_k", "context_management", "web_search_tool_result"):
        assert f"without {name}" in notes
    assert "cache_control" not in notes
