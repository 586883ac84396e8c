"""One answer out of a provider's events: what it does not need costs no answer, and a part of one is never whole."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from millrace.errors import UpstreamError
from millrace.types import Finish, FinishReason, Thought, reasoning_of
from millrace.upstreams.asides import Placed
from millrace.upstreams.bodies import DONE, BodyReader
from millrace.upstreams.characters import Characters
from millrace.upstreams.chat.answer import ChatReader
from millrace.upstreams.refusals import Refusals

WHOLE = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 4},
}


def read(body: bytes, size: int = 10**6) -> tuple[str, str, Finish, ChatReader]:
    """Return the text, the reasoning and the end of a body that comes in pieces of so many bytes."""
    answer = ChatReader("m", (), Refusals("m", None, lambda: 0.0), 1000)
    reader, deltas, placed = BodyReader("m"), list[str](), list[Placed]()
    events = [event for at in range(0, len(body), size) for event in reader.feed(body[at : at + size])]
    for event in [*events, *reader.end()]:
        if not answer.is_terminated:
            answer.take(event, deltas, placed)
    finish = answer.end(deltas, placed)
    return "".join(deltas), reasoning_of(aside for _, aside in placed), finish, answer


def sse(*events: Any) -> bytes:
    return b"".join(
        b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n" for event in events
    )


def chunk(content: Any = None, finish: Any = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content} | fields, "finish_reason": finish}]}


def raw(content: bytes) -> bytes:
    """Return an event whose content is these bytes of JSON."""
    return b'{"choices":[{"index":0,"delta":{"content":"' + content + b'"}}]}'


FACE = "\U0001f600"
CONTENTS: dict[str, tuple[Any, ...]] = {  # each says Hello.
    "a list of parts": (chunk([{"type": "text", "text": "Hel"}]), chunk([{"type": "text", "text": "lo."}])),
    "a part": (chunk({"type": "text", "text": "Hello."}),),
    "a list of texts": (chunk(["Hel", "lo."]),),
    "a whole message in one event": ({"choices": [{"message": {"content": "Hello."}}]},),
    "the whole message once more": (chunk("Hello."), {"choices": [{"message": {"content": "Hello."}}]}),
    "side fields of odd types": (
        chunk("Hello.", refusal=False, tool_calls={}, reasoning=3, function_call=[]) | {"id": 7, "created": "now"},
    ),
    "choices that are one": ({"choices": {"delta": {"content": "Hello."}}},),
    "indexes of odd types": ({"choices": [{"index": "0", "delta": {"content": "Hello."}}]},),
    "another answer": (chunk("Hello."), {"choices": [{"index": 1, "delta": {"content": "Other."}}]}),
    "control characters": (raw(b"Hello."), b'{"choices":[],"note":"\x01"}'),
    "nothing but null": (chunk("Hello."), {"choices": None, "usage": None, "error": None}),
    "an event in brackets": ([chunk("Hello.")],),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_what_the_answer_does_not_need_costs_no_answer(content: str) -> None:
    """However odd it is."""
    text, _, finish, _ = read(sse(*CONTENTS[content], chunk(finish="stop"), DONE))
    assert (text, finish.reason) == ("Hello.", FinishReason.STOP)


THOUGHTS: dict[str, dict[str, Any]] = {
    "reasoning_content": {"reasoning_content": "Hm."},
    "reasoning": {"reasoning": "Hm."},
    "thinking": {"thinking": "Hm."},
    "an object": {"reasoning": {"content": "Hm."}},
    "details": {"reasoning_details": [{"type": "reasoning.text", "text": "H"}, {"type": "x", "text": "m."}]},
    "both": {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
    "a part": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]},
    "a plain part": {"content": [{"type": "reasoning", "text": "Hm."}]},
}


@pytest.mark.parametrize("thought", THOUGHTS)
def test_reasoning_under_any_name(thought: str) -> None:
    """It is not text of the answer."""
    text, reasoning, _, _ = read(sse(chunk(**THOUGHTS[thought]), chunk("Four."), chunk(finish="stop"), DONE))
    assert (text, reasoning) == ("Four.", "Hm.")


CUTS = {
    "surrogate halves": (rb"Hi \ud83d", rb"\ude00!"),
    "surrogate halves around an empty delta": (rb"Hi \ud83d", b"", rb"\ude00!"),
    "UTF-8 bytes": (b"Hi \xf0\x9f", b"\x98\x80!"),
    "UTF-8 byte for byte": (b"Hi \xf0", b"\x9f", b"\x98", b"\x80", b"!"),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_character_cut_over_two_events_is_joined(cut: str) -> None:
    """A surrogate pair, or the bytes of UTF-8."""
    text, _, _, _ = read(sse(*map(raw, CUTS[cut]), chunk(finish="stop"), DONE))
    assert text == f"Hi {FACE}!"


@pytest.mark.parametrize("bad", [rb"\ud83d", rb"\ude00", b"\xf0\x9f", b"\xff", b"\x98"])
@pytest.mark.parametrize("last", [True, False])
def test_what_is_no_character_costs_no_answer(bad: bytes, *, last: bool) -> None:
    """It is shown as the replacement character."""
    text, _, _, _ = read(sse(raw(b"a" + bad), *(() if last else (raw(b"b"),)), chunk(finish="stop"), DONE))
    assert text.rstrip("b") in ("a\ufffd", "a\ufffd\ufffd")


@pytest.mark.untraced
@given(st.text(), st.data())
def test_any_text_survives_any_cut_of_its_bytes(text: str, data: st.DataObject) -> None:
    """Nothing is lost, nothing added."""
    whole = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    pieces = [
        whole[a:b].decode("utf-8", "surrogateescape") for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)
    ]
    characters = Characters()
    assert "".join(map(characters.join, pieces)) + characters.flush() == text


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n \n\n"], ids=["plain", "BOM", "white space"])
def test_a_body_is_what_it_says(before: bytes, size: int) -> None:
    """A stream, a whole document, or a document a line, whatever its label is."""
    lines = b"\n".join(json.dumps(chunk(text, finish)).encode() for text, finish in (("Hel", None), ("lo.", "stop")))
    for body in (sse(chunk("Hello.", "stop"), DONE), json.dumps(WHOLE, indent=2).encode(), lines):
        text, _, finish, _ = read(before + body, size)
        assert (text, finish.reason) == ("Hello.", FinishReason.STOP)
    assert read(before + json.dumps(WHOLE).encode(), size)[3].usage is not None


FINISHES = {
    FinishReason.STOP: "stop STOP eos eos_token end_turn stop_sequence COMPLETE FinishReason.STOP xyzzy",
    FinishReason.LENGTH: "length LENGTH max_tokens MAX_TOKENS maxTokens model_length FINISH_REASON_MAX_TOKENS",
    FinishReason.CONTENT_FILTER: "content_filter SAFETY RECITATION PROHIBITED_CONTENT content-filter",
}


@pytest.mark.parametrize("reason", FINISHES)
def test_finish_reasons_in_any_case_and_dialect(reason: FinishReason) -> None:
    """A word that is not known is a stop; the word is kept."""
    for word in FINISHES[reason].split():
        _, _, finish, _ = read(sse(chunk("Hello.", word), DONE))
        assert (finish.reason, finish.word) == (reason, word if word == "xyzzy" else "")


@pytest.mark.parametrize("word", ["error", "abort", "CANCELLED", "insufficient_system_resource", "network_error"])
def test_a_provider_that_broke_off_has_not_answered(word: str) -> None:
    """Its own terminal does not make it whole."""
    with pytest.raises(UpstreamError, match="broke off"):
        read(sse(chunk("Hel"), chunk("", word), DONE))


NO_ENDS = {
    "no finish reason": sse(chunk("Hel")),
    "only null": sse(chunk("Hel", "null"), chunk(finish="")),
    "half an event after the finish": sse(chunk("Hel", "stop")) + b'data: {"choices":[{"delta":{"content":"lo',
    "[DONE] alone": sse(DONE),
    "no event at all": b": hello\n\n",
    "an empty body": b"",
    "half a document": json.dumps(WHOLE).encode()[:-9],
    "a page": b"<!DOCTYPE html><html>",
}


@pytest.mark.parametrize("case", NO_ENDS)
def test_a_part_of_an_answer_is_never_completed(case: str) -> None:
    """Where the provider has not said its end, or half of something after it."""
    with pytest.raises(UpstreamError):
        read(NO_ENDS[case])


@pytest.mark.parametrize("said", [b"", sse(chunk("Hel"))], ids=["at once", "in mid-stream"])
@pytest.mark.parametrize(
    "error",
    [
        sse({"error": {"message": "loading"}}),
        sse({"object": "error", "message": "loading", "code": 503}, DONE),
        sse({"object": "error", "message": "loading", "usage": {"prompt_tokens": 3}}, DONE),
        sse({"type": "error", "error": {"message": "loading"}, "usage": {"completion_tokens": 3}}, DONE),
        sse({"errors": [{"message": "loading"}], "usage": {"total_tokens": 3}}, DONE),
        b'event: error\ndata: {"reason": "loading"}\n\n',
        sse({"choices": [], "error": {"message": "loading"}}, DONE),
        sse({"choices": [{"delta": {"content": ""}, "finish_reason": "error"}], "error": {"message": "loading"}}),
        sse({"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "loading", "code": 502}}]}, DONE),
    ],
)
def test_an_error_inside_a_stream_is_one(said: bytes, error: bytes) -> None:
    """In any of its shapes. What was refused at once is not billed."""
    with pytest.raises(UpstreamError, match="loading") as raised:
        read(said + error)
    assert raised.value.billable is bool(said)


def test_thoughts_come_before_the_text_of_their_event() -> None:
    """Within one read too."""
    answer = ChatReader("m", (), Refusals("m", None, lambda: 0.0), 1000)
    deltas, placed = list[str](), list[Placed]()
    answer.take(json.dumps(chunk("a", reasoning="t")).encode(), deltas, placed)
    assert (deltas, placed) == (["a"], [(0, Thought("t"))])
