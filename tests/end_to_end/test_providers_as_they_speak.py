"""What providers really send, through a whole server, by kind. Mixtures of it are in tests/grammar."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from tests.support.provider import DONE, END, HEAD, Provider, Script, body, close, event, says, stay
from tests.support.server import configuration_for, serving
from tests.support.waiting import PATIENCE_S

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
JSON = {"Content-Type": "application/json"}
WEATHER = {"name": "get_weather", "parameters": {"type": "object", "required": ["city"]}}
NOW = {"name": "now", "parameters": {"type": "object", "properties": {}}}
PLAIN = HEAD + body(event("Hello."), event(finish="stop", usage=USAGE), DONE) + END


@dataclass
class Answer:
    """A streamed chat completion, put together."""

    status: int
    headers: Any
    text: str = ""
    reasoning: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)


@dataclass
class Millrace:
    """A server whose two models are scripted providers."""

    url: str
    small: Provider
    large: Provider

    async def ask(self, words: Any = "Say hello.", tools: tuple[Any, ...] = (), **fields: Any) -> Answer:
        fields = {"model": "small", "messages": [{"role": "user", "content": words}]} | fields
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
        if tools:
            fields["tools"] = [{"type": "function", "function": tool} for tool in tools]
        raw, url = io.BytesIO(json.dumps(fields).encode()), f"{self.url}/v1/chat/completions"
        async with aiohttp.ClientSession(headers=JSON) as http, http.post(url, data=raw) as got:
            answer = Answer(got.status, got.headers)
            text = await got.text()
            if got.status != 200:
                answer.error = json.loads(text)["error"]
            for line in text.split("\n"):
                if line.startswith("data: {"):
                    take(answer, json.loads(line.removeprefix("data: ")))
        return answer


def take(answer: Answer, chunk: dict[str, Any]) -> None:
    answer.usage |= chunk.get("usage") or {}
    answer.metadata |= chunk.get("metadata") or {}
    answer.error |= chunk.get("error") or {}
    for choice in chunk.get("choices", ()):
        delta = choice["delta"]
        answer.text += delta.get("content") or ""
        answer.reasoning += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls") or ():
            if call["index"] == len(answer.calls):
                answer.calls.append({"name": "", "arguments": ""})
            for name in ("name", "arguments"):
                answer.calls[call["index"]][name] += call["function"].get(name) or ""
        answer.ends += [choice["finish_reason"]] if choice["finish_reason"] else []


@asynccontextmanager
async def behind(small: Script, **tables: Any) -> AsyncIterator[Millrace]:
    """Run a server in front of two providers: the small one has this script, the large one says hello."""
    providers = Provider(small), Provider(says(PLAIN))
    servers = [await asyncio.start_server(provider.serve, "127.0.0.1", 0) for provider in providers]
    urls = [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1" for server in servers]
    configuration = configuration_for(*urls) | {"cache": {"exact": False, "semantic": False}} | tables
    for model in configuration["models"].values():
        model["price"] = {"input": "10", "cached_input": "1", "output": "20"}
    try:
        async with serving(configuration) as url:
            yield Millrace(url, *providers)
    finally:
        for server in servers:
            server.close()
        for provider in providers:
            for line in provider.lines:
                line.close()


def streamed(*events: bytes) -> bytes:
    return HEAD + body(*events, DONE) + END


def delta(finish: str | None = None, *, usage: Any = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], "usage": usage}).encode() + b"\n\n"


def document(given: Any, label: str = "application/json", status: int = 200, **headers: str) -> bytes:
    raw = json.dumps(given).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {label}", f"Content-Length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + raw


def called(index: Any, id_: Any, name: Any, arguments: Any) -> bytes:
    return delta(tool_calls=[{"index": index, "id": id_, "function": {"name": name, "arguments": arguments}}])


TEXTS: dict[str, bytes] = {
    "a finish reason on every chunk": streamed(event("Hel", "stop"), event("lo.", "stop")),
    "no finish reason at all, and the provider's terminal": streamed(event("Hello."), event()),
    "two ends": streamed(event("Hello."), event("", "stop"), event("", "stop", usage=USAGE)),
    "a finish reason in upper case": streamed(event("Hello.", "STOP")),
    "tool_calls as the end of an answer in words": streamed(event("Hello."), event(finish="tool_calls")),
    "content in parts, with thinking": streamed(
        delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]),
        delta(content=[{"type": "text", "text": "Hel"}]),
        event("lo.", "stop"),
    ),
    "chunks without an answer around it": streamed(
        b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n',
        event("Hello.", "stop"),
        b'data: {"choices":[{"index":0,"finish_reason":null,"content_filter_offsets":{}}]}\n\n',
    ),
    "a document in place of a stream": document(
        {"choices": [{"message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}]}
    ),
}


@pytest.mark.parametrize("said", TEXTS)
async def test_the_whole_answer_with_one_end(said: str) -> None:
    async with behind(says(TEXTS[said], then=stay)) as millrace:
        answer = await millrace.ask(tools=(WEATHER,))
    assert (answer.text, answer.ends, answer.error) == ("Hello.", ["stop"], {})


ZERO = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
BESIDE = USAGE | {"total_tokens": 510, "completion_tokens_details": {"reasoning_tokens": 400}}
CACHED = USAGE | {"prompt_cache_hit_tokens": 90, "prompt_cache_miss_tokens": 10}
COUNTS: dict[str, tuple[bytes, float]] = {  # what is reported, and dollars
    "zeros until the last chunk": (
        streamed(event("Hi", usage=ZERO), event(finish="stop", usage=ZERO), event(usage=USAGE)),
        0.0012,
    ),
    "in a chunk without choices": (
        streamed(
            event("Hi"), event(finish="stop"), b'data: {"choices":[],"usage":%b}\n\n' % json.dumps(USAGE).encode()
        ),
        0.0012,
    ),
    "before a chunk that is empty": (
        streamed(event("Hi"), event(finish="stop", usage=USAGE), b'data: {"choices":[],"usage":null}\n\n'),
        0.0012,
    ),
    "in the last choice": (
        streamed(
            event("Hi"),
            b'data: {"choices":[{"delta":{},"finish_reason":"stop","usage":%b}]}\n\n' % json.dumps(USAGE).encode(),
        ),
        0.0012,
    ),
    "reasoning beside the output": (streamed(event("Hi"), event(finish="stop", usage=BESIDE)), 0.0092),
    "the cache in fields of its own": (streamed(event("Hi"), event(finish="stop", usage=CACHED)), 0.00039),
}


@pytest.mark.parametrize("reported", COUNTS)
async def test_the_last_count_wins(reported: str) -> None:
    said, dollars = COUNTS[reported]
    async with behind(says(said, then=stay)) as millrace:
        usage = (await millrace.ask()).usage
    assert (usage["cost_usd"], usage["estimated"]) == (pytest.approx(dollars), False)


ROME, OSLO = '{"city":"Rome"}', '{"city":"Oslo"}'
CALLS: dict[str, tuple[bytes, list[str]]] = {
    "whole calls, all with one index and no id": (
        called(0, "", "get_weather", ROME) + called(0, "", "get_weather", OSLO),
        [ROME, OSLO],
    ),
    "the name comes late": (called(0, "c", None, '{"city":') + called(0, None, "get_weather", '"Rome"}'), [ROME]),
    "later pieces repeat id and name as nothing": (
        called(0, "c", "get_weather", "{") + called(0, "", "", '"city":') + called(0, None, None, '"Rome"}'),
        [ROME],
    ),
}


@pytest.mark.parametrize("pieces", CALLS)
async def test_calls_are_put_together_by_what_they_are(pieces: str) -> None:
    said, arguments = CALLS[pieces]
    async with behind(says(streamed(said, event(finish="tool_calls")), then=stay)) as millrace:
        answer = await millrace.ask(tools=(WEATHER,))
    assert [(call["name"], call["arguments"]) for call in answer.calls] == [("get_weather", one) for one in arguments]


async def test_a_call_that_needs_no_arguments_stands_in_a_cascade() -> None:
    """The large model is not asked."""
    said = streamed(called(0, "c", "now", ""), event(finish="tool_calls"))
    async with behind(says(said, then=stay)) as millrace:
        answer = await millrace.ask(tools=(NOW,), model="auto", millrace={"strategy": "cascade"})
        assert millrace.large.requests == []
    assert (answer.calls, answer.metadata["millrace.route"]) == ([{"name": "now", "arguments": "{}"}], "small")


FAULT = {"message": "the model is loading", "code": 503}
INSTEAD: dict[str, bytes] = {
    "a document under 200": document({"error": FAULT}),
    "a document under another label": document({"error": FAULT}, "text/event-stream"),
    "an event that is one": streamed(b"data: " + json.dumps({"object": "error", **FAULT}).encode() + b"\n\n"),
    "an envelope as an event": streamed(b"data: " + json.dumps({"error": FAULT}).encode() + b"\n\n"),
}


@pytest.mark.parametrize("said", INSTEAD)
async def test_an_error_in_place_of_an_answer_is_one_and_is_not_billed(said: str) -> None:
    async with behind(says(INSTEAD[said], then=stay)) as millrace:
        answer = await millrace.ask()
    assert (answer.status, answer.error["code"]) == (529, "upstream_overloaded")
    assert "the model is loading" in answer.error["message"]


REFUSALS: dict[str, tuple[bytes, int, str, str, str | None]] = {  # status, code, x-should-retry, Retry-After
    "the request": (
        document({"error": {"message": "too long", "code": "context_length_exceeded"}}, status=400),
        400,
        "context_length_exceeded",
        "false",
        None,
    ),
    "no money": (
        document(
            {"error": {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}}, status=429
        ),
        429,
        "insufficient_quota",
        "false",
        None,
    ),
    "the rate": (
        document({"error": {"message": "slow", "code": "rate_limit_exceeded"}}, status=429, Retry_After="1.5"),
        429,
        "rate_limit_exceeded",
        "true",
        "2",
    ),
    "the operator's key": (document({"error": {"message": "no"}}, status=401), 502, "upstream_error", "false", None),
}


@pytest.mark.parametrize("refused", REFUSALS)
async def test_a_refusal_keeps_its_meaning(refused: str) -> None:
    """Its status and code, and whether it is any use to ask again."""
    said, status, code, again, after = REFUSALS[refused]
    async with behind(says(said, then=stay)) as millrace:
        answer = await millrace.ask()
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.headers.get("x-should-retry", "true") == again
    assert answer.headers.get("Retry-After") in (after, "1.5" if after else None)


async def test_a_large_header_is_read() -> None:
    policy = b"\r\nContent-Security-Policy: default-src " + b"x" * 60_000
    said = PLAIN.replace(b"\r\n", policy + b"\r\n", 1)
    async with behind(says(said, then=stay)) as millrace:
        assert (await millrace.ask()).text == "Hello."


async def test_a_connection_that_was_closed_just_then_is_replaced() -> None:
    """No byte came on it, so the request is sent once more; nobody pays for the first."""
    async with behind(says(PLAIN, then=stay)) as millrace:
        await millrace.ask()
        millrace.small.script = says(then=close)
        first_of_second = len(millrace.small.requests)

        async def closes_once(writer: asyncio.StreamWriter) -> None:
            await (says(then=close) if len(millrace.small.requests) == first_of_second + 1 else says(PLAIN))(writer)

        millrace.small.script = closes_once
        answer = await millrace.ask("Again.")
    assert (answer.text, len(millrace.small.requests) - first_of_second) == ("Hello.", 2)
    assert len(answer.usage["attempts"]) == 1


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Provider(says(PLAIN, then=stay))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    url = "http://llm.provider.example/v1"
    try:
        async with serving(configuration_for(url, url)) as at:
            answer = await Millrace(at, proxy, proxy).ask()  # whose own client heeds no proxy
    finally:
        server.close()
        for line in proxy.lines:
            line.close()
    assert answer.text == "Hello."
    assert proxy.requests[0][0].startswith("POST http://llm.provider.example/v1/chat/completions ")


async def test_a_photo_goes_through() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_300_000}}
    async with behind(says(PLAIN, then=stay)) as millrace:
        assert (await millrace.ask([{"type": "text", "text": "What is this?"}, picture])).text == "Hello."


async def test_what_is_added_makes_no_second_system_message_and_no_second_turn() -> None:
    """Some templates take one system message, at the beginning, and turns that alternate."""
    turns = [("system", "Be kind."), ("user", "a"), ("assistant", "b"), ("user", "c")]
    messages = [{"role": role, "content": content} for role, content in turns]
    async with behind(says(PLAIN, then=stay)) as millrace:
        await millrace.ask(messages=messages, millrace={"concise": True, "context": ["One.", "Two."]})
        sent = millrace.small.requests[0][1]["messages"]
    assert [message["role"] for message in sent] == [role for role, _ in turns]


@pytest.mark.parametrize("stream", [{}, {"stream": False}, {"stream": None}])
async def test_what_is_not_streamed_is_one_document(stream: dict[str, Any]) -> None:
    async with behind(says(PLAIN, then=stay)) as millrace, aiohttp.ClientSession() as http:
        fields = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], **stream}
        async with http.post(f"{millrace.url}/v1/chat/completions", json=fields) as got:
            assert got.content_type == "application/json"
            assert (await got.json())["object"] == "chat.completion"


async def test_a_cached_answer_is_streamed_with_its_reasoning() -> None:
    said = streamed(delta(reasoning_content="Hm."), event("Four."), event(finish="stop", usage=USAGE))
    async with behind(says(said, then=stay), cache={"exact": True, "semantic": False}) as millrace:
        first, second = [await millrace.ask("What is 2 + 2?") for _ in range(2)]
    assert second.metadata["millrace.cache"] == "exact"
    assert (second.text, second.reasoning) == (first.text, first.reasoning) == ("Four.", "Hm.")


async def test_a_client_of_http_1_0_gets_no_chunks() -> None:
    """As nginx asks by default."""
    async with behind(says(PLAIN, then=stay)) as millrace:
        fields = {"model": "small", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        raw = json.dumps(fields).encode()
        host, _, port = millrace.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/chat/completions HTTP/1.0\r\nHost: {host}:{port}\r\nContent-Length: {len(raw)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + raw)
        async with asyncio.timeout(PATIENCE_S):
            got, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert b"chunked" not in got.lower()
    assert rest.startswith(b"data: {")
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_own_fields_that_are_too_long_are_left_out_and_told() -> None:
    """The answer and its call are whole; a part of a signature would make the provider refuse the next turn."""
    half = "x" * 2**19
    script = streamed(
        delta(reasoning_opaque="a" + half),
        delta(reasoning_opaque="b" + half),
        delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "now", "arguments": "{}"}, "vendor": half * 2}]),
        delta("tool_calls", usage=USAGE),
    )
    async with behind(says(script)) as millrace:
        answer = await millrace.ask(tools=(NOW,))
    assert (answer.calls, answer.ends) == ([{"name": "now", "arguments": "{}"}], ["tool_calls"])
    told = "small-model without the provider's own fields, which are longer than 1 MiB"
    assert answer.metadata["millrace.notes"] == told
