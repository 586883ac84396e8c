"""Caps of an answer: none that nobody set, the operator's told, tool calls whole, the client's always kept."""

import asyncio
import dataclasses
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Limits, Role
from millrace.tokens import count
from millrace.types import Call, Message, Prompt, Tool
from millrace.types.request import MERGE_TOKENS
from millrace.types.tool_choice import ToolChoice
from tests.support.provider import HEAD, body, event, scripted_provider
from tests.support.scripted_models import SMALL
from tests.support.server import Running, Start, configuration_for, serving
from tests.support.waiting import until
from tests.support.wire_client import Event, check_response, text_of, wire_client

DEPTH = {"type": "function", "name": "depth", "parameters": {"type": "object"}}
UNCAPPED = replace(SMALL, max_output_tokens=None)
PROMPT = Prompt(messages=(Message(role="user", parts=("Hi",)),))
WITH_TOOLS = dataclasses.replace(PROMPT, tools=(Tool(name="depth"),))


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
        (Call(model=UNCAPPED, prompt=dataclasses.replace(PROMPT, max_output_tokens=64_000), room=500), 500, 500),
        (Call(model=UNCAPPED, prompt=PROMPT, cap=7, room=500), 7, 7),
        (Call(model=SMALL, prompt=PROMPT), 1024, 1024),
        (Call(model=SMALL, prompt=WITH_TOOLS), None, 128_000),
        (Call(model=SMALL, prompt=dataclasses.replace(WITH_TOOLS, tool_choice=ToolChoice("none"))), 1024, 1024),
        (Call(model=replace(SMALL, cap_tool_calls=True), prompt=WITH_TOOLS), 1024, 1024),
    ],
)
def test_what_bounds_an_answer(call: Call, sent: int | None, most: int) -> None:
    """Without a cap only the window does; a cap past what the prompt leaves of it would be refused by some servers."""
    assert (call.sent_cap, call.max_output_tokens) == (sent, most)


KEYED: dict[str, Any] = {"tenant": "acme", "role": Role.USE, "created_at": 1.0}


async def key_capped(folder: Path, tokens: int) -> dict[str, str]:
    """Make a key whose answers have so many tokens; return the header that shows it."""
    key, text = keys.make(limits=Limits(max_output_tokens=tokens), **KEYED)
    async with key_store(str(folder)) as store:
        await store.add(key)
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize(
    ("key", "model", "asked", "sent"),
    [(50, None, None, 50), (50, 40, None, 40), (50, 60, None, 50), (50, None, 20, 20), (50, None, 90, 50)],
)
async def test_the_lowest_of_the_caps_of_key_model_and_request_holds(
    start: Start, tmp_path: Path, key: int, model: int | None, asked: int | None, sent: int
) -> None:
    headers = await key_capped(tmp_path, key)

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)
        if model is not None:
            configuration["models"]["small"]["max_output_tokens"] = model

    fields = {} if asked is None else {"max_output_tokens": asked}
    async with start(change) as running:
        async with wire_client(running.ws_url, negotiated=True, additional_headers=headers) as client:
            events = await client.ask("talk [tokens=900]", millrace={"strategy": "small"}, **fields)
        assert running.small.calls[-1].body["max_tokens"] == sent
    response = check_response(events, negotiated=True)
    route = next(event for event in events if event["type"] == "millrace.route")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["usage"]["output_tokens"] == sent
    told = None if asked == sent else sent
    assert route.get("max_output_tokens") == response["usage"].get("max_output_tokens") == told


async def test_a_keys_cap_comes_from_the_configuration_and_shares_no_flight_with_others(
    start: Start, tmp_path: Path
) -> None:
    """Two keys of one tenant ask the same at once: each gets what its own cap lets it have."""
    low = await key_capped(tmp_path, 30)
    key, text = keys.make(**KEYED)
    async with key_store(str(tmp_path)) as store:
        await store.add(key)
    high = {"Authorization": f"Bearer {text}"}

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)
        configuration["limits"] = {"max_output_tokens": 60}

    async def said(client: Any) -> int:
        response = check_response(await client.ask("talk [tokens=900] [rate=200]", millrace={"strategy": "small"}))
        return int(response["usage"]["output_tokens"])

    async with (
        start(change) as running,
        wire_client(running.ws_url, additional_headers=low) as first,
        wire_client(running.ws_url, additional_headers=high) as second,
    ):
        assert [*await asyncio.gather(said(first), said(second))] == [30, 60]


IGNORED = " and then the miller went down to the water and looked at the old wheel" * 400


@pytest.mark.parametrize("by", ["request", "key", "model", "max_cost", "key's budget"])
async def test_every_cap_cuts_a_provider_that_heeds_none_within_a_merge_window(tmp_path: Path, by: str) -> None:
    """It says thousands of tokens, some in each read; what was shown is what is booked, and it is left."""
    budget: dict[str, Any] = {"dollars_per_day": Decimal("0.0007")}
    all_limits = {"key": {"max_output_tokens": 100}, "key's budget": budget}
    key, text = keys.make(limits=Limits(**all_limits.get(by, {})), **KEYED)
    async with key_store(str(tmp_path)) as store:
        await store.add(key)

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        for at in range(0, len(IGNORED), 40):
            if writer.is_closing():
                return
            writer.write(body(event(IGNORED[at : at + 40])))
            await writer.drain()
            await asyncio.sleep(0.005)

    async with scripted_provider(script) as provider:
        configuration = configuration_for(
            provider.upstream.endpoint.base_url, "http://127.0.0.1:9/v1", data_dir=str(tmp_path)
        )
        if by == "model":
            configuration["models"]["small"]["max_output_tokens"] = 100
        options: dict[str, Any] = {"strategy": "small"}
        if by == "max_cost":
            options["max_cost_usd"] = 0.00007  # some 100 tokens of output
        fields = {"max_output_tokens": 100} if by == "request" else {}
        headers = {"Authorization": f"Bearer {text}"}
        async with (
            serving(configuration) as url,
            wire_client(url.replace("http", "ws", 1), additional_headers=headers) as client,
        ):
            events = await client.ask("Go on.", millrace=options, **fields)
        await until(lambda: provider.left_at is not None)
    response = check_response(events)
    reason = "budget_exceeded" if by in ("max_cost", "key's budget") else "max_output_tokens"
    assert response["incomplete_details"] == {"reason": reason}
    shown, usage = count(text_of(events)), response["usage"]
    most = {"max_cost": 117, "key's budget": 1170}.get(by, 100)
    assert most - 2 * MERGE_TOKENS <= shown <= most + MERGE_TOKENS
    assert abs(usage["output_tokens"] - shown) <= MERGE_TOKENS // 4
    dollars = {"max_cost": 0.00007, "key's budget": 0.0007}.get(by)
    assert dollars is None or usage["cost_usd"] <= dollars + MERGE_TOKENS * 0.60 / 10**6
