"""What the Responses API says on the wire: an answer as its items, and the events in which a stream brings them."""

import copy
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Fields = dict[str, Any]

USAGE: Fields = {
    "input_tokens": 40,
    "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 0},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 60,
}
_numbers = itertools.count(1)


def _id(prefix: str) -> str:
    return f"{prefix}_{next(_numbers):032x}"


def message(*texts: str, refusal: str = "", **more: Any) -> Fields:
    """Return a message with these texts, or a refusal; `more` goes into each text."""
    content: list[Fields] = [
        {"type": "output_text", "annotations": [], "logprobs": [], "text": text, **more} for text in texts
    ]
    content += [{"type": "refusal", "refusal": refusal}] if refusal else []
    return {"id": _id("msg"), "type": "message", "status": "completed", "role": "assistant", "content": content}


def reasoning(*summary: str, encrypted: str | None = None) -> Fields:
    """Return a reasoning item; `encrypted` is what only the server can read."""
    parts = [{"type": "summary_text", "text": text} for text in summary]
    return {
        "id": _id("rs"),
        "type": "reasoning",
        "summary": parts,
        "encrypted_content": encrypted or f"gAAA{_id('e')}=",
    }


def open_reasoning(text: str) -> Fields:
    """Return a reasoning item as servers of open models send it, with its text."""
    content = [{"type": "reasoning_text", "text": text}]
    return {"id": _id("rs"), "type": "reasoning", "summary": [], "content": content}


def function_call(name: str, arguments: str, *, namespace: str = "", call_id: str = "") -> Fields:
    """Return the call of a function."""
    item = {"id": _id("fc"), "type": "function_call", "status": "completed", "call_id": call_id or _id("call")}
    return item | {"name": name, "arguments": arguments} | ({"namespace": namespace} if namespace else {})


def custom_call(name: str, text: str, *, namespace: str = "", call_id: str = "") -> Fields:
    """Return the call of a custom tool."""
    item = {"id": _id("ctc"), "type": "custom_tool_call", "status": "completed", "call_id": call_id or _id("call")}
    return item | {"name": name, "input": text} | ({"namespace": namespace} if namespace else {})


def web_search(query: str) -> Fields:
    """Return the call of a tool that the provider runs."""
    action = {"type": "search", "query": query, "queries": [query]}
    return {"id": _id("ws"), "type": "web_search_call", "status": "completed", "action": action}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response: its items, and how it ends."""

    items: tuple[Fields, ...]
    status: str = "completed"  # or incomplete, failed, cancelled
    reason: str = ""  # of an incomplete one
    error: Fields | None = None
    usage: Fields | None = field(default_factory=lambda: copy.deepcopy(USAGE))
    service_tier: str = "default"
    id: str = field(default_factory=lambda: _id("resp"))

    def whole(self, asked: Fields | None = None) -> Fields:
        """Return the response object; `asked` is the request."""
        asked = asked or {}
        return {
            "id": self.id,
            "object": "response",
            "created_at": 1_780_000_000,
            "status": self.status,
            "background": False,
            "error": self.error,
            "incomplete_details": {"reason": self.reason} if self.reason else None,
            "instructions": None,
            "max_output_tokens": asked.get("max_output_tokens"),
            "model": asked.get("model", "m"),
            "output": [*self.items],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": self.service_tier,
            "store": asked.get("store", True),
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": asked.get("tool_choice", "auto"),
            "tools": asked.get("tools", []),
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": self.usage,
            "user": None,
            "metadata": {},
        }

    def events(self, asked: Fields | None = None) -> Iterator[Fields]:
        """Yield all events of the stream, numbered."""
        numbers = itertools.count()
        for event in self._events(asked):
            yield event | {"sequence_number": next(numbers)}

    def _events(self, asked: Fields | None) -> Iterator[Fields]:
        whole = self.whole(asked)
        begun = whole | {"status": "in_progress", "output": [], "usage": None, "error": None}
        begun |= {"service_tier": "auto", "incomplete_details": None}
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        for index, item in enumerate(self.items):
            yield from _events_of(item, {"item_id": item["id"], "output_index": index})
        yield {"type": f"response.{self.status}", "response": whole}

    def stream(self, asked: Fields | None = None) -> list[bytes]:
        """Return the stream as it is on the wire, event by event."""
        return [sse(event) for event in self.events(asked)]


def sse(event: Fields) -> bytes:
    """Return an event as it is on the wire."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())


def _events_of(item: Fields, at: Fields) -> Iterator[Fields]:
    empty: Fields = {"status": "in_progress"} if "status" in item else {}
    match item["type"]:
        case "message":
            within, empty = _parts(item["content"], at), empty | {"content": []}
        case "reasoning":
            within = itertools.chain(_summary(item["summary"], at), _open(item.get("content", ()), at))
            empty |= {"summary": []} | ({"encrypted_content": "gAAA"} if "encrypted_content" in item else {})
        case "function_call":
            within = _pieces("function_call_arguments", "arguments", item, at)
            empty |= {"arguments": ""}
        case "custom_tool_call":
            within, empty = _pieces("custom_tool_call_input", "input", item, at), empty | {"input": ""}
        case kind:
            within = ({"type": f"response.{kind}.{step}", **at} for step in ("in_progress", "searching", "completed"))
    index = at["output_index"]
    yield {"type": "response.output_item.added", "output_index": index, "item": item | empty}
    yield from within
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _parts(content: list[Fields], at: Fields) -> Iterator[Fields]:
    for index, part in enumerate(content):
        here = at | {"content_index": index}
        name = "text" if part["type"] == "output_text" else "refusal"
        event = f"response.{part['type']}"
        scores: Fields = {"logprobs": []} if name == "text" else {}
        yield {"type": "response.content_part.added", **here, "part": part | {name: ""}}
        for number, delta in enumerate(pieces(part[name])):
            told = {"logprobs": part["logprobs"][number : number + 1]} if part.get("logprobs") else scores
            yield {"type": f"{event}.delta", **here, "delta": delta, **told, "obfuscation": "x" * 7}
        whole = {"logprobs": part.get("logprobs", [])} if name == "text" else {}
        yield {"type": f"{event}.done", **here, name: part[name], **whole}
        yield {"type": "response.content_part.done", **here, "part": part}


def _summary(summary: list[Fields], at: Fields) -> Iterator[Fields]:
    for index, part in enumerate(summary):
        here = at | {"summary_index": index}
        yield {"type": "response.reasoning_summary_part.added", **here, "part": part | {"text": ""}}
        for delta in pieces(part["text"]):
            yield {"type": "response.reasoning_summary_text.delta", **here, "delta": delta}
        yield {"type": "response.reasoning_summary_text.done", **here, "text": part["text"]}
        yield {"type": "response.reasoning_summary_part.done", **here, "part": part}


def _open(content: list[Fields], at: Fields) -> Iterator[Fields]:
    for index, part in enumerate(content):
        here = at | {"content_index": index}
        for delta in pieces(part["text"]):
            yield {"type": "response.reasoning_text.delta", **here, "delta": delta}
        yield {"type": "response.reasoning_text.done", **here, "text": part["text"]}


def _pieces(kind: str, name: str, item: Fields, at: Fields) -> Iterator[Fields]:
    for delta in pieces(item[name]):
        yield {"type": f"response.{kind}.delta", **at, "delta": delta}
    yield {"type": f"response.{kind}.done", **at, name: item[name]}


def pieces(text: str) -> list[str]:
    """Return a text in tokens of a kind: words with the blank before them, and at most eight characters."""
    return [text[at : at + 8] for at in range(0, len(text), 8)]
