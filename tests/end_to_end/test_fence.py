"""A fault in what one client is shown is nobody else's: not another client's, not the model's, not the connection's."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from millrace.dialects.chat import CompletionProjection
from millrace.dialects.items import OutputItems
from millrace.dialects.responses import EventCodec, ResponsesProjection
from millrace.wire import chunks
from tests.support.http_client import CHAT, RESPONSES, body_of, data_of, lines_of, text_of_chunks
from tests.support.logs import CapturedLogs, captured_logs
from tests.support.server import Running
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import Event, check_response, text_of, wire_client

SECRET = "the-miller-has-a-secret"
ASKED = f"Go on about {SECRET}. [tokens=60] [rate=300]"
Break = Callable[[pytest.MonkeyPatch], None]


class PanicError(BaseException):
    """What a library written in Rust raises when it panics; no `Exception`."""


def breaking(owner: type, name: str, *, at: int = 0, of: str = "") -> Break:
    """Return what lets a method raise from its call number `at` on; `of`: for objects whose class has this name."""

    def install(patch: pytest.MonkeyPatch) -> None:
        whole: Any = getattr(owner, name)
        calls = 0

        def broken(self: Any, *arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > at:
                raise PanicError(f"broken by {SECRET}")
            return whole(self, *arguments, **named)

        patch.setattr(owner, name, broken)

    return install


IN_RESPONSES: dict[str, Break] = {
    "the beginning": breaking(ResponsesProjection, "_show_fact"),
    "the first text": breaking(OutputItems, "text"),
    "text in mid-stream": breaking(ResponsesProjection, "text", at=3),
    "an item's end": breaking(OutputItems, "close"),
    "the terminal": breaking(ResponsesProjection, "_end"),
    "the encoding of the first delta": breaking(EventCodec, "delta"),
    "the encoding of a delta": breaking(EventCodec, "delta", at=3),
    "the encoding of an event": breaking(EventCodec, "event", at=4),
}
IN_CHAT: dict[str, Break] = {
    "the beginning": breaking(CompletionProjection, "_open"),
    "text in mid-stream": breaking(CompletionProjection, "text", at=3),
    "the terminal": breaking(CompletionProjection, "_end"),
    "the encoding of a delta": breaking(chunks.ChatCodec, "delta", at=3),
    "the encoding of the last chunk": breaking(chunks.ChatCodec, "event", at=1),
}


@asynccontextmanager
async def one_fault_logged() -> AsyncIterator[CapturedLogs]:
    """Assert that a fault is logged in one line, without what was said."""
    with captured_logs() as logs:
        yield logs
    lines = logs.from_millrace.getvalue().splitlines()
    assert [json.loads(line)["error"] for line in lines] == ["PanicError"]
    assert SECRET not in logs.text
    assert "Traceback" not in logs.from_millrace.getvalue()


async def streamed_completion(running: Running, asked: str = ASKED) -> tuple[str, list[str]]:
    """Return the text and the data of a completion."""
    async with aiohttp.ClientSession(running.url) as http:
        body = body_of(CHAT, asked, stream=True, model="small")
        async with http.post(CHAT, json=body) as answer:
            data = data_of(await lines_of(answer))
    return text_of_chunks([json.loads(each) for each in data if each != "[DONE]"]), data


@pytest.mark.parametrize("fault", IN_RESPONSES)
async def test_a_fault_in_one_dialect_is_not_one_in_another(
    millrace: Running, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Two ask the same and share one generation: the socket's view breaks, the completion is whole."""
    IN_RESPONSES[fault](monkeypatch)
    async with one_fault_logged(), wire_client(millrace.ws_url) as client:
        completion = asyncio.create_task(streamed_completion(millrace))
        await until(lambda: millrace.small.stats.running == 1)
        events = await client.ask(ASKED, model="small")
        text, data = await completion
        monkeypatch.undo()
        pong = asyncio.create_task(client.next())
        await client.send({"type": "millrace.ping", "t": 1})
        assert (await pong)["type"] == "millrace.pong", "one end, and the connection lives"
    assert ended_with_internal_error(events[-1])
    assert data[-1] == "[DONE]"
    assert len(text.split()) > 30
    assert millrace.calls == 1


@pytest.mark.parametrize("fault", IN_CHAT)
async def test_a_fault_in_a_completion_is_not_one_of_a_response(
    millrace: Running, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    IN_CHAT[fault](monkeypatch)
    async with (
        one_fault_logged(),
        wire_client(millrace.ws_url) as client,
        aiohttp.ClientSession(millrace.url) as http,
    ):
        asked = asyncio.create_task(client.ask(ASKED, model="small"))
        await until(lambda: millrace.small.stats.running == 1)
        async with http.post(CHAT, json=body_of(CHAT, ASKED, stream=True, model="small")) as answer:
            if answer.status == 200:
                (last,) = [json.loads(data) for data in data_of(await lines_of(answer)) if "error" in data][-1:]
            else:
                last = await answer.json()
        events = await asked
    assert last["error"]["code"] == "internal_error"
    assert check_response(events)["status"] == "completed"
    assert len(text_of(events).split()) > 30
    assert millrace.calls == 1


@pytest.mark.parametrize("fault", IN_RESPONSES)
async def test_a_stream_whose_view_breaks_ends(millrace: Running, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Over HTTP there is one error or one terminal, and the model is not read on for nobody."""
    IN_RESPONSES[fault](monkeypatch)
    async with one_fault_logged(), aiohttp.ClientSession(millrace.url) as http, asyncio.timeout(PATIENCE_S):
        async with http.post(RESPONSES, json=body_of(RESPONSES, ASKED, stream=True, model="small")) as answer:
            if answer.status == 200:
                events = [json.loads(data) for data in data_of(await lines_of(answer))]
                ends = [event for event in events if ended_with_internal_error(event)]
                assert ends == events[-1:]
            else:
                assert (await answer.json())["error"]["code"] == "internal_error"
        await until(lambda: millrace.small.stats.running == 0)
        monkeypatch.undo()
        async with http.get("/healthz") as health:
            assert health.status == 200


async def test_a_client_whose_view_broke_may_ask_again(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same connection, in the same lane; others never noticed."""
    IN_RESPONSES["text in mid-stream"](monkeypatch)
    async with one_fault_logged(), wire_client(millrace.ws_url) as client:
        events = await client.ask(ASKED, model="small", stream_id="a")
        assert ended_with_internal_error(events[-1])
        monkeypatch.undo()
        again = await client.ask("And now?", model="small", stream_id="a")
        assert check_response(again)["status"] == "completed"


def ended_with_internal_error(event: Event) -> bool:
    if event["type"] == "error":
        return bool(event["error"]["code"] == "internal_error")
    return bool(event["type"] == "response.failed" and event["response"]["error"]["code"] == "internal_error")
