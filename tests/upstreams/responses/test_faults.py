"""Every way in which a stream of the Responses API breaks, is refused, or is left: what is told, closed and billed."""

import asyncio
import dataclasses
import json
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.errors import UpstreamError
from millrace.types import Finish, FinishReason, Sealed, Thought, Usage
from millrace.upstreams.bodies import BodyReader
from millrace.upstreams.refusals import Refusals
from millrace.upstreams.responses.answer import ResponsesReader
from millrace.upstreams.responses.api import RESPONSES
from tests.support import responses_wire as wire
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
    refusal,
    says,
    scripted_provider,
    stay,
)
from tests.support.responses_wire import Answer, sse
from tests.support.server import AT_ONCE_S
from tests.support.waiting import turns, until, within
from tests.upstreams.responses.test_answer import ITEMS, OFFERED, TOOLS

STOP = Finish(reason=FinishReason.STOP)
HELLO = Answer(items=(wire.message("Hello, you.", "And you."),))
STREAM = HELLO.stream()
FIRST_DELTA = next(at for at, event in enumerate(HELLO.events()) if event["type"].endswith("text.delta"))
BEGUN = HEAD + body(*STREAM[: FIRST_DELTA + 1])
WHOLE = HEAD + body(*STREAM)
KEY = "sk-" + "0123456789" * 6


def failed(error: Any, usage: Any = None) -> bytes:
    return sse([*Answer(items=(), status="failed", error=error, usage=usage).events()][-1])


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


NO = {"code": "server_error", "message": "no"}
FAULTS: dict[str, tuple[Script, str, bool, str, int]] = {  # script, code, billable, words, status
    "end of the body": (says(BEGUN + END), "upstream_truncated", True, "without finishing", 502),
    "[DONE] is no end": (says(BEGUN + body(DONE) + END), "upstream_truncated", True, "without finishing", 502),
    "nothing but [DONE]": (says(HEAD + body(DONE) + END), "upstream_truncated", True, "without finishing", 502),
    "half an event": (says(BEGUN + body(STREAM[-1][:-9]) + END), "upstream_truncated", True, "without finishing", 502),
    "close": (says(BEGUN), "upstream_truncated", True, "broke in mid-answer", 502),
    "close at once": (says(), "upstream_error", True, "before it answered", 502),
    "no JSON": (says(HEAD + body(b"data: {\n\n"), then=stay), "upstream_error", True, "cannot be read", 502),
    "cancelled": (
        says(BEGUN + body(event(type="response.cancelled", response={"status": "cancelled"}))),
        "upstream_truncated",
        True,
        "broke off its answer",
        502,
    ),
    "still under way": (
        says(HEAD + body(json.dumps(Answer(items=(), status="queued").whole()).encode()) + END),
        "upstream_truncated",
        True,
        "without finishing",
        502,
    ),
    "failed at once": (says(HEAD + body(failed(NO))), "upstream_error", False, "m failed: no", 502),
    "failed at once, and counted": (
        says(HEAD + body(failed(NO, wire.USAGE))),
        "upstream_error",
        True,
        "m failed in mid-stream: no",
        502,
    ),
    "failed in mid-stream": (says(BEGUN + body(failed(NO))), "upstream_error", True, "failed in mid-stream: no", 502),
    "failed, and the status says so": (
        says(BEGUN + body(event(type="response.completed", response={"status": "failed", "error": NO}))),
        "upstream_error",
        True,
        "failed in mid-stream: no",
        502,
    ),
    "an error event": (
        says(BEGUN + body(event(type="error", code="server_error", message="no", param=None, sequence_number=3))),
        "upstream_error",
        True,
        "failed in mid-stream: no",
        502,
    ),
    "an error event at once": (
        says(
            HEAD + body(event(type="error", error={"type": "tokens", "code": "rate_limit_exceeded", "message": "slow"}))
        ),
        "rate_limit_exceeded",
        False,
        "m failed: slow",
        429,
    ),
    "an event that is named error": (
        says(BEGUN + body(b'event: error\ndata: {"message":"no"}\n\n')),
        "upstream_error",
        True,
        "failed in mid-stream: no",
        502,
    ),
    "a prompt that is not allowed": (
        says(HEAD + body(failed({"code": "invalid_prompt", "message": "no"}))),
        "invalid_prompt",
        False,
        "m failed: no",
        400,
    ),
    "a picture that cannot be read": (
        says(HEAD + body(failed({"code": "image_parse_error", "message": "no"}))),
        "image_parse_error",
        False,
        "m failed: no",
        400,
    ),
    "too much": (
        says(HEAD + body(failed({"code": "rate_limit_exceeded", "message": "slow"}))),
        "rate_limit_exceeded",
        False,
        "m failed: slow",
        429,
    ),
    "refused": (
        says(refusal(400, {"type": "invalid_request_error", "code": "unknown_parameter", "message": "no"})),
        "unknown_parameter",
        False,
        "HTTP 400: no",
        400,
    ),
    "no such API": (says(refusal(404)), "upstream_error", False, "HTTP 404", 502),
    "a call of nobody's tool": (
        says(HEAD + body(*Answer(items=(wire.function_call("now", "{}"),)).stream())),
        "upstream_error",
        True,
        "called a tool that nobody offered",
        502,
    ),
    "a call of no tool": (
        says(HEAD + body(*Answer(items=(wire.function_call("", "{}"),)).stream())),
        "upstream_error",
        True,
        "called a tool that nobody offered",
        502,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_what_is_no_answer_is_an_error_of_its_kind(name: str) -> None:
    """An end without the API's own terminal is truncated; what the provider refuses is not billed."""
    script, code, billable, words, status = FAULTS[name]
    with pytest.raises(UpstreamError) as raised:
        await answer(script, CALL, RESPONSES)
    assert (raised.value.code, raised.value.billable, raised.value.rule.status) == (code, billable, status)
    assert words in raised.value.message


async def test_a_call_that_names_no_tool_is_an_error() -> None:
    with pytest.raises(UpstreamError, match="called a tool without naming one"):
        await answer(says(HEAD + body(*Answer(items=(wire.function_call("", "{}"),)).stream())), OFFERED, RESPONSES)


@pytest.mark.parametrize("begun", [b"", b"".join(STREAM[: FIRST_DELTA + 1])], ids=["at once", "in mid-stream"])
async def test_what_was_reported_with_a_failure_is_billed(begun: bytes) -> None:
    """It is the provider's own count of what it has done."""
    async with scripted_provider(says(HEAD + body(begun + failed(NO, wire.USAGE))), api=RESPONSES) as provider:
        attempt = provider.upstream.open(CALL)
        with pytest.raises(UpstreamError, match="no") as raised:
            await attempt.done
    assert (raised.value.billable, attempt.usage) == (
        True,
        Usage(input_tokens=40, output_tokens=20, cached_input_tokens=30, reasoning_tokens=5),
    )


async def test_the_words_before_a_fault_in_the_same_read_are_not_lost() -> None:
    attempts: list[str] = []
    async with scripted_provider(says(BEGUN + body(event(type="error", message="no"))), api=RESPONSES) as provider:
        attempt = provider.upstream.open(CALL)
        attempt.sink = attempts.extend
        with pytest.raises(UpstreamError):
            await attempt.done
    assert attempts == ["Hello, y"]


@pytest.mark.parametrize("before", range(230, 310, 13))
async def test_no_part_of_a_key_is_shown(before: int) -> None:
    """Wherever in a long message it stands: in a refusal, in an error event, in a failed response."""
    said = {"code": "server_error", "message": "x" * before + KEY + "y" * 200}
    for script in (refusal(400, said), BEGUN + body(event(type="error", **said)), HEAD + body(failed(said))):
        async with scripted_provider(says(script), key=KEY, api=RESPONSES) as provider:
            with pytest.raises(UpstreamError) as raised:
                await provider.upstream.open(CALL).done
        assert "xxx" in raised.value.message
        assert KEY[:4] not in raised.value.message


def completed(stream: bytes) -> bool:
    """Whether a body that ends here is taken for a whole answer."""
    reader = ResponsesReader("m", TOOLS, Refusals("m", None, lambda: 0.0), 1000)
    splitter = BodyReader("m")
    try:
        for data in [*splitter.feed(stream), *splitter.end()]:
            if data and not reader.is_terminated:
                reader.take(data, [], [])
        reader.end([], [])
    except UpstreamError:
        return False
    return True


CUT: dict[str, Answer] = {
    "text": HELLO,
    "all kinds": Answer(items=ITEMS),
    "a refusal": Answer(items=(wire.message(refusal="No."),)),
    "incomplete": Answer(items=(wire.message("Hel"),), status="incomplete", reason="max_output_tokens"),
}


@pytest.mark.parametrize("kind", CUT)
def test_a_stream_that_is_cut_at_any_byte_is_never_whole(kind: str) -> None:
    """Before the last brace of the event that ends it; the blank line after it may be missing."""
    stream = b"".join(CUT[kind].stream())
    assert [at for at in range(len(stream) - 2) if completed(stream[:at])] == []
    assert completed(stream[:-2])
    assert completed(stream)


@pytest.mark.parametrize("kind", CUT)
def test_a_document_that_is_cut_at_any_byte_is_never_whole(kind: str) -> None:
    document = json.dumps(CUT[kind].whole()).encode()
    assert [at for at in range(len(document)) if completed(document[:at])] == []
    assert completed(document)


REASONS = Answer(items=(wire.reasoning("Let me think about that."), wire.message("Yes.")))
CALLING = Answer(items=(wire.reasoning("Hm."), wire.function_call("weather", '{"town": "Paris, at the Seine"}')))


def until_kind(whole: Answer, ending: str) -> bytes:
    """Return the stream up to the first event of a kind, and this."""
    events = [*whole.events()]
    at = next(at for at, each in enumerate(events) if each["type"].endswith(ending))
    return b"".join(map(sse, events[: at + 1]))


MOMENTS: dict[str, bytes] = {
    "before the headers": b"",
    "before a word": HEAD,
    "before the first token": HEAD + body(until_kind(HELLO, "content_part.added")),
    "in reasoning": HEAD + body(until_kind(REASONS, "summary_text.delta")),
    "in a tool call": HEAD + body(until_kind(CALLING, "arguments.delta")),
    "in text": BEGUN,
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_abort_closes_the_socket_at_once(moment: str) -> None:
    """The provider sees the end within 250 ms. What it has sent is kept, to be counted."""
    async with scripted_provider(says(MOMENTS[moment], then=stay), api=RESPONSES) as provider:
        attempt = provider.upstream.open(OFFERED)
        has_said = moment not in ("before the headers", "before a word", "before the first token")
        await until(lambda: len(provider.requests) == 1 and bool(attempt.parts or attempt.asides) == has_said)
        await turns(5)
        async with within(AT_ONCE_S):
            attempt.abort()
            await until(lambda: provider.left_at is not None)
        assert attempt.done.cancelled()
    assert attempt.sent
    assert bool(attempt.parts or attempt.asides) is has_said


async def test_a_paused_call_is_not_read_and_goes_on_when_resumed() -> None:
    """The provider's writes get stuck in its own buffer; no word is lost."""
    more = asyncio.Event()
    long = Answer(items=(wire.message("x" * 400_000),)).stream()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + body(*long[: FIRST_DELTA + 1]))
        await more.wait()
        writer.write(body(*long[FIRST_DELTA + 1 :]) + END)

    async with scripted_provider(script, api=RESPONSES) as provider:
        roomy = replace(MODEL, max_output_tokens=10**7, context_window=10**7)
        attempt = provider.upstream.open(dataclasses.replace(CALL, model=roomy))
        await until(lambda: bool(attempt.parts))
        attempt.pause()
        more.set()
        stuck = [0]
        while not (stuck[-1] and stuck[-20:] == [stuck[-1]] * 20):  # the same for 100 ms
            await asyncio.sleep(0.005)
            stuck.append(provider.lines[0].transport.get_write_buffer_size())
        assert len("".join(attempt.parts)) < 100_000
        provider.now += 3600
        provider.upstream.sweep(provider.now)
        attempt.resume()
        assert await attempt.done == STOP
        assert "".join(attempt.parts) == "x" * 400_000
        await attempt.task


THINKS = until_kind(REASONS, "summary_text.delta")
SEARCHES = until_kind(Answer(items=(wire.message("I look."), wire.web_search("x"))), "searching")
SILENCES: dict[str, tuple[bytes, str]] = {  # what was said before, and whose patience counts
    "no word": (STREAM[0], "first_token_timeout_s"),
    "while it thinks": (THINKS, "first_token_timeout_s"),
    "while it runs a tool": (SEARCHES, "first_token_timeout_s"),
    "in mid-stream": (b"".join(STREAM[: FIRST_DELTA + 1]), "stall_timeout_s"),
    "before the end": (b"".join(STREAM[:-1]), "stall_timeout_s"),
}


COMMENT, KEEPALIVE = b": ping\n\n", event(type="keepalive", sequence_number=3)


@pytest.mark.parametrize(
    ("silence", "kept_open_by"),
    [(silence, COMMENT) for silence in SILENCES]
    + [(silence, KEEPALIVE) for silence in SILENCES if not silence.startswith("while")],
)
async def test_silence_is_ended_by_the_sweep(silence: str, kept_open_by: bytes) -> None:
    """What only keeps the connection open is silence too. Without the terminal no answer is whole."""
    said, patience = SILENCES[silence]

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + body(said))
        while not writer.is_closing():
            await asyncio.sleep(0.01)
            writer.write(body(kept_open_by))

    async with scripted_provider(script, api=RESPONSES) as provider:
        attempt = provider.upstream.open(OFFERED)
        expected = silence != "no word"
        await until(lambda: len(provider.requests) == 1 and bool(attempt.parts or attempt.asides) == expected)
        await asyncio.sleep(0.05)
        provider.upstream.sweep(provider.now + PATIENCE[patience])
        assert not attempt.done.done()
        provider.upstream.sweep(provider.now + PATIENCE[patience] + 0.1)
        with pytest.raises(UpstreamError) as raised:
            await attempt.done
        assert (raised.value.code, raised.value.billable) == ("upstream_timeout", True)
        await until(provider.lines[0].is_closing)


@pytest.mark.parametrize(
    ("begun", "tells"),
    [
        (STREAM[0], event(type="response.code_interpreter_call.interpreting", item_id="ci", output_index=0)),
        (THINKS, KEEPALIVE),
        (SEARCHES, KEEPALIVE),
    ],
    ids=["a tool", "reasoning", "a search"],
)
async def test_work_of_the_provider_is_no_silence(begun: bytes, tells: bytes) -> None:
    """A tool that it runs tells how far it is; while the model thinks, that it is there is enough."""
    at_work = asyncio.Event()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + body(begun))
        await at_work.wait()
        writer.write(body(tells))

    async with scripted_provider(script, api=RESPONSES) as provider:
        attempt = provider.upstream.open(CALL)
        await until(
            lambda: len(provider.requests) == 1 and bool(attempt.parts or attempt.asides) == (begun != STREAM[0])
        )
        provider.now += 59
        at_work.set()
        await until(lambda: attempt.last_event_at == provider.now)
        attempt.abort()


async def test_thoughts_and_what_is_sealed_come_before_the_fault() -> None:
    """They were generated, and are counted."""
    said = until_kind(REASONS, "output_item.done")
    async with scripted_provider(says(HEAD + body(said)), api=RESPONSES) as provider:
        attempt = provider.upstream.open(CALL)
        with pytest.raises(UpstreamError):
            await attempt.done
    assert [type(one) for one in attempt.asides][-1] is Sealed
    assert all(isinstance(one, Thought) for one in attempt.asides[:-1])
