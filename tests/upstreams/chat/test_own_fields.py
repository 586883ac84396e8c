"""A provider's own fields beside an answer and its calls: put together from pieces, bounded, in nobody's way."""

import json
from typing import Any

import pytest

from millrace.types import CallPiece, OwnFields, Tool, ToolCall, calls_of, own_fields_of
from millrace.upstreams.asides import Placed, in_order
from millrace.upstreams.bodies import DONE
from millrace.upstreams.chat.answer import ChatReader
from millrace.upstreams.chat.own_fields import MAX_OWN_FIELDS, NOT_JSON, TOO_LONG
from millrace.upstreams.refusals import Refusals


def read(*deltas: dict[str, Any], finish: str = "stop", notes: tuple[str, ...] = ()) -> list[Placed]:
    """Return what is placed beside the text of an answer, which has these notes."""
    answer = ChatReader("m", (Tool(name="now"), Tool(name="then")), Refusals("m", None, lambda: 0.0), 1000)
    texts, placed = list[str](), list[Placed]()
    for delta in (*deltas, {"content": "."}):
        answer.take(json.dumps({"choices": [{"delta": delta}]}).encode(), texts, placed)
    answer.take(json.dumps({"choices": [{"delta": {}, "finish_reason": finish}]}).encode(), texts, placed)
    answer.take(DONE, texts, placed)
    answer.end(texts, placed)
    assert (texts, answer.notes) == (["."], notes)
    return placed


def details(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"reasoning_details": list(blocks)}


TEXT: dict[str, Any] = {"type": "reasoning.text", "index": 0}
WHOLE = [
    TEXT | {"text": "Let me see.", "signature": "sig", "format": "f"},
    {"type": "reasoning.encrypted", "index": 1, "data": "AbCd"},
    {"type": "reasoning.summary", "index": 2, "summary": "Seen."},
]
PIECES: dict[str, tuple[dict[str, Any], ...]] = {
    "whole": (details(*WHOLE),),
    "block by block": tuple(map(details, WHOLE)),
    "in pieces, the signature last and alone": (
        details(TEXT | {"text": "Let me ", "format": "f"}),
        details(TEXT | {"text": "see.", "format": None}),
        details(TEXT | {"signature": "sig"}, {"type": "reasoning.encrypted", "index": 1, "data": "Ab"}),
        details({"type": "reasoning.encrypted", "index": 1, "data": "Cd"}, {"type": "reasoning.summary", "index": 2}),
        details({"type": "reasoning.summary", "index": 2, "summary": "Seen."}),
    ),
    "interleaved": (
        details(TEXT | {"text": "Let me ", "format": "f"}, {"type": "reasoning.encrypted", "index": 1, "data": "Ab"}),
        details({"type": "reasoning.summary", "index": 2, "summary": "Se"}, TEXT | {"text": "see."}),
        details({"type": "reasoning.encrypted", "index": 1, "data": "Cd"}, TEXT | {"signature": "sig"}),
        details({"type": "reasoning.summary", "index": 2, "summary": "en."}),
    ),
    "the signature in pieces": (
        details(TEXT | {"text": "Let me see.", "signature": "si", "format": "f"}, *WHOLE[1:]),
        details(TEXT | {"text": "", "signature": "g"}),
    ),
    "the signature with each piece, and then none": (
        details(TEXT | {"text": "Let me ", "signature": "sig", "format": "f"}),
        details(TEXT | {"text": "see.", "signature": "sig"}, *WHOLE[1:]),
        details(TEXT | {"text": "", "signature": ""}, TEXT | {"signature": None}),
    ),
}


@pytest.mark.parametrize("way", PIECES)
def test_blocks_are_put_together_by_their_type_and_index(way: str) -> None:
    """Their signature holds for the whole text only."""
    assert own_fields_of(aside for _, aside in read(*PIECES[way])) == {"reasoning_details": WHOLE}


def test_blocks_without_an_index_are_left_as_they_are() -> None:
    blocks = [{"type": "reasoning.text", "text": "a"}, {"type": "reasoning.text", "text": "b"}, "odd"]
    assert own_fields_of(aside for _, aside in read({"reasoning_details": blocks})) == {"reasoning_details": blocks}


def test_they_come_once_at_the_end() -> None:
    """So that no token pays for them."""
    asides = [aside for _, aside in read(*PIECES["in pieces, the signature last and alone"])]
    assert [type(aside) for aside in asides].count(OwnFields) == 1
    assert isinstance(asides[-1], OwnFields)


def thinking(text: str, signature: str | None = "") -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


REDACTED = [{"type": "redacted_thinking", "data": "x"}, {"type": "redacted_thinking", "data": "y"}]
THOUGHTS = [thinking("Let me see.", "a"), *REDACTED, thinking("So.", "b"), thinking("Yes.", "c")]
STREAMED: list[dict[str, Any]] = [
    *(thinking("Let me "), thinking("see.", None), thinking("", "a"), *REDACTED),
    *(thinking("S"), thinking("o."), thinking("", "b"), thinking("Yes."), thinking("", "c")),
]


@pytest.mark.parametrize("blocks", [[[block] for block in STREAMED], [THOUGHTS], [[block] for block in THOUGHTS]])
def test_thinking_blocks_without_an_index_end_with_their_signature(blocks: list[list[dict[str, Any]]]) -> None:
    """LiteLLM sends them so: in pieces or whole, under two names."""
    deltas = [{"thinking_blocks": each, "provider_specific_fields": {"thinking_blocks": each}} for each in blocks]
    found = own_fields_of(aside for _, aside in read(*deltas) if isinstance(aside, OwnFields))
    assert found == {"thinking_blocks": THOUGHTS, "provider_specific_fields": {"thinking_blocks": THOUGHTS}}


@pytest.mark.parametrize("pieces", [["AbCd"], ["Ab", "Cd"], ["AbCd", "AbCd"]])
def test_a_signature_beside_an_answer_is_put_together(pieces: list[str]) -> None:
    """Whether it comes whole, in pieces, or twice."""
    deltas = [{"reasoning_opaque": piece} for piece in pieces]
    assert own_fields_of(aside for _, aside in read(*deltas)) == {"reasoning_opaque": "AbCd"}


HALF = "x" * (MAX_OWN_FIELDS // 2)


@pytest.mark.parametrize(
    ("deltas", "note"),
    [
        ([{"reasoning_opaque": "x" * MAX_OWN_FIELDS}], TOO_LONG),
        ([{"reasoning_opaque": HALF}, {"reasoning_opaque": HALF}, {"reasoning_opaque": "end"}], TOO_LONG),
        ([details(TEXT | {"signature": "a" + HALF}), details(TEXT | {"signature": "b" + HALF})], TOO_LONG),
        ([details(TEXT | {"text": "a", "signature": "s"}), {"extra_content": {"a": HALF, "b": HALF}}], TOO_LONG),
        ([{"reasoning_opaque": "half a character: \ud83d"}, {"reasoning_opaque": "more"}], NOT_JSON),
    ],
)
def test_what_cannot_be_kept_is_left_out_whole(deltas: list[dict[str, Any]], note: str) -> None:
    """A part of a signature is refused. The answer is whole without it, and a note says so."""
    placed = read(*deltas, notes=(note,))
    assert own_fields_of(aside for _, aside in placed if isinstance(aside, OwnFields)) == {}


@pytest.mark.parametrize("beside", ["x" * MAX_OWN_FIELDS, "\ud83d"])
def test_what_cannot_be_kept_beside_a_call_is_left_out_whole(beside: str) -> None:
    """Also what the call had before its name came; the call is whole."""
    first = {"index": 0, "id": "c", "vendor": "s"}
    second = {"index": 0, "extra_content": beside, "function": {"name": "now", "arguments": "{}"}}
    third = {"index": 0, "vendor": "t"}
    note = TOO_LONG if len(beside) > 1 else NOT_JSON
    placed = read(*({"tool_calls": [piece]} for piece in (first, second, third)), finish="tool_calls", notes=(note,))
    assert calls_of(aside for _, aside in placed) == (ToolCall(id="c", name="now", arguments="{}"),)


def test_what_is_repeated_with_each_piece_of_a_call_counts_once() -> None:
    signed = {"extra_content": {"google": {"thought_signature": "s" * 4096}}}
    pieces = [signed | {"index": 0, "function": {"arguments": piece}} for piece in ("{", *" " * 300, "}")]
    first = {"index": 0, "id": "c", "function": {"name": "now", "arguments": ""}}
    (made,) = calls_of(aside for _, aside in read(*({"tool_calls": [piece]} for piece in (first, *pieces))))
    assert made.own_fields == signed


def test_many_pieces_and_blocks_cost_no_more_than_their_length() -> None:
    """A provider with an index for each word holds up nobody else."""
    words = [details(TEXT | {"text": "word"}, {"type": "t", "index": at}) for at in range(1, 9000)]
    (found,) = own_fields_of(aside for _, aside in read(*words)).values()
    assert (len(found), found[0]["text"]) == (9000, "word" * 8999)


SIGNED = {"google": {"thought_signature": "s=="}}
CALLS: dict[str, tuple[dict[str, Any], ...]] = {
    "with the whole call": ({"id": "c", "extra_content": SIGNED, "function": {"name": "now", "arguments": "{}"}},),
    "before the name": (
        {"index": 0, "id": "c", "extra_content": SIGNED},
        {"index": 0, "function": {"name": "now", "arguments": "{}"}},
    ),
    "after the arguments": (
        {"index": 0, "id": "c", "function": {"name": "now", "arguments": "{}"}},
        {"index": 0, "extra_content": SIGNED},
    ),
    "with every piece": (
        {"index": 0, "id": "c", "extra_content": SIGNED, "function": {"name": "now", "arguments": "{"}},
        {"index": 0, "extra_content": SIGNED, "function": {"arguments": "}"}},
    ),
}


@pytest.mark.parametrize("way", CALLS)
def test_what_stands_beside_a_call_stays_with_it(way: str) -> None:
    """Whichever piece of the call brings it, and however the pieces are read."""
    signed = ToolCall(id="c", name="now", arguments="{}", own_fields={"extra_content": SIGNED})
    other = {"index": 1, "id": "d", "function": {"name": "then", "arguments": "{}"}}
    deltas = [{"tool_calls": [piece]} for piece in (*CALLS[way], other)]
    placed = read(*deltas, finish="tool_calls")
    unsigned = ToolCall(id="d", name="then", arguments="{}")
    assert calls_of(aside for _, aside in placed) == (signed, unsigned)
    merged = [aside for aside in in_order([], [(0, aside) for _, aside in placed]) if isinstance(aside, CallPiece)]
    assert calls_of(merged) == (signed, unsigned)
