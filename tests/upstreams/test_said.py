"""Calls that a provider has answered before, in a batch of its own."""

import dataclasses
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from millrace.ports import Said, said
from millrace.types import BATCH_TIER, Call
from millrace.upstreams.said import unless_said
from tests.support.provider import CALL

PRICED = replace(CALL.model, tier_prices={BATCH_TIER: CALL.model.price})
ASKED = Call(model=PRICED, prompt=dataclasses.replace(CALL.prompt, extras={"service_tier": BATCH_TIER, "seed": 1}))


@pytest.fixture
def before() -> Iterator[Said]:
    answer = Said(PRICED.id, b"{}")
    token = said.set(answer)
    yield answer
    said.reset(token)


def test_a_call_that_is_answered_is_one_of_a_batch(before: Said) -> None:
    assert unless_said(ASKED) is ASKED
    assert before.take(PRICED.id) == b"{}"


def test_one_more_call_is_a_plain_one(before: Said) -> None:
    """Its provider knows no such tier, and takes its usual price."""
    before.take(PRICED.id)
    assert unless_said(ASKED).prompt.extras == {"seed": 1}
    assert unless_said(ASKED).service_tier == ""


def test_so_is_that_of_another_model(before: Said) -> None:
    other = dataclasses.replace(ASKED, model=replace(PRICED, id="other"))
    assert unless_said(other).service_tier == ""
    assert not before.is_taken


def test_calls_of_visitors_stay_as_they_are() -> None:
    assert unless_said(CALL) is CALL
