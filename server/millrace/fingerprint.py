"""Request -> keys of the caches. Pure: the same request always gives the same key, in any process."""

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from millrace.types import Call, Format, Message, Model, Request

LONG = 4096  # characters; two spellings of a longer text merely miss each other
VERSION = 2  # part of every key; raise it when the meaning of a key changes
LONGEST_QUESTION = 2000  # characters; what is longer is a document, and hardly asked twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A partition of the semantic cache, and what is asked in it."""

    digest: bytes  # SHA-256 over all of the request but the question
    question: str


def exact_key(request: Request, models: Iterable[Model], checks: Iterable[str]) -> bytes:
    """Return SHA-256 over the request as it would be sent, and all that decides who answers it.

    Not in it: id, metadata, delivery, cache mode. Normalised: key order, defaults, a string as one text part,
    Unicode to NFC, outer white space of the last user text; nothing inside a text.
    """
    return _digest(_identity(request, request.prompt.messages, models, checks))


def semantic_scope(request: Request, models: Iterable[Model], checks: Iterable[str], embedder: str) -> Scope | str:
    """Return where and what to look for by meaning, or why this request is not looked for by meaning.

    The scope is the exact key of everything before the question: system prompt and earlier turns must be the very
    same ones. `embedder` is its name: vectors of two embedders have nothing to do with each other.
    """
    *before, last = request.prompt.messages
    question = _composed(last.text).strip()
    if last.role != "user":
        return "the last turn is not the user's"
    if not question:
        return "the question is empty"
    if len(question) > LONGEST_QUESTION:
        return "the question is too long"
    identity = _identity(request, tuple(before), models, checks)
    return Scope(digest=_digest(identity | {"embedder": embedder}), question=question)


def _identity(
    request: Request, messages: tuple[Message, ...], models: Iterable[Model], checks: Iterable[str]
) -> dict[str, Any]:
    prompt = request.prompt
    models = tuple(models)
    return {
        "version": VERSION,
        "tenant": request.tenant,
        "model": request.model,
        "strategy": request.strategy,
        "checks": sorted(checks),
        "models": [[model.tier, model.address, model.id] for model in models],
        "messages": _messages(messages),
        "context": prompt.context,
        "max_output_tokens": [Call(model=model, prompt=prompt).max_output_tokens for model in models],
        "temperature": _number(prompt.temperature),
        "top_p": _number(prompt.top_p),
        "format": _format(prompt.format),
        "verbosity": prompt.verbosity,
        "reasoning_effort": prompt.reasoning_effort,
    }


def _digest(identity: dict[str, Any]) -> bytes:
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).digest()


def _messages(messages: tuple[Message, ...]) -> list[tuple[str, list[str]]]:
    normal = [(message.role, [_composed(part) for part in message.parts]) for message in messages]
    for role, parts in reversed(normal):
        if role == "user" and parts:
            parts[0] = parts[0].lstrip()
            parts[-1] = parts[-1].rstrip()
            break
    return normal


def _composed(text: str) -> str:
    """Return a text in NFC; a long one as it is, for composing takes time in the square of a run of marks."""
    return text if text.isascii() or len(text) > LONG else unicodedata.normalize("NFC", text)


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _format(form: Format | None) -> list[object] | None:
    return None if form is None else [form.kind, form.name, form.schema, form.strict, form.description]
