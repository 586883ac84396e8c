"""Request -> exact cache key. Pure: the same request always gives the same key, in any process."""

import hashlib
import json
import unicodedata
from collections.abc import Iterable

from millrace.types import Call, Format, Message, Model, Request

LONG = 4096  # characters; two spellings of a longer text merely miss each other
VERSION = 1  # part of every key; raise it when the meaning of a key changes


def exact_key(request: Request, models: Iterable[Model], checks: Iterable[str]) -> bytes:
    """Return SHA-256 over the request as it would be sent, and all that decides who answers it.

    Not in it: id, metadata, delivery, cache mode. Normalised: key order, defaults, a string as one text part,
    Unicode to NFC, outer white space of the last user text; nothing inside a text.
    """
    prompt = request.prompt
    models = tuple(models)
    identity = {
        "version": VERSION,
        "tenant": request.tenant,
        "model": request.model,
        "strategy": request.strategy,
        "checks": sorted(checks),
        "models": [[model.tier, model.address, model.id] for model in models],
        "messages": _messages(prompt.messages),
        "max_output_tokens": [Call(model=model, prompt=prompt).max_output_tokens for model in models],
        "temperature": _number(prompt.temperature),
        "top_p": _number(prompt.top_p),
        "format": _format(prompt.format),
        "verbosity": prompt.verbosity,
        "reasoning_effort": prompt.reasoning_effort,
    }
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
