"""Whole sessions of coding agents, as they were captured, over the transport that they used, with default settings.

Nothing is refused, trimmed or capped, the small model goes first, and its calls come back in the kind of the tool that
was offered. What its API lacks is told.
"""

import copy
import json
import tomllib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from millrace.simulator.instances import minimal
from tests.support.agent_model import RAW, TEXT, AgentModel, agent_model
from tests.support.http_client import events_of, lines_of
from tests.support.paths import REPOSITORY
from tests.support.responses_server import responding
from tests.support.responses_wire import Answer, custom_call, function_call, message, reasoning
from tests.support.server import serving
from tests.support.wire_client import Event, check_response, wire_client

SESSIONS = {
    path.stem: json.loads(path.read_text("utf-8")) for path in (REPOSITORY / "tests/support/agents").glob("*.json")
}
OVER_WEBSOCKET = sorted(name for name in SESSIONS if name.endswith("-ws"))
OVER_HTTP = sorted(name for name in SESSIONS if not name.endswith(("-ws", "-messages")))
OF_A_HOP = ("connection", "upgrade", "sec-", "accept", "content-", "user-agent", "host")
CALLS, OUTPUTS = ("function_call", "custom_tool_call"), ("function_call_output", "custom_tool_call_output")


@asynccontextmanager
async def shipped() -> AsyncIterator[tuple[str, AgentModel]]:
    """Run a server with the configuration as it is shipped, but for its addresses; both models are the same."""
    configuration = tomllib.loads((REPOSITORY / "millrace.toml").read_text("utf-8"))
    configuration["server"] |= {"port": 0, "data_dir": ":memory:"}
    configuration["evidence"]["dollars_per_day"] = "0"  # nothing is asked again by chance
    async with agent_model() as model:
        configuration["models"]["small"]["base_url"] = configuration["models"]["large"]["base_url"] = model.url
        async with serving(configuration) as url:
            yield url, model


def headers_of(request: Event) -> dict[str, str]:
    return {name: value for name, value in request["headers"].items() if not name.lower().startswith(OF_A_HOP)}


def tools_of(body: Event) -> dict[tuple[str, str], Event]:
    """Return the functions and custom tools of a body and of its items, by namespace and name."""
    found: dict[tuple[str, str], Event] = {}
    added = [item["tools"] for item in body.get("input") or () if item.get("type") == "additional_tools"]
    for tool in (tool for tools in (body.get("tools") or [], *added) for tool in tools):
        for one in tool["tools"] if tool["type"] == "namespace" else [tool]:
            if one["type"] in ("function", "custom"):
                name = one["name"] if "name" in one else one["function"]["name"]
                found[tool["name"] if one is not tool else "", name] = one
    return found


def hosted_of(body: Event) -> list[str]:
    return [tool["type"] for tool in body.get("tools") or () if tool["type"] not in ("function", "custom", "namespace")]


def texts_of(value: Any) -> Iterator[str]:
    """Yield all texts that a model must get: of messages, calls and outputs."""
    for item in value if isinstance(value, list) else [{"content": value}]:
        for name in ("content", "output", "arguments", "input"):
            given = item.get(name)
            if isinstance(given, str):
                yield given
            elif isinstance(given, list):
                yield from (part["text"] for part in given if "text" in part)


def check_turn(response: Event, sent: Event, body: Event, tools: dict[tuple[str, str], Event]) -> None:
    """Check that a turn went to the small model whole."""
    assert response["status"] == "completed"
    assert response["metadata"]["millrace.route"] == "small"
    assert response["metadata"]["millrace.session"] == body["prompt_cache_key"]
    assert not {"trimmed_tokens", "max_output_tokens"} & response["usage"].keys()
    messages = json.dumps(sent["messages"])
    for text in texts_of(body["input"]):
        written = json.dumps(text)[1:-1]  # once more in the arguments of a call
        assert written in messages or json.dumps(written)[1:-1] in messages
    assert [tool["function"]["name"] for tool in sent.get("tools", ())] == [
        f"{namespace}__{name}" if namespace else name for namespace, name in tools
    ]
    notes = response["metadata"].get("millrace.notes", "")
    assert all(f"without {kind}" in notes for kind in hosted_of(body))
    assert response["tools"] == body.get("tools", [])


def check_calls(response: Event, wanted: list[str], tools: dict[tuple[str, str], Event]) -> list[str]:
    """Check that the calls are of tools that were offered, in their kind; return their ids."""
    calls = [item for item in response["output"] if item["type"] in CALLS]
    assert [call["type"] for call in calls] == [
        f"{kind}_call" if kind == "function" else "custom_tool_call" for kind in wanted
    ]
    for call in calls:
        tool = tools[call.get("namespace", ""), call["name"]]
        assert tool["type"] == ("custom" if call["type"] == "custom_tool_call" else "function")
        if call["type"] == "custom_tool_call":
            assert call["input"] == RAW
        else:
            assert isinstance(json.loads(call["arguments"]), dict)
    return [call["call_id"] for call in calls]


def wanted_of(body: Event) -> list[str]:
    """Return the kinds of the tools whose results a request brings."""
    kinds = {"function_call_output": "function", "custom_tool_call_output": "custom"}
    return [kinds[item["type"]] for item in body["input"] if item.get("type") in OUTPUTS]


@pytest.mark.parametrize("name", OVER_WEBSOCKET)
async def test_a_session_over_a_websocket(name: str) -> None:
    """A prewarm, and a chain of responses on one connection: each frame has what is new alone."""
    upgrade, *frames = SESSIONS[name]["requests"]
    bodies = [frame["body"] for frame in frames]
    tools: dict[tuple[str, str], Event] = {}
    async with (
        shipped() as (url, model),
        wire_client(url.replace("http", "ws"), additional_headers=headers_of(upgrade)) as client,
    ):
        previous, ids = "", list[str]()
        for number, captured in enumerate(bodies):
            body = copy.deepcopy(captured)
            is_chained = "previous_response_id" in body
            if is_chained:
                body["previous_response_id"] = previous
                for item, call_id in zip((one for one in body["input"] if one["type"] in OUTPUTS), ids, strict=False):
                    item["call_id"] = call_id
            after = bodies[number + 1] if number + 1 < len(bodies) else None
            wanted = wanted_of(after) if after and "previous_response_id" in after else []
            is_prewarm = body.get("generate") is False
            if not is_prewarm:
                model.next.append(wanted)
            tools = (tools if is_chained and not body.get("tools") else {}) | tools_of(body)
            await client.send(body)
            response = check_response(await client.until("response.completed", "response.failed", "error"))
            previous = response["id"]
            if is_prewarm:
                assert (response["output"], len(model.bodies)) == ([], 0)
            else:
                check_turn(response, model.bodies[-1], body, tools)
                ids = check_calls(response, wanted, tools)
                assert (TEXT in json.dumps(response["output"])) == (not wanted)


@pytest.mark.parametrize("name", [name for name in OVER_HTTP if "chat" not in name])
async def test_a_session_over_http(name: str) -> None:
    """Each request has the whole history, with reasoning that another server has encrypted."""
    async with shipped() as (url, model), aiohttp.ClientSession() as http:
        for request in SESSIONS[name]["requests"]:
            body = request["body"]
            tools = tools_of(body)
            kinds = {tool["type"] for tool in tools.values()}
            model.next.append(wanted := ["custom" if "custom" in kinds else "function"] if kinds else [])
            async with http.post(f"{url}{request['path']}", json=body, headers=headers_of(request)) as answer:
                events = events_of(await lines_of(answer))
            response = check_response(events)
            session = body.setdefault("prompt_cache_key", request["headers"].get("x-session-id"))
            assert session
            check_turn(response, model.bodies[-1], body, tools)
            check_calls(response, wanted, tools)
            has_sealed = any(item.get("encrypted_content") for item in body["input"])
            assert has_sealed == ("without encrypted reasoning" in response["metadata"].get("millrace.notes", ""))


async def test_a_session_over_chat_completions() -> None:
    async with shipped() as (url, model), aiohttp.ClientSession() as http:
        for request in SESSIONS["opencode-chat"]["requests"]:
            body = request["body"]
            model.next.append(["function"] if body.get("tools") else [])
            async with http.post(f"{url}{request['path']}", json=body, headers=headers_of(request)) as answer:
                chunks = events_of(await lines_of(answer))
            last = chunks[-1]
            assert (last["metadata"]["millrace.route"], last["metadata"]["millrace.session"]) == (
                "small",
                request["headers"]["x-session-id"],
            )
            sent = model.bodies[-1]
            asked = [message | ({} if message["content"] else {"content": None}) for message in body["messages"]]
            assert (sent["messages"], sent.get("tools")) == (asked, body.get("tools"))
            assert sent["max_tokens"] == body["max_tokens"]


@pytest.mark.parametrize("name", OVER_WEBSOCKET)
async def test_a_session_with_a_model_of_the_same_api(name: str) -> None:
    """Tools go there as they are, those of the input too; what the model has encrypted goes back to the byte."""
    wanted: deque[list[str]] = deque()
    upgrade, *frames = SESSIONS[name]["requests"]

    def turn(body: Event) -> Answer:
        calls = [called(kind, body["tools"]) for kind in (wanted.popleft() if wanted else [])]
        return Answer(items=(reasoning("Hm."), *(calls or [message(TEXT)])))

    configuration = tomllib.loads((REPOSITORY / "millrace.toml").read_text("utf-8"))
    configuration["server"] |= {"port": 0, "data_dir": ":memory:"}
    configuration["evidence"]["dollars_per_day"] = "0"  # nothing is asked again by chance
    async with responding(turn) as server:
        for tier in ("small", "large"):
            configuration["models"][tier] |= {"upstream": "responses", "base_url": server.url}
        async with (
            serving(configuration) as url,
            wire_client(url.replace("http", "ws"), additional_headers=headers_of(upgrade)) as client,
        ):
            previous, ids, tools = "", list[str](), list[Event]()
            for number, captured in enumerate(frame["body"] for frame in frames):
                body = copy.deepcopy(captured)
                if is_chained := "previous_response_id" in body:
                    body["previous_response_id"] = previous
                    for item, call_id in zip(
                        (one for one in body["input"] if one["type"] in OUTPUTS), ids, strict=False
                    ):
                        item["call_id"] = call_id
                after = frames[number + 1]["body"] if number + 1 < len(frames) else {}
                kinds = wanted_of(after) if "previous_response_id" in after else []
                added = [tool for item in body["input"] if item["type"] == "additional_tools" for tool in item["tools"]]
                tools = body.get("tools") or added or (tools if is_chained else [])
                if body.get("generate") is not False:
                    wanted.append(kinds)
                await client.send(body)
                response = check_response(await client.until("response.completed", "response.failed", "error"))
                previous = response["id"]
                if body.get("generate") is False:
                    continue
                ids = check_calls(response, kinds, tools_of({"tools": tools}))
                assert "millrace.notes" not in response["metadata"]
                asked = server.asked[-1]
                assert (asked.get("tools", []), asked["include"]) == (tools, body["include"])
                assert (asked["reasoning"], asked["prompt_cache_key"]) == (body["reasoning"], body["prompt_cache_key"])
                sealed = [item["encrypted_content"] for item in asked["input"] if item["type"] == "reasoning"]
                assert len(sealed) == len(server.asked) - 1 if is_chained else not sealed
        assert server.refused == []


def called(kind: str, tools: list[Event]) -> Event:
    """Return a call of the first tool of a kind."""
    offered = tools_of({"tools": tools}).items()
    (namespace, name), tool = next((key, tool) for key, tool in offered if tool["type"] == kind)
    if kind == "custom":
        return custom_call(name, RAW, namespace=namespace)
    return function_call(name, json.dumps(minimal(tool["parameters"])), namespace=namespace)
