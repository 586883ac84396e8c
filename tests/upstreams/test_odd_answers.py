"""What providers send instead of an answer, or in a shape of their own, under HTTP 200."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from millrace.errors import UpstreamError
from millrace.types import Finish, FinishReason, Usage
from millrace.upstreams import connections
from millrace.upstreams.attempt import HttpUpstream
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.messages.api import MESSAGES
from millrace.upstreams.provider_api import ProviderApi
from millrace.upstreams.responses.api import RESPONSES
from tests.support import messages_wire as wire
from tests.support.messages_wire import Answer
from tests.support.provider import (
    CALL,
    DONE,
    END,
    HEAD,
    answer,
    body,
    event,
    one_after_another,
    refusal,
    says,
    scripted_provider,
    stay,
)

SOON = "the model is loading"
STOP = Finish(reason=FinishReason.STOP)
HELLO = event("Hello")
STOPPED = event(finish="stop")


def document(value: Any, kind: str = "application/json") -> bytes:
    """Return an answer in one piece."""
    data = value if isinstance(value, bytes) else orjson.dumps(value)
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def stream(*events: bytes) -> bytes:
    return HEAD + body(*events) + END


NO_ANSWERS: dict[str, bytes] = {
    "status_msg": document({"base_resp": {"status_code": 1002, "status_msg": SOON}}),
    "status_msg in an event": stream(
        b"data: " + orjson.dumps({"choices": None, "base_resp": {"status_code": 1002, "status_msg": SOON}}) + b"\n\n",
        DONE,
    ),
    "error_msg": document({"error_code": 18, "error_msg": SOON}),
    "a message alone": document({"message": SOON}),
    "no success": document({"success": False, "message": SOON}),
    "msg": document({"status": 429, "msg": SOON}),
    "errorMessage": document({"errorMessage": SOON}),
    "a text": document(SOON.encode(), "text/plain"),
    "a text that is said to be events": document(SOON.encode(), "text/event-stream"),
    "an event that is an error in words": stream(b"event: error\ndata: " + SOON.encode() + b"\n\n"),
}


@pytest.mark.parametrize("given", NO_ANSWERS)
async def test_words_in_place_of_an_answer_are_shown_and_cost_nothing(given: str) -> None:
    with pytest.raises(UpstreamError, match=SOON) as caught:
        await answer(says(NO_ANSWERS[given]))
    assert not caught.value.billable
    assert caught.value.code != "upstream_truncated"


@pytest.mark.parametrize("api", [MESSAGES, RESPONSES], ids=["messages", "responses"])
@pytest.mark.parametrize("given", [{"message": SOON}, {"detail": SOON}, {"code": 429, "msg": SOON}])
async def test_so_are_they_of_the_other_apis(api: ProviderApi, given: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError, match=SOON) as caught:
        await answer(says(document(given)), api=api)
    assert not caught.value.billable


async def test_an_error_within_an_error_has_its_status() -> None:
    with pytest.raises(UpstreamError) as caught:
        await answer(says(document({"error": {"error": {"message": SOON, "code": 429}}})))
    assert caught.value.code == "upstream_overloaded"


@pytest.mark.parametrize("nothing", ["", {}, None, False])
async def test_an_error_that_says_nothing_is_none(nothing: object) -> None:
    attempt, finish = await answer(
        says(stream(event("Hello", error=nothing), event(finish="stop", error=nothing), DONE))
    )
    assert (attempt.parts, finish) == (["Hello"], STOP)


@pytest.mark.parametrize("separator", [b"\n", b"\n\n", b"\r\n\r\n"])
async def test_events_may_be_divided_by_single_line_ends(separator: bytes) -> None:
    events = separator.join(one.strip() for one in (HELLO, STOPPED, DONE)) + b"\n\n"
    attempt, finish = await answer(says(stream(events)))
    assert (attempt.parts, finish) == (["Hello"], STOP)


async def test_the_end_may_have_blanks_around_it() -> None:
    attempt, finish = await answer(says(stream(HELLO, b"data:  [DONE] \n\n")))
    assert (attempt.parts, finish) == (["Hello"], STOP)


async def test_the_text_of_a_whole_completion_is_an_answer() -> None:
    given = {"object": "text_completion", "choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]}
    attempt, finish = await answer(says(document(given)))
    assert (attempt.parts, finish) == (["Hello"], STOP)


@pytest.mark.parametrize("word", ["MALFORMED_FUNCTION_CALL", "malformed_response", "UNEXPECTED_TOOL_CALL"])
async def test_a_call_that_the_model_could_not_write_is_no_answer(word: str) -> None:
    with pytest.raises(UpstreamError, match="broke off"):
        await answer(says(stream(event("", finish=word), DONE)))


async def test_tokens_that_a_gateway_counts_by_another_name() -> None:
    counted = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}
    attempt, _ = await answer(says(stream(HELLO, event(finish="stop", usageMetadata=counted), DONE)))
    assert attempt.usage == Usage(input_tokens=5, output_tokens=2)


async def test_tokens_that_are_counted_with_the_very_end_of_a_message() -> None:
    events = [*Answer(content=(wire.text("Hello"),)).events({})]
    for one in events:
        counted = one.pop("usage") if one["type"] == "message_delta" else {}
        events[-1]["usage"] = events[-1].get("usage", {}) | counted
    attempt, finish = await answer(says(HEAD, *(body(wire.sse(one)) for one in events), END), api=MESSAGES)
    assert (attempt.parts, finish) == (["Hello"], STOP)
    assert attempt.usage == Usage(input_tokens=25, output_tokens=15)


async def test_a_connection_that_was_idle_for_too_long_for_the_provider() -> None:
    """It says so, with 408, before it closes. That says nothing of the model, and the call goes on a new one."""
    told = refusal(408, {"message": "idle"}, Connection="close")
    script = one_after_another(
        says(stream(HELLO, STOPPED, DONE), then=stay), says(told), says(stream(HELLO, STOPPED, DONE))
    )
    async with scripted_provider(script) as provider:
        for _ in range(2):
            attempt = provider.upstream.open(CALL)
            assert await attempt.done == STOP
            await attempt.task
        assert (len(provider.requests), attempt.retried_after, attempt.notes) == (3, "", ())


@pytest.mark.parametrize(
    "error", [{"type": "exceeded_current_quota_error"}, {"code": "1113"}, {"code": "Arrearage"}, {"code": 1113}]
)
async def test_what_no_money_is_left_for_is_not_asked_again(error: dict[str, Any]) -> None:
    async with scripted_provider(says(refusal(429, {"message": "recharge", **error}), then=stay)) as provider:
        attempt = provider.upstream.open(CALL)
        with pytest.raises(UpstreamError, match="recharge") as caught:
            await attempt.done
        await attempt.task
        assert (len(provider.requests), caught.value.rule.retry) == (1, False)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Awaitable[list[str]]]:
    """Return what an answer says through a proxy that the environment names so."""

    async def through(written: str) -> list[str]:
        async with scripted_provider(says(stream(HELLO, STOPPED, DONE))) as provider:
            address = provider.upstream.endpoint.base_url.removeprefix("http://").removesuffix("/v1/")
            connections._proxy_of.cache_clear()
            monkeypatch.setenv("http_proxy", written.format(address))
            for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
                monkeypatch.delenv(name, raising=False)
            elsewhere = replace(provider.upstream.endpoint, base_url="http://models.example/v1")
            attempt = HttpUpstream(CHAT, provider.upstream._connections, elsewhere, provider.upstream.clock).open(CALL)
            try:
                await attempt.done
            finally:
                await attempt.task
                connections._proxy_of.cache_clear()
            return attempt.parts

    return through


async def test_a_proxy_needs_no_scheme(proxy: Callable[[str], Awaitable[list[str]]]) -> None:
    assert await proxy("{}") == ["Hello"]


@pytest.mark.parametrize("written", ["socks5://{}", "http://", "http://[::1"])
async def test_a_proxy_that_cannot_be_used_is_told(proxy: Callable[[str], Awaitable[list[str]]], written: str) -> None:
    with pytest.raises(UpstreamError, match="HTTP_PROXY") as caught:
        await proxy(written)
    assert not caught.value.billable
