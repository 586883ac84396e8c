"""The Messages API over sockets: whole and streamed, refusals in its shape, keys, pings, goodbyes, counts, models."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Role
from millrace.wire import limits
from tests.support.http_client import MESSAGES, RESPONSES, body_of, events_of, lines_of, text_of_blocks
from tests.support.server import Running, Start, answers_up_to
from tests.support.wire_client import Event

COUNT, MODELS = f"{MESSAGES}/count_tokens", "/v1/models"
ASKED = "What is the capital of France?"
VERSION = {"anthropic-version": "2023-06-01"}
TOOL = {"name": "get_weather", "input_schema": {"type": "object"}}


@pytest.fixture
async def http(millrace: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(millrace.url, headers=VERSION) as session:
        yield session


async def refused(answer: aiohttp.ClientResponse, status: int, kind: str) -> Event:
    """Return the error of a refusal in the shape of the API."""
    assert (answer.status, answer.content_type) == (status, "application/json")
    body = await answer.json()
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["request_id"] == answer.headers["request-id"]
    error: Event = body["error"]
    return error


async def test_a_message_streamed_is_the_whole_one(millrace: Running, http: aiohttp.ClientSession) -> None:
    """With `?beta=true` too, as agents ask. The model is the name that was given, whichever answers."""
    async with http.post(f"{MESSAGES}?beta=true", json=body_of(MESSAGES, ASKED, stream=True)) as answer:
        request_id = answer.headers["request-id"]
        lines = await lines_of(answer)
    events = events_of(lines)
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert names == [event["type"] for event in events]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    assert events[0]["message"]["id"] == request_id.replace("resp_", "msg_")
    async with http.post(MESSAGES, json=body_of(MESSAGES, ASKED)) as answer:
        whole = await answer.json()
    assert whole["content"] == [{"type": "text", "text": text_of_blocks(events)}]
    assert "Paris" in text_of_blocks(events)
    assert (whole["model"], whole["stop_reason"]) == ("auto", "end_turn")
    assert whole["metadata"]["millrace.cache"] == "exact"
    assert whole["usage"]["cost_usd"] == 0
    assert events[-2]["metadata"]["millrace.route"] == "small"


async def test_thoughts_and_calls(http: aiohttp.ClientSession) -> None:
    body = body_of(MESSAGES, "Go. [reason=3]", tools=[TOOL], tool_choice={"type": "any"})
    async with http.post(MESSAGES, json=body) as answer:
        whole = await answer.json()
    thought, call = whole["content"]
    assert thought["type"] == "thinking"
    assert thought["thinking"]
    assert (call["type"], call["name"], whole["stop_reason"]) == ("tool_use", "get_weather", "tool_use")
    turns = [*body["messages"], {"role": "assistant", "content": whole["content"]}]
    results = [{"type": "tool_result", "tool_use_id": call["id"], "content": "18 °C"}]
    body = body | {"messages": [*turns, {"role": "user", "content": results}], "tool_choice": {"type": "auto"}}
    async with http.post(MESSAGES, json=body) as answer:
        assert (answer.status, (await answer.json())["stop_reason"]) == (200, "end_turn")


REFUSED: list[tuple[str, Event, int, str, str]] = [
    ("no cap", {"messages": [{"role": "user", "content": "x"}]}, 400, "invalid_request_error", "max_tokens"),
    ("no messages", {"max_tokens": 9}, 400, "invalid_request_error", "messages"),
    (
        "a block of no kind",
        {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "txt"}]}]},
        400,
        "invalid_request_error",
        "messages[0].content[0].type",
    ),
    ("no such model", body_of(MESSAGES, "x", model="gpt-9"), 404, "not_found_error", "model"),
    (
        "a bad option",
        body_of(MESSAGES, "x", millrace={"delivery": "soon"}),
        400,
        "invalid_request_error",
        "millrace.delivery",
    ),
    (
        "a bad schema",
        body_of(MESSAGES, "x", tools=[TOOL | {"input_schema": {"type": "nothing"}}]),
        400,
        "invalid_request_error",
        "tools[0].input_schema",
    ),
    (
        "a tool that no model runs",
        body_of(MESSAGES, "x", tools=[{"type": "x_1", "name": "x"}], tool_choice={"type": "tool", "name": "x"}),
        400,
        "invalid_request_error",
        "tool_choice",
    ),
    (
        "another bad schema",
        body_of(MESSAGES, "x", output_config={"format": {"type": "json_schema", "schema": {"type": 3}}}),
        400,
        "invalid_request_error",
        "output_config.format.schema",
    ),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("body", "status", "kind", "param"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
async def test_what_is_refused_has_a_status_and_names_the_field(
    millrace: Running, http: aiohttp.ClientSession, body: Event, status: int, kind: str, param: str, stream: bool
) -> None:
    async with http.post(MESSAGES, json={**body, "stream": stream}) as answer:
        error = await refused(answer, status, kind)
    assert error["param"] == param
    assert error["message"].startswith(param)
    assert answer.headers["x-should-retry"] == "false"
    assert millrace.calls == 0


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
async def test_a_body_that_is_none(start: Start, path: str) -> None:
    """No JSON, no object, cut anywhere, too long."""
    raw = json.dumps(body_of(MESSAGES, "x")).encode()
    cuts = [(raw[:at], 400, "invalid_request_error") for at in range(0, len(raw), 7)]
    bad = [(b"[1]", 400, "invalid_request_error"), (b"\xff", 400, "invalid_request_error")]
    bad += [(b" " * 5000, 413, "request_too_large")]
    async with start(answers_up_to(9, max_message_bytes=4096)) as running, aiohttp.ClientSession(running.url) as http:
        for sent, status, kind in cuts + bad:
            async with http.post(path, data=sent) as answer:
                await refused(answer, status, kind)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", MESSAGES, 405, "invalid_request_error"),
        ("PUT", COUNT, 405, "invalid_request_error"),
        ("POST", f"{MESSAGES}/batches", 404, "not_found_error"),
        ("GET", f"{MODELS}/claude-9", 404, "not_found_error"),
        ("POST", MODELS, 405, "invalid_request_error"),
    ],
)
async def test_what_is_not_there(http: aiohttp.ClientSession, method: str, path: str, status: int, kind: str) -> None:
    async with http.request(method, path) as answer:
        await refused(answer, status, kind)


async def test_both_headers_with_a_key(start: Start, tmp_path: Path) -> None:
    """`Authorization` counts where both are sent. What the middleware refuses has the same shape."""
    key, text = keys.make(tenant="acme", role=Role.USE, created_at=1.0)
    async with key_store(str(tmp_path)) as store:
        await store.add(key)

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"] |= {"data_dir": str(tmp_path), "origins": ["https://app.example"]}
        configuration["limits"] = {"requests_per_minute": 3}

    bearer, named = {"Authorization": f"Bearer {text}"}, {"x-api-key": text}
    async with start(change) as running, aiohttp.ClientSession(running.url) as http:
        for headers in (
            {},
            {"x-api-key": "mr_no"},
            named | {"Authorization": "Bearer mr_no"},
            named | {"Authorization": text},
        ):
            async with http.post(MESSAGES, json=body_of(MESSAGES, ASKED), headers=headers) as answer:
                error = await refused(answer, 401, "authentication_error")
                assert text not in error["message"]
        async with http.post(MESSAGES, json={}, headers=bearer | {"Origin": "https://evil.example"}) as answer:
            await refused(answer, 403, "permission_error")
        for headers in (bearer, named, named | bearer):
            async with http.post(MESSAGES, json=body_of(MESSAGES, ASKED), headers=headers) as answer:
                assert answer.status == 200
        async with http.post(MESSAGES, json=body_of(MESSAGES, ASKED), headers=named) as answer:
            await refused(answer, 429, "rate_limit_error")
            assert 1 <= int(answer.headers["Retry-After"]) <= 61
        async with http.get(MODELS, headers=VERSION) as answer:
            await refused(answer, 401, "authentication_error")


FAILS = [
    ("[fault=error]", 502, "api_error"),
    ("[fault=429]", 429, "rate_limit_error"),
]


@pytest.mark.parametrize(("fault", "status", "kind"), FAILS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_first_word_is_a_status(
    http: aiohttp.ClientSession, fault: str, status: int, kind: str, stream: bool
) -> None:
    """With the id of the request, and what it has cost."""
    async with http.post(MESSAGES, json=body_of(MESSAGES, f"x {fault}", stream=stream)) as answer:
        await refused(answer, status, kind)
        assert answer.headers["request-id"].startswith("resp_")
        assert (await answer.json())["usage"]["cost_usd"] >= 0


async def test_a_failure_in_mid_stream_is_an_error_and_nothing_follows(http: aiohttp.ClientSession) -> None:
    asked = "go on [tokens=60] [fault=hangup@20]"
    async with http.post(MESSAGES, json=body_of(MESSAGES, asked, stream=True, model="small")) as answer:
        events = events_of(await lines_of(answer))
    assert text_of_blocks(events)
    assert (events[-1]["type"], events[-1]["error"]["code"]) == ("error", "upstream_truncated")
    assert events[-1]["request_id"] == answer.headers["request-id"]
    assert not any(event["type"] == "message_stop" for event in events)
    async with http.post(MESSAGES, json=body_of(MESSAGES, asked, model="small")) as answer:
        await refused(answer, 502, "api_error")


async def test_a_cancelled_message_is_an_error_that_no_sdk_repeats(
    millrace: Running, http: aiohttp.ClientSession
) -> None:
    body = body_of(MESSAGES, "go on [tokens=4000] [rate=100]", stream=True)
    async with http.post(MESSAGES, json=body) as answer:
        first = (await answer.content.readline()).decode()
        async with (
            aiohttp.ClientSession(millrace.url) as other,
            other.post(f"{RESPONSES}/{answer.headers['request-id']}/cancel") as cancelled,
        ):
            assert (await cancelled.json())["status"] == "cancelled"
        events = events_of([first.rstrip("\n"), *await lines_of(answer)])
    assert events[-1]["error"]["code"] == "cancelled"


@pytest.mark.parametrize("delivery", ["prefix", "commit"])
async def test_a_silent_stream_gets_pings(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, delivery: str
) -> None:
    """Before the first word, and while a whole answer is held back. The answer that follows is the same as ever."""
    monkeypatch.setattr(limits, "SILENT_S", 0.2)
    asked = "Go on. [tokens=30] [ttft=0.5] [rate=60]"
    body = body_of(MESSAGES, asked, stream=True, model="small", millrace={"delivery": delivery, "cache": "off"})
    async with http.post(MESSAGES, json=body) as answer:
        events = events_of(await lines_of(answer))
    assert events[0] == {"type": "ping"}
    rest = [event for event in events if event["type"] != "ping"]
    assert (rest[0]["type"], rest[-1]["type"]) == ("message_start", "message_stop")
    assert len(text_of_blocks(events).split()) > 15


async def test_what_fails_after_the_first_ping_fails_in_mid_stream(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SILENT_S", 0.2)
    body = body_of(MESSAGES, "x [ttft=0.8] [fault=hangup@0]", stream=True)
    async with http.post(MESSAGES, json=body) as answer:
        *pings, error = events_of(await lines_of(answer))
    assert {event["type"] for event in pings} == {"ping"}
    assert (error["type"], error["error"]["type"], error["error"]["code"]) == (
        "error",
        "api_error",
        "upstream_truncated",
    )
    assert error["usage"]["cost_usd"] >= 0


async def test_tokens_are_counted_and_no_model_is_asked(millrace: Running, http: aiohttp.ClientSession) -> None:
    """Of the system prompt, messages and tools; a long text is counted off the loop; no cap is needed."""
    counts = []
    long = "word " * 20_000
    for fields in ({}, {"system": "Be brief."}, {"tools": [TOOL]}, {"system": long}):
        body = body_of(MESSAGES, ASKED, **fields)
        del body["max_tokens"]
        async with http.post(COUNT, json=body) as answer:
            assert answer.status == 200
            counted = await answer.json()
        assert counted.keys() == {"input_tokens"}
        counts.append(counted["input_tokens"])
    assert 0 < counts[0] < counts[1] < counts[3]
    assert counts[0] < counts[2]
    assert counts[3] >= 20_000
    async with http.post(COUNT, json=body_of(MESSAGES, ASKED, model="gpt-9")) as answer:
        await refused(answer, 404, "not_found_error")
    assert millrace.calls == 0


async def test_models_in_the_shape_of_the_api_that_is_asked(millrace: Running, http: aiohttp.ClientSession) -> None:
    async with http.get(MODELS) as answer:
        models = await answer.json()
    assert [model["id"] for model in models["data"]] == ["auto", "small", "large", "small-model", "large-model"]
    assert (models["first_id"], models["last_id"], models["has_more"]) == ("auto", "large-model", False)
    assert {model["type"] for model in models["data"]} == {"model"}
    async with http.get(f"{MODELS}/small") as answer:
        assert await answer.json() == models["data"][1]
    async with aiohttp.ClientSession(millrace.url) as plain, plain.get(f"{MODELS}/small") as answer:
        assert (await answer.json())["object"] == "model"


async def test_agents_look_whether_anybody_is_there(http: aiohttp.ClientSession) -> None:
    async with http.head("/") as answer:
        assert answer.status == 200, await answer.text()


async def test_a_repeat_is_billed_once(millrace: Running, http: aiohttp.ClientSession) -> None:
    """By the same key, streamed or not."""
    body = body_of(MESSAGES, ASKED, metadata={"millrace.idempotency_key": "k"})
    ids = []
    for stream in (False, True):
        async with http.post(MESSAGES, json=body | {"stream": stream}) as answer:
            ids.append(answer.headers["request-id"])
            await answer.read()
    assert ids[0] == ids[1]
    assert millrace.calls == 1


async def test_what_a_message_was_made_from_is_listed_and_continued_as_a_response(http: aiohttp.ClientSession) -> None:
    """Under the id of the request. What only the Messages API has is there as text, if it has one."""
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Wet."}}
    search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    use = {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "ErUB=="}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "no", "is_error": True}
    hosted = {"type": "web_search_20250305", "name": "web_search"}
    body = body_of(MESSAGES, ASKED, tools=[TOOL, hosted])
    body["messages"] = [
        {"role": "user", "content": [document, {"type": "text", "text": "?", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [thought, search, use | {"cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [result]},
    ]
    async with http.post(MESSAGES, json=body) as answer:
        assert answer.status == 200, await answer.text()
        request_id = answer.headers["request-id"]
    async with http.get(f"{RESPONSES}/{request_id}") as answer:
        assert (await answer.json())["status"] == "completed"
    async with http.get(f"{RESPONSES}/{request_id}/input_items?order=asc") as answer:
        items = (await answer.json())["data"]
    assert [part["text"] for part in items[0]["content"]] == ["Wet.", "?"]
    assert items[-1]["output"] == "The tool failed: no"
    async with http.post(RESPONSES, json={"input": "And?", "previous_response_id": request_id}) as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "completed")


async def test_marks_for_a_providers_cache_do_not_tell_requests_apart(
    millrace: Running, http: aiohttp.ClientSession
) -> None:
    """The second one, whose marks are elsewhere, is answered from the cache."""
    mark = {"cache_control": {"type": "ephemeral"}}
    system, words = {"type": "text", "text": "Be brief."}, {"type": "text", "text": ASKED}
    for first, second, cache in ((mark, {}, "miss"), ({}, mark, "exact")):
        body = body_of(MESSAGES, ASKED, system=[system | first], cache_control=second or None)
        body["messages"] = [{"role": "user", "content": [words | second]}]
        async with http.post(MESSAGES, json=body) as answer:
            metadata = (await answer.json())["metadata"]
        assert (metadata["millrace.cache"], metadata.get("millrace.notes")) == (cache, None)
    assert millrace.calls == 1
