"""The deadline: what is given while the large model is still asked, and what is not."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.funnel import at_hand
from millrace.funnel.checks.judge import _of_text, of_beginnings
from millrace.funnel.checks.table import CHECKS
from millrace.funnel.facts import Revised, Routed
from millrace.funnel.response_log import ResponseLog
from millrace.stores.database import MEMORY, SqliteDatabase
from millrace.types import Delivery, Format, Outcome, Source, Status, Thought, Tool
from tests.support.scripted_models import CUT, STOP, ScriptedFunnel, ScriptedUpstream, Step, request
from tests.support.server import Running
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import check_response, output_of, wire_client

UNSURE = "I'm not sure, but some two metres."
DEADLINE_S = 0.3
IN_TIME_S = 1.5  # by which the small model has answered, on a busy machine too


@pytest.fixture(autouse=True)
def a_check_of_whole_answers() -> Iterator[None]:
    """One that fails at its beginning is not waited for, so that nothing would be at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHECKS, "unsure", replace(CHECKS["unsure"], of_a_beginning=None))
        forget_the_lists_of_checks()
        yield
    forget_the_lists_of_checks()


def forget_the_lists_of_checks() -> None:
    """Lists are kept by the names of their checks, whatever these are."""
    for kept in (of_beginnings, _of_text):
        kept.cache_clear()


@asynccontextmanager
async def models(small: Sequence[Step], large: Sequence[Step] = ()) -> AsyncIterator[ScriptedFunnel]:
    """Build a funnel; a script without an end is of a model that stays silent then."""
    database = SqliteDatabase(MEMORY)
    try:
        yield ScriptedFunnel(ScriptedUpstream(small), ScriptedUpstream(large), database)
    finally:
        await asyncio.to_thread(database.close)


def asked(*, in_s: float = DEADLINE_S, **fields: Any) -> ResponseLog:
    loop = asyncio.get_running_loop()
    return ResponseLog(
        request(deadline_at=loop.time() + in_s, **{"checks": ("empty", "cut_off", "unsure", "form")} | fields),
        loop.time,
    )


async def test_the_small_answer_is_given_when_the_large_model_is_silent() -> None:
    """It is complete, the check that it failed is named, the large call is closed, and both are charged once."""
    async with models((Thought("Hm."), UNSURE, STOP)) as funnel:
        response = asked(in_s=IN_TIME_S)
        await asyncio.wait_for(funnel.funnel.answer(response), PATIENCE_S)
        assert funnel.large.attempts[0].aborted
    ended = response.ended
    assert ended is not None
    assert (ended.status, ended.source, ended.check) == (Status.COMPLETED, Source.SMALL, "unsure")
    assert (response.message().text, response.message().reasoning) == (UNSURE, "Hm.")
    charges = [(str(charge.tier), charge.outcome) for charge in ended.statement.charges]
    assert charges == [("small", Outcome.ANSWERED), ("large", Outcome.CANCELLED)]
    revises = [(fact.from_model, fact.to_model, fact.reason) for fact in response.facts if isinstance(fact, Revised)]
    assert revises == [("small-model", "large-model", "unsure"), ("large-model", "small-model", "deadline")]
    assert "deadline" in [fact.reason for fact in response.facts if isinstance(fact, Routed)][-1]
    assert ended.stored_id == ""


@pytest.mark.parametrize("delivery", [Delivery.SPECULATE, Delivery.COMMIT])
async def test_words_of_the_large_model_stay(delivery: Delivery) -> None:
    """What somebody may have seen is not taken back; the deadline itself is for the sweeper then."""
    async with models((UNSURE, STOP), ("Two", " metres")) as funnel:
        response = asked(in_s=4, delivery=delivery)
        task = asyncio.create_task(funnel.funnel.answer(response))
        await until(lambda: response.message().text == "Two metres")
        await asyncio.sleep(5)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_under_final_nobody_has_seen_a_word() -> None:
    """So half an answer of the large model gives way to the whole small one."""
    async with models((UNSURE, STOP), ("Two", " metres")) as funnel:
        response = asked(in_s=IN_TIME_S, delivery=Delivery.FINAL)
        await asyncio.wait_for(funnel.funnel.answer(response), PATIENCE_S)
    assert response.ended is not None
    assert (response.ended.source, response.message().text) == (Source.SMALL, UNSURE)


@pytest.mark.parametrize("delivery", [Delivery.SPECULATE, Delivery.COMMIT, Delivery.FINAL])
async def test_a_large_model_in_time_answers(delivery: Delivery) -> None:
    """As if there were no deadline."""
    large = (Thought("Well."), " ", "Two", " metres.", STOP)
    async with models((UNSURE, STOP), large) as funnel:
        response = asked(in_s=30, delivery=delivery)
        await funnel.funnel.answer(response)
    assert response.ended is not None
    assert (response.ended.source, response.ended.check) == (Source.LARGE, "unsure")
    assert (response.message().text, response.message().reasoning) == (" Two metres.", "Well.")


@pytest.mark.parametrize(
    ("small", "fields"),
    [
        ((" ", STOP), {}),
        (("Two me", CUT), {}),
        (("two", STOP), {"format": Format(kind="json_object")}),
        ((UNSURE, STOP), {"format": Format(kind="json_object")}),
        ((UNSURE, STOP), {"check_schema": {"type": "object"}}),
        ((UNSURE, STOP), {"tools": (Tool(name="look_up"),)}),
    ],
)
async def test_what_is_of_no_use_is_not_given(small: Sequence[Step], fields: dict[str, Any]) -> None:
    """Empty, cut off, or not what was declared."""
    async with models(small) as funnel:
        response = asked(**fields)
        task = asyncio.create_task(funnel.funnel.answer(response))
        await until(lambda: bool(funnel.large.attempts))
        await asyncio.sleep(2 * DEADLINE_S)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_one_who_joined_without_a_deadline_gets_the_large_models_answer() -> None:
    """The deadline of another is not theirs."""
    async with models((UNSURE, STOP), ()) as funnel:
        first = asked()
        loop = asyncio.get_running_loop()
        second = ResponseLog(replace(first.request, id="resp_2", deadline_at=None), loop.time)
        tasks = [asyncio.create_task(funnel.funnel.answer(log)) for log in (first, second)]
        await until(lambda: bool(funnel.large.attempts))
        await asyncio.sleep(2 * DEADLINE_S)
        assert not any(task.done() for task in tasks)
        await funnel.large.attempts[0]._run(("Two metres.", STOP))
        await asyncio.wait(tasks, timeout=PATIENCE_S)
    for response in (first, second):
        assert response.ended is not None
        assert (response.ended.source, response.message().text) == (Source.LARGE, "Two metres.")


@pytest.mark.usefixtures("free_clock")
@pytest.mark.parametrize(
    ("delivery", "negotiated"),
    [("speculate", True), ("commit", False), ("commit", True), ("final", False), ("final", True)],
)
async def test_over_the_wire(
    monkeypatch: pytest.MonkeyPatch, millrace: Running, delivery: str, *, negotiated: bool
) -> None:
    """In place of a failure, with the real sweeper; the numbers of what was used are right."""
    monkeypatch.setattr(at_hand, "MARGIN_S", 1.5)  # this machine may be late by more than one that serves
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        options = {"deadline_ms": 3000, "delivery": delivery, "checks": ["unsure"]}
        events = await client.ask("Prove that the square root of 2 is irrational. [ttft.large=60]", millrace=options)
        await until(lambda: millrace.large.stats.aborted == 1)
    response = check_response(events, negotiated=negotiated)
    assert response["status"] == "completed"
    assert output_of(response)
    assert (response["metadata"]["millrace.route"], response["metadata"]["millrace.check"]) == ("small", "unsure")
    assert [attempt["outcome"] for attempt in response["usage"]["attempts"]] == ["answered", "cancelled"]
