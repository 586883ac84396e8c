"""Client to server: what a frame must look like, and what is said when it does not.

A frame is read in two steps, so that a bad one can still be answered on its lane:
`open_frame` makes an `Envelope` of the bytes, `read_create` and `read_cancel` the meaning of it.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from millrace.errors import MillraceError, invalid, not_yet
from millrace.types import CacheMode, Delivery, Format, Message, Prompt, Strategy

STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}")
MAX_TOKENS = 10**9
MAX_WAIT_MS = 60_000  # that one model may be kept waiting for the other
MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = 32, 64, 512  # of the Responses API; twice its keys, for options
MAX_ID = 512  # characters of an id that is only echoed or looked up

# Named by the wire, built later: refused, never silently ignored.
LATER_OPTIONS = (
    "cache_scope",
    "context_version",
    "checks",
    "max_cost_usd",
    "deadline_ms",
    "on_disconnect",
    "concise",
    "idempotency_key",
)
LATER_FRAMES = ("response.steer", "millrace.resume", "millrace.ping")
LATER_ITEMS = ("function_call", "function_call_output", "reasoning", "item_reference")
LATER_PARTS = ("input_image", "input_file", "input_audio")
UNSUPPORTED = ("conversation", "prompt", "background")  # of the Responses API; nothing here can honour them

ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_PREFIX = "millrace."
_Option = TypeVar("_Option", bound=StrEnum)
_Shape = TypeVar("_Shape", bound=Struct)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A frame that is JSON: its fields, and the ids to answer it with."""

    type: str
    stream_id: str | None
    event_id: str | None
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """`response.create`, checked. None stands for the operator's default."""

    model: str
    strategy: Strategy | None
    delivery: Delivery | None
    cache: CacheMode
    prompt: Prompt
    metadata: dict[str, str]
    context: tuple[str, ...]
    context_budget: int | None
    grace_ms: int | None
    hedge_ms: int | None


@dataclass(frozen=True, slots=True)
class Cancel:
    """`response.cancel`: one response, or else a lane (None: the default lane)."""

    response_id: str | None
    stream_id: str | None


class _TextFormat(Struct):
    type: str
    name: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class _Text(Struct):
    format: _TextFormat | None = None
    verbosity: str | None = None


class _Reasoning(Struct):
    effort: str | None = None


class _Item(Struct):
    role: str
    content: str | list[dict[str, Any]]
    type: str = "message"


class _Part(Struct):
    text: str


class _CreateFields(Struct):
    input: str | list[dict[str, Any]]
    model: str = "auto"
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    metadata: dict[str, Any] | None = None
    millrace: dict[str, Any] | None = None
    tools: list[Any] | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    generate: bool | None = None


class _CancelFields(Struct):
    response_id: Annotated[str, Meta(max_length=MAX_ID)] | None = None


def open_frame(raw: str | bytes) -> Envelope:
    """Read the envelope of one text frame; the frame's own ids are checked, its meaning is not."""
    try:
        fields = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise MillraceError("invalid_json", f"not JSON: {error}") from None
    except RecursionError:
        raise MillraceError("invalid_json", "not read: the JSON is nested too deeply") from None
    if not isinstance(fields, dict):
        raise MillraceError("invalid_request", f"a frame is a JSON object, not {_json_name(fields)}")
    kind = fields.get("type")
    stream_id, event_id = fields.get("stream_id"), fields.get("event_id")
    return Envelope(
        kind if isinstance(kind, str) else "",
        stream_id if isinstance(stream_id, str) and STREAM_ID.fullmatch(stream_id) else None,
        event_id if isinstance(event_id, str) and len(event_id) <= MAX_ID else None,
        fields,
    )


def check_ids(envelope: Envelope) -> None:
    """Refuse a frame whose type or ids do not fit."""
    fields = envelope.fields
    if "type" not in fields:
        raise invalid("type", "type: missing; write response.create or response.cancel")
    if not isinstance(fields["type"], str):
        raise invalid("type", f"type: expected a string, got {_json_name(fields['type'])}")
    if fields.get("event_id") is not None and envelope.event_id is None:
        raise invalid("event_id", f"event_id: expected a string of at most {MAX_ID} characters")
    if fields.get("stream_id") is not None and envelope.stream_id is None:
        raise MillraceError("invalid_stream_id", "stream_id: expected 1 to 256 of A-Z a-z 0-9 _ . -", param="stream_id")
    if envelope.type in LATER_FRAMES:
        raise MillraceError("invalid_request", f"{envelope.type}: not yet supported by this version", param="type")


def read_create(fields: dict[str, Any]) -> Create:
    """Read a `response.create` body; every fault names its field."""
    for name in UNSUPPORTED:
        if fields.get(name) not in (None, False):
            raise invalid(name, f"{name}: not supported; leave it out")
    body = _convert(fields, _CreateFields)
    for name, asked in (
        ("tools", body.tools),
        ("previous_response_id", body.previous_response_id),
        ("store", body.store),
        ("generate", body.generate is False),
    ):
        if asked:
            raise not_yet(name)
    metadata = _metadata(body.metadata or {})
    options = _options(body.millrace or {}, metadata)
    return Create(
        model=body.model,
        strategy=_choice(Strategy, "strategy", options),
        delivery=_choice(Delivery, "delivery", options),
        cache=_choice(CacheMode, "cache", options) or CacheMode.ON,
        prompt=Prompt(
            messages=_messages(body),
            temperature=body.temperature,
            top_p=body.top_p,
            max_output_tokens=body.max_output_tokens,
            format=_format(body.text.format) if body.text and body.text.format else None,
            verbosity=body.text.verbosity if body.text else None,
            reasoning_effort=body.reasoning.effort if body.reasoning else None,
        ),
        metadata={name: value for name, value in metadata.items() if not name.startswith(_PREFIX)},
        context=_context(options),
        context_budget=_whole("context_budget", options, MAX_TOKENS),
        grace_ms=_whole("grace_ms", options, MAX_WAIT_MS),
        hedge_ms=_whole("hedge_ms", options, MAX_WAIT_MS),
    )


def read_cancel(envelope: Envelope) -> Cancel:
    """Read a `response.cancel`; a `response_id` goes before the lane."""
    fields = _convert(envelope.fields, _CancelFields)
    return Cancel(fields.response_id, envelope.stream_id)


def write_create(body: dict[str, Any], *, stream_id: str | None = None) -> bytes:
    """Make a `response.create` frame of a Responses body (the client's side)."""
    lane = {} if stream_id is None else {"stream_id": stream_id}
    return msgspec.json.encode({"type": "response.create", **lane, **body})


def write_cancel(*, response_id: str | None = None, stream_id: str | None = None) -> bytes:
    """Make a `response.cancel` frame (the client's side)."""
    named = {"response_id": response_id, "stream_id": stream_id}
    return msgspec.json.encode({"type": "response.cancel", **{key: id_ for key, id_ in named.items() if id_}})


def _messages(body: _CreateFields) -> tuple[Message, ...]:
    items = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    read = [_message(item, f"input[{index}]") for index, item in enumerate(items)]
    if not any(part.strip() for message in read for part in message.parts):
        raise invalid("input", "input: nothing to answer; write a question")
    system = [Message(role="system", parts=(body.instructions,))] if body.instructions else []
    return (*system, *read)


def _message(item: dict[str, Any], path: str) -> Message:
    if item.get("type") in LATER_ITEMS:
        raise not_yet(path)
    read = _convert(item, _Item, path)
    if read.type != "message":
        raise invalid(f"{path}.type", f"{path}.type: {_shown(read.type)} is not known; write message")
    if read.role not in ROLES:
        raise invalid(f"{path}.role", f"{path}.role: {_shown(read.role)} is not one of {', '.join(ROLES)}")
    if isinstance(read.content, str):
        return Message(role=ROLES[read.role], parts=(read.content,))
    parts = (_part(part, f"{path}.content[{index}]") for index, part in enumerate(read.content))
    return Message(role=ROLES[read.role], parts=tuple(parts))


def _part(part: dict[str, Any], path: str) -> str:
    kind = part.get("type")
    if kind in LATER_PARTS:
        raise not_yet(path)
    if kind == "refusal":
        return _convert({"text": part.get("refusal")}, _Part, path).text
    if kind not in ("input_text", "output_text", "text"):
        raise invalid(f"{path}.type", f"{path}.type: expected input_text or output_text")
    return _convert(part, _Part, path).text


def _format(given: _TextFormat) -> Format | None:
    match given.type:
        case "text":
            return None
        case "json_object":
            return Format(kind="json_object")
        case "json_schema" if given.schema is not None:
            return Format(
                kind="json_schema",
                name=given.name or "answer",
                schema=given.schema,
                strict=given.strict,
                description=given.description,
            )
        case "json_schema":
            raise invalid("text.format.schema", "text.format.schema: missing; a json_schema format needs one")
    raise invalid("text.format.type", "text.format.type: expected text, json_object or json_schema")


def _metadata(given: dict[str, Any]) -> dict[str, str]:
    if len(given) > MAX_METADATA:
        raise invalid("metadata", f"metadata: at most {MAX_METADATA} keys, got {len(given)}")
    for name, value in given.items():
        path = f"metadata.{name[:MAX_METADATA_KEY]}"
        if len(name) > MAX_METADATA_KEY:
            raise invalid(path, f"{path}...: a key has at most {MAX_METADATA_KEY} characters")
        if not isinstance(value, str):
            raise invalid(path, f"{path}: expected a string, got {_json_name(value)}")
        if len(value) > MAX_METADATA_VALUE:
            raise invalid(path, f"{path}: at most {MAX_METADATA_VALUE} characters, got {len(value)}")
    return given


def _options(given: dict[str, Any], metadata: dict[str, str]) -> dict[str, tuple[str, Any]]:
    """Return option -> (path, value) of both ways to give one; the object goes before metadata."""
    options = {
        name.removeprefix(_PREFIX): (f'metadata["{name}"]', value)
        for name, value in metadata.items()
        if name.startswith(_PREFIX)
    }
    options |= {name: (_PREFIX + name, value) for name, value in given.items() if value is not None}
    for name in LATER_OPTIONS:
        if name in options:
            raise not_yet(options[name][0])
    return options


def _choice(kind: type[_Option], name: str, options: dict[str, tuple[str, Any]]) -> _Option | None:
    if name not in options:
        return None
    path, value = options[name]
    try:
        return kind(value)
    except ValueError:
        raise invalid(path, f"{path}: {_shown(value)} is not one of {', '.join(kind)}") from None


def _whole(name: str, options: dict[str, tuple[str, Any]], most: int) -> int | None:
    if name not in options:
        return None
    path, value = options[name]
    if isinstance(value, str) and value.isascii() and value.isdigit():  # metadata holds strings only
        value = int(value[:12])
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise invalid(path, f"{path}: expected a whole number from 0 to {most}")
    return value


def _context(options: dict[str, tuple[str, Any]]) -> tuple[str, ...]:
    path, value = options.get("context", ("millrace.context", []))
    if not isinstance(value, list):
        raise invalid(path, f"{path}: expected an array of chunks in the millrace object, got {_json_name(value)}")
    return tuple(_chunk(chunk, f"{path}[{index}]") for index, chunk in enumerate(value))


def _chunk(chunk: Any, path: str) -> str:
    text = chunk.get("text") if isinstance(chunk, dict) else chunk
    if not isinstance(text, str):
        raise invalid(path, f"{path}: expected a text, or an object with one as its text")
    return text


def _convert(fields: dict[str, Any], shape: type[_Shape], path: str = "") -> _Shape:
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        param, message = explain(error, path)
        raise invalid(param, f"{param}: {message}") from None


def explain(error: msgspec.ValidationError, path: str = "") -> tuple[str, str]:
    """Split a msgspec message into the path of the fault (below `path`) and what is wrong there."""
    message, _, at = str(error).partition(" - at `$")
    where = path + at.rstrip("`")
    if missing := re.search(r"missing required field `(\w+)`", message):
        return f"{where}.{missing[1]}".lstrip("."), "missing"
    return where.lstrip("."), message[:1].lower() + message[1:]


def _shown(value: object) -> str:
    return repr(value[:40]) if isinstance(value, str) else _json_name(value)


def _json_name(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
