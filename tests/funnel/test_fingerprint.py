"""What is computed from values alone: the cache key, prices, token estimates, lanes, the names of models."""

import dataclasses
import unicodedata
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from millrace.funnel.fingerprint import Keys, keys_of
from millrace.types import (
    Api,
    CacheMode,
    Delivery,
    Format,
    Message,
    Model,
    Native,
    Price,
    Prompt,
    Request,
    Strategy,
    Tier,
)

PRICE = Price(input=Decimal("0.15"), cached_input=Decimal("0.075"), output=Decimal("0.60"))


def model(tier: Tier, **changes: Any) -> Model:
    fields: dict[str, Any] = {"id": f"{tier}-model", "address": "openai http://127.0.0.1:1/v1", "price": PRICE}
    return Model(tier=tier, context_window=128_000, max_output_tokens=1024, **fields | changes)


SMALL, LARGE = model(Tier.SMALL), model(Tier.LARGE)
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
FORM = Format(kind="json_schema", name="n", schema=SCHEMA)


def turns(*texts: str) -> tuple[Message, ...]:
    """Return a conversation of a user and an assistant in turns."""
    return tuple(Message(role=("user", "assistant")[index % 2], parts=(text,)) for index, text in enumerate(texts))


def two_parts(one: str, other: str) -> tuple[Message, ...]:
    return (Message(role="user", parts=(one, other)),)


REQUEST = Request(
    id="resp_1",
    tenant="anonymous",
    model="auto",
    strategy=Strategy.AUTO,
    delivery=Delivery.PREFIX,
    cache=CacheMode.ON,
    prompt=Prompt(messages=turns("What is a millrace?")),
    metadata={},
)


def key(request: Request = REQUEST, **prompt: Any) -> bytes:
    """Return the key of a request with some of its prompt changed."""
    return keys(request, **prompt).exact


def keys(request: Request = REQUEST, **prompt: Any) -> Keys:
    changed = replace(request, prompt=dataclasses.replace(request.prompt, **prompt))
    return keys_of(changed, (SMALL, LARGE), ("empty", "form"))


def key_of(text: str) -> bytes:
    return key(messages=turns(text))


def key_by(small: Model = SMALL, large: Model = LARGE, checks: tuple[str, ...] = ("empty", "form")) -> bytes:
    return keys_of(REQUEST, (small, large), checks).exact


DIFFERENT: dict[str, bytes] = {
    "nothing": key(),
    "tenant": key(replace(REQUEST, tenant="other")),
    "model": key(replace(REQUEST, model="small")),
    "strategy": key(replace(REQUEST, strategy=Strategy.SMALL)),
    "checks": key_by(checks=("empty",)),
    "small model's name": key_by(replace(SMALL, id="x")),
    "large model's name": key_by(large=replace(LARGE, id="x")),
    "small model's address": key_by(replace(SMALL, address="x")),
    "small model's cap": key_by(replace(SMALL, max_output_tokens=9)),
    "large model's cap": key_by(large=replace(LARGE, max_output_tokens=9)),
    "the two swapped": key_by(LARGE, SMALL),
    "asked cap": key(max_output_tokens=100),
    "temperature": key(temperature=0.5),
    "temperature 0": key(temperature=0.0),
    "top_p": key(top_p=0.5),
    "verbosity": key(verbosity="low"),
    "reasoning effort": key(reasoning_effort="low"),
    "json object": key(format=Format(kind="json_object")),
    "schema": key(format=FORM),
    "schema's name": key(format=dataclasses.replace(FORM, name="m")),
    "schema's strictness": key(format=dataclasses.replace(FORM, strict=True)),
    "schema's description": key(format=dataclasses.replace(FORM, description="d")),
    "schema's content": key(format=dataclasses.replace(FORM, schema={"type": "object"})),
    "text": key_of("What is a mill?"),
    "inner white space": key_of("What is a  millrace?"),
    "case": key_of("what is a millrace?"),
    "role": key(messages=(Message(role="system", parts=("What is a millrace?",)),)),
    "parts": key(messages=two_parts("What is a ", "millrace?")),
    "system prompt": key(messages=(Message(role="system", parts=("x",)), *REQUEST.prompt.messages)),
    "earlier turns": key(messages=turns("Hello", "Hello!", "What is a millrace?")),
    "white space in an earlier turn": key(messages=turns("Hello ", "Hello!", "What is a millrace?")),
    "white space of an answer": key(messages=turns("Hello", "Hello! ", "What is a millrace?")),
}


@pytest.mark.parametrize("change", DIFFERENT)
def test_whatever_decides_the_answer_is_in_the_key(change: str) -> None:
    """No two of these requests may share an answer."""
    assert Counter(DIFFERENT.values())[DIFFERENT[change]] == 1


SAME: dict[str, tuple[bytes, bytes]] = {
    "id": (key(), key(replace(REQUEST, id="resp_2"))),
    "metadata": (key(), key(replace(REQUEST, metadata={"a": "b"}))),
    "delivery": (key(), key(replace(REQUEST, delivery=Delivery.FINAL))),
    "cache mode": (key(), key(replace(REQUEST, cache=CacheMode.REFRESH))),
    "price": (key(), key_by(replace(SMALL, price=replace(PRICE, input=Decimal(9))))),
    "order of checks": (key(), key_by(checks=("form", "empty"))),
    "a cap above the models'": (key(max_output_tokens=1024), key(max_output_tokens=5000)),
    "no cap": (key(), key(max_output_tokens=1024)),
    "whole numbers": (key(temperature=1.0), key(temperature=1)),
    "NFC": (key_of("caf\u00e9 \u1e9b\u0323"), key_of("cafe\u0301 \u1e9b\u0323")),
    "outer white space": (key(), key_of(" \n What is a millrace?\u00a0\t")),
    "outer white space of two parts": (key(messages=two_parts("a ", " b")), key(messages=two_parts(" a ", " b "))),
    "of the last user text, not of the last": (key(messages=turns("a", "b ")), key(messages=turns(" a ", "b "))),
    "key order of a schema": (
        key(format=FORM),
        key(format=dataclasses.replace(FORM, schema=dict(reversed(SCHEMA.items())))),
    ),
}


@pytest.mark.parametrize("change", SAME)
def test_what_does_not_decide_it_is_not(change: str) -> None:
    """These requests are the same request."""
    one, other = SAME[change]
    assert one == other
    assert len(one) == 32


def test_a_key_is_the_same_in_any_process() -> None:
    """Or no stored answer would be found after a restart. What changes this key raises `fingerprint.VERSION`."""
    assert key(format=FORM).hex() == "2ababd9017980db96ee00d9c9474b8fe69625d4faae9bd2476dc41be7440826c"


def normal(parts: list[str]) -> list[str]:
    """Return the parts of a last user turn as they go into a key."""
    made = [unicodedata.normalize("NFC", part) for part in parts]
    for index, strip in ((0, str.lstrip), (-1, str.rstrip)) if made else ():
        made[index] = strip(made[index])
    return made


@given(st.lists(st.text(max_size=8), max_size=3), st.lists(st.text(max_size=8), max_size=3))
def test_no_two_texts_share_a_key(one: list[str], other: list[str]) -> None:
    """Keys are equal exactly where the normalised parts are."""
    keys = [key(messages=(Message(role="user", parts=tuple(parts)),)) for parts in (one, other)]
    assert (keys[0] == keys[1]) == (normal(one) == normal(other))


@pytest.mark.timeout(120)  # hours, if it took time in the square
def test_a_key_is_quick_for_texts_made_to_be_slow() -> None:
    """Composing takes time in the square of a run of marks, so long texts are taken as they are."""
    marks = "a" + "\u0301\u0316" * 200_000
    assert key_of(marks) != key_of(marks + "!")


def billed(*parts: str, role: str = "system") -> Keys:
    return keys(messages=(Message(role=role, parts=parts), *turns("?")))


def test_a_billing_header_is_no_part_of_a_key() -> None:
    """It differs each time. Only a part that is nothing else is one, and only in a system message."""
    header = "x-anthropic-billing-header: cc_version=2.1; cch={};"
    once, again = header.format("a1"), header.format("b2")
    assert billed(once, "Be brief.") == billed(again, "Be brief.") == billed("Be brief.")
    for other in (billed(f"{once}\nBe brief."), billed(once, "Be long."), billed(once, "Be brief.", role="user")):
        assert other != billed("Be brief.")


def test_how_an_answer_is_shown_is_no_part_of_a_key() -> None:
    """What else only one API understands is."""

    def asked(**fields: object) -> Keys:
        return keys(native=Native(api=Api.RESPONSES, fields=fields))

    assert asked(include=["x"], reasoning={"summary": "auto"}) == keys()
    assert asked(reasoning={"context": "all_turns"}) != keys()
