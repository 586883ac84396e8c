"""One retry before the first token, on a new connection: unbilled, told, and not where a provider asks for none."""

import asyncio

import pytest
from msgspec.structs import replace

from millrace.errors import UpstreamError
from millrace.types import Usage
from millrace.upstreams import attempt as attempts, exchange
from millrace.upstreams.attempt import HttpUpstream
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.connections import Connections
from tests.support.ports import free_port
from tests.support.provider import (
    CALL,
    DONE,
    END,
    HEAD,
    Script,
    body,
    event,
    one_after_another,
    refusal,
    says,
    scripted_provider,
    stay,
)
from tests.support.waiting import until
from tests.upstreams.test_attempt import reset

USAGE = {"prompt_tokens": 5, "completion_tokens": 1}
ANSWER = HEAD + body(event("Hello", "stop", usage=USAGE), DONE) + END
BUSY = {"message": "busy", "type": "overloaded_error"}

TRANSIENT: dict[str, tuple[Script, str]] = {
    "502, empty": (says(refusal(502), then=stay), "answered HTTP 502"),
    "503 with words": (says(refusal(503, BUSY), then=stay), "answered HTTP 503"),
    "504 with a page": (says(b"HTTP/1.1 504 No\r\n\r\n<html>Timeout</html>"), "answered HTTP 504"),
    "503 without its body": (
        says(b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\n", then=stay),
        "answered HTTP 503",
    ),
    "a reset": (says(then=reset), "closed the connection before it answered"),
    "a close": (says(), "closed the connection before it answered"),
    "half a head": (says(b"HTTP/1.1 200 OK\r\nContent-"), "closed the connection before it answered"),
}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "RETRY_S", 0.001)


@pytest.mark.parametrize("fault", TRANSIENT)
async def test_a_transient_fault_is_tried_once_more(fault: str) -> None:
    """On a connection of its own. What counts is the second answer alone; a note says why there were two."""
    script, why = TRANSIENT[fault]
    async with scripted_provider(one_after_another(script, says(ANSWER, then=stay))) as provider:
        attempt = provider.upstream.open(CALL)
        await attempt.done
        await attempt.task
        assert (len(provider.requests), len(provider.lines)) == (2, 2)
    assert ("".join(attempt.parts), attempt.usage) == ("Hello", Usage(input_tokens=5, output_tokens=1))
    assert (attempt.retried_after, attempt.notes) == (why, (f"{why} and was tried once more",))


@pytest.mark.parametrize("fault", TRANSIENT)
async def test_and_not_twice(fault: str) -> None:
    """The second fault is the error."""
    script, why = TRANSIENT[fault]
    async with scripted_provider(script) as provider:
        attempt = provider.upstream.open(CALL)
        if "without its body" in fault:
            await until(lambda: len(provider.requests) == 2)
            provider.lines[-1].close()
        with pytest.raises(UpstreamError) as raised:
            await attempt.done
        assert len(provider.requests) == 2
    assert raised.value.cause.startswith(why)
    assert raised.value.rule.retry


async def test_a_server_that_is_just_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port is closed at the first try and open at the second."""
    monkeypatch.setattr(attempts, "RETRY_S", 1.0)
    port = free_port()
    async with scripted_provider(says(ANSWER, then=stay)) as provider, Connections() as connections:
        endpoint = replace(provider.upstream.endpoint, base_url=f"http://127.0.0.1:{port}/v1")
        upstream = HttpUpstream(CHAT, connections, endpoint, lambda: 0.0)
        attempt = upstream.open(CALL)
        await until(lambda: bool(attempt.retried_after))
        server = await asyncio.start_server(provider.serve, "127.0.0.1", port)
        await attempt.done
        server.close()
        await attempt.task
    assert attempt.retried_after == "could not be reached: Connection refused"


NOT_NOW = {
    "503, Retry-After": refusal(503, BUSY, Retry_After="7"),
    "503, Retry-After as a date": refusal(503, BUSY, Retry_After="Thu, 01 Jan 1970 00:00:07 GMT"),
    "503, retry-after-ms": refusal(503, BUSY, retry_after_ms="7000"),
    "429": refusal(429, BUSY, Retry_After="7"),
    "429, retry-after-ms": refusal(429, BUSY, Retry_After="8", retry_after_ms="7000"),
}


@pytest.mark.parametrize("wish", NOT_NOW)
async def test_a_provider_that_names_a_later_time_is_not_asked_again(wish: str) -> None:
    """The client is told the time."""
    async with scripted_provider(says(NOT_NOW[wish], then=stay)) as provider:
        with pytest.raises(UpstreamError) as raised:
            await provider.upstream.open(CALL).done
        assert len(provider.requests) == 1
    assert raised.value.retry_after_ms == 7000


ONCE = {
    "503 that means 400": refusal(503, {"message": "too long", "code": "context_length_exceeded"}),
    "502 that means 429": refusal(502, {"message": "no money", "code": "insufficient_quota"}),
    "503 with a later time in its body": refusal(503, {"message": "busy", "details": [{"retryDelay": "3s"}]}),
    "x-should-retry": refusal(503, BUSY, x_should_retry="false"),
    "429": refusal(429, BUSY),
    "500": refusal(500, BUSY),
    "529": refusal(529, BUSY),
    "400": refusal(400, {"message": "no", "code": "context_length_exceeded"}),
    "401": refusal(401, BUSY),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "an answer without a word": HEAD,
    "an error in the stream": HEAD + body(event(error=BUSY), DONE) + END,
    "a word": HEAD + body(event("Hel")),
}


@pytest.mark.parametrize("fault", ONCE)
async def test_what_is_no_transient_fault_is_not_repeated(fault: str) -> None:
    """It was refused for a reason, or an answer had begun, which may be billed."""
    async with scripted_provider(says(ONCE[fault])) as provider:
        attempt = provider.upstream.open(CALL)
        with pytest.raises(UpstreamError):
            await attempt.done
        assert len(provider.requests) == 1
    assert (attempt.retried_after, attempt.notes) == ("", ())


async def test_silence_is_not_repeated() -> None:
    """The model may be at work, and its patience is over."""
    async with scripted_provider(says(then=stay)) as provider:
        attempt = provider.upstream.open(CALL)
        await until(lambda: len(provider.requests) == 1)
        provider.now += provider.upstream.endpoint.first_token_timeout_s + 1
        provider.upstream.sweep(provider.now)
        with pytest.raises(UpstreamError, match="no first token"):
            await attempt.done
        await attempt.task
        assert len(provider.requests) == 1


async def test_the_wait_for_the_retry_is_part_of_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an abort ends it."""
    async with scripted_provider(one_after_another(says(refusal(503), then=stay), says(then=stay))) as provider:
        attempt = provider.upstream.open(CALL)
        await until(lambda: len(provider.requests) == 2)
        provider.now += provider.upstream.endpoint.first_token_timeout_s + 1
        provider.upstream.sweep(provider.now)
        with pytest.raises(UpstreamError, match="no first token"):
            await attempt.done
        monkeypatch.setattr(attempts, "RETRY_S", 30.0)
        attempt = provider.upstream.open(CALL)
        await until(lambda: len(provider.requests) == 3)
        attempt.abort()
        async with asyncio.timeout(2):
            await attempt.task
        assert attempt.done.cancelled()


async def test_a_stale_connection_costs_the_model_nothing() -> None:
    """It was closed while it was idle, so nothing is said of the model; at most one retry all the same."""

    async def once_each(writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER)
        await writer.drain()
        if len(provider.requests) > 1:
            await asyncio.sleep(0)

    async with scripted_provider(once_each) as provider:
        first = provider.upstream.open(CALL)
        await first.done
        await first.task
        provider.script = one_after_another(says(then=reset), says(ANSWER, then=stay))
        attempt = provider.upstream.open(CALL)
        await attempt.done
        assert len(provider.requests) == 3
        await attempt.task
    assert (attempt.retried_after, attempt.notes) == ("", ())


async def test_what_is_no_http_is_no_stale_connection() -> None:
    """Bytes have come, so the provider has the request, and may bill it: it is not sent again."""
    async with scripted_provider(says(ANSWER, then=stay)) as provider:
        first = provider.upstream.open(CALL)
        await first.done
        await first.task
        provider.script = one_after_another(says(b"HTP/1.1 2OO\r\n\r\n", then=stay), says(ANSWER, then=stay))
        attempt = provider.upstream.open(CALL)
        with pytest.raises(UpstreamError, match="cannot be read"):
            await attempt.done
        assert attempt.is_reused
        assert len(provider.requests) == 2
        await attempt.task


async def test_a_refused_field_and_a_transient_fault_in_one_call() -> None:
    """Each is mended once, and both are told."""
    refused = refusal(400, {"message": "Unknown parameter: 'stream_options'", "param": "stream_options"})
    script = one_after_another(says(refusal(502), then=stay), says(refused, then=stay), says(ANSWER, then=stay))
    async with scripted_provider(script) as provider:
        attempt = provider.upstream.open(CALL)
        await attempt.done
        await attempt.task
        assert len(provider.requests) == 3
    assert "answered HTTP 502 and was tried once more" in attempt.notes
    assert any("stream_options" in note for note in attempt.notes)


async def test_a_refusal_whose_body_does_not_end_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its status and costs nothing; it is not waited for like an answer."""
    monkeypatch.setattr(exchange, "ERROR_BODY_S", 0.05)
    said = b'HTTP/1.1 400 No\r\nContent-Length: 100\r\n\r\n{"error":'
    async with scripted_provider(says(said, then=stay)) as provider:
        with pytest.raises(UpstreamError, match="HTTP 400") as raised:
            await provider.upstream.open(CALL).done
    assert (raised.value.rule.status, raised.value.billable) == (400, False)
