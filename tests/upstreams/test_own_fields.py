"""A provider's own fields beside an answer and its calls: put together from pieces, bounded, in nobody's way."""

import json
from typing import Any

import pytest

from millrace.types import CallPiece, OwnFields, Tool, ToolCall, calls_of, own_fields_of
from millrace.upstreams.answer import DONE, AnswerReader
from millrace.upstreams.asides import Placed, in_order
from millrace.upstreams.own_fields import MAX_OWN_FIELDS
from millrace.upstreams.refusals import Refusals


def read(*deltas: dict[str, Any], finish: str = "stop") -> list[Placed]:
    """Return what is placed beside the text of an answer."""
    answer = AnswerReader("m", (Tool(name="now"), Tool(name="then")), Refusals("m", None, lambda: 0.0), 1000)
    texts, placed = list[str](), list[Placed]()
    for delta in (*deltas, {"content": "."}):
        answer.take(json.dumps({"choices": [{"delta": delta}]}).encode(), texts, placed)
    answer.take(json.dumps({"choices": [{"delta": {}, "finish_reason": finish}]}).encode(), texts, placed)
    answer.take(DONE, texts, placed)
    answer.end(texts, placed)
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


def test_too_many_are_left_out() -> None:
    """The answer is whole without them."""
    assert own_fields_of(aside for _, aside in read({"reasoning_opaque": "x" * MAX_OWN_FIELDS})) == {}
    call = {
        "index": 0,
        "id": "c",
        "extra_content": "x" * MAX_OWN_FIELDS,
        "function": {"name": "now", "arguments": "{}"},
    }
    (made,) = calls_of(aside for _, aside in read({"tool_calls": [call]}))
    assert made == ToolCall(id="c", name="now", arguments="{}")


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
