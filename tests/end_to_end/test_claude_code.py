"""A session of Claude Code, as it was captured: over chat completions and over the API that it speaks itself.

Nothing is refused, trimmed or capped, and the small model goes first. A model of its own API gets what it has sent.
"""

import copy
import json
from typing import Any

import aiohttp

from tests.end_to_end.test_captured_agents import headers_of, shipped
from tests.support import messages_wire as wire
from tests.support.http_client import events_of, lines_of
from tests.support.messages_server import MessagesServer, messaging
from tests.support.paths import REPOSITORY
from tests.support.server import configuration_for, serving
from tests.support.wire_client import Event

REQUESTS: list[Event] = json.loads((REPOSITORY / "tests/support/agents/claude-code-messages.json").read_text("utf-8"))[
    "requests"
]
HEAD, TITLE, *TURNS = REQUESTS
SIGNED = wire.signature_of("Thinking.")


def signed(body: Event) -> Event:
    """Return a body whose thoughts are signed by the scripted server."""
    body = copy.deepcopy(body)
    for message in body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "thinking":
                block["signature"] = SIGNED
    return body


def texts_of(body: Event) -> list[str]:
    """Return all texts that a model must get."""
    found: list[str] = []
    for content in (body["system"], *(message["content"] for message in body["messages"])):
        for block in [{"text": content}] if isinstance(content, str) else content:
            inner = block.get("content", block.get("text", block.get("thinking", "")))
            found += [inner] if isinstance(inner, str) else [part["text"] for part in inner]
    return found


async def asked(http: aiohttp.ClientSession, url: str, request: Event, body: Event) -> tuple[list[Event], Event]:
    """Return the events of an answer, and its `message_delta`."""
    async with http.post(f"{url}{request['path']}", json=body, headers=headers_of(request)) as answer:
        events = events_of(await lines_of(answer))
    assert [event["type"] for event in (events[0], *events[-2:])] == ["message_start", "message_delta", "message_stop"]
    assert events[0]["message"]["model"] == body["model"]
    return events, events[-2]


def test_the_capture_has_what_the_tests_are_about() -> None:
    assert (HEAD["method"], HEAD["path"]) == ("HEAD", "/")
    assert TITLE["body"]["output_config"]["format"]["type"] == "json_schema"
    assert any(message["role"] == "system" for message in TURNS[-1]["body"]["messages"])
    assert all(len(turn["body"]["tools"]) == 25 for turn in TURNS)


async def test_over_chat_completions_with_default_settings() -> None:
    async with shipped() as (url, model), aiohttp.ClientSession() as http:
        async with http.head(url + HEAD["path"]) as answer:
            assert answer.status == 200
        for request in (TITLE, *TURNS):
            body = request["body"]
            tools = [tool["name"] for tool in body["tools"]]
            model.next.append(["function"] if tools else [])
            events, delta = await asked(http, url, request, body)
            sent = model.bodies[-1]
            assert (delta["metadata"]["millrace.route"], delta["metadata"]["millrace.check"]) == ("small", "passed")
            assert not {"trimmed_tokens", "max_output_tokens"} & delta["usage"].keys()
            assert sent["max_tokens"] == body["max_tokens"] == 64_000
            assert [tool["function"]["name"] for tool in sent.get("tools", ())] == tools
            messages = json.dumps(sent["messages"])
            assert all(json.dumps(text)[1:-1] in messages for text in texts_of(body) if text != "Thinking.")
            assert "cache_control" not in messages
            notes = delta["metadata"]["millrace.notes"]
            assert "without thinking" in notes
            assert "cache_control" not in notes
            assert delta["delta"]["stop_reason"] == ("tool_use" if tools else "end_turn")
            if not tools:
                schema = sent["response_format"]["json_schema"]["schema"]
                assert schema == body["output_config"]["format"]["schema"]
                assert "reasoning_effort" not in sent
            else:
                assert sent["reasoning_effort"] == "high"
                (call,) = [event["content_block"] for event in events if event["type"] == "content_block_start"]
                assert call["name"] == tools[0]
        assert len(model.bodies) == 1 + len(TURNS)


async def test_a_model_of_its_own_api_gets_what_it_has_sent() -> None:
    """Thoughts to the byte, all in the same order, marks where they were set, and the headers of the API."""
    say = wire.text("Done."), wire.tool_use("Bash", {"command": "ls"})

    def turn(body: wire.Fields) -> wire.Answer:
        if body.get("tools"):
            return wire.Answer(content=(wire.thinking("So."), *say), stop_reason="tool_use")
        return wire.Answer(content=(wire.text('{"title":"T"}'),))

    async with messaging(turn) as model, serving(anthropic(model)) as url, aiohttp.ClientSession() as http:
        for request in (TITLE, *TURNS):
            body = signed(request["body"])
            _, delta = await asked(http, url, request, body)
            sent, head = model.asked[-1], model.heads[-1]
            if request is TITLE:  # it sets no mark of its own
                sent["system"] = [{"type": "text", "text": block["text"]} for block in sent["system"]]
            assert _plain(sent) == _plain(body | {"model": "small-model"})
            assert head["anthropic-beta"] == request["headers"]["anthropic-beta"]
            assert head["anthropic-version"] == request["headers"]["anthropic-version"]
            assert delta["metadata"].get("millrace.notes", "") == ""
            assert delta["metadata"]["millrace.route"] == "small"
    assert model.refused == []
    assert len(model.asked) == 1 + len(TURNS)


def anthropic(model: MessagesServer) -> dict[str, Any]:
    """Return a configuration whose models are of the Messages API, and that takes any name."""
    configuration = configuration_for(model.url, model.url)
    for one in configuration["models"].values():
        one |= {"upstream": "anthropic", "context_window": 200_000}
    configuration["models"]["aliases"] = {"*": "auto"}
    return configuration | {"cache": {"exact": False, "semantic": False}}


def _plain(body: Event) -> Event:
    """Return a body in one of the ways to write it: texts as blocks, and no list that is empty."""
    messages = [
        message | {"content": [_block(block) for block in _blocks(message["content"])]} for message in body["messages"]
    ]
    plain = body | {"messages": messages, "system": _blocks(body["system"])}
    return {name: value for name, value in plain.items() if value != []}


def _block(block: Event) -> Event:
    if block["type"] != "tool_result":
        return block
    return {name: value for name, value in block.items() if value is not False} | {"content": _blocks(block["content"])}


def _blocks(content: Any) -> list[Event]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
