"""The JSON of OpenAI's chat completions endpoint."""

import time
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import orjson
from msgspec import Struct, field

DONE = b"data: [DONE]\n\n"
_REASONING = "reasoning_content"

Delta = dict[str, Any]  # what one token adds to a message: content, reasoning, a refusal, or a piece of a tool call


class BadRequestError(Exception):
    """The request is invalid; becomes HTTP 400."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param

    def body(self) -> bytes:
        """Return OpenAI's error object, encoded."""
        return error_body(str(self), "invalid_request_error", param=self.param)


def error_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """Return OpenAI's error object, encoded."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def event(data: bytes) -> bytes:
    """Return one server-sent event."""
    return b"data: " + data + b"\n\n"


class Usage(Struct, frozen=True):
    """The billed tokens of one call."""

    prompt: int
    cached: int
    completion: int
    reasoning: int = 0  # part of the completion

    def as_dict(self) -> dict[str, Any]:
        """Return the `usage` object of the wire."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }


class Envelope(Struct, frozen=True):
    """The fields that every chunk of one answer repeats."""

    id: str
    model: str
    usage: Usage | None  # None: not reported
    service_tier: str | None = None  # None: not reported
    top_logprobs: int | None = None  # None: no log-probabilities
    created: int = field(default_factory=lambda: int(time.time()))

    def opening(self) -> bytes:
        """Return the first event, which has the role."""
        return self._chunk([_choice({"role": "assistant", "content": ""})])

    def token(self, delta: Delta) -> bytes:
        """Return the event of one token."""
        return self._chunk([_choice(delta, logprobs=self._logprobs([delta]))])

    def ending(self, finish_reason: str) -> bytes:
        """Return the events after the last token: the finish reason, the usage if it is reported, and `[DONE]`."""
        reason = self._chunk([_choice({}, finish_reason)])
        usage = self._chunk([], self.usage) if self.usage else b""
        return reason + usage + DONE

    def completion(self, deltas: Sequence[Delta], finish_reason: str) -> bytes:
        """Return the whole answer as one document."""
        logprobs = self._logprobs(deltas)
        choice = {"index": 0, "message": _message(deltas), "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": self.usage.as_dict()} if self.usage else {}
        return orjson.dumps({**self._head("chat.completion"), "choices": [choice], **usage})

    def _chunk(self, choices: list[dict[str, Any]], usage: Usage | None = None) -> bytes:
        chunk = {**self._head("chat.completion.chunk"), "choices": choices}
        if self.usage:  # with usage requested, OpenAI sends `"usage": null` in all other chunks
            chunk["usage"] = usage and usage.as_dict()
        return event(orjson.dumps(chunk))

    def _head(self, kind: str) -> dict[str, Any]:
        tier = {"service_tier": self.service_tier} if self.service_tier else {}
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, **tier}

    def _logprobs(self, deltas: Sequence[Delta]) -> dict[str, Any] | None:
        tokens = [delta["content"] for delta in deltas if delta.get("content")]
        if self.top_logprobs is None or not tokens:
            return None
        return {"content": [_logprob(token, self.top_logprobs) for token in tokens], "refusal": None}


def call_opening(index: int, id_: str, name: str) -> Delta:
    """Return the first delta of a tool call."""
    function = {"name": name, "arguments": ""}
    return {"tool_calls": [{"index": index, "id": id_, "type": "function", "function": function}]}


def call_piece(index: int, arguments: str) -> Delta:
    """Return a delta with more arguments of a tool call."""
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def _message(deltas: Sequence[Delta]) -> dict[str, Any]:
    """Assemble a message from its deltas; `content` is null if there is a refusal or a tool call instead."""
    texts = {name: "".join(delta.get(name, "") for delta in deltas) for name in ("content", "refusal", _REASONING)}
    calls: list[dict[str, Any]] = []
    for piece in (piece for delta in deltas for piece in delta.get("tool_calls", ())):
        if "id" in piece:
            calls.append({"id": piece["id"], "type": "function", "function": dict(piece["function"])})
        else:
            calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    content = texts["content"] or (None if calls or texts["refusal"] else "")
    message = {"role": "assistant", "content": content, "refusal": texts["refusal"] or None}
    reasoning = {_REASONING: texts[_REASONING]} if texts[_REASONING] else {}
    return message | reasoning | ({"tool_calls": calls} if calls else {})


def _choice(delta: Delta, finish_reason: str | None = None, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _logprob(token: str, alternatives: int) -> dict[str, Any]:
    """Return the log-probability of a token; the same for the same token."""
    told = [_scored(token + "'" * index, index) for index in range(alternatives)]
    return {**_scored(token, 0), "top_logprobs": told}


def _scored(token: str, rank: int) -> dict[str, Any]:
    data = token.encode()
    return {"token": token, "logprob": -(rank + crc32(data) % 1000 / 1000), "bytes": [*data]}
