"""What the Messages API says on the wire: an answer as its content blocks, and the events that bring them."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Fields = dict[str, Any]

SECRET = b"of the scripted server"
PING: Fields = {"type": "ping"}
_numbers = itertools.count(1)


def signature_of(thought: str) -> str:
    """Return what proves that a thought is the server's."""
    return "ErUB" + hashlib.sha256(SECRET + thought.encode()).hexdigest() + "=="


def text(words: str, *citations: Fields) -> Fields:
    return {"type": "text", "text": words} | ({"citations": [*citations]} if citations else {})


def thinking(thought: str) -> Fields:
    """Return a thinking block; an empty thought is one that is not shown."""
    return {"type": "thinking", "thinking": thought, "signature": signature_of(thought)}


def redacted(data: str = "EmwKAhgBEgy3va3pzix") -> Fields:
    return {"type": "redacted_thinking", "data": data}


def tool_use(name: str, given: Fields, id_: str = "") -> Fields:
    return {"type": "tool_use", "id": id_ or f"toolu_{next(_numbers):024x}", "name": name, "input": given}


def server_tool_use(name: str, given: Fields) -> tuple[Fields, Fields]:
    """Return the call of a tool that the provider runs, and its result."""
    id_ = f"srvtoolu_{next(_numbers):024x}"
    found = {"type": "web_search_result", "title": "Rivers", "url": "https://rivers.example", "encrypted_content": "E"}
    call = {"type": "server_tool_use", "id": id_, "name": name, "input": given}
    return call, {"type": "web_search_tool_result", "tool_use_id": id_, "content": [found | {"page_age": None}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A message: its blocks, why it ends, and what is said of it beside."""

    content: tuple[Fields, ...] = ()
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    stop_details: Fields | None = None
    usage: Fields = field(default_factory=lambda: {"input_tokens": 25, "output_tokens": 15})
    counts: Fields = field(default_factory=dict)  # in place of what a server counts by itself
    error: Fields | None = None  # that ends the stream after the blocks
    pings: bool = True
    id: str = field(default_factory=lambda: f"msg_{next(_numbers):024x}")

    def whole(self, asked: Fields) -> Fields:
        """Return the message as it is without a stream."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": asked.get("model", "m"),
            "content": [*self.content],
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "stop_details": self.stop_details,
            "usage": usage_of(self.usage),
        }

    def events(self, asked: Fields) -> Iterator[Fields]:
        """Yield all events of the stream."""
        begun = self.whole(asked) | {"content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
        begun["usage"] = usage_of(self.usage | {"output_tokens": 1})
        yield {"type": "message_start", "message": begun}
        for index, block in enumerate(self.content):
            yield from _block(index, block)
            if index == 0 and self.pings:
                yield PING
        if self.error is not None:
            yield {"type": "error", "error": self.error, "request_id": "req_1"}
            return
        delta: Fields = {"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence}
        delta |= {"stop_details": self.stop_details} if self.stop_details else {}
        yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": self.usage["output_tokens"]}}
        yield {"type": "message_stop"}

    def stream(self, asked: Fields | None = None) -> list[bytes]:
        """Return the stream as it is on the wire, event by event."""
        return [sse(event) for event in self.events(asked or {})]


def usage_of(counts: Fields) -> Fields:
    """Return a usage as the API writes it."""
    written = counts.get("cache_creation_input_tokens", 0)
    an_hour = counts.get("ephemeral_1h_input_tokens", 0)
    return {
        "input_tokens": counts["input_tokens"],
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": counts.get("cache_read_input_tokens", 0),
        "cache_creation": {"ephemeral_5m_input_tokens": written - an_hour, "ephemeral_1h_input_tokens": an_hour},
        "output_tokens": counts["output_tokens"],
        "service_tier": "standard",
        "inference_geo": "global",
    }


def sse(event: Fields) -> bytes:
    """Return an event as it is on the wire."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())


def pieces(words: str) -> list[str]:
    """Return a text in pieces of at most eight characters."""
    return [words[at : at + 8] for at in range(0, len(words), 8)]


def _block(index: int, block: Fields) -> Iterator[Fields]:
    deltas: list[Fields] = []
    begun = block
    match block["type"]:
        case "text":
            begun = {"type": "text", "text": ""} | ({"citations": []} if "citations" in block else {})
            deltas += [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
            deltas += [{"type": "citations_delta", "citation": citation} for citation in block.get("citations", ())]
        case "thinking":
            begun = {"type": "thinking", "thinking": "", "signature": ""}
            deltas += [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "tool_use" | "server_tool_use":
            begun = block | {"input": {}}
            written = json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
            deltas += [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces(written))]
    yield {"type": "content_block_start", "index": index, "content_block": begun}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}
