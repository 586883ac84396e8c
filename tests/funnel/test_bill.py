"""The bill of a request: what a call costs, who pays it, and that it is settled once."""

import json
from decimal import Decimal
from itertools import pairwise
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from millrace import tokens
from millrace.funnel.bill import Bill, milliseconds
from millrace.funnel.open_charge import OpenCharge
from millrace.types import (
    Call,
    Outcome,
    Status,
    Usage,
)
from tests.support.bills import LARGE, REQUEST, SMALL, USAGE, Store, StubAttempt, call, settle
from tests.support.manual_attempt import ManualAttempt


@pytest.mark.parametrize(
    ("attempt", "billable", "usage"),
    [
        (StubAttempt(words=3), True, Usage(input_tokens=10, output_tokens=3, estimated=True)),
        (StubAttempt(), False, Usage()),
        (StubAttempt(words=3, usage=USAGE), True, USAGE),
        (StubAttempt(usage=USAGE), False, USAGE),
    ],
)
def test_usage_is_reported_or_estimated_or_none(attempt: StubAttempt, usage: Usage, *, billable: bool) -> None:
    """A provider's own figures go first; without them tokens are counted, unless the call surely cost nothing."""
    charge = OpenCharge(Call(model=SMALL, prompt=REQUEST.prompt), attempt, input_tokens=10)
    charge.billable = billable
    assert charge.usage == usage
    assert charge.so_far.cost == Decimal(usage.input_tokens * 150 + usage.output_tokens * 600) / 10**9
    assert charge.so_far.outcome is Outcome.RUNNING


def test_a_call_that_is_closed_early_costs_the_input_that_was_reported() -> None:
    """With what came from the provider's cache; the output is counted here."""
    cached = replace(SMALL, price=replace(SMALL.price, cached_input=Decimal("0.015"), cache_write=Decimal("0.1875")))
    attempt = StubAttempt(words=3)
    attempt.input_usage = Usage(input_tokens=1000, cached_input_tokens=900, cache_write_tokens=80, output_tokens=1)
    charge = OpenCharge(Call(model=cached, prompt=REQUEST.prompt), attempt, input_tokens=10)
    assert charge.usage == replace(attempt.input_usage, output_tokens=3, estimated=True)
    assert charge.so_far.cost == Decimal(20 * 150 + 900 * 15 + 3 * 600) / 10**9 + Decimal("0.000015")
    charge.billable = False
    assert charge.usage == Usage()


@pytest.mark.parametrize("reported", [None, Usage(input_tokens=12, output_tokens=9)])
async def test_a_bill_that_is_handed_over_adds_up_to_the_call(store: Store, reported: Usage | None) -> None:
    """Who leaves pays the input and what came until then, the heir the rest; also over two heirs."""
    bills = [store.bill(replace(REQUEST, id=f"resp_{number}")) for number in range(3)]
    attempt = StubAttempt(words=2)
    charge = bills[0].open(Call(model=SMALL, prompt=REQUEST.prompt), attempt)
    for leaver, successor in pairwise(bills):
        leaver.hand_over(successor)
        settle(leaver, status=Status.CANCELLED)
        attempt.parts += [" mill"] * 3
    attempt.usage, charge.outcome = reported, Outcome.ANSWERED
    settle(bills[2])
    calls = [made for row in await store.rows() for made in json.loads(row["calls"])]
    assert [made["outcome"] for made in calls] == ["cancelled", "cancelled", "answered"]
    whole = reported or Usage(input_tokens=10, output_tokens=8)
    assert sum(made["input_tokens"] for made in calls) == whole.input_tokens
    assert sum(made["output_tokens"] for made in calls) == whole.output_tokens
    assert calls[0]["input_tokens"] == 10
    assert [made["output_tokens"] for made in calls[:2]] == [2, 3]


async def test_what_was_trimmed_is_in_the_row_and_in_the_saving(store: Store) -> None:
    """The large model alone would have been sent all of it."""
    bill = store.bill()
    bill.trimmed_tokens = 100
    call(bill, LARGE, StubAttempt(usage=USAGE))
    settle(bill)
    (row,) = await store.rows()
    assert (row["trimmed_tokens"], row["saved_nanodollars"]) == (100, 100 * 2500)


async def test_nothing_is_saved_by_not_answering(store: Store) -> None:
    """What a cancelled or failed request cost is booked, and all of it is lost."""
    bill = store.bill()
    call(bill, SMALL, StubAttempt(words=10), Outcome.CANCELLED)
    settle(bill, status=Status.CANCELLED, code="cancelled", statement=bill.statement(answered=False))
    (row,) = await store.rows()
    assert (row["status"], row["code"]) == ("cancelled", "cancelled")
    assert row["cost_nanodollars"] == -row["saved_nanodollars"] == 10 * 150 + 10 * 600


def test_a_bill_is_settled_once(store: Store) -> None:
    """A second settlement is a fault of this program, not a second row."""
    bill = store.bill()
    settle(bill)
    with pytest.raises(AssertionError, match="settled once"):
        settle(bill)


class Reserved:
    """An admission that notes what it is settled with."""

    limits_cost = True
    reserved = Decimal("Infinity")

    def __init__(self) -> None:
        self.settled: list[tuple[Decimal, int]] = []

    def settle(self, cost: Decimal, tokens: int) -> None:
        self.settled.append((cost, tokens))

    def reserve_more(self, cost: Decimal, _tokens: int) -> Decimal:
        return cost


async def test_what_was_reserved_is_settled_with_the_bill(store: Store) -> None:
    """By the cost and the tokens of all its calls; and with nothing where the request never became a response."""
    settled, voided = Reserved(), Reserved()
    bill = Bill(REQUEST, LARGE.price, store.ledger, 0.0, settled)
    bill.input_tokens = 10
    call(bill, SMALL, StubAttempt(usage=Usage(input_tokens=10, output_tokens=5)), Outcome.REVISED)
    call(bill, LARGE, StubAttempt(usage=Usage(input_tokens=10, output_tokens=7)))
    assert settled.settled == []
    cost = bill.statement().cost
    settle(bill)
    assert settled.settled == [(cost, 32)]
    Bill(REQUEST, LARGE.price, store.ledger, 0.0, voided).close()
    bill.close()
    assert voided.settled == [(Decimal(0), 0)]
    assert len(settled.settled) == 1


def test_a_call_that_has_ended_is_counted_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often its bill is looked at."""
    count = Mock(side_effect=tokens.count_output)
    monkeypatch.setattr(tokens, "count_output", count)
    bill = store.bill()
    call(bill, SMALL, StubAttempt(words=3), Outcome.REVISED)
    statements = [bill.statement() for _ in range(5)]
    assert count.call_count == 1
    assert all(statement == statements[0] for statement in statements)


def test_milliseconds() -> None:
    """Of two readings; None where one was never taken."""
    assert milliseconds(1.0, 1.25) == 250.0
    assert milliseconds(None, 1.0) is milliseconds(1.0, None) is None


async def test_a_call_that_runs_on_after_all_is_counted_to_its_end() -> None:
    attempt = ManualAttempt()
    charge = OpenCharge(Call(model=SMALL, prompt=REQUEST.prompt), attempt, input_tokens=10)
    charge.outcome = Outcome.FAILED
    assert charge.usage.output_tokens == 0
    charge.run_on()
    attempt.read("It", " is", " deep")
    charge.outcome = Outcome.CANCELLED
    assert charge.usage.output_tokens == 3
