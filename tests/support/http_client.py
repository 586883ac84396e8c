"""Requests over HTTP in all dialects, and what comes back as server-sent events."""

import json
from typing import Any

import aiohttp

from tests.support.wire_client import Event

RESPONSES, CHAT, MESSAGES = "/v1/responses", "/v1/chat/completions", "/v1/messages"


def body_of(path: str, asked: str, **fields: Any) -> Event:
    if path == MESSAGES:
        fields = {"max_tokens": 4000, **fields}
    said: Event = {"input": asked} if path == RESPONSES else {"messages": [{"role": "user", "content": asked}]}
    return {"model": "auto", **said, **fields}


async def lines_of(answer: aiohttp.ClientResponse) -> list[str]:
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    return [line.decode().rstrip("\n") async for line in answer.content]


def data_of(lines: list[str]) -> list[str]:
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def events_of(lines: list[str]) -> list[Event]:
    return [json.loads(data) for data in data_of(lines) if data != "[DONE]"]


def text_of_blocks(events: list[Event]) -> str:
    deltas = (event["delta"] for event in events if event["type"] == "content_block_delta")
    return "".join(delta.get("text", "") for delta in deltas)


def text_of_chunks(chunks: list[Event]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", []))
