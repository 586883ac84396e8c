"""What is booked for an answer without a cap: a likely part at first, more as it grows, and no more than the budget."""

import dataclasses
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from millrace.access import keys
from millrace.assembly import key_store
from millrace.funnel.bill import Bill
from millrace.pricing import BOOKED
from millrace.principal import Limits, Role
from millrace.types import Call, Outcome
from tests.support.bills import LARGE, REQUEST, SMALL, Store, StubAttempt, settle
from tests.support.server import Start
from tests.support.wire_client import check_response, wire_client

UNCAPPED = replace(SMALL, max_output_tokens=None, context_window=128_000)
CALL = Call(model=UNCAPPED, prompt=REQUEST.prompt)
OUTPUT = SMALL.price.output / 10**6  # dollars per token
FIRST = 10 * SMALL.price.input / 10**6 + BOOKED * OUTPUT  # dollars, of what is booked at first


class Budget:
    """An admission whose budget has so many dollars more."""

    limits_cost = True

    def __init__(self, left: Decimal, reserved: Decimal = FIRST) -> None:
        self.left, self.reserved = left, reserved

    def reserve_more(self, cost: Decimal, _tokens: int) -> Decimal:
        granted = min(cost, self.left)
        self.left -= granted
        self.reserved += granted
        return granted

    def settle(self, cost: Decimal, tokens: int) -> None: ...


def bill_of(store: Store, left: Decimal) -> Bill:
    bill = Bill(REQUEST, LARGE.price, store.ledger, 1_700_000_000.5, Budget(left))
    bill.input_tokens = 10
    return bill


async def booked(store: Store) -> int:
    """Return the output tokens that the open row counts."""
    (row,) = await store.rows()
    (call,) = json.loads(row["calls"])
    assert row["cost_nanodollars"] == 10 * 150 + call["output_tokens"] * 600
    return int(call["output_tokens"])


async def test_a_likely_part_is_booked_and_more_before_it_is_used_up(store: Store) -> None:
    """So a process that dies has booked at least what the answer has cost, and not the model's whole window."""
    bill, attempt = bill_of(store, Decimal(1)), StubAttempt()
    charge = bill.open(CALL, attempt)
    assert await booked(store) == BOOKED
    for steps in range(1, 5):
        while len(attempt.parts) <= steps * BOOKED - BOOKED // 2:
            attempt.parts += [" mill"] * 50
            assert bill.book_more()
        assert await booked(store) == (steps + 1) * BOOKED > len(attempt.parts)
    charge.outcome = Outcome.ANSWERED
    settle(bill)


def test_an_answer_ends_where_its_budget_does_and_not_before(store: Store) -> None:
    bill, attempt = bill_of(store, 100 * OUTPUT), StubAttempt()
    bill.open(CALL, attempt)
    attempt.parts += [" mill"] * (BOOKED + 99)
    assert bill.book_more()
    assert attempt.limited_to == BOOKED + 100
    attempt.parts += [" mill"]
    assert not bill.book_more()


def test_where_an_answer_ends_moves_as_money_comes_back(store: Store) -> None:
    """It never runs past what is booked, until all of it is."""
    budget = Budget(100 * OUTPUT)
    bill, attempt = Bill(REQUEST, LARGE.price, store.ledger, 1_700_000_000.5, budget), StubAttempt()
    bill.input_tokens = 10
    call = dataclasses.replace(CALL, cap=4 * BOOKED)
    charge = bill.open(call, attempt)
    attempt.parts += [" mill"] * (BOOKED + 99)
    assert bill.book_more()
    budget.left = 2 * BOOKED * OUTPUT
    assert bill.book_more()
    assert charge.is_limited
    assert attempt.limited_to == 2 * BOOKED + 100 == charge.booked_tokens
    budget.left = Decimal(1)
    attempt.parts += [" mill"] * 2 * BOOKED
    assert bill.book_more()
    assert not charge.is_limited
    assert attempt.limited_to == call.most_output_tokens


def test_large_deltas_count_by_their_length_and_arguments_too(store: Store) -> None:
    """Some providers send fifty tokens at once."""
    bill, attempt = bill_of(store, Decimal(0)), StubAttempt()
    bill.open(CALL, attempt)
    attempt.parts += [" mill" * BOOKED]
    assert not bill.book_more()


def test_a_model_that_costs_nothing_is_never_over_a_budget(store: Store) -> None:
    free = replace(UNCAPPED, price=replace(SMALL.price, output=Decimal(0)))
    bill, attempt = bill_of(store, Decimal(0)), StubAttempt(words=5000)
    bill.open(dataclasses.replace(CALL, model=free), attempt)
    assert bill.book_more()


async def keyed(folder: Path, **limits: Any) -> dict[str, str]:
    """Make a key with limits; return the header that shows it."""
    key, text = keys.make(tenant="acme", role=Role.USE, limits=Limits(**limits), created_at=1.0)
    async with key_store(str(folder)) as store:
        await store.add(key)
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize("cache", ["on", "off"])
async def test_a_running_answer_is_cut_where_the_keys_budget_ends(start: Start, tmp_path: Path, cache: str) -> None:
    """Also one that others could join; what was said until then stands."""
    headers = await keyed(tmp_path, dollars_per_day=Decimal("0.0007"))

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)

    async with start(change) as running:
        async with wire_client(running.ws_url, additional_headers=headers) as client:
            options = {"strategy": "small", "cache": cache}
            response = check_response(await client.ask("talk [tokens=9000] [rate=1500]", millrace=options))
        refused = await _post(running.url, headers)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "budget_exceeded"})
    assert 0.0006 < response["usage"]["cost_usd"] < 0.001
    assert refused["error"]["code"] == "budget_exceeded"


async def test_small_budgets_admit_requests_without_a_cap(start: Start, tmp_path: Path) -> None:
    """The worst that a model could say would be a dollar, or more tokens than a minute has."""
    headers = await keyed(tmp_path, dollars_per_day=Decimal("0.05"), tokens_per_minute=20_000)

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)

    async with start(change) as running, wire_client(running.ws_url, additional_headers=headers) as client:
        for number in range(5):
            assert check_response(await client.ask(f"Hello {number}"))["status"] == "completed"


async def _post(url: str, headers: dict[str, str]) -> Any:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/responses", json={"input": "and now?"}, headers=headers) as answer,
    ):
        return await answer.json()
