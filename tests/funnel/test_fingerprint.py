"""What is computed from values alone: the cache key, prices, token estimates, lanes, the names of models."""

import unicodedata
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from millrace import pricing, tokens
from millrace.errors import MillraceError
from millrace.funnel.catalog import Catalog
from millrace.funnel.fingerprint import Keys, keys_of
from millrace.types import CacheMode, Delivery, Format, Message, Model, Price, Prompt, Request, Strategy, Tier, Usage
from millrace.web.lanes import Lanes, Place
from millrace.wire import limits

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
    changed = replace(request, prompt=replace(request.prompt, **prompt))
    return keys_of(changed, (SMALL, LARGE), ("empty", "form"), "an embedder")


def key_of(text: str) -> bytes:
    return key(messages=turns(text))


def key_by(small: Model = SMALL, large: Model = LARGE, checks: tuple[str, ...] = ("empty", "form")) -> bytes:
    return keys_of(REQUEST, (small, large), checks, "an embedder").exact


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
    "schema's name": key(format=replace(FORM, name="m")),
    "schema's strictness": key(format=replace(FORM, strict=True)),
    "schema's description": key(format=replace(FORM, description="d")),
    "schema's content": key(format=replace(FORM, schema={"type": "object"})),
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
    "key order of a schema": (key(format=FORM), key(format=replace(FORM, schema=dict(reversed(SCHEMA.items()))))),
}


@pytest.mark.parametrize("change", SAME)
def test_what_does_not_decide_it_is_not(change: str) -> None:
    """These requests are the same request."""
    one, other = SAME[change]
    assert one == other
    assert len(one) == 32


def test_a_key_is_the_same_in_any_process() -> None:
    """Or no stored answer would be found after a restart. What changes this key raises `fingerprint.VERSION`."""
    assert key(format=FORM).hex() == "367ae7a465b64c774f9ea4bd37cf486bf4c799bcd7f3df0bdc6dc38bef5b534f"


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


COUNT = st.integers(0, 10**9)
DOLLARS = st.decimals(0, 10_000, places=6, allow_nan=False)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    input_tokens = draw(COUNT)
    cached = draw(st.integers(0, input_tokens))
    return Usage(input_tokens=input_tokens, cached_input_tokens=cached, output_tokens=draw(COUNT))


@pytest.mark.parametrize(
    ("usage", "price", "dollars"),
    [
        (Usage(), PRICE, "0"),
        (Usage(input_tokens=1), PRICE, "0.000000150"),
        (Usage(output_tokens=1), PRICE, "0.000000600"),
        (Usage(input_tokens=1, cached_input_tokens=1), PRICE, "0.000000075"),
        (Usage(input_tokens=1, cached_input_tokens=1), replace(PRICE, cached_input=None), "0.000000150"),
        (Usage(input_tokens=1_000_000, output_tokens=1_000_000), PRICE, "0.75"),
        (Usage(input_tokens=1000, cached_input_tokens=400, output_tokens=10, reasoning_tokens=7), PRICE, "0.000126"),
    ],
)
def test_a_cost_is_exact(usage: Usage, price: Price, dollars: str) -> None:
    """Per million tokens; the cached at their own price, if they have one; reasoning is part of the output."""
    assert pricing.cost(usage, price) == Decimal(dollars)


@given(usages(), usages(), st.builds(Price, input=DOLLARS, output=DOLLARS, cached_input=st.none() | DOLLARS))
def test_costs_are_whole_nanodollars_never_negative_and_add_up(one: Usage, other: Usage, price: Price) -> None:
    """Two calls cost what one call of both sizes does, within the nanodollar that each is rounded to."""
    both = Usage(
        input_tokens=one.input_tokens + other.input_tokens,
        cached_input_tokens=one.cached_input_tokens + other.cached_input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
    )
    costs = [pricing.cost(usage, price) for usage in (one, other)]
    assert all(cost >= 0 and cost == cost.quantize(pricing.NANODOLLAR) for cost in costs)
    assert abs(sum(costs) - pricing.cost(both, price)) <= Decimal("1.5e-9")


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 1), (3, 1), (4, 2), (6, 2), (3_000_000, 1_000_000)])
def test_an_estimate_is_a_third_of_the_bytes_rounded_up(size: int, count: int) -> None:
    """Whole numbers, without floats on the way."""
    assert tokens.estimate(size) == count


class LanesModel(RuleBasedStateMachine):
    """Any order of joining, starting and leaving, against the plain rules."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes()
        self.count = 0
        self.joined: list[Place] = []  # all that are in, oldest first
        self.running: list[Place] = []

    @rule(lane=st.none() | st.integers(0, 40), burst=st.integers(1, 40), spread=st.booleans())
    def join(self, lane: int | None, burst: int, *, spread: bool) -> None:
        for index in range(burst):
            self.count += 1
            place = Place(self.count, None if lane is None else str(lane + index * spread))
            named = {other.stream_id for other in self.joined} - {None}
            in_lane = any(other.stream_id == place.stream_id for other in self.joined)
            must_wait = in_lane or len(self.running) >= limits.MAX_RUNNING
            full = must_wait and len(self.joined) - len(self.running) >= limits.MAX_QUEUED
            if full or (place.stream_id not in {None, *named} and len(named) >= limits.MAX_LANES):
                with pytest.raises(MillraceError) as raised:
                    self.lanes.join(place)
                assert raised.value.code == ("queue_full" if full else "websocket_stream_limit_reached")
            else:
                self.lanes.join(place)
                self.joined.append(place)

    @rule(times=st.integers(1, 20))
    def start(self, times: int) -> None:
        for _ in range(times):
            busy = {place.stream_id for place in self.running}
            free = [place for place in self.joined if place.stream_id not in busy]
            expected = free[0] if free and len(self.running) < limits.MAX_RUNNING else None
            assert self.lanes.start_next() == expected
            self.running += [expected] if expected else []

    @precondition(lambda self: self.joined)
    @rule(data=st.data(), only_running=st.booleans())
    def leave(self, data: st.DataObject, *, only_running: bool) -> None:
        place = data.draw(st.sampled_from(self.running if only_running and self.running else self.joined))
        for _ in range(2):  # leaving twice is leaving once
            self.lanes.leave(place)
        self.joined.remove(place)
        self.running = [other for other in self.running if other != place]

    @invariant()
    def within_limits_and_in_order(self) -> None:
        assert list(self.lanes.running.values()) == self.running
        assert len(self.running) <= limits.MAX_RUNNING
        assert len({place.stream_id for place in self.running}) == len(self.running)
        for lane in {place.stream_id for place in self.joined}:
            assert self.lanes.in_lane(lane) == [place for place in self.joined if place.stream_id == lane]
        assert self.lanes.in_lane("empty") == []


TestLanes = LanesModel.TestCase


CATALOG = Catalog(SMALL, LARGE, {"gpt-4o": "auto", "mini": "small"}, Strategy.CASCADE)


@pytest.mark.parametrize(
    ("name", "asked", "resolved"),
    [
        ("auto", None, ("auto", Strategy.CASCADE)),
        ("small", None, ("small", Strategy.SMALL)),
        ("large", None, ("large", Strategy.LARGE)),
        ("small-model", None, ("small-model", Strategy.SMALL)),
        ("large-model", None, ("large-model", Strategy.LARGE)),
        ("gpt-4o", None, ("auto", Strategy.CASCADE)),
        ("small", Strategy.LARGE, ("small", Strategy.LARGE)),
        ("gpt-4o", Strategy.AUTO, ("auto", Strategy.AUTO)),
    ],
)
def test_a_name_means_a_strategy(name: str, asked: Strategy | None, resolved: tuple[str, Strategy]) -> None:
    """The asked strategy goes before the name's, which goes before the configuration's."""
    assert CATALOG.resolve(name, asked) == resolved


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    """Aliases included; what was asked for is shown, but not all of it."""
    with pytest.raises(MillraceError) as raised:
        CATALOG.resolve("x" * 5000, None)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert "auto, small, large, small-model, large-model, gpt-4o, mini" in raised.value.message
    assert len(raised.value.message) < 250


def test_what_a_catalog_lists() -> None:
    """The models in order, and every name that is not an alias."""
    assert CATALOG.models == (SMALL, LARGE)
    assert CATALOG.names == ["auto", "small", "large", "small-model", "large-model"]


@pytest.mark.timeout(10)
def test_a_key_is_quick_for_texts_made_to_be_slow() -> None:
    """Composing takes time in the square of a run of marks, so long texts are taken as they are."""
    marks = "a" + "\u0301\u0316" * 200_000
    assert key_of(marks) != key_of(marks + "!")
