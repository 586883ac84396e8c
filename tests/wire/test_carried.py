"""A provider's own fields in a reasoning item: they come back as they were, or count as nothing."""

from base64 import urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given, strategies as st

from millrace.types import Api, Message, Sealed
from millrace.wire import carried
from millrace.wire.requests import read_create

JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(), st.lists, max_leaves=5)
FIELDS = st.dictionaries(st.text(min_size=1), JSON, max_size=3)
SIGNED = {"extra_content": {"google": {"thought_signature": "s=="}}}
DETAILS = {"reasoning_details": [{"type": "reasoning.encrypted", "data": "AbCd"}]}


def messages(*items: dict[str, Any]) -> tuple[Message, ...]:
    return read_create({"input": [{"role": "user", "content": "?"}, *items]}, ()).prompt.messages[1:]


def reasoning(words: str = "", content: str | None = None) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": content}
    return item | ({"content": [{"type": "reasoning_text", "text": words}]} if words else {})


def call(id_: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": id_, "name": "now", "arguments": "{}"}


def says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@given(FIELDS, st.dictionaries(st.text(min_size=1), FIELDS.filter(bool), max_size=2))
def test_what_is_written_is_read(message: dict[str, Any], calls: dict[str, dict[str, Any]]) -> None:
    assert carried.read(carried.write(message, calls)) == carried.Carried(message, calls)


def test_a_word_is_nested_no_deeper_than_a_request() -> None:
    """What goes through its fields later may recurse."""
    for depth, is_read in ((50, True), (150, False), (5000, False)):
        fields = '{"message": {"a": ' + "[" * depth + "]" * depth + "}}"
        word = carried.PREFIX + urlsafe_b64encode(fields.encode()).decode()
        assert (carried.read(word) != carried.NOTHING) is is_read


@pytest.mark.parametrize("word", [None, "", "gAAAAAB-of-OpenAI", "mr1.", "mr1.!!!", "mr1.bm8=", "mr1.W10=", "mr1.ä"])
def test_what_was_written_elsewhere_or_is_damaged_is_nothing(word: str | None) -> None:
    assert carried.read(word) == carried.NOTHING
    (message,) = messages(reasoning("Hm.", word), says("a"))
    assert (message.parts, message.reasoning, message.own_fields) == (("a",), "Hm.", {})
    assert len(message.sealed) == (word is not None and word.startswith("g"))  # what OpenAI wrote goes back to it


def test_an_item_before_its_turn() -> None:
    """The fields of each call are its own."""
    carries = carried.write(DETAILS, {"c1": SIGNED, "c3": SIGNED})
    (turn,) = messages(reasoning("Hm.", carries), call("c1"), call("c2"))
    assert (turn.reasoning, turn.own_fields) == ("Hm.", DETAILS)
    assert [made.own_fields for made in turn.calls] == [SIGNED, {}]


def test_an_item_without_words_may_come_at_the_end_of_its_turn() -> None:
    """There the server puts what the provider sent last."""
    carries = carried.write(DETAILS, {"c": SIGNED})
    turns = messages(says("a"), reasoning(content=carries), {"role": "user", "content": "b"}, says("c"))
    assert [turn.own_fields for turn in turns] == [DETAILS, {}, {}]
    (turn,) = messages(call("c"), reasoning(content=carries))
    assert (turn.own_fields, turn.calls[0].own_fields) == (DETAILS, SIGNED)


@pytest.mark.parametrize("fields", [{}, {"type": None}, {"type": ["thinking"]}])
def test_a_block_without_a_type_is_none(fields: dict[str, Any]) -> None:
    word = carried.write({}, {}, [Sealed(api=Api.MESSAGES, fields=fields)])
    assert carried.read(word).blocks == ()


def test_a_block_whose_id_is_no_text_is_kept_as_it_is() -> None:
    block = Sealed(api=Api.RESPONSES, fields={"type": "of_tomorrow", "id": ["x"]})
    (turn,) = messages(reasoning("Hm.", carried.write({}, {}, [block])), says("a"))
    assert [one.fields for one in turn.sealed] == [block.fields]
