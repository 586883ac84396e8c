"""`/v1/chat/ws`: what the AI SDK's chat transport gets, frame by frame."""

import asyncio
import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from millrace.simulator import EASY
from millrace.wire import limits
from tests.support.chat_client import chat_client, chunks_of, data_of, said, shown
from tests.support.server import AT_ONCE_S, Running, Start, process_of
from tests.support.tenants import shared_server
from tests.support.waiting import until, within

HARD = "Why is the sky dark at night? [ttft.large=0] [rate.large=0]"
LONG = "Tell me a long story. [tokens=400] [rate=100]"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def test_an_answer_is_one_step_of_a_message(millrace: Running) -> None:
    async with chat_client(millrace.ws_url) as client:
        chunks = await client.ask("a", EASY[0])
    kinds = [chunk["type"] for chunk in chunks if chunk["type"] not in ("text-delta", "data-millrace-usage")]
    assert kinds == [
        *("start", "start-step", "data-millrace-route", "text-start", "text-end"),
        *("finish-step", "data-millrace-end", "finish"),
    ]
    assert chunks[-1]["finishReason"] == "stop"
    (route,), (end,), bill = data_of(chunks, "route"), data_of(chunks, "end"), data_of(chunks, "usage")[-1]
    assert (route["tier"], route["cache"]) == ("small", "miss")
    assert chunks[0]["messageId"] == "msg_" + end["response_id"].removeprefix("resp_")
    assert (end["status"], end["metadata"]["millrace.session"]) == ("completed", "a")
    assert bill["cost_usd"] == end["usage"]["cost_usd"] > 0
    assert bill["tokens"] == end["usage"]["total_tokens"]


async def test_what_is_taken_back_is_a_step_that_is_reset(millrace: Running) -> None:
    async with chat_client(millrace.ws_url) as client:
        chunks = await client.ask("a", HARD)
    at = [chunk["type"] for chunk in chunks].index("reset-step")
    before, after = chunks[:at], chunks[at:]
    assert shown(before).startswith("I don't know")
    assert shown(chunks) == shown(after)
    assert "Olbers" in shown(chunks)
    (revise,) = data_of(chunks, "revise")
    assert (revise["from_model"], revise["to_model"], revise["reason"]) == ("small-model", "large-model", "unsure")
    assert [chunk["type"] for chunk in chunks].count("start-step") == 1


async def test_chats_run_side_by_side_and_a_chat_one_after_the_other(millrace: Running) -> None:
    async with chat_client(millrace.ws_url) as client:
        first = await client.send("a", "Tell me of a mill. [tokens=30] [rate=60]")
        second = await client.send("a", "And of a pond? [tokens=5]")
        other = await client.send("b", "And of a dam? [tokens=30] [rate=60]")
        frames = await client.until(second, "end")
        if not any(frame["requestId"] == other and frame["type"] == "end" for frame in frames):
            frames += await client.until(other, "end")
    order = [frame["requestId"] for frame in frames]
    ends = {frame["requestId"]: at for at, frame in enumerate(frames) if frame["type"] == "end"}
    assert order.index(other) < ends[first] < order.index(second)
    assert shown(chunks_of(frames, first)) != shown(chunks_of(frames, other)) != ""


async def test_a_stop_reaches_the_model_at_once_and_the_chat_goes_on(millrace: Running) -> None:
    async with chat_client(millrace.ws_url) as client:
        asked = await client.send("a", LONG)
        frames = await client.until(asked, "text-delta")
        async with within(AT_ONCE_S):
            await client.abort(asked)
            await until(lambda: millrace.small.stats.running == 0)
        chunks = chunks_of(frames + await client.until(asked, "end"), asked)
        assert chunks[-1] == {"type": "abort", "reason": "cancelled"}
        (end,) = data_of(chunks, "end")
        assert (end["status"], end["usage"]["cost_usd"] > 0) == ("cancelled", True)
        await client.abort(asked)  # it has ended
        await client.abort("never-asked")
        assert (await client.ask("a", EASY[0]))[-1]["type"] == "finish"


async def test_one_that_waits_can_be_stopped(millrace: Running) -> None:
    async with chat_client(millrace.ws_url) as client:
        first, second = await client.send("a", LONG), await client.send("a", EASY[0])
        await client.until(first, "text-delta")
        await client.abort(second)
        await client.abort(first)
        frames = await client.until(second, "end")
        assert chunks_of(frames, second)[-1]["type"] == "abort"
    assert millrace.calls == 1


async def test_an_answer_outlives_its_connection_and_is_shown_again_from_its_first_chunk(millrace: Running) -> None:
    async with chat_client(millrace.ws_url) as client:
        asked = await client.send("a", "Tell me of a mill. [tokens=60] [rate=60]")
        before = chunks_of(await client.until(asked, "text-delta"), asked)
    async with chat_client(millrace.ws_url) as client:
        again = await client.resume("a")
        assert await client.next() == {"type": "start", "requestId": again}
        chunks = await client.chunks(again)
        assert chunks[: len(before)] == before  # the same message, with the same id
        assert chunks[-1]["type"] == "finish"
        later = await client.resume("a")
        assert (await client.next())["type"] == "start"
        assert await client.chunks(later) == chunks, "also once it has ended"
        rest = await client.resume("a", lastSequence=4)
        frames = await client.until(rest, "end")
        assert chunks_of(frames, rest, first=5) == chunks[5:]
    assert millrace.calls == 1


async def test_one_that_is_resumed_can_be_stopped(millrace: Running) -> None:
    async with chat_client(millrace.ws_url) as client:
        await client.until(await client.send("a", LONG), "text-delta")
    async with chat_client(millrace.ws_url) as client:
        again = await client.resume("a")
        await client.until(again, "text-delta")
        await client.abort(again)
        await client.until(again, "end")
        await until(lambda: millrace.small.stats.running == 0)
        nothing = await client.resume("a")
        assert await client.next() == {"type": "no-active", "requestId": nothing}, "it was cancelled"


async def test_there_is_nothing_to_resume(millrace: Running) -> None:
    """Nobody has asked, or it has failed; a number that was never sent is an error."""
    async with chat_client(millrace.ws_url) as client:
        asked = await client.resume("a")
        assert await client.next() == {"type": "no-active", "requestId": asked}
        failed = await client.ask("a", "Hello [fault=hangup@5]", body={"millrace": {"strategy": "small"}})
        assert (failed[-1]["type"], data_of(failed, "error")[0]["code"]) == ("error", "upstream_truncated")
        assert failed[-1]["errorText"] == data_of(failed, "error")[0]["message"]
        assert shown(failed).startswith("Hello!")
        asked = await client.resume("a")
        assert await client.next() == {"type": "no-active", "requestId": asked}
        await client.ask("a", EASY[0])
        asked = await client.resume("a", lastSequence=999)
        refused = await client.chunks(asked)
        assert data_of(refused, "error")[0]["code"] == "resume_gap"


async def test_a_chat_that_asks_anew_leaves_nobody_behind(millrace: Running) -> None:
    """The page was reloaded in the middle and did not resume: nobody can ask for the first answer any more."""
    async with chat_client(millrace.ws_url) as client:
        await client.until(await client.send("a", LONG), "text-delta")
    await until(lambda: millrace.small.stats.running == 1)
    async with chat_client(millrace.ws_url) as client:
        assert (await client.ask("a", EASY[0]))[-1]["type"] == "finish"
        await until(lambda: millrace.small.stats.running == 0)


async def test_on_disconnect_can_be_chosen(millrace: Running) -> None:
    body = {"metadata": {"millrace.on_disconnect": "cancel"}}
    async with chat_client(millrace.ws_url) as client:
        await client.until(await client.send("a", LONG, body=body), "text-delta")
    await until(lambda: millrace.small.stats.running == 0)


async def test_another_answer_is_not_the_stored_one(millrace: Running) -> None:
    async with chat_client(millrace.ws_url) as client:
        for chat, trigger, cache in (
            ("a", "submit-message", "miss"),
            ("b", "submit-message", "exact"),
            ("b", "regenerate-message", "miss"),
        ):
            chunks = await client.ask(chat, EASY[0], trigger=trigger)
            assert data_of(chunks, "end")[0]["metadata"]["millrace.cache"] == cache


async def test_a_tool_is_called_and_its_result_goes_on_in_the_same_message(millrace: Running) -> None:
    question = said("user", "What is the weather in Paris? [tool=get_weather]")
    async with chat_client(millrace.ws_url) as client:
        chunks = await client.ask("a", [question], body={"tools": [WEATHER]})
        (call,) = [chunk for chunk in chunks if chunk["type"] == "tool-input-available"]
        assert call["toolName"] == "get_weather"
        assert isinstance(call["input"]["city"], str)
        assert chunks[-1]["finishReason"] == "tool-calls"
        part = {"type": "tool-get_weather", "toolCallId": call["toolCallId"], "state": "output-available"}
        answer = {
            "id": "msg-of-the-client",
            "role": "assistant",
            "parts": [{"type": "step-start"}, {**part, "input": call["input"], "output": {"degrees": 21}}],
        }
        chunks = await client.ask("a", [question, answer], body={"tools": [WEATHER]})
        assert chunks[0] == {"type": "start", "messageId": "msg-of-the-client"}
        assert chunks[-1]["finishReason"] == "stop"
        again = await client.resume("a")
        replayed = await client.chunks(again)
        called = {"toolCallId": call["toolCallId"]}
        assert replayed == [
            chunks[0],
            {"type": "start-step"},
            {"type": "tool-input-start", **called, "toolName": "get_weather", "dynamic": False},
            {"type": "tool-input-delta", **called, "inputTextDelta": json.dumps(call["input"], separators=(",", ":"))},
            {"type": "tool-output-available", **called, "output": {"degrees": 21}},
            *chunks[1:],
        ]
        rest = await client.resume("a", lastSequence=0)
        assert chunks_of(await client.until(rest, "end"), rest, first=1) == chunks[1:]
    sent = millrace.small.calls[-1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert (sent[1]["tool_calls"][0]["id"], sent[2]["content"]) == (call["toolCallId"], '{"degrees":21}')


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"messages": "Hello"}, "invalid_request", "messages"),
        ({"messages": [{"role": "user", "parts": [{"type": "text"}]}]}, "invalid_request", "messages[0].parts[0].text"),
        ({"messages": [{"role": "user", "parts": [{}]}]}, "invalid_request", "messages[0].parts[0].type"),
        ({"messages": [said("user", " ")]}, "invalid_request", "messages"),
        ({"trigger": "guess"}, "invalid_request", "trigger"),
        ({"body": {"input": "Hello"}}, "invalid_request", "body.input"),
        ({"body": {"millrace": {"strategy": "fastest"}}}, "invalid_request", "millrace.strategy"),
        ({"body": {"millrace": 1}}, "invalid_request", "millrace"),
        ({"id": ""}, "invalid_request", "id"),
        ({"type": "steer"}, "unknown_event", "type"),
        ({"type": 7}, "unknown_event", "type"),
    ],
)
async def test_a_bad_request_is_an_error_of_its_own(
    millrace: Running, fields: dict[str, Any], code: str, param: str
) -> None:
    """It names the field; the other chats of the connection go on."""
    async with chat_client(millrace.ws_url) as client:
        running = await client.send("b", "Tell me of a mill. [tokens=30] [rate=100]")
        await client.until(running, "text-delta")
        refused = await client.ask("a", EASY[0], **fields)
        (error,) = data_of(refused, "error")
        assert (error["code"], error["param"]) == (code, param)
        assert refused[-1] == {"type": "error", "errorText": error["message"]}
        await client.until(running, "end")
    assert millrace.calls == 1


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        ("no JSON", 1008, "not JSON"),
        ({"type": "send", "id": "a"}, 1008, "requestId: missing"),
        ({"type": "abort", "requestId": 7}, 1008, "requestId: expected"),
        (b"\x00", 1003, "text frames only"),
        (b'"' + b"x" * 4000, 1003, "text frames only"),
    ],
)
async def test_a_frame_that_nobody_could_be_told_of_ends_the_connection(
    millrace: Running, frame: Any, code: int, reason: str
) -> None:
    """The SDK takes no frame without the id of a request."""
    async with chat_client(millrace.ws_url) as client:
        await client.frame(frame)
        with pytest.raises(ConnectionClosedError):
            await client.next()
        assert client.connection.close_code == code
        assert (client.connection.close_reason or "").startswith(reason)


async def test_a_frame_that_is_too_long_is_refused_by_its_request(start: Start) -> None:
    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["max_message_bytes"] = 64 * 1024

    async with start(change) as millrace, chat_client(millrace.ws_url) as client:
        refused = await client.ask("a", "x" * 70_000)
        assert data_of(refused, "error")[0]["code"] == "message_too_big"
        assert (await client.ask("a", EASY[0]))[-1]["type"] == "finish"


async def test_more_than_wait_are_refused(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_RUNNING", 1)
    monkeypatch.setattr(limits, "MAX_QUEUED", 1)
    async with chat_client(millrace.ws_url) as client:
        first = await client.send("a", LONG)
        await client.until(first, "text-delta")
        await client.send("b", EASY[0])
        third = await client.send("c", EASY[0])
        refused = chunks_of(await client.until(third, "end"), third)
        assert data_of(refused, "error")[0]["code"] == "queue_full"
        await client.abort(first)
        await client.until(first, "end")


async def test_a_chat_belongs_to_the_key_that_asked(start: Start, tmp_path: Path) -> None:
    async with shared_server(start, tmp_path, "acme", "other") as shared:
        url = shared.running.ws_url
        with pytest.raises(InvalidStatus) as refused:
            async with chat_client(url):
                pass
        assert refused.value.response.status_code == HTTPStatus.UNAUTHORIZED
        async with chat_client(url, additional_headers=shared.header("acme")) as client:
            await client.ask("a", EASY[0])
        async with chat_client(url, additional_headers=shared.header("other")) as client:
            asked = await client.resume("a")
            assert await client.next() == {"type": "no-active", "requestId": asked}
        async with chat_client(url, additional_headers=shared.header("acme")) as client:
            asked = await client.resume("a")
            assert (await client.next())["type"] == "start"
            assert (await client.chunks(asked))[-1]["type"] == "finish"


async def test_a_connection_that_is_to_close_takes_no_new_request(
    millrace: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs on it ends there; then it closes so that the SDK connects again."""
    monkeypatch.setattr(limits, "LINGER_S", 0.0)
    async with chat_client(millrace.ws_url) as client:
        running = await client.send("a", "Tell me of a mill. [tokens=20] [rate=60]")
        await client.until(running, "text-delta")
        process = process_of(millrace)
        (session,) = process.sessions
        session.start_closing(by=process.clock() + 60)
        refused = await client.send("b", EASY[0])
        frames = await client.until(running, "end")
        assert data_of(chunks_of(frames, refused), "error")[0]["code"] == "server_draining"
        assert frames[-2]["chunk"]["type"] == "finish"
        with pytest.raises(ConnectionClosedError):
            await client.next()
        assert client.connection.close_code == limits.CloseCode.RESTART


async def test_a_get_without_an_upgrade_is_told(millrace: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(millrace.url.rpartition(":")[2]))
    writer.write(b"GET /v1/chat/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 426 ")
    assert "/v1/chat/ws" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
