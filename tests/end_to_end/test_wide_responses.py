"""Tools of every kind over real sockets, with models that have chat completions alone."""

import json
from collections import deque
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from tests.support.http_client import RESPONSES
from tests.support.responses_server import responding
from tests.support.responses_wire import Answer, message, reasoning
from tests.support.server import Running, configuration_for, serving
from tests.support.wire_client import Event, check_response, wire_client

DEPTH = {"type": "function", "name": "depth", "description": "d", "parameters": {"type": "object"}, "strict": False}
EXEC = {"type": "custom", "name": "exec", "description": "Run it", "format": {"type": "text"}}
NAMESPACE = {"type": "namespace", "name": "functions", "description": "Of the house", "tools": [EXEC, DEPTH]}
TOOLS = {"type": "additional_tools", "role": "developer", "tools": [NAMESPACE]}
SEARCH = {"type": "web_search", "external_web_access": True}


def user(text: str) -> Event:
    return {"role": "user", "content": text}


def call_of(response: Event) -> Event:
    (call,) = [item for item in response["output"] if "call_id" in item]
    found: Event = call
    return found


def output_of(call: Event, output: Any) -> Event:
    return {"type": f"{call['type']}_output", "call_id": call["call_id"], "output": output}


async def post(http: aiohttp.ClientSession, given: Any, **fields: Any) -> tuple[int, Event]:
    async with http.post(RESPONSES, json={"model": "auto", "input": given, **fields}) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("store", [None, True])
async def test_tools_of_the_input_stay_with_the_chain(millrace: Running, store: bool | None) -> None:
    """Each later request has them, may choose among them, and refers to the items of calls; they are listed."""
    async with aiohttp.ClientSession(millrace.url) as http:
        _, prepared = await post(http, [TOOLS], generate=False, store=store)
        fields: dict[str, Any] = {"store": store, "parallel_tool_calls": False, "tool_choice": "required"}
        _, first = await post(http, [user("Go. [tool=exec]")], previous_response_id=prepared["id"], **fields)
        call = call_of(first)
        assert (call["type"], call["namespace"], call["name"]) == ("custom_tool_call", "functions", "exec")
        assert (call["input"], first["tools"]) == ("simulated", [])
        sent = millrace.small.calls[-1].body
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["functions__exec", "functions__depth"]
        assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)
        _, second = await post(http, [output_of(call, "done")], previous_response_id=first["id"], store=store)
        assert "the tool said done" in json.dumps(second["output"])
        *_, called, result = millrace.small.calls[-1].body["messages"]
        assert called["tool_calls"][0]["function"] == {"name": "functions__exec", "arguments": '{"input":"simulated"}'}
        assert (result["role"], result["content"]) == ("tool", "done")
        async with http.get(f"{RESPONSES}/{second['id']}/input_items?order=asc") as answer:
            listed = (await answer.json())["data"]
        assert [item["type"] for item in listed] == [
            "additional_tools",
            "message",
            "custom_tool_call",
            "custom_tool_call_output",
        ]
        assert listed[0]["tools"] == [NAMESPACE]
        assert [item["id"].partition("_")[0] for item in listed] == ["at", "msg", "ctc", "ctco"]
        reference = {"type": "item_reference", "id": call["id"]}
        status, again = await post(http, [TOOLS, user("Go."), reference, output_of(call, "ok")])
        assert (status, again["status"]) == (200, "completed")
        assert millrace.small.calls[-1].body["messages"][-2]["tool_calls"] == called["tool_calls"]


async def test_a_choice_that_no_tool_of_the_chain_fits(millrace: Running) -> None:
    async with aiohttp.ClientSession(millrace.url) as http:
        _, first = await post(http, "Hi")
        before = {"previous_response_id": first["id"]}
        status, refused = await post(http, "?", tool_choice="required", **before)
        assert (status, refused["error"]["param"]) == (400, "tool_choice")
        chosen = {"type": "function", "name": "depth"}
        status, refused = await post(http, "?", tool_choice=chosen, **before)
        assert (status, refused["error"]["param"]) == (400, "tool_choice.name")
        status, answered = await post(http, "?", tool_choice="auto", parallel_tool_calls=True, **before)
        assert (status, answered["status"]) == (200, "completed")
        assert not {"tools", "tool_choice", "parallel_tool_calls"} & millrace.small.calls[-1].body.keys()


async def test_a_hosted_tool_is_left_out_and_told_unless_it_must_be_used(millrace: Running) -> None:
    """As Agents SDKs offer web search; and what comes of hosted tools in a history."""
    history = [user("?"), {"type": "web_search_call", "id": "ws_1", "status": "completed"}, user("And?")]
    async with aiohttp.ClientSession(millrace.url) as http:
        status, answered = await post(http, history, tools=[SEARCH], tool_choice="auto", truncation="auto")
        assert (status, answered["status"], answered["tools"]) == (200, "completed", [SEARCH])
        told = [f"small-model without {name}" for name in ("web_search_call", "web_search", "truncation")]
        assert answered["metadata"]["millrace.notes"] == "; ".join(told)
        sent = millrace.small.calls[-1].body
        assert [one["content"] for one in sent["messages"]] == ["?", "And?"]
        assert not {"tools", "tool_choice"} & sent.keys()
        status, refused = await post(http, "?", tools=[SEARCH], tool_choice={"type": "web_search"})
        assert (status, refused["error"]["param"]) == (400, "tool_choice")
        assert "cannot be made to use web_search" in refused["error"]["message"]


SHELL = {
    "type": "local_shell_call",
    "id": "ls_1",
    "call_id": "c1",
    "status": "completed",
    "action": {"command": ["ls"]},
}


async def test_items_of_hosted_tools_go_both_ways_with_a_model_of_the_api() -> None:
    """An answer may have nothing else. It is not empty, and not from a cache when it is asked for again."""
    answers = deque([Answer(items=(reasoning("Hm."), SHELL)), Answer(items=(message("Two files."),))])
    configuration = configuration_for("http://127.0.0.1:1", "http://127.0.0.1:2")
    async with responding(lambda _: answers.popleft()) as server:
        for tier in ("small", "large"):
            configuration["models"][tier] |= {"upstream": "responses", "base_url": server.url}
        async with serving(configuration) as url, aiohttp.ClientSession(url) as http:
            tools = [{"type": "local_shell"}]
            _, first = await post(http, [user("ls")], tools=tools, store=False)
            assert (first["metadata"]["millrace.route"], first["metadata"]["millrace.check"]) == ("small", "passed")
            thought, shell = first["output"]
            assert shell == SHELL
            output = {"type": "local_shell_call_output", "id": "c1", "output": "a b"}
            _, second = await post(http, [user("ls"), *first["output"], output], tools=tools, store=False)
    assert server.refused == []
    sent = server.asked[-1]["input"]
    assert [item["type"] for item in sent] == ["message", "reasoning", "local_shell_call", "local_shell_call_output"]
    assert sent[1]["encrypted_content"] in server.issued
    assert "encrypted_content" in thought
    assert second["output"][0]["content"][0]["text"] == "Two files."


async def test_only_tools_that_are_allowed_are_sent(millrace: Running) -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "exec"}]}
    async with aiohttp.ClientSession(millrace.url) as http:
        _, answered = await post(http, "Go.", tools=[NAMESPACE, DEPTH], tool_choice=choice)
    assert call_of(answered)["name"] == "exec"
    assert answered["tool_choice"] == choice
    sent = millrace.small.calls[-1].body
    names = [tool["function"]["name"] for tool in sent["tools"]]
    assert (names, sent["tool_choice"]) == (["functions__exec"], "required")


@pytest.mark.parametrize("name", ["conversation", "prompt", "background"])
async def test_what_is_refused_is_refused_by_name(millrace: Running, name: str) -> None:
    async with wire_client(millrace.ws_url) as client:
        (refused,) = await client.ask("?", **{name: True})
    assert (refused["type"], refused["error"]["param"]) == ("error", name)


async def test_an_empty_input_is_prepared(millrace: Running) -> None:
    async with wire_client(millrace.ws_url) as client:
        prepared = check_response(await client.ask([], generate=False, store=False))
        response = check_response(await client.ask("Hi", previous_response_id=prepared["id"], store=False))
    assert response["status"] == "completed"


async def test_custom_tools_in_chat_completions_with_the_stock_sdk(millrace: Running) -> None:
    """Whole and streamed; the call goes back with its result."""
    tools: list[Any] = [{"type": "custom", "custom": {"name": "exec", "description": "Run it"}}]
    asked: list[Any] = [{"role": "user", "content": "Go. [tool=exec]"}]
    async with AsyncOpenAI(base_url=f"{millrace.url}/v1", api_key="any") as client:
        whole = await client.chat.completions.create(model="auto", messages=asked, tools=tools, tool_choice="auto")
        said = whole.choices[0].message
        assert said.tool_calls is not None
        (call,) = said.tool_calls
        assert call.type == "custom"
        assert (call.custom.name, call.custom.input) == ("exec", "simulated")
        result = {"role": "tool", "tool_call_id": call.id, "content": "done"}
        history = [*asked, said.model_dump(exclude_none=True), result]
        after = await client.chat.completions.create(model="auto", messages=history, tools=tools)
        assert "the tool said done" in (after.choices[0].message.content or "")
        chosen: Any = {"type": "custom", "custom": {"name": "exec"}}
        stream = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "Go."}], tools=tools, tool_choice=chosen, stream=True
        )
        deltas = [choice.delta.model_dump() async for chunk in stream for choice in chunk.choices]
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls") or ()]
    assert (pieces[0]["type"], pieces[0]["custom"]["name"]) == ("custom", "exec")
    assert "".join(piece["custom"].get("input") or "" for piece in pieces) == "simulated"
