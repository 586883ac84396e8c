"""Caps of an answer: none that nobody set, the operator's told, tool calls whole, the client's always kept."""

from dataclasses import replace
from typing import Any

import pytest

from millrace.types import Call, Message, Prompt, Tool
from millrace.types.tool_choice import ToolChoice
from tests.support.scripted_models import SMALL
from tests.support.server import Running, Start
from tests.support.wire_client import Event, check_response, wire_client

DEPTH = {"type": "function", "name": "depth", "parameters": {"type": "object"}}
UNCAPPED = replace(SMALL, max_output_tokens=None)
PROMPT = Prompt(messages=(Message(role="user", parts=("Hi",)),))
WITH_TOOLS = replace(PROMPT, tools=(Tool(name="depth"),))


def capped(tokens: int, **model: Any) -> Any:
    """Return a change of a configuration: the operator caps both models."""

    def change(configuration: dict[str, Any]) -> None:
        for tier in ("small", "large"):
            configuration["models"][tier] |= {"max_output_tokens": tokens, **model}

    return change


async def ask(running: Running, text: str, **fields: Any) -> tuple[Event, Event]:
    """Return the route and the response."""
    async with wire_client(running.ws_url, negotiated=True) as client:
        events = await client.ask(text, **fields)
    response = check_response(events, negotiated=True)
    return next(event for event in events if event["type"] == "millrace.route"), response


async def test_without_a_cap_no_field_is_sent_and_a_long_answer_is_whole(millrace: Running) -> None:
    route, response = await ask(millrace, "talk [tokens=3000]")
    assert not {"max_tokens", "max_completion_tokens"} & set(millrace.small.calls[-1].body)
    assert (response["status"], response["usage"]["output_tokens"]) == ("completed", 3000)
    assert "max_output_tokens" not in route
    assert "max_output_tokens" not in response["usage"]


async def test_the_operators_cap_holds_and_is_told_in_route_usage_and_metadata(start: Start) -> None:
    async with start(capped(50)) as running:
        route, response = await ask(running, "talk [tokens=90]", millrace={"strategy": "small"})
        assert running.small.calls[-1].body["max_tokens"] == 50
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["metadata"]["millrace.max_output_tokens"] == "50"
    assert route["max_output_tokens"] == response["usage"]["max_output_tokens"] == 50


async def test_the_clients_cap_is_kept_and_not_told_as_the_operators(start: Start) -> None:
    async with start(capped(50)) as running:
        route, response = await ask(running, "talk [tokens=90]", max_output_tokens=20, millrace={"strategy": "small"})
        assert running.small.calls[-1].body["max_tokens"] == 20
    assert response["usage"]["output_tokens"] == 20
    assert "millrace.max_output_tokens" not in response["metadata"]
    assert "max_output_tokens" not in route
    assert "max_output_tokens" not in response["usage"]


@pytest.mark.parametrize(
    ("model", "fields", "sent"),
    [
        ({}, {"tools": [DEPTH]}, None),
        ({}, {"tools": [DEPTH], "max_output_tokens": 700}, 700),
        ({}, {"tools": [DEPTH], "tool_choice": "none"}, 50),
        ({"cap_tool_calls": True}, {"tools": [DEPTH]}, 50),
    ],
    ids=["tools", "the client's cap", "no tool may be called", "the operator says so"],
)
async def test_the_operators_cap_never_cuts_a_tool_call_unless_he_says_so(
    start: Start, model: dict[str, Any], fields: dict[str, Any], sent: int | None
) -> None:
    async with start(capped(50, **model)) as running:
        await ask(running, "How deep? [tokens=90]", **fields)
        assert running.small.calls[-1].body.get("max_tokens") == sent


async def test_arguments_longer_than_any_cap_of_old_arrive_whole(millrace: Running) -> None:
    """A file of 3,000 tokens, as an agent writes it."""
    schema = {"type": "object", "properties": {"text": {"const": "word " * 3000}}, "required": ["text"]}
    tool = {"type": "function", "name": "write", "parameters": schema}
    _, response = await ask(millrace, "Write it.", tools=[tool], tool_choice="required")
    assert response["status"] == "completed"
    assert "word " * 3000 in response["output"][-1]["arguments"]
    assert millrace.large.stats.started == 0


@pytest.mark.parametrize(
    ("call", "sent", "most"),
    [
        (Call(model=UNCAPPED, prompt=PROMPT), None, 128_000),
        (Call(model=UNCAPPED, prompt=PROMPT, room=500), None, 500),
        (Call(model=UNCAPPED, prompt=replace(PROMPT, max_output_tokens=64_000), room=500), 500, 500),
        (Call(model=UNCAPPED, prompt=PROMPT, cap=7, room=500), 7, 7),
        (Call(model=SMALL, prompt=PROMPT), 1024, 1024),
        (Call(model=SMALL, prompt=WITH_TOOLS), None, 128_000),
        (Call(model=SMALL, prompt=replace(WITH_TOOLS, tool_choice=ToolChoice("none"))), 1024, 1024),
        (Call(model=replace(SMALL, cap_tool_calls=True), prompt=WITH_TOOLS), 1024, 1024),
    ],
)
def test_what_bounds_an_answer(call: Call, sent: int | None, most: int) -> None:
    """Without a cap only the window does; a cap past what the prompt leaves of it would be refused by some servers."""
    assert (call.sent_cap, call.max_output_tokens) == (sent, most)
