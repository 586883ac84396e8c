"""Asks one question over each wire, and returns what a client has got of the answer."""

import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.grammar.truth import TOOLS
from tests.support.wire_client import WireClient

Fields = dict[str, Any]
RESPONSES_TOOLS = [{"type": "function", "name": name, "parameters": schema} for name, schema in TOOLS.items()]
CHAT_TOOLS = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in TOOLS.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What a client has got. `finish` is that of the truth, or "failed"."""

    finish: str
    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    usage: Fields | None = None  # of Millrace
    cache: str = ""


_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


async def over_socket(client: WireClient, question: str, options: Fields) -> Got:
    """Ask over a WebSocket; the terminal must say what the deltas said."""
    events = await client.ask(question, tools=RESPONSES_TOOLS, millrace=options)
    return _response(events[-1].get("response", {"status": "failed"}))


async def over_responses(http: aiohttp.ClientSession, question: str, options: Fields, *, stream: bool) -> Got:
    """Ask `POST /v1/responses`."""
    body = {"input": question, "tools": RESPONSES_TOOLS, "millrace": options, "stream": stream}
    async with http.post("/v1/responses", json=body) as answer:
        if not stream or answer.content_type == "application/json":
            document = await answer.json()
            return Got(finish="failed") if "error" in document and "output" not in document else _response(document)
        events = _events(await answer.read())
        return _response(events[-1]["response"])


async def over_chat(http: aiohttp.ClientSession, question: str, options: Fields, *, stream: bool) -> Got:
    """Ask `POST /v1/chat/completions`."""
    body = {"messages": [{"role": "user", "content": question}], "tools": CHAT_TOOLS, "millrace": options}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    async with http.post("/v1/chat/completions", json=body) as answer:
        if answer.content_type == "application/json":
            return _completion(await answer.json())
        return _completion(_joined(_events(await answer.read())))


def _events(raw: bytes) -> list[Fields]:
    lines = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def _response(response: Fields) -> Got:
    if response["status"] == "failed":
        return Got(finish="failed", usage=response.get("usage"))
    output = response["output"]
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    calls = tuple((i["name"], json.loads(i["arguments"])) for i in output if i["type"] == "function_call")
    reason = (response.get("incomplete_details") or {}).get("reason")
    return Got(
        finish=_REASONS.get(reason, reason) if reason else "tool_calls" if calls else "stop",
        text="".join(part.get("text", "") for part in parts),
        reasoning="".join(part["text"] for item in output if item["type"] == "reasoning" for part in item["content"]),
        calls=calls,
        usage=response["usage"],
        cache=response["metadata"]["millrace.cache"],
    )


def _joined(chunks: list[Fields]) -> Fields:
    """Return a streamed completion as a whole one."""
    message: Fields = {"content": "", "reasoning_content": "", "tool_calls": {}}
    whole: Fields = {"choices": [{"message": message, "finish_reason": None}]}
    for chunk in chunks:
        if "error" in chunk:
            return chunk
        whole |= {name: chunk[name] for name in ("usage", "metadata") if chunk.get(name)}
        for choice in chunk.get("choices") or ():
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            message["reasoning_content"] += delta.get("reasoning_content") or ""
            for piece in delta.get("tool_calls") or ():
                call = message["tool_calls"].setdefault(piece["index"], {"function": {"name": "", "arguments": ""}})
                for name in ("name", "arguments"):
                    call["function"][name] += piece["function"].get(name) or ""
            whole["choices"][0]["finish_reason"] = choice.get("finish_reason") or whole["choices"][0]["finish_reason"]
    message["tool_calls"] = [call for _, call in sorted(message["tool_calls"].items())]
    return whole


def _completion(completion: Fields) -> Got:
    if "error" in completion:
        return Got(finish="failed", usage=completion.get("usage"))
    (choice,) = completion["choices"]
    message = choice["message"]
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    return Got(
        finish=choice["finish_reason"],
        text=message.get("content") or "",
        reasoning=message.get("reasoning_content") or "",
        calls=tuple((function["name"], json.loads(function["arguments"])) for function in functions),
        usage=completion["usage"],
        cache=(completion.get("metadata") or {}).get("millrace.cache", ""),
    )
