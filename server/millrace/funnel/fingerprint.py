"""Request -> keys of the caches. Pure: the same request always gives the same keys, in any process.

A long history is read once: each message becomes a digest, and both keys are made of the same digests.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from millrace.types import Call, Format, Media, Message, Model, Part, Prompt, Request

LONG = 4096  # characters; two spellings of a longer text merely miss each other
VERSION = 3  # part of every key; raise it when the meaning of a key changes
LONGEST_QUESTION = 2000  # characters; what is longer is a document, and hardly asked twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A partition of the semantic cache, and what is asked in it."""

    digest: bytes  # SHA-256 over all of the request but the question
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Where the answer to a request is looked for."""

    exact: bytes  # SHA-256 over the request as it would be sent, and all that decides who answers it
    scope: Scope | str  # where and what to look for by meaning, or why this request is not looked for by meaning


def keys_of(request: Request, models: Iterable[Model], checks: Iterable[str], embedder: str) -> Keys:
    """Return both keys; `checks` names those that will run, `embedder` the maker of vectors, a part of every scope.

    Not in them: id, metadata, delivery, cache mode, budget. Normalised: key order, defaults, a string as one text
    part, Unicode to NFC, outer white space of the last user text; nothing inside a text. The scope is the key of
    everything before the question: system prompt and earlier turns must be the very same ones.
    """
    prompt = request.prompt
    around = _around(request, tuple(models), checks)
    turns = [_turn(message) for message in prompt.messages]
    version = ("version", request.context_version or "")  # which state of its knowledge base the asker has
    exact = _digest("exact", around, "context", prompt.context, *version, *_trimmed(turns, prompt.messages))
    question = _composed(prompt.messages[-1].text).strip()
    if objection := _objection(prompt, question):
        return Keys(exact=exact, scope=objection)
    # A version stands in for the chunks: they are other ones for every question.
    known = ("context", prompt.context) if request.context_version is None else version
    before = _trimmed(turns[:-1], prompt.messages[:-1])
    digest = _digest("scope", around, embedder, *known, *before)
    return Keys(exact=exact, scope=Scope(digest=digest, question=question))


def _objection(prompt: Prompt, question: str) -> str | None:
    last = prompt.messages[-1]
    if prompt.tools or any(message.calls or message.role == "tool" for message in prompt.messages):
        return "the request has tools"  # what they say is true at one moment only
    if last.role != "user":
        return "the last turn is not the user's"
    if any(isinstance(part, Media) for part in last.parts):
        return "the question has attachments"
    if not question:
        return "the question is empty"
    if len(question) > LONGEST_QUESTION:
        return "the question is too long"
    return None


def _around(request: Request, models: tuple[Model, ...], checks: Iterable[str]) -> bytes:
    """Digest all that decides the answer beside the messages and their context."""
    prompt = request.prompt
    return _digest(
        _json(
            {
                "version": VERSION,
                "tenant": request.tenant,
                "cache_scope": request.cache_scope,
                "model": request.model,
                "strategy": request.strategy,
                "checks": sorted(checks),
                "check_schema": request.check_schema,
                "models": [[model.tier, model.address, model.id] for model in models],
                "max_output_tokens": [Call(model=model, prompt=prompt).max_output_tokens for model in models],
                "temperature": _number(prompt.temperature),
                "top_p": _number(prompt.top_p),
                "format": _format(prompt.format),
                "verbosity": prompt.verbosity,
                "reasoning_effort": prompt.reasoning_effort,
                "tools": [[tool.name, tool.description, tool.parameters, tool.strict] for tool in prompt.tools],
                "tool_choice": prompt.tool_choice and prompt.tool_choice.key,
                "parallel_tool_calls": prompt.parallel_tool_calls,
                "extras": prompt.extras,
            }
        )
    )


def _trimmed(turns: list[bytes], messages: tuple[Message, ...]) -> list[bytes]:
    """Return the digests with that of the last user text made anew, without its outer white space."""
    for at, message in reversed([*enumerate(messages)]):
        if message.role == "user" and message.parts:
            return [*turns[:at], _turn(message, trimmed=True), *turns[at + 1 :]]
    return turns


def _turn(message: Message, *, trimmed: bool = False) -> bytes:
    parts = [_composed(part) if isinstance(part, str) else part for part in message.parts]
    if trimmed and isinstance(first := parts[0], str):
        parts[0] = first.lstrip()
    if trimmed and isinstance(last := parts[-1], str):
        parts[-1] = last.rstrip()
    calls = _json([[call.id, call.name, call.arguments] for call in message.calls])
    return _digest(
        message.role,
        _json(message.call_id),
        calls,
        message.reasoning,
        message.refusal,
        *chain.from_iterable(map(_part, parts)),
    )


def _part(part: Part) -> tuple[str, str | bytes]:
    if isinstance(part, str):
        return "text", part
    return part.kind, _digest(*chain.from_iterable(sorted(part.fields.items())))


def _digest(*fields: str | bytes) -> bytes:
    """Return SHA-256 over fields that are told apart by their lengths: no escaping, which is slow for long texts."""
    digest = hashlib.sha256()
    for field in fields:
        raw = field if isinstance(field, bytes) else field.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return digest.digest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _composed(text: str) -> str:
    """Return a text in NFC; a long one as it is, for composing takes time in the square of a run of marks."""
    return text if text.isascii() or len(text) > LONG else unicodedata.normalize("NFC", text)


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _format(form: Format | None) -> list[object] | None:
    return None if form is None else [form.kind, form.name, form.schema, form.strict, form.description]
