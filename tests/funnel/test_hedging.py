"""Hedges: when a silent call gets company, when not, who wins, and what it costs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from millrace.funnel.facts import Routed
from millrace.funnel.hedging import BURST, LEAST_WAIT_S, Hedging
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.ttft import LEAST
from millrace.stores.database import MEMORY, SqliteDatabase
from millrace.types import Api, Message, Outcome, Prompt, Sealed, Source, Thought, Tier, Tool
from tests.support.clock import ManualClock
from tests.support.scripted_models import STOP, ScriptedFunnel, ScriptedUpstream, Step, request
from tests.support.waiting import until

SILENT: tuple[Step, ...] = ()  # a script that never comes to its end
QUICK = ("Quick.", STOP)


def observe(hedging: Hedging, clock: ManualClock, tier: Tier, seconds: float, times: int) -> None:
    """Let so many calls of a model begin after so many seconds, one after the other."""
    for _ in range(times):
        call = hedging.opened(request(), tier)
        clock.now += seconds
        call.came()


def hedging_that_knows(share: float = 0.5, large_s: float | None = 1.0) -> tuple[Hedging, ManualClock]:
    """Return what has seen enough calls of the small model, which begin after 0.1 s, and saved up some hedges."""
    clock = ManualClock()
    hedging = Hedging(clock, share)
    observe(hedging, clock, Tier.SMALL, 0.1, LEAST)
    if large_s is not None:
        observe(hedging, clock, Tier.LARGE, large_s, LEAST)
        observe(hedging, clock, Tier.SMALL, 0.1, LEAST)  # of late
    for _ in range(10):
        hedging.wait_s(request())
    return hedging, clock


@asynccontextmanager
async def hedged(
    *small: Sequence[Step], large: Sequence[Step] = ("Large.", STOP), hedging: Hedging | None = None
) -> AsyncIterator[ScriptedFunnel]:
    """Build a funnel that hedges; `small` are the scripts of the small model's calls, in order."""
    database = SqliteDatabase(MEMORY)
    try:
        yield ScriptedFunnel(
            ScriptedUpstream(*small), ScriptedUpstream(large), database, hedging=hedging or hedging_that_knows()[0]
        )
    finally:
        await asyncio.to_thread(database.close)


def outcomes(response: ResponseLog) -> list[tuple[str, Outcome]]:
    assert response.ended is not None
    return [(str(charge.tier), charge.outcome) for charge in response.ended.statement.charges]


def text_of(response: ResponseLog) -> str:
    return "".join(fact for fact in response.facts if isinstance(fact, str))


def test_it_waits_for_the_running_p95() -> None:
    """Not less than anybody notices, and not before enough is known."""
    clock = ManualClock()
    hedging = Hedging(clock, 0.1)
    observe(hedging, clock, Tier.SMALL, 2.0, LEAST - 1)
    assert hedging.wait_s(request()) is None
    observe(hedging, clock, Tier.SMALL, 2.0, 1)
    assert hedging.wait_s(request()) == pytest.approx(2.0)
    observe(hedging, clock, Tier.SMALL, 0.01, 300)
    assert hedging.wait_s(request()) == LEAST_WAIT_S


@pytest.mark.parametrize(("share", "most"), [(0.05, 50), (0.1, 100), (0.0, 0)])
def test_the_budget_is_a_share_of_the_requests(share: float, most: int) -> None:
    """However many are silent; what is saved up is bounded, so that no burst follows a quiet hour."""
    hedging, _ = hedging_that_knows(share)
    waits = [hedging.wait_s(request()) for _ in range(1000)]
    granted = sum(hedging.grants(asked_for=False) for _ in range(1000))
    assert granted <= BURST
    granted += sum(
        hedging.wait_s(request()) is not None and hedging.grants(asked_for=False) for _ in range(1000 - granted)
    )
    assert most - BURST <= granted <= most + BURST
    assert (hedging.report().made, waits[0] is None) == (granted, share == 0)


def test_one_that_a_client_asks_for_needs_no_budget() -> None:
    """It pays for it."""
    assert Hedging(ManualClock(), 0.0).grants(asked_for=True)


@pytest.mark.parametrize(
    ("small_s", "large_s", "is_off"),
    [(0.1, 1.0, False), (0.3, 1.0, False), (0.1, 3.0, False), (0.3, 3.0, True), (0.3, None, True)],
)
def test_it_is_off_when_both_models_are_slow(small_s: float, large_s: float | None, *, is_off: bool) -> None:
    """Also if the large one is not called, so that nobody knows. Then nobody gets one, whoever asks."""
    hedging, clock = hedging_that_knows(large_s=None if large_s is None else 1.0)
    for _ in range(32):
        observe(hedging, clock, Tier.SMALL, small_s, 1)
        if large_s is not None:
            observe(hedging, clock, Tier.LARGE, large_s, 1)
    assert hedging.is_off is is_off
    assert hedging.grants(asked_for=True) is not is_off
    assert hedging.report().off == is_off


TOOL = Tool(name="look_up")
FLEX = {"service_tier": "flex"}
SIGNED = Sealed(api=Api.MESSAGES, fields={"type": "thinking", "signature": "x"})


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": (TOOL,)},
        {"max_cost": Decimal(1)},
        {"asked_again": True},
        {"extras": FLEX},
        {"prompt": Prompt(messages=(Message(role="assistant", sealed=(SIGNED,)), Message(role="user", parts=("?",))))},
    ],
)
def test_what_is_never_hedged(fields: dict[str, Any]) -> None:
    """What acts, what has a limit, what is bound, what is slow on purpose."""
    hedging, _ = hedging_that_knows()
    assert hedging.wait_s(request(**fields)) is None
    assert hedging.wait_s(request()) is not None


def test_what_is_slow_on_purpose_says_nothing_of_the_model() -> None:
    """Nor does what is asked again in the background."""
    clock = ManualClock()
    hedging = Hedging(clock, 0.1)
    for fields in list[dict[str, Any]](({"extras": FLEX}, {"asked_again": True})):
        for _ in range(LEAST):
            call = hedging.opened(request(**fields), Tier.SMALL)
            clock.now += 1
            call.came()
    assert hedging.trigger_s is None


async def test_a_silent_small_model_gets_a_second_call() -> None:
    """It wins with its first word; the first call is closed and charged, and the route says so."""
    async with hedged(SILENT, QUICK) as funnel:
        response = await funnel.ask(request())
    assert text_of(response) == "Quick."
    assert outcomes(response) == [("small", Outcome.LOST), ("small", Outcome.ANSWERED)]
    assert [attempt.aborted for attempt in funnel.small.attempts] == [True, True]
    assert funnel.large.attempts == []
    routes = [fact for fact in response.facts if isinstance(fact, Routed)]
    assert routes[-1].reason == "won the hedge: the first word; small-model was closed"
    assert funnel.funnel.hedging.report().won == 1


async def test_after_two_silent_calls_the_large_model_is_asked() -> None:
    """Both calls of the small one are closed."""
    async with hedged(SILENT, SILENT) as funnel:
        response = await funnel.ask(request())
    assert response.ended is not None
    assert (response.ended.source, text_of(response)) == (Source.LARGE, "Large.")
    assert outcomes(response) == [("small", Outcome.LOST), ("small", Outcome.LOST), ("large", Outcome.ANSWERED)]
    assert funnel.funnel.hedging.report().made == 2


async def test_the_first_call_may_still_win() -> None:
    """It was only late."""
    async with hedged(SILENT, SILENT) as funnel:
        response = ResponseLog(request(), asyncio.get_running_loop().time)
        task = asyncio.create_task(funnel.funnel.answer(response))
        await until(lambda: len(funnel.small.attempts) == 2)
        first = funnel.small.attempts[0]
        await first._run(QUICK)
        await task
    assert text_of(response) == "Quick."
    assert outcomes(response)[:2] == [("small", Outcome.ANSWERED), ("small", Outcome.LOST)]
    assert funnel.funnel.hedging.report().won == 0


@pytest.mark.parametrize("first", [("Now.", STOP), (Thought("Hm. "), "Now.", STOP)])
async def test_a_model_that_has_begun_gets_no_company(first: Sequence[Step]) -> None:
    """Its deltas go to the client as they come: what it thinks is a begin too."""
    async with hedged(first) as funnel:
        response = await funnel.ask(request())
    assert text_of(response) == "Now."
    assert [type(fact) for fact in response.facts if isinstance(fact, Thought)] == [Thought] * (len(first) - 2)
    assert len(funnel.small.attempts) == 1
    assert sum(isinstance(fact, Routed) for fact in response.facts) == 1


async def test_white_space_is_no_begin() -> None:
    """A call that sends only that is as good as silent; what it sent is not in the answer of another."""
    async with hedged((" \n",), QUICK) as funnel:
        response = await funnel.ask(request())
    assert text_of(response) == "Quick."


async def test_white_space_before_the_words_stays() -> None:
    """In its place, once."""
    async with hedged((" \n", "Now.", STOP)) as funnel:
        response = await funnel.ask(request())
    assert text_of(response) == " \nNow."


async def test_without_a_budget_it_waits() -> None:
    """For the first call alone."""
    hedging, _ = hedging_that_knows()
    while hedging.grants(asked_for=False):
        pass
    before = hedging.report().refused
    hedging._saved = -1.0
    async with hedged(SILENT, hedging=hedging) as funnel:
        response = ResponseLog(request(), asyncio.get_running_loop().time)
        task = asyncio.create_task(funnel.funnel.answer(response))
        await until(lambda: hedging.report().refused == before + 1)
        await funnel.small.attempts[0]._run(QUICK)
        await task
    assert (text_of(response), len(funnel.small.attempts)) == ("Quick.", 1)


class PoorKey:
    """The admission of a key that has no dollar left."""

    limits_cost = True
    reserved = Decimal("Infinity")

    def reserve_more(self, cost: Decimal, tokens: int) -> Decimal:
        return Decimal(0)

    def settle(self, cost: Decimal, tokens: int) -> None:
        """Nothing was reserved."""


async def test_a_key_that_cannot_pay_for_a_hedge_gets_none() -> None:
    """What was reserved for the request is for the calls that were foreseen."""
    hedging, _ = hedging_that_knows()
    async with hedged(SILENT, hedging=hedging) as funnel:
        response = ResponseLog(request(), asyncio.get_running_loop().time)
        task = asyncio.create_task(funnel.funnel.answer(response, PoorKey()))
        await until(lambda: bool(funnel.small.attempts))
        await asyncio.sleep(2 * LEAST_WAIT_S)
        await funnel.small.attempts[0]._run(QUICK)
        await task
    assert len(funnel.small.attempts) == 1


async def test_a_cancel_closes_all_calls() -> None:
    """Each is on the bill."""
    async with hedged(SILENT, SILENT, large=SILENT) as funnel:
        response = ResponseLog(request(), asyncio.get_running_loop().time)
        task = asyncio.create_task(funnel.funnel.answer(response))
        await until(lambda: len(funnel.large.attempts) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert all(attempt.aborted for attempt in (*funnel.small.attempts, *funnel.large.attempts))
    assert [outcome for _, outcome in outcomes(response)] == [Outcome.CANCELLED] * 3


async def test_both_models_are_timed() -> None:
    """By their first delta, whatever strategy asks them."""
    clock = ManualClock()
    hedging = Hedging(clock, 0.1)
    async with hedged(("I'm not sure.", STOP), hedging=hedging) as funnel:
        for _ in range(LEAST):
            await funnel.ask(request())
    for tier in Tier:
        assert hedging.ttft_ms(tier) == (0.0, 0.0)
