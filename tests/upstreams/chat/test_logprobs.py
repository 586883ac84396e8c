"""Log-probabilities as providers send them, carried with the text that they belong to."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from millrace.types import Scored, Tool, joined, scores_of
from millrace.types.scored import cut
from tests.support.provider import CALL, DONE, END, HEAD, answer, body, event, says

ASKED = replace(CALL, prompt=replace(CALL.prompt, extras={"logprobs": True}))


def score(token: Any, **fields: Any) -> dict[str, Any]:
    return {"token": token, "logprob": -0.5, **fields}


def chunk(content: str | None, *tokens: Any, finish: str | None = None, **logprobs: Any) -> bytes:
    choice = {"delta": {"content": content}, "finish_reason": finish}
    choice["logprobs"] = logprobs.get("logprobs", {"content": [score(token) for token in tokens], "refusal": None})
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


async def read(*chunks: bytes, call: Any = ASKED) -> list[tuple[str, list[Any]]]:
    """Return each text delta with its tokens."""
    attempt, _ = await answer(says(HEAD + body(*chunks, event(None, "stop"), DONE) + END), call)
    await attempt.task
    return [(str(part), [entry["token"] for entry in entries(part)]) for part in attempt.parts]


def entries(text: str) -> list[Any]:
    found: list[Any] = json.loads(b"[" + scores_of(text) + b"]")
    return found


async def test_each_text_has_its_own() -> None:
    """One token, or several, or none."""
    found = await read(chunk("Hel", "Hel"), chunk("lo you", "lo", " you"), chunk("!"))
    assert found == [("Hel", ["Hel"]), ("lo you", ["lo", " you"]), ("!", [])]


async def test_what_comes_before_its_text_waits_for_it() -> None:
    """A character in two tokens has no text until the second one; what comes last belongs to the last text."""
    found = await read(chunk("", "\\xc3"), chunk("é", "\\xa9"), chunk("", "<end>"))
    assert found == [("é", ["\\xc3", "\\xa9"]), ("", ["<end>"])]


async def test_an_answer_without_text_has_none() -> None:
    """No empty text is made for them."""
    assert await read(chunk("", "x"), event("Hi")) == [("Hi", ["x"])]
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    choice = {"delta": {"tool_calls": [call]}, "logprobs": {"content": [score("x")]}, "finish_reason": "tool_calls"}
    with_tool = replace(ASKED, prompt=replace(ASKED.prompt, tools=(Tool(name="f"),)))
    assert await read(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n", call=with_tool) == []


ODD: list[Any] = [
    None,
    True,
    5,
    "x",
    [],
    {},
    {"content": None},
    {"content": "x"},
    {"content": [1, "x", None]},
    {"tokens": ["Hi"]},
]


@pytest.mark.parametrize("logprobs", ODD)
async def test_what_cannot_be_read_costs_no_answer(logprobs: Any) -> None:
    """It is not there."""
    assert await read(chunk("Hi", logprobs=logprobs)) == [("Hi", [])]


async def test_unasked_ones_are_not_kept() -> None:
    """Text stays plain."""
    attempt, _ = await answer(says(HEAD + body(chunk("Hi", "Hi"), event(None, "stop"), DONE) + END))
    assert [type(part) for part in attempt.parts] == [str]
    assert attempt.notes == ()


async def test_half_a_character_in_a_token() -> None:
    """Bytes that are no UTF-8 become a question mark; the rest is kept."""
    bad = chunk("Hi", "H", "?i").replace(b"?i", b"\xc3i")
    assert [text for text, _ in await read(bad)] == ["Hi"]


async def test_what_a_cap_cuts_off_goes_with_its_logprobs() -> None:
    """Those of whole tokens stay."""
    attempt, _ = await answer(
        says(HEAD + body(*(chunk(" mill race", " mill", " race") for _ in range(200))) + END),
        replace(ASKED, cap=10),
    )
    for part in attempt.parts:
        assert part.startswith("".join(entry["token"] for entry in entries(part)))
    assert len(attempt.parts) < 200


@given(st.lists(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3), max_size=5), st.data())
def test_nothing_is_parted(texts: list[list[str]], data: st.DataObject) -> None:
    """Joined in any groups, all tokens stay in order with the text; a cut keeps the tokens that fit."""
    deltas: list[str] = [
        Scored("".join(tokens), json.dumps([score(token) for token in tokens])[1:-1].encode()) for tokens in texts
    ]
    at = data.draw(st.integers(0, len(deltas)))
    whole = joined([joined(deltas[:at]), joined(deltas[at:])])
    assert whole == "".join(deltas)
    assert [entry["token"] for entry in entries(whole)] == [token for tokens in texts for token in tokens]
    size = data.draw(st.integers(0, len(whole)))
    kept = cut(whole, size)
    assert kept == whole[:size]
    assert kept.startswith("".join(entry["token"] for entry in entries(kept)))
