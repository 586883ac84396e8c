"""What was reserved of a key's limits is given back on every way out, also where Millrace itself is at fault."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from millrace.errors import MillraceError, UpstreamError
from millrace.funnel import funnel as funnel_module
from millrace.funnel.bill import Bill
from millrace.funnel.facts import Fact, Started
from millrace.funnel.response_log import ResponseLog
from millrace.types import Status, Strategy
from tests.support.scripted_models import STOP, request, scripted_funnel


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


class BrokenAtStart:
    """A subscriber that raises at the first fact."""

    congested = None
    is_metered = False

    def text(self, deltas: list[str]) -> None: ...

    def fail(self) -> None: ...

    def fact(self, fact: Fact) -> None:
        assert not isinstance(fact, Started), "broken"


def log_of(**fields: Any) -> ResponseLog:
    return ResponseLog(request(**fields), lambda: 0.0)


async def test_an_answer_settles_what_was_reserved_once() -> None:
    admission = Reserved()
    async with scripted_funnel(["Two.", STOP]) as stage:
        await stage.funnel.answer(log_of(), admission)
    assert len(admission.settled) == 1
    assert admission.settled[0][0] > 0


async def test_a_subscriber_that_breaks_at_the_start_costs_no_place_and_no_answer() -> None:
    admission, response = Reserved(), log_of()
    response.subscribers = (BrokenAtStart(),)
    async with scripted_funnel(["Two.", STOP]) as stage:
        await stage.funnel.answer(response, admission)
    assert len(admission.settled) == 1
    assert response.ended is not None
    assert response.ended.status is Status.COMPLETED


class PanicError(BaseException):
    """What a library written in Rust raises when it panics; no `Exception`."""


async def test_a_panic_of_a_library_ends_the_request() -> None:
    """With a terminal, and a row in the ledger."""
    admission, response = Reserved(), log_of()

    def panic(*_: Any) -> Any:
        raise PanicError

    with pytest.MonkeyPatch.context() as patch:
        async with scripted_funnel(["Two.", STOP]) as stage:
            patch.setattr(stage.funnel, "_trim", panic)
            await stage.funnel.answer(response, admission)
    assert response.ended is not None
    assert response.ended.error is not None
    assert response.ended.error.code == "internal_error"
    assert len(admission.settled) == 1


async def test_a_bill_that_is_broken_costs_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    response = log_of(strategy=Strategy.SMALL)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(Bill, "statement", broken)
    async with scripted_funnel([UpstreamError("upstream_error", "no")]) as stage:
        await stage.funnel.answer(response, Reserved())
    assert response.ended is not None
    assert response.ended.status is Status.FAILED


@pytest.mark.parametrize("ends", ["cancelled", "failed"])
async def test_a_bill_that_cannot_be_made_out_costs_no_place(monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """The request was cancelled or its model failed, and then its end could not be worked out either."""
    admission, response = Reserved(), log_of(strategy=Strategy.SMALL)

    def broken(*_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(funnel_module, ends, broken)
    script = ["Two."] if ends == "cancelled" else [UpstreamError("upstream_error", "no")]
    async with scripted_funnel(script) as stage:
        task = asyncio.get_running_loop().create_task(stage.funnel.answer(response, admission))
        await asyncio.sleep(0)
        if ends == "cancelled":
            task.cancel()
        await asyncio.wait((task,))
    assert admission.settled == [(Decimal(0), 0)]


async def test_a_request_that_was_queued_or_is_refused_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled in its queue, also where its bill breaks; and refused because too many run."""
    dropped, broken, refused = Reserved(), Reserved(), Reserved()
    async with scripted_funnel(["Two.", STOP]) as stage:
        stage.funnel.drop(log_of(), dropped)
        monkeypatch.setattr(stage.funnel._places, "lack", lambda *_: 1)
        with pytest.raises(MillraceError, match="are running already"):
            await stage.funnel.answer(log_of(), refused)
        monkeypatch.setattr(Bill, "_entry", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stage.funnel.drop(log_of(), broken)
    assert dropped.settled == refused.settled == broken.settled == [(Decimal(0), 0)]
