"""A model that ignores its cap is cut in the middle of what it sends, whatever it sends and however it is cut up."""

import asyncio
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from millrace import tokens
from millrace.errors import UpstreamError
from millrace.types import CallPiece, Finish, FinishReason, Thought, Tool
from millrace.types.request import MERGE_TOKENS
from millrace.upstreams import attempt as attempts
from millrace.upstreams.cap import OutputCap
from millrace.upstreams.messages.api import MESSAGES
from tests.support.http_client import CHAT, RESPONSES, body_of, data_of, lines_of, text_of_chunks
from tests.support.messages_wire import sse
from tests.support.provider import CALL, DONE, END, HEAD, MODEL, answer, body, event, says, scripted_provider, stay
from tests.support.server import configuration_for, serving
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import check_response, text_of, wire_client

CUT = Finish(reason=FinishReason.LENGTH)
WORDS = " and then the miller went down to the water and looked at the old wheel" * 400
TEXTS = {
    "words": WORDS,
    "letters": "x" * 50_000,
    "blanks": " " * 200_000,
    "emoji": "👩‍👩‍👧‍👦🏽‍🚀" * 5000,
    "another script": "ศูนย์กลางของจักรวาล" * 3000,
    "rare": "𒀀𒀁𓀀𐎀" * 5000,
    "numbers": "1234567890" * 5000,
}


def delta(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": fields}]}).encode() + b"\n\n"


def called(arguments: str) -> bytes:
    piece = {"index": 0, "id": "call_1", "function": {"name": "write", "arguments": arguments}}
    return delta(tool_calls=[piece])


def pieces_of(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


KINDS: dict[str, Callable[[str], bytes]] = {
    "text": event,
    "reasoning": lambda text: delta(reasoning_content=text),
    "a refusal": lambda text: delta(refusal=text),
    "tool arguments": called,
}


@pytest.mark.parametrize("size", [7, 500, 200_000])
@pytest.mark.parametrize("text", TEXTS)
async def test_text_past_the_cap_is_cut_to_within_a_merge_window(text: str, size: int) -> None:
    """Also in the middle of one event of thousands of tokens. The cap is 100."""
    whole = TEXTS[text][: max(40_000, 300 * size)]
    attempt, finish = await answer(says(HEAD + body(*(event(piece) for piece in pieces_of(whole, size)))))
    shown = "".join(attempt.parts)
    assert finish == CUT
    assert attempt.usage is None
    assert whole.startswith(shown)
    assert 100 - MERGE_TOKENS <= tokens.count(shown) <= 100 + MERGE_TOKENS


@pytest.mark.parametrize("size", [7, 200_000])
@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_a_model_sends_counts(kind: str, size: int) -> None:
    """Reasoning, refusals and the arguments of tools too."""
    call = dataclasses.replace(
        CALL, prompt=dataclasses.replace(CALL.prompt, tools=(Tool(name="write"),), max_output_tokens=100)
    )
    sent = [KINDS[kind](piece) for piece in pieces_of(WORDS, size)]
    attempt, finish = await answer(says(HEAD + body(*sent)), call)
    assert finish.reason is FinishReason.LENGTH
    assert 100 <= tokens.count_output(attempt.parts, attempt.asides) <= 100 + MERGE_TOKENS


async def test_all_kinds_together_share_one_cap() -> None:
    """And nothing of the event that passes it is shown beyond the cut."""
    thought, text = WORDS[:300], WORDS
    attempt, finish = await answer(says(HEAD + body(delta(reasoning_content=thought, content=text, refusal="no"))))
    assert finish == CUT
    assert attempt.asides == [Thought(thought)]
    assert 100 <= tokens.count_output(attempt.parts, attempt.asides) <= 100 + MERGE_TOKENS
    assert not any(isinstance(aside, CallPiece) for aside in attempt.asides)


async def test_its_connection_is_closed_at_the_cut() -> None:
    """It would go on for ever."""
    async with scripted_provider(says(HEAD + body(event(WORDS)), then=stay)) as provider:
        attempt = provider.upstream.open(CALL)
        assert await attempt.done == CUT
        await until(lambda: provider.left_at is not None)


async def test_a_signature_without_end_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no tokens that could be counted, and is kept until its block ends."""
    monkeypatch.setattr(attempts, "MAX_BYTES", 1024 * 1024)
    delta = {"type": "signature_delta", "signature": "S" * 10_000}
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}
    more = sse({"type": "content_block_delta", "index": 0, "delta": delta})

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + body(sse(start)))
        while not writer.is_closing():
            writer.write(body(more))
            await writer.drain()

    async with scripted_provider(script, api=MESSAGES) as provider:
        attempt = provider.upstream.open(CALL)
        with pytest.raises(UpstreamError, match="more than 1 MiB"):
            await attempt.done
        await until(lambda: provider.left_at is not None)


async def test_what_it_reports_after_the_cut_is_not_booked() -> None:
    """It reports what it has sent, of which most was not read."""
    usage = {"prompt_tokens": 5, "completion_tokens": 5000}
    sent = body(event(WORDS, finish="stop", usage=usage), DONE) + END
    attempt, finish = await answer(says(HEAD + sent))
    assert finish == CUT
    assert attempt.usage is None


async def test_an_answer_at_its_cap_is_not_touched() -> None:
    """A model that heeds its cap, and counts a little differently."""
    text = tokens.encoding().decode(tokens.encoding().encode_ordinary(WORDS)[: 100 + MERGE_TOKENS // 2])
    attempt, finish = await answer(says(HEAD + body(*map(event, pieces_of(text, 5)), event(finish="stop"), DONE) + END))
    assert ("".join(attempt.parts), finish.reason) == (text, FinishReason.STOP)


async def test_an_answer_far_below_its_cap_is_never_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the cap costs no token anything."""
    call = dataclasses.replace(CALL, model=replace(MODEL, max_output_tokens=2000, context_window=4000))
    text = WORDS[:1500]

    def counted(_: str) -> Any:
        raise AssertionError("counted")

    monkeypatch.setattr(tokens.encoding(), "encode_ordinary", counted, raising=False)
    attempt, finish = await answer(
        says(HEAD + body(*map(event, pieces_of(text, 5)), event(finish="stop"), DONE) + END), call
    )
    assert ("".join(attempt.parts), finish.reason) == (text, FinishReason.STOP)


@given(st.lists(st.text(max_size=40), max_size=60), st.integers(0, 80))
def test_what_fits_is_a_beginning_within_the_limit(texts: list[str], limit: int) -> None:
    """However the text is cut up, nothing fits after the first text that did not fit whole."""
    cap, fitting = OutputCap(limit), ""
    for text in texts:
        fitted = cap.fitting(text)
        fitting += fitted
        if fitted != text:
            assert cap.fitting("more") == ""
            break
    assert "".join(texts).startswith(fitting)
    assert tokens.count(fitting) <= limit + MERGE_TOKENS


@pytest.mark.parametrize("door", ["a socket", RESPONSES, CHAT])
@pytest.mark.parametrize("size", [5, 100_000])
@pytest.mark.parametrize("cap", [16, 1000])
async def test_a_client_sees_its_own_cap_kept_and_pays_for_what_it_sees(door: str, size: int, cap: int) -> None:
    """Over every door: incomplete, `max_output_tokens`, the tokens shown are the tokens booked; its model is left."""
    sent = body(*map(event, pieces_of(WORDS, size)))
    async with scripted_provider(says(HEAD + sent, then=stay)) as provider:
        configuration = configuration_for(provider.upstream.endpoint.base_url, "http://127.0.0.1:9/v1")
        async with serving(configuration) as url, asyncio.timeout(PATIENCE_S):
            if door == "a socket":
                async with wire_client(url.replace("http", "ws", 1)) as client:
                    events = await client.ask("Go on.", model="small", max_output_tokens=cap)
                response = check_response(events)
                shown, booked = text_of(events), response["usage"]["output_tokens"]
                assert response["incomplete_details"]["reason"] == "max_output_tokens"
            else:
                shown, booked = await _streamed(url, door, cap)
        await until(lambda: provider.left_at is not None)
    assert cap <= tokens.count(shown) <= cap + MERGE_TOKENS
    assert abs(booked - tokens.count(shown)) <= MERGE_TOKENS // 4


async def _streamed(url: str, door: str, cap: int) -> tuple[str, int]:
    field = "max_output_tokens" if door == RESPONSES else "max_completion_tokens"
    asked = body_of(door, "Go on.", model="small", stream=True, **{field: cap})
    asked |= {} if door == RESPONSES else {"stream_options": {"include_usage": True}}
    async with aiohttp.ClientSession(url) as http, http.post(door, json=asked) as streamed:
        lines = await lines_of(streamed)
    events = [json.loads(data) for data in data_of(lines) if data != "[DONE]"]
    if door == RESPONSES:
        response = check_response(events)
        assert response["incomplete_details"]["reason"] == "max_output_tokens"
        return text_of(events), response["usage"]["output_tokens"]
    assert "length" in [choice["finish_reason"] for chunk in events for choice in chunk["choices"]]
    return text_of_chunks(events), events[-1]["usage"]["completion_tokens"]


def test_a_cap_may_be_moved_while_text_comes() -> None:
    """Below what has come nothing more fits; above it, as much as there are tokens."""
    cap = OutputCap(100)
    assert cap.fitting(" mill" * 10) == " mill" * 10
    cap.change(12)
    assert cap.fitting(" mill" * 10) == " mill" * 2
    cap = OutputCap(100)
    cap.fitting(" mill" * 10)
    cap.change(5)
    assert cap.fitting(" mill") == ""
    cap = OutputCap(5)
    cap.change(15)
    assert cap.fitting(" mill" * 20) == " mill" * 15
