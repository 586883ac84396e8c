"""A model that answers the same in any provider's API, and what it was asked, whichever API that came in."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support import chat_server, messages_server, messages_wire, responses_server, responses_wire
from tests.support.chat_server import ChatServer, chunk
from tests.support.messages_server import MessagesServer
from tests.support.responses_server import ResponsesServer
from tests.support.responses_wire import pieces

Fields = dict[str, Any]
AnyServer = ChatServer | ResponsesServer | MessagesServer
ERROR: Fields = {"type": "server_error", "code": "server_error", "message": "The model broke."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a model says. `end` is stop, length, content_filter, or error, which is one in mid-stream."""

    thought: str = ""
    text: str = ""
    calls: tuple[tuple[str, Fields], ...] = ()  # names and arguments
    refusal: str = ""
    end: str = "stop"


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a request a model has seen."""

    pictures: list[str]  # data: URLs
    schema: Any
    calls: list[tuple[str, Any]]  # of its own earlier answers
    results: list[str]
    thoughts: list[str]  # what it had thought, as it can prove or read it itself


@asynccontextmanager
async def any_model(api: str, *answers: Said) -> AsyncIterator[AnyServer]:
    """Run a model whose answers are these, one after the other; the last one again and again."""
    left = [*answers]

    def next_() -> Said:
        return left.pop(0) if len(left) > 1 else left[0]

    match api:
        case "openai":
            async with chat_server.completing(lambda _: _chunks(next_())) as chat:
                yield chat
        case "responses":
            async with responses_server.responding(lambda _: _response(next_())) as responses:
                yield responses
        case _:
            async with messages_server.messaging(lambda _: _message(next_())) as messages:
                yield messages


def hold_before_the_end(server: AnyServer, said: Said) -> None:
    """Let the model wait for ever before the event that ends its answer."""
    match server:
        case ChatServer():
            server.pause_before = len(_chunks(said)) - 1
        case ResponsesServer():
            server.pause_before = len(_response(said).stream()) - 1
        case MessagesServer():
            server.pause_before = len(_message(said).stream()) - 2


def _chunks(said: Said) -> list[Fields]:
    chunks = [chunk(role="assistant", content="")]
    chunks += [chunk(reasoning_content=piece) for piece in pieces(said.thought)]
    chunks += [chunk(content=piece) for piece in pieces(said.text)]
    chunks += [chunk(refusal=piece) for piece in pieces(said.refusal)]
    for index, (name, given) in enumerate(said.calls):
        function = {"name": name, "arguments": json.dumps(given)}
        call = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
        chunks.append(chunk(tool_calls=[call]))
    if said.end == "error":
        return [*chunks, {"error": ERROR}]
    finish = "tool_calls" if said.calls else said.end
    return [*chunks, chunk(finish, chat_server.USAGE)]


def _response(said: Said) -> responses_wire.Answer:
    items = [responses_wire.reasoning(said.thought)] if said.thought else []
    if said.text or said.refusal:
        items.append(responses_wire.message(*([said.text] if said.text else []), refusal=said.refusal))
    items += [responses_wire.function_call(name, json.dumps(given)) for name, given in said.calls]
    ends: dict[str, Fields] = {
        "stop": {},
        "length": {"status": "incomplete", "reason": "max_output_tokens"},
        "content_filter": {"status": "incomplete", "reason": "content_filter"},
        "error": {"status": "failed", "error": ERROR},
    }
    return responses_wire.Answer(items=tuple(items), **ends[said.end])


def _message(said: Said) -> messages_wire.Answer:
    blocks = [messages_wire.thinking(said.thought)] if said.thought else []
    blocks += [messages_wire.text(text) for text in (said.text, said.refusal) if text]
    blocks += [messages_wire.tool_use(name, given) for name, given in said.calls]
    if said.end == "error":
        return messages_wire.Answer(content=tuple(blocks), error={"type": "api_error", "message": ERROR["message"]})
    stops = {"length": "max_tokens", "content_filter": "refusal", "stop": "tool_use" if said.calls else "end_turn"}
    reason = "refusal" if said.refusal else stops[said.end]
    return messages_wire.Answer(content=tuple(blocks), stop_reason=reason)


def seen(server: AnyServer, body: Fields) -> Seen:
    """Return what a request in the server's API says."""
    readers: dict[type, Callable[[Fields], Seen]] = {
        ChatServer: _seen_in_chat,
        ResponsesServer: _seen_in_responses,
        MessagesServer: _seen_in_messages,
    }
    return readers[type(server)](body)


def _seen_in_chat(body: Fields) -> Seen:
    messages = body["messages"]
    parts = [part for one in messages if isinstance(one.get("content"), list) for part in one["content"]]
    calls = [call["function"] for one in messages for call in one.get("tool_calls", ())]
    return Seen(
        pictures=[part["image_url"]["url"] for part in parts if part["type"] == "image_url"],
        schema=body.get("response_format", {}).get("json_schema", {}).get("schema"),
        calls=[(call["name"], json.loads(call["arguments"])) for call in calls],
        results=[one["content"] for one in messages if one["role"] == "tool"],
        thoughts=[one["reasoning_content"] for one in messages if one.get("reasoning_content")],
    )


def _seen_in_responses(body: Fields) -> Seen:
    items = body["input"]
    parts = [part for item in items if isinstance(item.get("content"), list) for part in item["content"]]
    return Seen(
        pictures=[part["image_url"] for part in parts if part["type"] == "input_image"],
        schema=body.get("text", {}).get("format", {}).get("schema"),
        calls=[(item["name"], json.loads(item["arguments"])) for item in items if item["type"] == "function_call"],
        results=[item["output"] for item in items if item["type"] == "function_call_output"],
        thoughts=[part["text"] for item in items if item.get("encrypted_content") for part in item["summary"]],
    )


def _seen_in_messages(body: Fields) -> Seen:
    blocks = [block for turn in body["messages"] if isinstance(turn["content"], list) for block in turn["content"]]
    sources = [block["source"] for block in blocks if block["type"] == "image"]
    results = [block["content"] for block in blocks if block["type"] == "tool_result"]
    return Seen(
        pictures=[f"data:{source['media_type']};base64,{source['data']}" for source in sources],
        schema=(body.get("output_config") or {}).get("format", {}).get("schema"),
        calls=[(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"],
        results=[one if isinstance(one, str) else "".join(part["text"] for part in one) for one in results],
        thoughts=[block["thinking"] for block in blocks if block["type"] == "thinking"],
    )
