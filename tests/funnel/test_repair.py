"""A small model may correct an answer once: when, in what words, what it costs, and what clients see of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.errors import UpstreamError
from millrace.funnel.facts import Revised
from millrace.funnel.response_log import ResponseLog
from millrace.stores.database import MEMORY, SqliteDatabase
from millrace.types import CallPiece, Delivery, Format, Outcome, Source, Tool
from millrace.types.tool_choice import ToolChoice
from tests.support.scripted_models import (
    CALLED,
    CUT,
    LARGE,
    SMALL,
    STOP,
    ScriptedFunnel,
    ScriptedUpstream,
    Step,
    request,
)
from tests.support.wire_client import check_response, output_of, text_of, wire_client

SCHEMA = {"type": "object", "properties": {"depth": {"type": "integer"}}, "required": ["depth"]}
FORMAT = Format(kind="json_schema", name="depth", schema=SCHEMA)
WRONG, RIGHT = '{"depth": "two"}', '{"depth": 2}'


@asynccontextmanager
async def repairing(
    *small: Sequence[Step], large: Sequence[Step] = (RIGHT, STOP), repairs: bool = True
) -> AsyncIterator[ScriptedFunnel]:
    """Build a funnel; `small` are the scripts of the small model's calls, in order."""
    database = SqliteDatabase(MEMORY)
    try:
        yield ScriptedFunnel(ScriptedUpstream(*small), ScriptedUpstream(large), database, repairs=repairs)
    finally:
        await asyncio.to_thread(database.close)


def outcomes(response: ResponseLog) -> list[tuple[str, Outcome]]:
    assert response.ended is not None
    return [(str(charge.tier), charge.outcome) for charge in response.ended.statement.charges]


def revises(response: ResponseLog) -> list[tuple[str, str, str]]:
    return [(fact.from_model, fact.to_model, fact.reason) for fact in response.facts if isinstance(fact, Revised)]


def last_words(funnel: ScriptedFunnel) -> list[tuple[str, str]]:
    """Return what the last call of the small model was sent after the question."""
    messages = funnel.small.attempts[-1].call.prompt.messages
    return [(message.role, message.text) for message in messages[1:]]


async def test_a_wrong_format_is_corrected_in_one_more_turn() -> None:
    """The model sees its answer and what is wrong with it; its second answer is kept, and both are on the bill."""
    async with repairing((WRONG, STOP), (RIGHT, STOP)) as funnel:
        response = await funnel.ask(request(format=FORMAT))
    assert response.ended is not None
    assert (response.ended.source, response.ended.check, response.message().text) == (Source.SMALL, "passed", RIGHT)
    assert outcomes(response) == [("small", Outcome.REVISED), ("small", Outcome.ANSWERED)]
    assert revises(response) == [("small-model", "small-model", "form")]
    assert funnel.large.attempts == []
    (_, answer), (role, words) = last_words(funnel)
    assert (answer, role) == (WRONG, "user")
    assert '- at $.depth: the value is not of type "integer"' in words


async def test_one_that_is_wrong_again_is_escalated() -> None:
    """After one turn, not two."""
    async with repairing((WRONG, STOP)) as funnel:
        response = await funnel.ask(request(format=FORMAT))
    assert outcomes(response) == [("small", Outcome.REVISED), ("small", Outcome.REVISED), ("large", Outcome.ANSWERED)]
    assert revises(response) == [("small-model", "small-model", "form"), ("small-model", "large-model", "form")]
    assert response.message().text == RIGHT


async def test_a_correction_that_fails_is_escalated() -> None:
    """Like any small model that fails."""
    broken = UpstreamError("upstream_error", "it broke")
    async with repairing((WRONG, STOP), (broken,)) as funnel:
        response = await funnel.ask(request(format=FORMAT))
    assert [outcome for _, outcome in outcomes(response)] == [Outcome.REVISED, Outcome.FAILED, Outcome.ANSWERED]


@pytest.mark.parametrize(
    ("script", "check"), [(("I'm not sure.", STOP), "unsure"), (("  ", STOP), "empty"), ((WRONG, CUT), "cut_off")]
)
async def test_what_words_do_not_mend(script: Sequence[Step], check: str) -> None:
    """Goes to the large model at once."""
    async with repairing(script) as funnel:
        response = await funnel.ask(request())
    assert (len(funnel.small.attempts), revises(response)) == (1, [("small-model", "large-model", check)])


async def test_the_operator_may_switch_it_off() -> None:
    """`checks.repair`."""
    async with repairing((WRONG, STOP), repairs=False) as funnel:
        await funnel.ask(request(format=FORMAT))
    assert len(funnel.small.attempts) == 1


async def test_what_is_not_json_is_said_to_be_none() -> None:
    """Also where any object will do, and where a check of the client's own has the schema."""
    for fields in ({"format": Format(kind="json_object")}, {"check_schema": SCHEMA}):
        async with repairing(("depth: 2", STOP), (RIGHT, STOP)) as funnel:
            response = await funnel.ask(request(**fields))
        assert outcomes(response)[-1] == ("small", Outcome.ANSWERED)
        assert "- it is not JSON" in last_words(funnel)[-1][1]


LOOK_UP = Tool(name="look_up", parameters=SCHEMA)


def calling(*arguments: str, name: str = "look_up") -> tuple[Step, ...]:
    pieces = [CallPiece(index=at, id=f"c{at}", name=name, arguments=each) for at, each in enumerate(arguments)]
    return (*pieces, CALLED)


async def test_a_wrong_call_gets_a_failed_result() -> None:
    """Each call gets one; the wrong one says what is wrong with its arguments."""
    async with repairing(calling(RIGHT, WRONG), calling(RIGHT, RIGHT)) as funnel:
        response = await funnel.ask(request(tools=(LOOK_UP,)))
    assert outcomes(response) == [("small", Outcome.REVISED), ("small", Outcome.ANSWERED)]
    said, first, second = funnel.small.attempts[-1].call.prompt.messages[1:]
    assert [call.arguments for call in said.calls] == [RIGHT, WRONG]
    assert [(each.role, each.call_id, each.is_error) for each in (first, second)] == [
        ("tool", "c0", True),
        ("tool", "c1", True),
    ]
    assert "another call" in first.text
    assert "at $.depth" in second.text


async def test_a_tool_that_is_not_there_is_named() -> None:
    """With those that are."""
    async with repairing(calling(RIGHT, name="lookup"), calling(RIGHT)) as funnel:
        await funnel.ask(request(tools=(LOOK_UP,)))
    assert "no tool 'lookup'. There are look_up." in last_words(funnel)[-1][1]


async def test_a_call_that_must_be_made_is_asked_for() -> None:
    """No call, no result: it is told in a message."""
    choice = ToolChoice(mode="required")
    async with repairing(("Let me see.", STOP), calling(RIGHT)) as funnel:
        response = await funnel.ask(request(tools=(LOOK_UP,), tool_choice=choice))
    assert outcomes(response)[-1] == ("small", Outcome.ANSWERED)
    assert "tool_choice" in last_words(funnel)[-1][1]


async def test_the_context_stays_with_its_question() -> None:
    """The words of the check are the last message of a user, and come after it."""
    async with repairing((WRONG, STOP), (RIGHT, STOP)) as funnel:
        await funnel.ask(request(format=FORMAT, context=("The pond is 2 m deep.",)))
    first, second = (attempt.call.prompt.sent for attempt in funnel.small.attempts)
    assert second[: len(first)] == first


@pytest.mark.parametrize(("times", "repaired"), [(1, False), (3, False), (20, True)])
async def test_only_where_it_is_cheaper(times: int, monkeypatch: pytest.MonkeyPatch, *, repaired: bool) -> None:
    """Two turns must cost less than the large model's answer: the price decides."""
    price = replace(SMALL.price, input=SMALL.price.input * times, output=SMALL.price.output * times)
    monkeypatch.setattr("tests.support.scripted_models.CATALOG.large", replace(LARGE, price=price))
    async with repairing((WRONG, STOP), (RIGHT, STOP)) as funnel:
        await funnel.ask(request(format=FORMAT))
    assert (len(funnel.small.attempts) == 2) is repaired


@pytest.mark.parametrize(("dollars", "calls"), [("0.00066", 1), ("0.1", 2)])
async def test_it_leaves_the_large_model_its_part_of_the_budget(dollars: str, calls: int) -> None:
    """A turn that may run to its cap must not use up what the escalation needs."""
    asked = request(format=FORMAT, max_cost=Decimal(dollars))
    async with repairing((WRONG, STOP)) as funnel:
        response = await funnel.ask(asked)
    assert response.ended is not None
    assert len(funnel.small.attempts) == calls
    assert response.ended.source is Source.LARGE
    assert response.ended.statement.cost <= Decimal(dollars)


async def test_what_is_committed_is_not_corrected() -> None:
    """It stands, whatever is wrong with it."""
    asked = request(check_schema=SCHEMA, delivery=Delivery.PREFIX)
    async with repairing(("The pond is two metres deep. " * 20, "I think.", STOP)) as funnel:
        response = await funnel.ask(asked)
    if response.ended is not None and response.ended.source is Source.SMALL:
        assert len(funnel.small.attempts) == 1


def with_repair(configuration: dict[str, Any]) -> None:
    configuration["checks"] = {"repair": True}


@pytest.mark.parametrize("negotiated", [False, True])
async def test_over_the_wire(start: Any, *, negotiated: bool) -> None:
    """A plain client sees the corrected answer alone; a negotiated one gets one revise, to the same model."""
    text = {"format": {"type": "json_schema", "name": "depth", "schema": SCHEMA, "strict": True}}
    async with start(with_repair) as running, wire_client(running.ws_url, negotiated=negotiated) as client:
        events = await client.ask("How deep? [weak]", text=text)  # the second question does not say that it be weak
        assert (running.small.stats.started, running.large.stats.started) == (2, 0)
        sent = running.small.calls[-1].body["messages"]
    response = check_response(events, negotiated=negotiated)
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert [attempt["outcome"] for attempt in response["usage"]["attempts"]] == ["revised", "answered"]
    models = [(event["from_model"], event["to_model"]) for event in events if event["type"] == "millrace.revise"]
    assert models == ([("small-model", "small-model")] if negotiated else [])
    assert "depth" in output_of(response)
    assert negotiated or text_of(events) == output_of(response)
