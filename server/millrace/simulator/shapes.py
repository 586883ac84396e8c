"""The JSON that OpenAI's chat completions endpoint answers with."""

import time
from dataclasses import dataclass, field
from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"


class BadRequestError(Exception):
    """The request cannot be answered; becomes HTTP 400."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param

    def body(self) -> bytes:
        """The error in OpenAI's form."""
        return error_body(str(self), "invalid_request_error", param=self.param)


def error_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """Encode OpenAI's error object."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def event(data: bytes) -> bytes:
    """Frame one server-sent event."""
    return b"data: " + data + b"\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one call, counted as the provider would bill them."""

    prompt: int
    cached: int
    completion: int

    def as_dict(self) -> dict[str, Any]:
        """The usage object of the wire."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every chunk of one answer repeats."""

    id: str
    model: str
    usage: Usage | None  # None: the caller is not told
    created: int = field(default_factory=lambda: int(time.time()))

    def opening(self) -> bytes:
        """The event that names the role, before any text."""
        return self._chunk([_choice({"role": "assistant", "content": ""})])

    def token(self, text: str) -> bytes:
        """The event that carries one token."""
        return self._chunk([_choice({"content": text})])

    def ending(self, finish_reason: str) -> bytes:
        """The events after the last token: the reason, the usage if it is told, and `[DONE]`."""
        reason = self._chunk([_choice({}, finish_reason)])
        usage = self._chunk([], self.usage) if self.usage else b""
        return reason + usage + DONE

    def completion(self, text: str, finish_reason: str) -> bytes:
        """The whole answer as one document."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": self.usage.as_dict()} if self.usage else {}
        return orjson.dumps({**self._head("chat.completion"), "choices": [choice], **usage})

    def _chunk(self, choices: list[dict[str, Any]], usage: Usage | None = None) -> bytes:
        chunk = {**self._head("chat.completion.chunk"), "choices": choices}
        if self.usage:  # where usage is asked for, OpenAI puts a null in every other chunk
            chunk["usage"] = usage and usage.as_dict()
        return event(orjson.dumps(chunk))

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
