"""`max_cost`: what a request may cost is never passed, and a budget that ends an answer says so."""

import asyncio
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from millrace import pricing
from millrace.errors import UpstreamError
from millrace.funnel.facts import Committed, Revised
from millrace.funnel.response_log import ResponseLog
from millrace.types import Call, Delivery, Message, Outcome, Prompt, Refusal, Status, Strategy, Thought, Usage
from tests.support.real_funnel import real_funnel
from tests.support.scripted_models import CUT, LARGE, SMALL, STOP, ScriptedFunnel, request, scripted_funnel

WORDS = [" mill"] * 200
INPUT = 5 + 4 + 3  # tokens of the question: its words, its message, and how the reply begins


def price_of(small: int = 0, large: int = 0) -> Decimal:
    """Return the dollars of so many output tokens after the question."""
    dollars = Decimal(0)
    for tokens, model in ((small, SMALL), (large, LARGE)):
        dollars += (INPUT * model.price.input + tokens * model.price.output) / 10**6 if tokens else 0
    return dollars


def code_of(response: ResponseLog) -> str | None:
    """Return why it did not end well."""
    assert response.ended is not None
    return response.ended.error.code if response.ended.error else response.ended.reason


def outcomes_of(response: ResponseLog) -> list[Outcome]:
    assert response.ended is not None
    return [charge.outcome for charge in response.ended.statement.charges]


async def ask(funnel: ScriptedFunnel, max_cost: Decimal, **fields: Any) -> ResponseLog:
    response = await funnel.ask(request(max_cost=max_cost, **fields))
    assert response.ended is not None
    assert response.ended.statement.cost <= max_cost
    return response


@pytest.mark.parametrize("strategy", [Strategy.SMALL, Strategy.CASCADE, Strategy.RACE, Strategy.HEDGE, Strategy.AUTO])
async def test_an_answer_is_cut_where_the_budget_ends(strategy: Strategy) -> None:
    """The words that were bought stand, the response is incomplete, and no other model is asked."""
    async with scripted_funnel([*WORDS, STOP]) as funnel:
        response = await ask(funnel, price_of(small=50), strategy=strategy)
        assert funnel.small.attempts[0].call.max_output_tokens == 50
        assert funnel.large.attempts == []
    assert response.ended is not None
    assert (response.ended.status, code_of(response)) == (Status.INCOMPLETE, "budget_exceeded")
    assert response.facts.count(" mill") == 50
    assert outcomes_of(response) == [Outcome.ANSWERED]


@pytest.mark.parametrize("asked", [30, None])
async def test_a_cap_that_the_budget_did_not_set_is_the_askers(asked: int | None) -> None:
    """Cut at the asker's own cap it is `max_output_tokens`; with budget enough nothing is cut at all."""
    async with scripted_funnel([*WORDS, STOP]) as funnel:
        response = await ask(funnel, price_of(small=1024), strategy=Strategy.SMALL, max_output_tokens=asked)
        assert funnel.small.attempts[0].call.cap is None
    assert code_of(response) == ("max_output_tokens" if asked else None)


@pytest.mark.parametrize("strategy", [Strategy.SMALL, Strategy.LARGE, Strategy.CASCADE])
async def test_without_one_token_nothing_is_opened(strategy: Strategy) -> None:
    """It fails before any call, and costs nothing."""
    async with scripted_funnel([*WORDS, STOP]) as funnel:
        response = await ask(funnel, Decimal("1e-9"), strategy=strategy)
        assert funnel.small.attempts == funnel.large.attempts == []
    assert response.ended is not None
    assert response.ended.error is not None
    assert (response.ended.error.code, response.ended.error.param) == ("budget_exceeded", "millrace.max_cost_usd")
    assert response.ended.statement.cost == 0


@pytest.mark.parametrize(
    ("words", "bought"), [(["It is 3 x 60 = 190 m deep.", STOP], 40), (["I don't know. "] * 70 + [STOP], 60)]
)
async def test_weak_words_stand_where_the_large_model_cannot_be_paid(words: list[Any], bought: int) -> None:
    """They are not taken back: nothing could take their place."""
    async with scripted_funnel(words) as funnel:
        response = await ask(funnel, price_of(small=bought))
        assert funnel.large.attempts == []
    assert response.ended is not None
    assert (response.ended.status is Status.COMPLETED, code_of(response)) == (False, "budget_exceeded")
    assert not any(isinstance(fact, Revised | Committed) for fact in response.facts)
    assert outcomes_of(response) == [Outcome.CANCELLED if len(words) > 40 else Outcome.ANSWERED]


async def test_what_is_left_buys_a_part_of_the_large_answer() -> None:
    """The small model's weak answer is paid, and the large one gets the rest."""
    async with scripted_funnel(["I don't know.", STOP], [*WORDS, STOP]) as funnel:
        response = await ask(funnel, Decimal("0.001"))
        (attempt,) = funnel.large.attempts
        assert attempt.call.cap is not None
        assert 50 < attempt.call.cap < 100
    assert response.ended is not None
    assert (response.ended.status, code_of(response)) == (Status.INCOMPLETE, "budget_exceeded")
    assert response.facts.count(" mill") == attempt.call.cap
    assert outcomes_of(response) == [Outcome.REVISED, Outcome.ANSWERED]


async def test_a_failing_model_is_the_fault_where_nothing_is_left_to_pay_another() -> None:
    """When no attempt is left, what failed is what is told."""
    async with scripted_funnel([" mill", UpstreamError("upstream_truncated", "x")]) as funnel:
        response = await ask(funnel, price_of(small=30))
    assert response.ended is not None
    assert (response.ended.status, code_of(response)) == (Status.FAILED, "upstream_truncated")


async def test_a_budget_spent_on_thoughts_is_failed() -> None:
    """Nothing was shown, so there is nothing incomplete."""
    async with scripted_funnel([Thought("hm"), CUT]) as funnel:
        response = await ask(funnel, price_of(small=10), strategy=Strategy.SMALL)
    assert response.ended is not None
    assert (response.ended.status, code_of(response)) == (Status.FAILED, "budget_exceeded")


async def test_a_refusal_is_something_said() -> None:
    """It is shown, so what is cut after it is incomplete."""
    async with scripted_funnel([Refusal("No"), CUT]) as funnel:
        response = await ask(funnel, price_of(small=10), strategy=Strategy.SMALL)
    assert response.ended is not None
    assert (response.ended.status, code_of(response)) == (Status.INCOMPLETE, "budget_exceeded")


async def test_requests_with_a_budget_share_no_flight() -> None:
    """Each pays its own call; without one they would share it."""
    async with scripted_funnel(["One.", STOP]) as funnel:
        budget = price_of(small=1024)
        await asyncio.gather(*(funnel.ask(request(id=f"resp_{at}", max_cost=budget)) for at in range(3)))
        assert len(funnel.small.attempts) == 3
        await asyncio.gather(*(funnel.ask(request(id=f"resp_{at}")) for at in range(3)))
        assert len(funnel.small.attempts) == 4


@given(
    st.decimals(min_value=0, max_value=1, places=9),
    st.integers(0, 100_000),
    st.integers(1, 5),
    st.sampled_from([SMALL, LARGE]),
)
def test_what_is_bought_is_never_dearer_than_the_money(
    dollars: Decimal, input_tokens: int, messages: int, model: Any
) -> None:
    """And one token more would be, up to the nanodollar that a cost is rounded to."""
    prompt = Prompt(messages=(Message(role="user", parts=("x",)),) * messages)
    call = Call(model=model, prompt=prompt)
    bought = pricing.output_bought(dollars, call, input_tokens)
    all_input = input_tokens

    def cost(output_tokens: int) -> Decimal:
        return pricing.cost(Usage(input_tokens=all_input, output_tokens=output_tokens), model.price)

    assert bought == 0 or cost(bought) <= dollars + pricing.NANODOLLAR
    assert bought == call.max_output_tokens or cost(bought + 1) >= dollars - pricing.NANODOLLAR


@pytest.mark.parametrize("price", ["0", "1e-40"])
def test_a_model_that_costs_next_to_nothing_is_bought_to_its_cap(price: str) -> None:
    """However many tokens the money would buy."""
    free = replace(SMALL, price=replace(SMALL.price, input=Decimal(price), output=Decimal(price)))
    call = Call(model=free, prompt=request().prompt)
    assert pricing.output_bought(Decimal(10), call, 100) == free.max_output_tokens
    assert pricing.output_bought(Decimal(-1), call, 100) == 0


@pytest.mark.parametrize("cents", ["0.0001", "0.0005", "0.001", "0.002", "0.005", "0.01", "0.05", "0.1", "1", "10"])
async def test_over_real_http_the_bill_never_passes_the_budget(cents: str) -> None:
    """Good and weak answers under every strategy, as the providers count them."""
    budget = Decimal(cents) / 100
    ends: set[str | None] = set()
    async with real_funnel() as (funnel, small, large):
        for number, strategy in enumerate([*Strategy] * 2):
            question = f"{'[weak] ' if number % 2 else ''}talk of {number} [tokens=150]"
            fields: dict[str, Any] = {"strategy": strategy, "delivery": Delivery.SPECULATE, "max_cost": budget}
            asked = request(Message(role="user", parts=(question,)), id=f"resp_{number}", **fields)
            response = ResponseLog(asked, time.monotonic)
            await funnel.answer(response)
            assert response.ended is not None
            assert response.ended.statement.cost <= budget
            ends.add(code_of(response))
        assert (small.stats.started + large.stats.started == 0) == (cents == "0.0001")
    assert ends <= {None, "budget_exceeded"}
    assert ("budget_exceeded" in ends) == (budget < Decimal("0.005"))
