"""Request -> keys of both caches. Pure: the same request gives the same keys in every process.

A long history is hashed once: each message becomes a digest, and both keys are made of the same digests.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from millrace.types import (
    CACHE_CONTROL,
    Api,
    Call,
    Format,
    Media,
    Message,
    Model,
    Native,
    Part,
    Prompt,
    Request,
    Sealed,
    Tool,
    Unread,
)

LONG = 4096  # characters; longer texts are not normalised, so two Unicode forms of one get different keys
# Passed on, and without influence on the answer.
_NOT_OF_THE_ANSWER = ("user", "safety_identifier", "prompt_cache_key", "service_tier", CACHE_CONTROL)
# Parts of a system message that differ each time by design, by the name of the rule. Keys leave them out.
DIFFERS_EACH_TIME = {
    "billing header": re.compile(r"x-anthropic-billing-header:[^\n]*\s*"),  # Claude Code: who pays, and a checksum
}
_SHOWN = ("summary", "generate_summary")
VERSION = 4  # part of every key; increase it when the meaning of a key changes
LONGEST_QUESTION = 2000  # characters; a longer one is a document and hardly ever repeated


class Scope(Struct, frozen=True, kw_only=True):
    """A partition of the semantic cache, and the question to look up in it."""

    digest: bytes  # SHA-256 of the request without its question
    question: str


class Keys(Struct, frozen=True, kw_only=True):
    """The keys of one request in both caches."""

    exact: bytes  # SHA-256 of the request as it would be sent, and of all that decides which model answers
    scope: Scope | str  # a string: why the semantic cache is not used for this request


OFF = "the semantic cache is off"


def keys_of(request: Request, models: Iterable[Model], checks: Iterable[str], *, has_scope: bool = True) -> Keys:
    """Return both keys. `checks` names the checks that will run. `has_scope`: whether the semantic cache is on.

    Left out: id, metadata, delivery, cache mode, budget. Normalised: the order of JSON keys, defaults, a string as one
    text part, Unicode to NFC, leading and trailing white space of the last user message. Nothing within a text is
    changed. The scope covers all before the question: the system prompt and earlier turns must be identical. What
    trimming cut away counts like what is left: two histories that are trimmed to one prompt have different keys.
    """
    prompt = request.prompt
    settings = _settings(request, tuple(models), checks)
    asked = _asked(prompt.messages)  # the last user message, without leading and trailing white space
    turns = [_turn(message, trimmed=at == asked) for at, message in enumerate(prompt.messages)]
    version = ("version", request.context_version or "")  # of the client's knowledge base
    history, chunks = ("cut", request.cut_history), (prompt.context, request.cut_context)
    exact = _digest("exact", settings, "context", *chunks, *version, *history, *turns)
    if not has_scope:
        return Keys(exact=exact, scope=OFF)
    question = _nfc(prompt.messages[-1].text).strip()
    if objection := _objection(prompt, question):
        return Keys(exact=exact, scope=objection)
    # A version replaces the chunks, which differ from question to question.
    context = ("context", *chunks) if request.context_version is None else version
    last, before = prompt.messages[-1], turns[:-1]
    if (asked := _asked(prompt.messages[:-1])) is not None:
        before[asked] = _turn(prompt.messages[asked], trimmed=True)
    beside = [last.name, *_extras(last.unread, last.unread_api)]  # beside the text of the question
    digest = _digest("scope", settings, *context, *history, *before, *([_json(beside)] if any(beside) else ()))
    return Keys(exact=exact, scope=Scope(digest=digest, question=question))


def digest_of_messages(messages: Sequence[Message]) -> bytes:
    """Return the SHA-256 of messages that were cut; empty for none."""
    return _digest("messages", *map(_turn, messages)) if messages else b""


def digest_of_chunks(chunks: Sequence[str]) -> bytes:
    """Return the SHA-256 of context chunks that were cut; empty for none."""
    return _digest("chunks", *chunks) if chunks else b""


def _objection(prompt: Prompt, question: str) -> str | None:
    last = prompt.messages[-1]
    if prompt.tools or any(message.calls or message.role == "tool" for message in prompt.messages):
        return "the request has tools"  # their results may be outdated later
    if last.role != "user":
        return "the last turn is not the user's"
    if any(isinstance(part, Media) for part in last.parts):
        return "the question has attachments"
    if not question:
        return "the question is empty"
    if len(question) > LONGEST_QUESTION:
        return "the question is too long"
    return None


class _Settings(NamedTuple):
    """What nearly all requests of a tenant have in common; it can be hashed."""

    tenant: str
    cache_scope: str
    model: str
    strategy: str
    checks: tuple[str, ...]
    models: tuple[tuple[str, str, str], ...]
    max_output_tokens: tuple[int, ...]
    temperature: float | None
    top_p: float | None
    verbosity: str | None
    reasoning_effort: str | None
    parallel_tool_calls: bool | None


def _settings(request: Request, models: tuple[Model, ...], checks: Iterable[str]) -> bytes:
    """Return the digest of all that influences the answer except messages and context."""
    prompt = request.prompt
    settings = _Settings(
        tenant=request.tenant,
        cache_scope=request.cache_scope,
        model=request.model,
        strategy=request.strategy,
        checks=tuple(sorted(checks)),
        models=tuple((model.tier, model.address, model.id) for model in models),
        max_output_tokens=tuple(Call(model=model, prompt=prompt).max_output_tokens for model in models),
        temperature=_number(prompt.temperature),
        top_p=_number(prompt.top_p),
        verbosity=prompt.verbosity,
        reasoning_effort=prompt.reasoning_effort,
        parallel_tool_calls=prompt.parallel_tool_calls,
    )
    more = (prompt.tools, prompt.extras, prompt.format, prompt.tool_choice, prompt.native)
    if any(more) or request.check_schema is not None or request.check_pattern is not None:
        return _digest_of_settings(settings, request)
    return _digest_of_plain(settings)


def _digest_of_settings(settings: _Settings, request: Request | None = None) -> bytes:
    """Return the digest; without a request for one that has no tools, no format and nothing that is passed on."""
    prompt = Prompt(messages=()) if request is None else request.prompt
    return _digest(
        _json(
            {
                **settings._asdict(),
                "version": VERSION,
                "check_schema": request and _schema(request.check_schema),
                **_pattern(request),
                "format": _format(prompt.format),
                "tools": [
                    [
                        tool.name,
                        tool.description,
                        _schema(tool.parameters),
                        tool.strict,
                        *_extras(tool.unread, tool.unread_api),
                        *_of_no_function(tool),
                    ]
                    for tool in prompt.tools
                ],
                "tool_choice": prompt.tool_choice and prompt.tool_choice.key,
                "extras": _own(prompt.extras),
                **_native(prompt.native),
            }
        )
    )


def _pattern(request: Request | None) -> dict[str, str]:
    return {} if request is None or request.check_pattern is None else {"check_pattern": request.check_pattern}


_digest_of_plain = lru_cache(1024)(_digest_of_settings)


def _asked(messages: Sequence[Message]) -> int | None:
    """Return the index of the last user message that has parts."""
    for at in range(len(messages) - 1, -1, -1):
        if messages[at].role == "user" and messages[at].parts:
            return at
    return None


def _turn(message: Message, *, trimmed: bool = False) -> bytes:
    given: Sequence[Part] = message.parts
    if message.role == "system":
        given = [part for part in given if not _differs_each_time(part)]
    parts = [_nfc(part) if isinstance(part, str) else part for part in given]
    if trimmed and isinstance(first := parts[0], str):
        parts[0] = first.lstrip()
    if trimmed and isinstance(last := parts[-1], str):
        parts[-1] = last.rstrip()
    calls = (
        _json(
            [
                [
                    call.id,
                    call.name,
                    call.arguments,
                    *([own_fields] if (own_fields := _own(call.own_fields)) else ()),
                    *([call.namespace, call.is_custom] if call.namespace or call.is_custom else ()),
                ]
                for call in message.calls
            ]
        )
        if message.calls
        else "[]"
    )
    fields: list[str | bytes] = [
        message.role,
        message.name,
        "null" if message.call_id is None else _json(message.call_id),
        calls,
        message.reasoning,
        message.refusal,
    ]
    if own_fields := _own(message.own_fields):
        fields.append(_json(own_fields))
    for part in parts:
        fields += _part(part)
    for sealed in message.sealed:
        fields += _sealed(sealed)
    for extra in _extras(message.unread, message.unread_api):
        fields += "extra", extra
    if message.is_error:
        fields.append("is_error")
    return _digest(*fields)


def _differs_each_time(part: Part) -> bool:
    return isinstance(part, str) and any(rule.fullmatch(part) for rule in DIFFERS_EACH_TIME.values())


def _own(fields: dict[str, Any]) -> dict[str, Any]:
    return fields and {name: value for name, value in fields.items() if name not in _NOT_OF_THE_ANSWER}


def _extras(extras: Unread, api: Api = Api.CHAT) -> list[str]:
    if not extras:
        return []
    counted = [(path, value) for path, value in extras if path[-1] not in _NOT_OF_THE_ANSWER]
    whose = [api.value] if counted and api is not Api.CHAT else []
    return whose + sorted(_json([path, value]) for path, value in counted)


def _native(native: Native | None) -> dict[str, Any]:
    fields, headers = ({}, {}) if native is None else (_asked_of(native.fields), native.headers)
    return {"native": [native and native.api, fields, headers]} if fields or headers else {}


def _asked_of(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields without what asks for nothing that a cached answer lacks: how it is shown."""
    asked = {name: value for name, value in _own(fields).items() if name != "include"}
    if isinstance(reasoning := asked.pop("reasoning", None), dict):
        reasoning = {name: value for name, value in reasoning.items() if name not in _SHOWN}
        asked |= {"reasoning": reasoning} if reasoning else {}
    return asked


def _part(part: Part) -> tuple[str, str | bytes]:
    if isinstance(part, str):
        return "text", part
    block = () if part.sealed is None else _sealed(part.sealed)
    return part.kind, _digest(*chain.from_iterable(sorted(part.fields.items())), *block)


def _sealed(sealed: Sealed) -> tuple[str, str]:
    return "sealed", _json([sealed.api, _unmarked(sealed.fields), sealed.parts_before, sealed.calls_before])


def _unmarked(value: Any) -> Any:
    """Return a block without marks for a provider's cache, which may stand within its parts too."""
    if isinstance(value, dict):
        return {name: _unmarked(inner) for name, inner in value.items() if name != CACHE_CONTROL}
    return [*map(_unmarked, value)] if isinstance(value, list) else value


def _of_no_function(tool: Tool) -> list[Any]:
    """Return what a tool has that is more than a plain function."""
    if not (tool.namespace or tool.is_custom or tool.hosted):
        return []
    hosted = tool.hosted and _sealed(tool.hosted)
    return [tool.namespace, tool.is_custom, _schema(tool.grammar), hosted]


def _digest(*fields: str | bytes) -> bytes:
    """Return the SHA-256 of length-prefixed fields. Escaping would separate them too, but is slow for long texts."""
    digest = hashlib.sha256()
    short: list[bytes] = []
    for field in fields:
        raw = field if isinstance(field, bytes) else field.encode("utf-8", "surrogatepass")
        short.append(b"%d:" % len(raw))
        if len(raw) <= LONG:
            short.append(raw)
        else:
            digest.update(b"".join(short))
            digest.update(raw)
            short.clear()
    digest.update(b"".join(short))
    return digest.digest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _nfc(text: str) -> str:
    """Return a text in NFC; a long one unchanged, since NFC takes quadratic time for a run of combining marks."""
    return text if text.isascii() or len(text) > LONG else unicodedata.normalize("NFC", text)


def _number(value: float | None) -> float | None:
    return None if value is None else float(value) + 0.0  # -0.0 and 0.0 are equal, and must have one key


def _format(form: Format | None) -> list[object] | None:
    return None if form is None else [form.kind, form.name, _schema(form.schema), form.strict, form.description]


def _schema(schema: dict[str, Any] | None) -> str | None:
    """Return the digest of a schema, whatever the order of its keys. One by one they hold Python's lock less long."""
    return None if schema is None else hashlib.sha256(msgspec.json.encode(schema, order="sorted")).hexdigest()
