"""Requests of the shape that coding agents send, with default settings: nothing trimmed or capped, small first.

The sizes and fields are those of Codex CLI (one WebSocket, a prewarm, then new items only) and of opencode (both
dialects over HTTP, the whole history each time). The tools and the words are made up.
"""

import json
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from millrace.simulator import LARGE, SMALL, Simulator
from tests.support.http_client import CHAT, RESPONSES
from tests.support.paths import REPOSITORY
from tests.support.server import Running, serving, without_delays
from tests.support.wire_client import Event, check_response, wire_client


def words(characters: int, word: str = "mill") -> str:
    return (f"{word} " * characters)[:characters].rstrip() + "."


def function(name: str, characters: int) -> dict[str, Any]:
    """Return a function tool as the Responses API has it, with a description of so many characters."""
    properties = {"command": {"type": "string", "description": words(200)}, "timeout_ms": {"type": "number"}}
    parameters = {"type": "object", "properties": properties, "required": ["command"], "additionalProperties": False}
    return {
        "type": "function",
        "name": name,
        "description": words(characters),
        "strict": False,
        "parameters": parameters,
    }


TOOLS = [function(f"tool_{number}", 1600) for number in range(10)]
IN_CHAT = ("name", "description", "parameters")
NESTED = [{"type": "function", "function": {key: tool[key] for key in IN_CHAT}} for tool in TOOLS]
SYSTEM, ENVIRONMENT, TASK = words(17_000, "rule"), words(2500, "folder"), words(300, "task")


@asynccontextmanager
async def shipped() -> AsyncIterator[Running]:
    """Run a server with the configuration as it is shipped, but for its addresses."""
    configuration = tomllib.loads((REPOSITORY / "millrace.toml").read_text("utf-8"))
    configuration["server"] |= {"port": 0, "data_dir": ":memory:"}
    configuration["evidence"]["dollars_per_day"] = "0"  # nothing is asked again by chance
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        configuration["models"]["small"]["base_url"] = small.base_url
        configuration["models"]["large"]["base_url"] = large.base_url
        async with serving(configuration) as url:
            yield Running(url, small, large, set())


def check_whole(response: Event, running: Running, messages: int, texts: list[str], cap: int | None) -> None:
    """Check that a turn went to the small model with all its messages, tools and texts, and no cap but the client's."""
    body = running.small.calls[-1].body
    assert response["metadata"]["millrace.route"] == "small"
    assert "trimmed_tokens" not in response["usage"]
    assert "max_output_tokens" not in response["usage"]
    assert (len(body["messages"]), len(body["tools"])) == (messages, len(TOOLS))
    sent = json.dumps(body["messages"])
    assert all(text in sent for text in texts)
    assert body.get("max_tokens") == cap
    assert running.large.stats.started == 0


async def test_codex_over_a_websocket() -> None:
    """A prewarm, twenty tool turns, and a file of 4,000 words written by a tool call."""
    common = {"model": "gpt-9-codex", "tools": TOOLS, "tool_choice": "auto", "store": False, "stream": True}
    common |= {"parallel_tool_calls": True, "reasoning": {"summary": "auto"}, "prompt_cache_key": "s"}
    common |= {"include": ["reasoning.encrypted_content"], "client_metadata": {"turn_id": ""}}
    async with shipped() as running, wire_client(running.ws_url) as client:
        developer = {"type": "message", "id": "msg_1", "role": "developer", "content": _input(SYSTEM)}
        prewarmed = check_response(await client.ask([developer], generate=False, **common))
        asked: list[dict[str, Any]] = [
            {"type": "message", "role": "developer", "content": _input(words(2400))},
            {"type": "message", "role": "user", "content": _input(ENVIRONMENT)},
            {"type": "message", "role": "user", "content": _input(f"{TASK} [tool=tool_1]")},
        ]
        previous, messages = prewarmed["id"], 1
        for turn in range(20):
            events = await client.ask(asked, previous_response_id=previous, **common)
            response = check_response(events)
            messages += len(asked)
            check_whole(response, running, messages, [SYSTEM, ENVIRONMENT, TASK], None)
            previous = response["id"]
            (call,) = [item for item in response["output"] if item["type"] == "function_call"]
            asked = [
                {"type": "function_call_output", "call_id": call["call_id"], "output": words(1500, f"line{turn}")},
                {"type": "message", "role": "user", "content": _input(f"Go on, {turn}. [tool=tool_1]")},
            ]
            messages += 1  # the call itself
    assert running.calls == 20


def _input(text: str) -> list[dict[str, str]]:
    return [{"type": "input_text", "text": text}]


HISTORY = [
    {"role": "user", "content": f'"{TASK}"'},
    *(
        message
        for number in range(3)
        for message in (
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": f"c{number}", "type": "function", "function": {"name": "tool_1", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": f"c{number}", "content": words(4000, f"file{number}")},
        )
    ),
]


@pytest.mark.parametrize("turns", [1, 7])
async def test_opencode_over_chat_completions(turns: int) -> None:
    """The first turn, and the last one with all that the tools returned; its cap of 32,000 tokens is passed on."""
    messages = [{"role": "system", "content": SYSTEM}, *HISTORY[:turns]]
    body = {"model": "auto", "max_tokens": 32_000, "messages": messages, "tools": NESTED, "tool_choice": "auto"}
    async with shipped() as running:
        check_whole(await _post(f"{running.url}{CHAT}", body), running, len(messages), [SYSTEM, TASK], 32_000)


async def test_opencode_over_responses() -> None:
    items: list[dict[str, Any]] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": _input(TASK)},
        {"type": "function_call", "call_id": "call_1", "name": "tool_1", "arguments": '{"command":"ls -la"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": words(4000, "file")},
    ]
    body = {"model": "auto", "input": items, "max_output_tokens": 32_000, "store": False, "tools": TOOLS}
    async with shipped() as running:
        response = await _post(f"{running.url}{RESPONSES}", body | {"tool_choice": "auto"})
        check_whole(response, running, 4, [SYSTEM, TASK, "file file"], 32_000)


async def _post(url: str, body: dict[str, Any]) -> Event:
    async with aiohttp.ClientSession() as http, http.post(url, json=body) as answer:
        assert answer.status == 200
        response: Event = await answer.json()
        return response
