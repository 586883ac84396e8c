"""A client of each dialect, which asks the same and reads what it is told into one form. All answers are streamed."""

import asyncio
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import aiohttp

Fields = dict[str, Any]

PICTURE = "data:image/png;base64,iVBORw0KGgo="
SCHEMA: Fields = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
HEADERS = {"Content-Type": "application/json", "anthropic-version": "2023-06-01"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """An answer as a client has it."""

    text: str = ""
    thought: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    refusal: str = ""
    end: str = ""  # stop, tool_calls, length, content_filter, refusal, error
    notes: str = ""  # what Millrace says of fields that were left out
    kept: Any = None  # what the client sends back of it
    call_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a client asks. With `before`, it goes on after that answer, with these results of its calls."""

    text: str = "What is the weather?"
    has_picture: bool = False
    has_tool: bool = False
    has_schema: bool = False
    thinks: bool = False
    before: Got | None = None
    results: Sequence[str] = ()


class Dialect(Protocol):
    """How clients of one dialect ask and read."""

    path: str

    def body(self, asked: Question) -> Fields:
        """Return the body of a request."""
        ...

    def got(self, events: Iterable[Fields]) -> Got:
        """Return the answer that events bring."""
        ...


class Responses:
    """OpenAI's Responses API."""

    path = "/v1/responses"

    def body(self, asked: Question) -> Fields:
        content: list[Fields] = [{"type": "input_text", "text": asked.text}]
        content += [{"type": "input_image", "image_url": PICTURE}] * asked.has_picture
        items: list[Fields] = [{"role": "user", "content": content}]
        if (before := asked.before) is not None:
            items += before.kept
            pairs = zip(before.call_ids, asked.results, strict=True)
            items += [{"type": "function_call_output", "call_id": id_, "output": result} for id_, result in pairs]
            items += [] if asked.results else [{"role": "user", "content": "Go on."}]
        body: Fields = {"input": items, "store": False, "max_output_tokens": 500}
        if asked.has_tool:
            body["tools"] = [{"type": "function", "name": "weather", "parameters": SCHEMA}]
        if asked.has_schema:
            body["text"] = {"format": {"type": "json_schema", "name": "town", "schema": SCHEMA, "strict": True}}
        if asked.thinks:
            body["reasoning"] = {"effort": "low", "summary": "auto"}
        return body

    def got(self, events: Iterable[Fields]) -> Got:
        got, end = Got(), ""
        for event in events:
            match event["type"]:
                case "response.output_text.delta":
                    got = replace(got, text=got.text + event["delta"])
                case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                    got = replace(got, thought=got.thought + event["delta"])
                case "response.refusal.delta":
                    got = replace(got, refusal=got.refusal + event["delta"])
                case "response.completed" | "response.incomplete" | "response.failed":
                    response = event["response"]
                    reason = (response.get("incomplete_details") or {}).get("reason", "")
                    words = {"max_output_tokens": "length", "content_filter": "content_filter"}
                    calls = [item for item in response["output"] if item["type"] == "function_call"]
                    end = "error" if event["type"] == "response.failed" else words.get(reason, "")
                    got = replace(
                        got,
                        calls=[(call["name"], json.loads(call["arguments"])) for call in calls],
                        call_ids=[call["call_id"] for call in calls],
                        kept=response["output"],
                        notes=(response.get("metadata") or {}).get("millrace.notes", ""),
                    )
                case "error":
                    end = "error"
        return replace(got, end=end or ("tool_calls" if got.calls else "refusal" if got.refusal else "stop"))


class Chat:
    """Chat completions."""

    path = "/v1/chat/completions"

    def body(self, asked: Question) -> Fields:
        content: list[Fields] = [{"type": "text", "text": asked.text}]
        content += [{"type": "image_url", "image_url": {"url": PICTURE}}] * asked.has_picture
        messages: list[Fields] = [{"role": "user", "content": content}]
        if (before := asked.before) is not None:
            messages.append(before.kept)
            pairs = zip(before.call_ids, asked.results, strict=True)
            messages += [{"role": "tool", "tool_call_id": id_, "content": result} for id_, result in pairs]
            messages += [] if asked.results else [{"role": "user", "content": "Go on."}]
        body: Fields = {"messages": messages, "store": False, "max_completion_tokens": 500}
        body["stream_options"] = {"include_usage": True}
        if asked.has_tool:
            body["tools"] = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
        if asked.has_schema:
            schema = {"name": "town", "schema": SCHEMA, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if asked.thinks:
            body["reasoning_effort"] = "low"
        return body

    def got(self, events: Iterable[Fields]) -> Got:
        got, kept = Got(), dict[str, Any](role="assistant", content="")
        calls: list[Fields] = []
        for event in events:
            if event.get("error"):
                got = replace(got, end="error")
            got = replace(got, notes=got.notes or (event.get("metadata") or {}).get("millrace.notes", ""))
            for choice in event.get("choices", ()):
                for name, value in choice["delta"].items():
                    if name == "tool_calls":
                        self._take_calls(calls, value)
                    elif isinstance(value, str) and name != "role":
                        kept[name] = kept.get(name, "") + value
                    elif name != "role" and value is not None:
                        kept[name] = kept.get(name, []) + value if isinstance(value, list) else value
                got = replace(got, end=choice["finish_reason"] or got.end)
        kept |= {"tool_calls": calls} if calls else {}
        refusal = kept.get("refusal", "")
        return replace(
            got,
            text=kept["content"],
            thought=kept.get("reasoning_content", ""),
            refusal=refusal,
            calls=[(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls],
            call_ids=[call["id"] for call in calls],
            kept=kept,
            end="refusal" if refusal and got.end == "stop" else got.end,
        )

    @staticmethod
    def _take_calls(calls: list[Fields], given: list[Fields]) -> None:
        for piece in given:
            if piece["index"] == len(calls):
                calls.append({"id": piece["id"], "type": "function", "function": {"name": "", "arguments": ""}})
            call = calls[piece["index"]]
            for name, value in piece["function"].items():
                call["function"][name] += value or ""
            call |= {name: value for name, value in piece.items() if name not in ("index", "id", "type", "function")}


class Messages:
    """Anthropic's Messages API."""

    path = "/v1/messages"

    def body(self, asked: Question) -> Fields:
        content: list[Fields] = [{"type": "text", "text": asked.text}]
        kind, _, data = PICTURE.removeprefix("data:").partition(";base64,")
        source = {"type": "base64", "media_type": kind, "data": data}
        content += [{"type": "image", "source": source}] * asked.has_picture
        messages: list[Fields] = [{"role": "user", "content": content}]
        if (before := asked.before) is not None:
            messages.append({"role": "assistant", "content": before.kept})
            pairs = zip(before.call_ids, asked.results, strict=True)
            results: Any = [{"type": "tool_result", "tool_use_id": id_, "content": result} for id_, result in pairs]
            messages.append({"role": "user", "content": results or "Go on."})
        body: Fields = {"messages": messages, "max_tokens": 500}
        if asked.has_tool:
            body["tools"] = [{"name": "weather", "input_schema": SCHEMA}]
        if asked.has_schema:
            body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
        if asked.thinks:
            body["thinking"] = {"type": "adaptive"}
        return body

    def got(self, events: Iterable[Fields]) -> Got:
        blocks: list[Fields] = []
        end = notes = ""
        for event in events:
            match event["type"]:
                case "content_block_start":
                    blocks.append({**event["content_block"]} | {"written": ""})
                case "content_block_delta":
                    self._take_delta(blocks[-1], event["delta"])
                case "message_delta":
                    end = event["delta"]["stop_reason"]
                    notes = (event.get("metadata") or {}).get("millrace.notes", "")
                case "error":
                    end = "error"
        for block in blocks:
            written = block.pop("written")
            if block["type"] == "tool_use":
                block["input"] = json.loads(written or "{}")
        words = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length"}
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        return Got(
            text="" if end == "refusal" else text,
            refusal=text if end == "refusal" else "",
            thought="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
            calls=[(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"],
            call_ids=[block["id"] for block in blocks if block["type"] == "tool_use"],
            kept=blocks,
            end=words.get(end, end),
            notes=notes,
        )

    @staticmethod
    def _take_delta(block: Fields, delta: Fields) -> None:
        names = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
        if name := names.get(delta["type"]):
            block[name] = block.get(name, "") + delta[name]
        elif delta["type"] == "input_json_delta":
            block["written"] += delta["partial_json"]


DIALECTS: dict[str, Dialect] = {"responses": Responses(), "chat": Chat(), "messages": Messages()}


async def ask(url: str, dialect: str, asked: Question, **more: Any) -> Got:
    """Ask a server of this address, as a client of this dialect; `more` goes into the body. Reads to the end."""
    speaks = DIALECTS[dialect]
    async with (
        aiohttp.ClientSession(headers=HEADERS) as http,
        http.post(**_request(url, speaks, asked, more)) as answer,
    ):
        text = await answer.text()
    if answer.status != 200:
        return Got(end="error", notes=text)
    lines = (line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {"))
    return speaks.got(map(json.loads, lines))


async def ask_and_leave(url: str, dialect: str, asked: Question, when: asyncio.Event) -> None:
    """Ask, and close the connection at that event."""
    speaks = DIALECTS[dialect]
    async with aiohttp.ClientSession(headers=HEADERS) as http:
        answer = await http.post(**_request(url, speaks, asked, {}))
        await answer.content.readany()
        await when.wait()
        answer.close()


def _request(url: str, speaks: Dialect, asked: Question, more: Fields) -> Fields:
    body = {"model": "small", "stream": True} | speaks.body(asked) | more
    return {"url": url + speaks.path, "data": io.BytesIO(json.dumps(body).encode())}
