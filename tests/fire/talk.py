"""Clients of each dialect: what each was told of one request, checked as far as a client can check it."""

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.support.wire_client import TERMINALS, check_response, output_of, text_of

Fields = dict[str, Any]

PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
WEBSOCKETS = ("websocket", "plain websocket")
DIALECTS = (*WEBSOCKETS, *PATHS)
HEADERS = {"Content-Type": "application/json", "anthropic-version": "2023-06-01"}
PATIENCE_S = 60.0  # for one answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a client knows in the end."""

    id: str  # of the response, as the ledger has it
    status: str  # completed, incomplete or failed
    text: str  # that it has been shown and not taken back
    code: str = ""  # of the error
    cost: float | None = None  # dollars, where the dialect says it
    taken_back: bool = False  # some text was


class RefusedError(AssertionError):
    """A WebSocket was told of an error instead of a response."""

    def __init__(self, error: Fields) -> None:
        super().__init__(f"no terminal: {error}")
        self.code: str = error["error"]["code"]


def body_of(dialect: str, text: str, options: Fields) -> Fields:
    """Return the body of a streamed request in a dialect. Options of Millrace go as it takes them there."""
    own = {"metadata": {f"millrace.{name}": str(value) for name, value in options.items()}}
    match dialect:
        case "chat":
            asked: Fields = {"messages": [{"role": "user", "content": text}], "stream_options": {"include_usage": True}}
            return asked | own | {"model": "auto", "stream": True}
        case "messages":
            asked = {"messages": [{"role": "user", "content": text}], "max_tokens": 500, "millrace": options}
            return asked | {"model": "auto", "stream": True}
    return {"input": text, "model": "auto", "millrace": options} | ({"stream": True} if dialect == "responses" else {})


async def ask(url: str, dialect: str, body: Fields, key: str = "") -> Told:
    """Ask in a dialect, on a connection of its own, and read to the end."""
    head = {"Authorization": f"Bearer {key}"} if key else {}
    async with asyncio.timeout(PATIENCE_S):
        if dialect in WEBSOCKETS:
            return await _over_websocket(url, body, head, negotiated=dialect == "websocket")
        data = io.BytesIO(json.dumps(body).encode())
        async with (
            aiohttp.ClientSession(headers=HEADERS | head) as http,
            http.post(url + PATHS[dialect], data=data) as answer,
        ):
            raw = await answer.text()
            id_ = answer.headers.get("X-Request-Id", "")
    if answer.status != 200:
        return Told(id=id_, status="failed", text="", code=_code(json.loads(raw)))
    readers: dict[str, Callable[[str, str], Told]] = {"chat": _chat, "responses": of_responses, "messages": _messages}
    return readers[dialect](raw, id_)


async def _over_websocket(url: str, body: Fields, head: dict[str, str], *, negotiated: bool) -> Told:
    address = f"{url.replace('http', 'ws', 1)}/v1/responses"
    subprotocols = [Subprotocol("millrace.v1")] if negotiated else None
    events: list[Fields] = []
    options: Fields = {"subprotocols": subprotocols, "additional_headers": head, "ping_interval": None}
    async with connect(address, compression=None, open_timeout=PATIENCE_S, **options) as socket:
        await socket.send(json.dumps({"type": "response.create"} | body))
        while not events or events[-1]["type"] not in (*TERMINALS, "error"):
            events.append(json.loads(await socket.recv()))
    return _of_events(events, negotiated=negotiated)


def _of_events(events: list[Fields], *, negotiated: bool) -> Told:
    if events[-1]["type"] not in TERMINALS:
        raise RefusedError(events[-1])
    numbered = [event for event in events if "sequence_number" in event]
    response = check_response(numbered, negotiated=negotiated)
    assert output_of(response) == text_of(numbered)
    return Told(
        id=response["id"],
        status=response["status"],
        text=text_of(numbered),
        code=(response["error"] or {}).get("code", ""),
        cost=response["usage"]["cost_usd"],
        taken_back=any(event["type"] == "millrace.revise" for event in events),
    )


def of_responses(raw: str, _: str) -> Told:
    return _of_events(_events(raw), negotiated=False)


def _chat(raw: str, id_: str) -> Told:
    """Read chunks: one end, which is a finish reason or an error, and nothing but the usage after it."""
    text, ends, code, cost, told = "", [], "", None, _events(raw)
    for chunk in told:
        if "error" in chunk:
            code = _code(chunk)
            ends.append("error")
        for choice in chunk.get("choices", ()):
            words = choice["delta"].get("content") or ""
            assert not (words and ends), f"words after the end: {raw}"
            text += words
            ends += [choice["finish_reason"]] if choice["finish_reason"] else []
        cost = (chunk.get("usage") or {}).get("cost_usd", cost)
    assert len(ends) == 1, f"not one end: {raw}"
    assert "error" in ends or raw.endswith("data: [DONE]\n\n"), raw
    status = {"stop": "completed", "error": "failed"}.get(ends[0], "incomplete")
    return Told(id=id_, status=status, text=text, code=code, cost=cost)


def _messages(raw: str, id_: str) -> Told:
    """Read events: one message, from its start to its stop or to an error."""
    events = _events(raw)
    kinds = [event["type"] for event in events]
    said = "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
    if kinds[-1] == "error":
        assert "message_stop" not in kinds, raw
        return Told(id=id_, status="failed", text=said, code=_code(events[-1]))
    assert (kinds[0], kinds.count("message_start"), kinds.count("message_delta")) == ("message_start", 1, 1), raw
    assert (kinds[-1], kinds.count("message_stop")) == ("message_stop", 1), raw
    assert kinds.count("content_block_start") == kinds.count("content_block_stop"), raw
    (end,) = [event for event in events if event["type"] == "message_delta"]
    status = "completed" if end["delta"]["stop_reason"] == "end_turn" else "incomplete"
    return Told(id=id_, status=status, text=said, cost=end["usage"]["cost_usd"])


def _events(raw: str) -> list[Fields]:
    return [json.loads(line[6:]) for line in raw.split("\n") if line.startswith("data: {")]


def _code(body: Fields) -> str:
    return str(body["error"].get("code") or body["error"]["type"])
