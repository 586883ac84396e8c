"""Client to server: what a frame must look like, and what is said when it does not.

A frame is read in two steps, so that a bad one can still be answered on its lane: `open_frame` makes an `Envelope`
of the bytes, `read_create` and the others the meaning of it. The structs are the contract. Unknown fields are ignored.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from millrace.errors import MillraceError, invalid
from millrace.types import CacheMode, Delivery, Format, Message, OnDisconnect, Prompt, Strategy
from millrace.wire import items, limits
from millrace.wire.items import MAX_ID, ChosenFunction, FunctionTool, Id, Item
from millrace.wire.options import MAX_TOKENS, Asked, Metadata, Options, echoed, read_metadata
from millrace.wire.reading import convert, decode, json_name

STREAM_ID = re.compile(rf"[A-Za-z0-9_.-]{{1,{limits.STREAM_ID_CHARACTERS}}}")
UNSUPPORTED = ("conversation", "prompt", "background")  # of the Responses API; nothing here can honour them
TYPES = ("response.create", "response.cancel", "response.steer", "millrace.resume", "millrace.ping")

SamplingTemperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Tokens = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A frame that is JSON: its fields, and the ids to answer it with."""

    type: str
    stream_id: str | None
    event_id: str | None
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """A request in either dialect, checked. None stands for the operator's default."""

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
    stream: bool = False  # over HTTP
    include_usage: bool = False  # of a streamed chat completion
    instructions: str | None = None  # also the first message of the prompt
    previous_response_id: str | None = None
    store: bool | None = None
    generate: bool = True
    deadline_ms: int | None = None
    max_cost_usd: Decimal | None = None
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    idempotency_key: str | None = None
    cache_scope: str = ""
    context_version: str | None = None
    checks: tuple[str, ...] | None = None
    check_schema: dict[str, Any] | None = None
    check_schema_path: str = ""  # where it stands in the request
    format_path: str = "text.format.schema"  # where a schema in `prompt.format` does
    concise: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """`response.cancel`: one response, or else a lane (None: the default lane)."""

    response_id: str | None
    stream_id: str | None


@dataclass(frozen=True, slots=True)
class Resume:
    """`millrace.resume`: what is to be told again, and from where on."""

    response_id: str
    after: int  # the last sequence number seen; -1: none
    epoch: str


@dataclass(frozen=True, slots=True)
class Ping:
    """`millrace.ping`: `t` comes back as it was."""

    t: Any


class TextForm(Struct, tag="text"):
    """Any text."""


class ObjectForm(Struct, tag="json_object"):
    """Any JSON object."""


class SchemaForm(Struct, tag="json_schema"):
    """JSON after a schema. An answer that is not is a failed check; the large model is asked then."""

    schema: dict[str, Any]
    name: str = ""
    strict: bool | None = None
    description: str | None = None


class TextOptions(Struct):
    """The declared form of the answer, and how long-winded it may be."""

    format: TextForm | ObjectForm | SchemaForm | None = None
    verbosity: Word | None = None


class ReasoningOptions(Struct):
    """How much a model may think."""

    effort: Word | None = None


class Body(Struct, kw_only=True):
    """What both dialects have."""

    model: str = "auto"
    temperature: SamplingTemperature | None = None
    top_p: Share | None = None
    metadata: Metadata | None = None
    millrace: Options | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=MAX_ID)] | None = None  # names the conversation
    store: bool | None = None
    stream: bool | None = None  # over HTTP


class CreateBody(Body, kw_only=True):
    """A Responses request, as `POST /v1/responses` takes it."""

    input: str | Annotated[list[Item], Meta(max_length=items.MAX_ITEMS)]
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=items.MAX_TOOLS)] | None = None
    tool_choice: items.Choice | ChosenFunction | None = None
    previous_response_id: Id | None = None
    generate: bool | None = None  # False: only get ready


class ResponseCreate(CreateBody, tag="response.create", kw_only=True):
    """Asks for a response. `stream_id` names the lane, `event_id` comes back with a refusal."""

    stream_id: str | None = None
    event_id: str | None = None


class ResponseCancel(Struct, tag="response.cancel", kw_only=True):
    """Ends a response, or else all of a lane. The terminal event is the acknowledgement."""

    response_id: Annotated[str, Meta(max_length=MAX_ID)] | None = None
    stream_id: str | None = None
    event_id: str | None = None


class ResponseSteer(Struct, tag="response.steer", kw_only=True):
    """Refused with `response.steer.failed`."""

    response_id: str | None = None
    stream_id: str | None = None
    event_id: str | None = None


class MillraceResume(Struct, tag="millrace.resume", kw_only=True):
    """Asks for the events of a response after the last one seen (-1: all); `epoch` is that of the hello then."""

    response_id: Id
    epoch: Id
    after: Annotated[int, Meta(ge=-1, le=2**53)] = -1
    stream_id: str | None = None
    event_id: str | None = None


class MillracePing(Struct, tag="millrace.ping", kw_only=True):
    """Asks for a `millrace.pong` with the same `t`, any JSON of at most 1 kB."""

    t: Any = None
    stream_id: str | None = None
    event_id: str | None = None


ClientFrame = ResponseCreate | ResponseCancel | ResponseSteer | MillraceResume | MillracePing


def open_frame(raw: str | bytes) -> Envelope:
    """Read the envelope of one text frame; the frame's own ids are checked, its meaning is not."""
    fields = decode(raw)
    kind, stream_id, event_id = fields.get("type"), fields.get("stream_id"), fields.get("event_id")
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
        raise invalid("type", f"type: expected a string, got {json_name(fields['type'])}")
    if fields.get("event_id") is not None and envelope.event_id is None:
        raise invalid("event_id", f"event_id: expected a string of at most {MAX_ID} characters")
    if fields.get("stream_id") is not None and envelope.stream_id is None:
        raise MillraceError("invalid_stream_id", "stream_id: expected 1 to 256 of A-Z a-z 0-9 _ . -", param="stream_id")


def read_create(fields: dict[str, Any], checks: Collection[str]) -> Create:
    """Read a Responses body, of a frame or over HTTP; every fault names its field. `checks` are the names there are."""
    for name in UNSUPPORTED:
        if fields.get(name) not in (None, False):
            raise invalid(name, f"{name}: not supported; leave it out")
    if "input" in fields:
        fields = fields | {"input": items.untyped(fields["input"])}
    body = convert(fields, CreateBody)
    asked = items.turns(body.input, continued=body.previous_response_id is not None)
    if body.generate is not False:
        items.check_answerable(asked, "input")
    system = (Message(role="system", parts=(body.instructions,)),) if body.instructions else ()
    tools = tuple(items.read_tool(tool) for tool in body.tools or ())
    prompt = Prompt(
        messages=(*system, *asked),
        temperature=body.temperature,
        top_p=body.top_p,
        max_output_tokens=body.max_output_tokens,
        format=form_of(body.text.format if body.text else None),
        verbosity=body.text.verbosity if body.text else None,
        reasoning_effort=body.reasoning.effort if body.reasoning else None,
        tools=tools,
        tool_choice=items.read_choice(
            None if isinstance(body.tool_choice, ChosenFunction) else body.tool_choice,
            body.tool_choice.name if isinstance(body.tool_choice, ChosenFunction) else None,
            tools,
            "tool_choice.name",
        ),
        parallel_tool_calls=body.parallel_tool_calls if tools else None,
    )
    return create(
        body,
        prompt,
        checks,
        instructions=body.instructions or None,
        previous_response_id=body.previous_response_id,
        generate=body.generate is not False,
    )


def create(body: Body, prompt: Prompt, checks: Collection[str], **particular: Any) -> Create:
    """Return a request of either dialect: its prompt, its options, and what is `particular` to the dialect."""
    metadata = read_metadata(body.metadata)
    asked = Asked(body.millrace, metadata)
    options = asked.options
    names, schema, schema_path = asked.checks(checks)
    return Create(
        model=body.model,
        strategy=options.strategy,
        delivery=options.delivery,
        cache=options.cache or CacheMode.ON,
        prompt=prompt,
        metadata=echoed(metadata),
        context=asked.context(),
        context_budget=options.context_budget,
        grace_ms=options.grace_ms,
        hedge_ms=options.hedge_ms,
        stream=bool(body.stream),
        store=body.store,
        deadline_ms=options.deadline_ms,
        max_cost_usd=asked.max_cost(),
        on_disconnect=options.on_disconnect or OnDisconnect.CANCEL,
        idempotency_key=options.idempotency_key,
        cache_scope=options.cache_scope or "",
        context_version=options.context_version,
        checks=names,
        check_schema=schema,
        check_schema_path=schema_path,
        concise=bool(options.concise),
        **particular,
    )


def form_of(given: TextForm | ObjectForm | SchemaForm | None) -> Format | None:
    """Return the declared form of an answer; None for any text."""
    match given:
        case ObjectForm():
            return Format(kind="json_object")
        case SchemaForm():
            return Format(
                kind="json_schema",
                name=given.name or "answer",
                schema=given.schema,
                strict=given.strict,
                description=given.description,
            )
    return None


def read_cancel(envelope: Envelope) -> Cancel:
    """Read a `response.cancel`; a `response_id` goes before the lane."""
    return Cancel(convert(envelope.fields, ResponseCancel).response_id, envelope.stream_id)


def read_resume(envelope: Envelope) -> Resume:
    """Read a `millrace.resume`."""
    fields = convert(envelope.fields, MillraceResume)
    return Resume(fields.response_id, fields.after, fields.epoch)


def read_ping(envelope: Envelope) -> Ping:
    """Read a `millrace.ping`."""
    fields = convert(envelope.fields, MillracePing)
    if len(msgspec.json.encode(fields.t)) > limits.PING_BYTES:
        raise invalid("t", f"t: at most {limits.PING_BYTES} bytes come back")
    return Ping(fields.t)


def write_create(body: dict[str, Any], *, stream_id: str | None = None) -> bytes:
    """Make a `response.create` frame of a Responses body (the client's side)."""
    lane = {} if stream_id is None else {"stream_id": stream_id}
    return msgspec.json.encode({"type": "response.create", **lane, **body})


def write_cancel(*, response_id: str | None = None, stream_id: str | None = None) -> bytes:
    """Make a `response.cancel` frame (the client's side)."""
    named = {"response_id": response_id, "stream_id": stream_id}
    return msgspec.json.encode({"type": "response.cancel", **{key: id_ for key, id_ in named.items() if id_}})


def write_resume(resume: Resume, *, stream_id: str | None = None, event_id: str | None = None) -> bytes:
    """Make a `millrace.resume` frame (the client's side)."""
    ids = {name: id_ for name, id_ in (("stream_id", stream_id), ("event_id", event_id)) if id_ is not None}
    named = {"response_id": resume.response_id, "after": resume.after, "epoch": resume.epoch}
    return msgspec.json.encode({"type": "millrace.resume", **ids, **named})


def write_ping(t: Any = None) -> bytes:
    """Make a `millrace.ping` frame (the client's side)."""
    return msgspec.json.encode({"type": "millrace.ping", "t": t})
