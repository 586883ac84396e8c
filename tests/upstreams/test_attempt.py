"""One call to a provider: the request's bytes, the words' way, and every way in which an answer ends or breaks."""

import asyncio
import dataclasses
import json
import socket
import struct
from unittest.mock import AsyncMock

import pytest
from msgspec.structs import replace

from millrace.errors import UpstreamError
from millrace.types import Finish, FinishReason, Usage
from millrace.upstreams import attempt as attempts
from millrace.upstreams.attempt import HttpUpstream
from millrace.upstreams.chat import body as chat
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.connections import Connections
from millrace.upstreams.exchange import ConnectError
from tests.support.provider import (
    CALL,
    DONE,
    END,
    HEAD,
    MODEL,
    PATIENCE,
    Script,
    answer,
    body,
    event,
    says,
    scripted_provider,
    stay,
)
from tests.support.server import AT_ONCE_S
from tests.support.waiting import turns, until, within

USAGE = {"prompt_tokens": 5, "completion_tokens": 2}
STOP = Finish(reason=FinishReason.STOP)


BEGUN = HEAD + body(event("Hel"))
WHOLE = HEAD + body(event("Hel"), event("lo"), event(finish="stop"))
WHOLE_END = body(event(finish="stop"), DONE) + END
ANSWER = WHOLE + body(event(usage=USAGE), DONE)


def reset(writer: asyncio.StreamWriter) -> None:
    """End with a TCP RST."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@pytest.mark.parametrize("pieces", [(ANSWER + END,), tuple(bytes([byte]) for byte in ANSWER + END)])
async def test_an_answer_is_the_same_however_it_is_cut(pieces: tuple[bytes, ...]) -> None:
    """In one piece or byte by byte."""
    attempt, finish = await answer(says(*pieces))
    assert (finish, "".join(attempt.parts), len("".join(attempt.parts).encode())) == (STOP, "Hello", 5)
    assert attempt.usage == Usage(input_tokens=5, output_tokens=2)


async def test_deltas_are_the_same_whether_an_event_is_parsed_or_like_the_one_before() -> None:
    """Each comes in a read of its own; some have what only a parser can read, one tells more than text."""
    texts = ["The", " mill", ' "race"', " is", "\n", "ä", " 水", " ok", "\\", " so", " on", " …", " and", "."]
    events = [event(text) for text in texts]
    told = event(" told", usage=USAGE)
    attempt, finish = await answer(says(HEAD, *(body(one) for one in (*events, told, *events)), WHOLE_END))
    assert attempt.parts == [*texts, " told", *texts]
    assert (finish, attempt.usage) == (STOP, Usage(input_tokens=5, output_tokens=2))


async def test_an_answer_begins_with_its_first_word() -> None:
    """Not with white space before it, even if both come in events of one form."""
    pieces = (HEAD, *(body(event(text)) for text in ("\n\n", " ", "Two", " metres")), body(event(finish="stop"), DONE))
    async with scripted_provider(says(*pieces, END)) as provider:
        attempt = provider.upstream.open(CALL)
        begun: list[str] = []
        attempt.on_begin = lambda: begun.append("".join(attempt.parts))
        await attempt.done
    assert begun == ["\n\n "]


async def test_a_character_may_come_in_two_halves() -> None:
    """The words of one read go to the sink in one call; half a character waits for its other half."""
    more, heard = asyncio.Event(), list[list[str]]()
    whole = event("a") + event("b") + event("wörld")
    cut = whole.index(b"\xc3") + 1

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + body(whole[:cut]))
        await more.wait()
        writer.write(body(whole[cut:], event(finish="stop", usage=USAGE)) + END)

    async with scripted_provider(script) as provider:
        attempt = provider.upstream.open(CALL)
        attempt.sink = heard.append
        await until(lambda: heard == [["a", "b"]])
        more.set()
        assert await attempt.done == STOP
        await attempt.task
    assert heard == [["a", "b"], ["wörld"]]


ENDINGS: dict[str, Script] = {
    "usage in the finish chunk, then [DONE]": says(HEAD + body(event("Hello", "stop", usage=USAGE), DONE), then=stay),
    "[DONE] without usage, then silence": says(WHOLE + body(DONE), then=stay),
    "a body that ends after the finish": says(WHOLE + END),
    "a body without a length": says(b"HTTP/1.0 200 OK\r\n\r\n", event("Hello"), event(finish="eos")),
    "[DONE] without a finish reason": says(HEAD + body(event("Hel"), event("lo"), DONE)),
    "[DONE] cut in a body without a length": says(b"HTTP/1.0 200 OK\r\n\r\n", event("Hello", "stop"), b"data: [DO"),
    "a finish reason on every chunk": says(HEAD + body(event("Hel", "stop"), event("lo", "stop"), DONE)),
    "text after the finish reason": says(HEAD + body(event("Hel", "stop"), event("lo"), DONE)),
    "more after [DONE]": says(WHOLE + body(DONE, event("!")) + END),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_an_answer_with_a_finish_reason_is_whole(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little follows it."""
    monkeypatch.setattr(attempts, "DRAIN_S", 0.01)
    attempt, finish = await answer(ENDINGS[ending])
    assert (finish, "".join(attempt.parts)) == (STOP, "Hello")


@pytest.mark.parametrize("beside", [False, True])
async def test_what_was_reported_before_an_error_counts(*, beside: bool) -> None:
    """It is the provider's own count of what it has done; one that refuses at once has done nothing."""
    no = {"message": "no"}
    said = body(event(error=no, usage=USAGE)) if beside else body(event(usage=USAGE), event(error=no))
    for begun, is_billed in ((HEAD + body(event("Hel")), True), (HEAD, False)):
        async with scripted_provider(says(begun + said, then=stay)) as provider:
            attempt = provider.upstream.open(CALL)
            with pytest.raises(UpstreamError, match="no") as raised:
                await attempt.done
        assert (raised.value.billable, attempt.usage is not None) == (is_billed, is_billed)


FAULTS: dict[str, tuple[Script, str, bool, str]] = {  # script, code, billable, words
    "end of the body": (says(BEGUN + END), "upstream_truncated", True, "without finishing"),
    "[DONE] alone": (says(HEAD + body(DONE) + END), "upstream_truncated", True, "without finishing"),
    "half an event after the finish": (
        says(HEAD + body(event("Hel", "stop"), b'data: {"choices":[{"delta":{"con') + END),
        "upstream_truncated",
        True,
        "without finishing",
    ),
    "a close after the finish, in a chunked body": (says(WHOLE), "upstream_truncated", True, "broke in mid-answer"),
    "a reset after the finish": (says(WHOLE, then=reset), "upstream_truncated", True, "broke in mid-answer"),
    "close": (says(BEGUN), "upstream_truncated", True, "broke in mid-answer"),
    "reset": (says(BEGUN, then=reset), "upstream_truncated", True, "broke in mid-answer"),
    "reset at once": (says(then=reset), "upstream_error", True, "before it answered"),
    "close at once": (says(), "upstream_error", True, "before it answered"),
    "no JSON": (says(HEAD + body(b"data: {\n\n"), then=stay), "upstream_error", True, "cannot be read"),
    "tool call": (says(HEAD + body(event(choices=[{"delta": {"tool_calls": [3]}}]))), "upstream_error", True, "tool"),
    "broken off": (
        says(HEAD + body(event("Hel", "error"), DONE)),
        "upstream_truncated",
        True,
        "broke off its answer (error)",
    ),
    "page": (says(b"HTTP/1.1 200 OK\r\n\r\n<html>Hi"), "upstream_error", False, "a page"),
    "error": (says(BEGUN + body(event(error={"message": "no"}))), "upstream_error", True, "failed in mid-stream: no"),
    "error at once": (says(HEAD + body(event(error={"message": "no"}))), "upstream_error", False, "m failed: no"),
    "404": (says(b'HTTP/1.1 404 No\r\n\r\n{"error":"no model"}'), "upstream_error", False, "HTTP 404: no model"),
    "redirect": (says(b"HTTP/1.1 302 No\r\nLocation: /\r\n\r\n"), "upstream_error", False, "HTTP 302"),
    "429": (says(b"HTTP/1.1 429 No\r\nRetry-After: 3\r\n\r\n"), "upstream_overloaded", False, "HTTP 429"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_what_is_no_answer_is_an_error_of_its_kind(name: str) -> None:
    """An end without a finish reason is truncated; what the provider refuses is not billed."""
    script, code, billable, words = FAULTS[name]
    with pytest.raises(UpstreamError) as raised:
        await answer(script)
    assert (raised.value.code, raised.value.billable) == (code, billable)
    assert words in raised.value.message
    assert raised.value.retry_after_ms == (3000 if name == "429" else None)


async def test_the_words_before_a_fault_in_the_same_read_are_not_lost() -> None:
    """They were generated and will be billed."""
    heard: list[str] = []
    async with scripted_provider(says(HEAD + body(event("Hel"), b"data: {\n\n"))) as provider:
        attempt = provider.upstream.open(CALL)
        attempt.sink = heard.extend
        with pytest.raises(UpstreamError):
            await attempt.done
    assert heard == attempt.parts == ["Hel"]


async def test_where_nobody_listens_nothing_is_billable() -> None:
    """No byte of the prompt has left."""
    async with (
        scripted_provider(says()) as provider,
        Connections() as connections,
    ):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            nowhere = replace(provider.upstream.endpoint, base_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
            with pytest.raises(UpstreamError, match="m could not be reached") as raised:
                await HttpUpstream(CHAT, connections, nowhere, lambda: 0.0).open(CALL).done
    assert (raised.value.code, raised.value.billable) == ("upstream_error", False)


@pytest.mark.parametrize(
    ("raised", "code", "billable", "words"),
    [
        (ConnectError("late", is_timeout=True), "upstream_timeout", False, "could not be reached in time"),
        (RuntimeError("a fault of ours"), "upstream_error", True, "could not be read"),
    ],
)
async def test_whoever_waits_is_told(raised: Exception, code: str, words: str, *, billable: bool) -> None:
    """Of a connection that does not come about, and of a reader that crashes, without its inner words."""
    async with scripted_provider(says()) as provider:
        provider.upstream.post = AsyncMock(side_effect=raised)  # type: ignore[method-assign]
        with pytest.raises(UpstreamError, match=words) as raised_error:
            await provider.upstream.open(CALL).done
    assert (raised_error.value.code, raised_error.value.billable) == (code, billable)


async def test_a_connection_is_used_again_after_an_answer() -> None:
    """Also where the answer was aborted after its end, as every caller does."""
    async with scripted_provider(says(ANSWER, END, then=stay)) as provider:
        for _ in range(3):
            attempt = provider.upstream.open(CALL)
            await attempt.done
            attempt.abort()
            await attempt.task
        assert (len(provider.requests), len(provider.lines)) == (3, 1)


@pytest.mark.parametrize("said", [b"", HEAD, BEGUN], ids=["before the headers", "before a word", "in mid-stream"])
async def test_an_abort_closes_the_socket_at_once(said: bytes) -> None:
    """The provider sees the end within 250 ms; aborting twice is aborting once."""
    async with scripted_provider(says(said, then=stay)) as provider:
        attempt = provider.upstream.open(CALL)
        await until(lambda: len(provider.requests) == 1 and bool(attempt.parts) == (said == BEGUN))
        async with within(AT_ONCE_S):
            attempt.abort()
            attempt.abort()
            await until(lambda: provider.left_at is not None)
        assert attempt.done.cancelled()


async def test_a_paused_call_is_not_read_and_goes_on_when_resumed() -> None:
    """The provider's writes get stuck in its own buffer; a pause is not taken for silence; no word is lost."""
    more = asyncio.Event()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + body(event("a")))
        await more.wait()
        writer.write(body(event("x" * 1000)) * 20_000 + body(event(finish="stop"), DONE) + END)

    async with scripted_provider(script) as provider:
        attempt = provider.upstream.open(
            dataclasses.replace(CALL, model=replace(MODEL, max_output_tokens=10**7, context_window=10**7))
        )
        await until(lambda: attempt.parts == ["a"])
        attempt.pause()
        more.set()
        stuck = [0]
        while not (stuck[-1] and stuck[-20:] == [stuck[-1]] * 20):  # the same for 100 ms
            await asyncio.sleep(0.005)
            stuck.append(provider.lines[0].transport.get_write_buffer_size())
        assert len("".join(attempt.parts).encode()) < 2_000_000
        provider.now += 3600
        provider.upstream.sweep(provider.now)
        attempt.resume()
        provider.upstream.sweep(provider.now)
        assert await attempt.done == STOP
        assert len("".join(attempt.parts).encode()) == 20_000_001
        await attempt.task


SILENCES = {  # what was said before: seconds of patience, and the words of the error, if it is one
    HEAD: (60.0, "no first token within 60 s"),
    BEGUN: (30.0, "sent nothing in mid-stream for 30 s"),
    WHOLE: (30.0, None),
}


@pytest.mark.parametrize("said", SILENCES, ids=["no word", "mid-stream", "after the finish"])
async def test_silence_is_ended_by_the_sweep_and_the_socket_closed(said: bytes) -> None:
    """No first word, no next one: given up. A finish reason, but no usage: the answer is whole."""
    seconds, words = SILENCES[said]
    async with scripted_provider(says(said, then=stay)) as provider:
        attempt = provider.upstream.open(CALL)
        heard = {HEAD: "", BEGUN: "Hel", WHOLE: "Hello"}[said]
        await until(lambda: len(provider.requests) == 1 and "".join(attempt.parts) == heard)
        provider.upstream.sweep(provider.now + seconds)
        assert not attempt.done.done()
        provider.upstream.sweep(provider.now + seconds + 0.1)
        if words is None:
            assert await attempt.done == STOP
        else:
            with pytest.raises(UpstreamError, match=words) as raised:
                await attempt.done
            assert (raised.value.code, raised.value.billable) == ("upstream_timeout", True)
        await until(lambda: provider.left_at is not None)


@pytest.mark.parametrize("key", [None, "sk-secret"])
async def test_a_key_is_sent_and_not_shown(key: str | None) -> None:
    """As a bearer token, where there is one; never in a repr."""
    async with scripted_provider(says(ANSWER + END), key=key) as provider:
        await provider.upstream.open(CALL).done
        assert "sk-secret" not in f"{provider.upstream.endpoint!r} {provider.upstream.endpoint}"
    ((head, sent),) = provider.requests
    assert head.startswith("POST /v1/chat/completions HTTP/1.1")
    assert [line for line in head.splitlines() if line.lower().startswith("authorization")] == (
        [f"Authorization: Bearer {key}"] if key else []
    )
    assert sent == json.loads(chat.request(CALL)[1])


COUNTED = Usage(input_tokens=5, output_tokens=2)
FLOATS = {"prompt_tokens": 5.0, "completion_tokens": 2}
EARLY = HEAD + body(event("Hel", usage={"prompt_tokens": 1000, "completion_tokens": 0}))


@pytest.mark.parametrize(
    ("pieces", "usage"),
    [
        (
            (EARLY, body(event("lo", finish="stop")), body(event(usage=USAGE), DONE)),
            Usage(input_tokens=5, output_tokens=2),
        ),
        ((EARLY, body(event("lo", finish="stop")), body(DONE)), None),
        ((BEGUN, body(event("lo", finish="stop", usage=USAGE), DONE)), COUNTED),
        ((BEGUN, body(event("lo", finish="stop")), body(event(usage={"prompt_tokens": None}), DONE)), None),
        (
            (
                BEGUN,
                body(event("lo", finish="stop")),
                body(event(usage={"prompt_tokens": 5.0, "completion_tokens": 2}), DONE),
            ),
            Usage(input_tokens=5, output_tokens=2),
        ),
        ((BEGUN, body(event("lo", finish="stop"), b"data: [DONE] \n\n")), None),
        ((BEGUN, body(event("lo"), event(finish="stop").rstrip()), END), None),
    ],
)
async def test_what_is_counted_and_said_around_the_end(pieces: tuple[bytes, ...], usage: Usage | None) -> None:
    """The last count is the count."""
    attempt, finish = await answer(says(*pieces))
    assert (finish, "".join(attempt.parts), attempt.usage) == (STOP, "Hello", usage)


async def test_comments_are_no_speech() -> None:
    """A connection kept alive by them is given up all the same, before and after the finish reason."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(BEGUN)
        while not writer.is_closing():
            writer.write(body(b": ping\n\n"))
            await asyncio.sleep(0.01)

    async with scripted_provider(script) as provider:
        attempt = provider.upstream.open(CALL)
        await until(lambda: attempt.parts == ["Hel"])
        provider.now += PATIENCE["stall_timeout_s"] + 1
        await asyncio.sleep(0.03)  # some more comments
        provider.upstream.sweep(provider.now)
        with pytest.raises(UpstreamError) as error:
            await attempt.done
    assert error.value.code == "upstream_timeout"


@pytest.mark.parametrize(("begun", "patience"), [(HEAD, "first_token_timeout_s"), (BEGUN, "stall_timeout_s")])
@pytest.mark.parametrize("empty", [event(), event(""), event(usage=USAGE)], ids=["no content", "no text", "usage"])
async def test_empty_deltas_are_no_speech(begun: bytes, patience: str, empty: bytes) -> None:
    """A provider that sends nothing in them for ever is given up, before its first token and after it."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        while not writer.is_closing():
            writer.write(body(empty))
            await asyncio.sleep(0.01)

    async with scripted_provider(script) as provider:
        attempt = provider.upstream.open(CALL)
        await until(lambda: len(provider.requests) == 1 and "".join(attempt.parts) == ("Hel" if begun == BEGUN else ""))
        provider.now += PATIENCE[patience] + 1
        await turns(20)
        provider.upstream.sweep(provider.now)
        with pytest.raises(UpstreamError) as error:
            await attempt.done
    assert error.value.code == "upstream_timeout"


LONG_KEY = "sk-" + "0123456789" * 6


@pytest.mark.parametrize("before", range(230, 310, 7))
async def test_no_part_of_a_key_is_shown(before: int) -> None:
    """Wherever in a long message it stands: it is masked before the message is cut."""
    words = "x" * before + LONG_KEY + "y" * 200
    error = json.dumps({"error": {"message": words}}).encode()
    refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(error), error)
    for said in (refused, BEGUN + body(b"data: " + error + b"\n\n")):
        async with scripted_provider(says(said), key=LONG_KEY) as provider:
            with pytest.raises(UpstreamError) as raised:
                await provider.upstream.open(CALL).done
        assert "xxx" in raised.value.message
        assert LONG_KEY[:4] not in raised.value.message


async def test_another_answer_than_the_first_is_left_alone() -> None:
    """A server that sends several although one was asked for."""
    other = b'data: {"choices":[{"index":1,"delta":{"content":"Other"},"finish_reason":"length"}]}\n\n'
    attempt, finish = await answer(
        says(HEAD + body(event("Hel"), other, event("lo"), other, event(finish="stop"), DONE))
    )
    assert (finish, "".join(attempt.parts)) == (STOP, "Hello")


async def test_usage_is_no_more_than_the_model_can_hold() -> None:
    """However much the provider says."""
    absurd = {"prompt_tokens": 1e300, "completion_tokens": 10**12, "prompt_tokens_details": {"cached_tokens": 1e300}}
    attempt, _ = await answer(says(WHOLE + body(event(usage=absurd), DONE)))
    most = MODEL.context_window
    assert attempt.usage == Usage(input_tokens=most, output_tokens=most, cached_input_tokens=most)


async def test_nothing_is_owed_before_the_request_has_left() -> None:
    """An attempt knows whether it was sent."""
    async with scripted_provider(says(HEAD, then=stay)) as provider:
        attempt = provider.upstream.open(CALL)
        assert not attempt.sent
        await until(lambda: len(provider.requests) == 1)
        assert attempt.sent
        attempt.abort()
