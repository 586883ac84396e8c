"""Client to server: reads frames and Responses bodies, and refuses those that are invalid.

A frame is read in two steps, so that the error for an invalid frame can still name its lane: `open_frame` decodes it to
an `Envelope`, then `read_create` or another function reads the fields. The structs define the format. Fields that
they do not have are passed on or noted (`passed_on`).
"""

import dataclasses
import json
import re
from collections.abc import Collection
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from millrace.errors import MillraceError, invalid
from millrace.types import (
    BATCH_TIER,
    RESPONSES_PATHS,
    Api,
    CacheMode,
    Delivery,
    Format,
    Message,
    Native,
    OnDisconnect,
    Path,
    Paths,
    Prompt,
    Strategy,
)
from millrace.wire import items, limits, turns
from millrace.wire.hosted import HostedTool
from millrace.wire.items import MAX_ID, Id, Item
from millrace.wire.options import MAX_TOKENS, GivenOptions, Metadata, NamedChecks, Options, echoed, read_metadata
from millrace.wire.passed_on import by_index, is_absent, passed_on, told, unread
from millrace.wire.reading import convert, decode, json_name
from millrace.wire.tools import MAX_TOOLS, AnyChoice, AnyTool, read_choice, read_tools, settled

STREAM_ID = re.compile(rf"[A-Za-z0-9_.-]{{1,{limits.STREAM_ID_CHARACTERS}}}")
UNSUPPORTED = ("conversation", "prompt", "background")  # fields of the Responses API that are refused
NATIVE = ("context_management", "max_tool_calls", "moderation", "truncation")  # that only providers with it understand
LOGPROBS = "message.output_text.logprobs"  # of `include`
ENCRYPTED_REASONING = "reasoning.encrypted_content"  # as well; every reasoning item has it
TYPES = ("response.create", "response.cancel", "response.steer", "millrace.resume", "millrace.ping")

SamplingTemperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
Tokens = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
TopLogprobs = Annotated[int, Meta(ge=0, le=20)]
Summary = Literal["auto", "concise", "detailed", "none"]
Word = Annotated[str, Meta(min_length=1, max_length=64)]


class Envelope(Struct, frozen=True):
    """A decoded frame: its type, its fields, and the ids that an answer to it repeats."""

    type: str
    stream_id: str | None
    event_id: str | None
    fields: dict[str, Any]

    def without_fields(self) -> "Envelope":
        """Return it with its ids alone."""
        return Envelope(self.type, self.stream_id, self.event_id, {})


class Create(Struct, frozen=True, kw_only=True):  # no format: a struct of so many fields is made in a tenth of the time
    """A valid request of any dialect. None means the configured default."""

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
    check_pattern: str | None = None
    paths: Paths = RESPONSES_PATHS
    concise: bool = False
    tag: str = ""
    evidence: bool = True
    reasoning_summary: bool = False  # asked for, whichever kind
    not_passed_on: tuple[str, ...] = ()  # paths of fields that have no place in the provider's API


class Cancel(Struct, frozen=True):
    """`response.cancel`: one response, or else a lane (None: the default lane)."""

    response_id: str | None
    stream_id: str | None


class Resume(Struct, frozen=True):
    """`millrace.resume`: which response to replay, and from which event."""

    response_id: str
    after: int  # the last sequence number seen; -1: none
    epoch: str


class Ping(Struct, frozen=True):
    """`millrace.ping`: `t` is returned unchanged."""

    t: Any


class Conversation(Struct, frozen=True):
    """The messages of a client that has another form for them, and where fields of it are."""

    messages: tuple[Message, ...]
    lost: tuple[Path, ...]  # of what has no place in them
    paths: Paths


class TextForm(Struct, tag="text"):
    """Any text."""


class ObjectForm(Struct, tag="json_object"):
    """Any JSON object."""


class SchemaForm(Struct, tag="json_schema"):
    """JSON that matches a schema. An answer that does not fails the check `form`."""

    schema: dict[str, Any]
    name: str = ""
    strict: bool | None = None
    description: str | None = None


class TextOptions(Struct):
    """The format of the answer, and how verbose it may be."""

    format: TextForm | ObjectForm | SchemaForm | None = None
    verbosity: Word | None = None


class ReasoningOptions(Struct):
    """How much effort the model may spend on reasoning, and whether to show it as a summary."""

    effort: Word | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None  # the earlier name
    context: Word | None = None
    mode: Word | None = None


class RequestBody(Struct, kw_only=True):
    """The fields that all dialects share."""

    model: str = "auto"
    top_p: TopP | None = None
    metadata: Metadata | None = None
    millrace: Options | None = None
    stream: bool | None = None  # over HTTP


class Body(RequestBody, kw_only=True):
    """The fields that both dialects of OpenAI share."""

    temperature: SamplingTemperature | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=MAX_ID)] | None = None
    safety_identifier: Annotated[str, Meta(max_length=MAX_ID)] | None = None
    service_tier: Word | None = None
    user: Annotated[str, Meta(max_length=MAX_ID)] | None = None
    store: bool | None = None


class CreateBody(Body, kw_only=True):
    """A Responses request, as `POST /v1/responses` takes it."""

    input: str | Annotated[list[Item], Meta(max_length=items.MAX_ITEMS)]
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    tools: Annotated[list[AnyTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: AnyChoice | None = None
    previous_response_id: Id | None = None
    include: list[str] | None = None
    truncation: Any = None  # this and the next three only providers with this API understand
    max_tool_calls: Any = None
    context_management: Any = None
    moderation: Any = None
    client_metadata: Any = None  # names the session
    top_logprobs: TopLogprobs | None = None  # only with `LOGPROBS`
    generate: bool | None = None  # False: take the input, but call no model


class ResponseCreate(CreateBody, tag="response.create", kw_only=True):
    """Asks for a response. `stream_id` names the lane. A refusal repeats `event_id`."""

    stream_id: str | None = None
    event_id: str | None = None


class ResponseCancel(Struct, tag="response.cancel", kw_only=True):
    """Cancels a response, or all requests of a lane. The terminal event is the acknowledgement."""

    response_id: Annotated[str, Meta(max_length=MAX_ID)] | None = None
    stream_id: str | None = None
    event_id: str | None = None


class ResponseSteer(Struct, tag="response.steer", kw_only=True):
    """Refused with `response.steer.failed`."""

    response_id: str | None = None
    stream_id: str | None = None
    event_id: str | None = None


class MillraceResume(Struct, tag="millrace.resume", kw_only=True):
    """Asks for the events of a response after number `after` (-1: all). `epoch` is from that connection's hello."""

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


_FIELD = re.compile(r'\s*[{,]\s*("(?:[^"\\]|\\.)*")\s*:\s*')
_decoder = json.JSONDecoder()
_READ = frozenset(ResponseCreate.__struct_fields__) | {"type"}
_ONLY_THERE = (*NATIVE, "include")
_NO_PLACE = (*UNSUPPORTED, "stream_options")
_NAMED = ("prompt_cache_key", "safety_identifier", "service_tier", "user")

ClientFrame = ResponseCreate | ResponseCancel | ResponseSteer | MillraceResume | MillracePing


def open_frame(raw: str | bytes) -> Envelope:
    """Decode one text frame. An invalid id becomes None here, and `check_ids` refuses it.

    Raises `invalid_json` or `invalid_request`.
    """
    return _envelope(decode(raw))


def open_beginning(raw: bytes) -> Envelope:
    """Return what the beginning of a frame says: its first fields, as far as they are whole. Raises nothing."""
    text, fields, at = raw.decode("utf-8", "ignore"), {}, 0
    with suppress(ValueError, RecursionError):  # the field that is not whole, or no JSON
        while name := _FIELD.match(text, at):
            fields[_decoder.decode(name[1])], at = _decoder.raw_decode(text, name.end())
    return _envelope(fields)


def _envelope(fields: dict[str, Any]) -> Envelope:
    kind, stream_id, event_id = fields.get("type"), fields.get("stream_id"), fields.get("event_id")
    return Envelope(
        kind if isinstance(kind, str) else "",
        stream_id if isinstance(stream_id, str) and STREAM_ID.fullmatch(stream_id) else None,
        event_id if isinstance(event_id, str) and len(event_id) <= MAX_ID else None,
        fields,
    )


def check_ids(envelope: Envelope) -> None:
    """Raise `invalid_request` or `invalid_stream_id` if the type or an id is invalid."""
    fields = envelope.fields
    if "type" not in fields:
        raise invalid("type", "type: missing; write response.create or response.cancel")
    if not isinstance(fields["type"], str):
        raise invalid("type", f"type: expected a string, got {json_name(fields['type'])}")
    if fields.get("event_id") is not None and envelope.event_id is None:
        raise invalid("event_id", f"event_id: expected a string of at most {MAX_ID} characters")
    if fields.get("stream_id") is not None and envelope.stream_id is None:
        raise MillraceError("invalid_stream_id", "stream_id: expected 1 to 256 of A-Z a-z 0-9 _ . -", param="stream_id")


def read_create(fields: dict[str, Any], checks: Collection[str], conversation: Conversation | None = None) -> Create:
    """Read a Responses body, from a frame or over HTTP. `checks` are the names of all checks that exist.

    A `conversation` that is read already takes the place of `input`, which is empty then. Raises `invalid_request` with
    the path of the field.
    """
    for name in UNSUPPORTED:
        if fields.get(name) not in (None, False):
            raise invalid(name, f"{name}: not supported; leave it out")
    if isinstance(fields.get("input"), list):
        fields = fields | {"input": items.with_types(fields["input"])}
    body = convert(fields, CreateBody)
    passed, lost = passed_on(fields, _READ, lost=_NO_PLACE)
    logprobs = LOGPROBS in (body.include or ())
    lost += [("top_logprobs",)] if body.top_logprobs and not logprobs else []
    left = [(path, value) for path, value in unread(fields, body) if len(path) > 1]
    whole = ["tool_choice"] if isinstance(body.tool_choice, HostedTool) else []  # goes on as it came, or not at all
    lost += [path for path, _ in left if path[0] not in ("input", "tools", "reasoning", *whole)]
    continued = body.previous_response_id is not None
    if conversation is None:
        extras, unplaced = items.extras_of(body.input, by_index(left, "input"))
        lost += unplaced
        messages = items.turns(body.input, fields["input"], continued=continued, extras=extras, lost=lost)
    else:
        messages = conversation.messages
        lost += conversation.lost
    paths = RESPONSES_PATHS if conversation is None else conversation.paths
    if body.generate is not False and not turns.has_references(messages):
        items.check_answerable(messages, paths.input)
    system = (Message(role="system", parts=(body.instructions,)),) if body.instructions else ()
    tools, unplaced = read_tools(body.tools or (), fields.get("tools") or (), by_index(left, "tools"))
    lost += unplaced
    native = _native(fields)
    prompt = Prompt(
        messages=(*system, *messages),
        temperature=body.temperature,
        top_p=body.top_p,
        max_output_tokens=body.max_output_tokens,
        format=form_of(body.text.format if body.text else None),
        verbosity=body.text.verbosity if body.text else None,
        reasoning_effort=body.reasoning.effort if body.reasoning else None,
        tools=tools,
        tool_choice=read_choice(body.tool_choice, fields.get("tool_choice")),
        native=Native(api=Api.RESPONSES, fields=native) if native else None,
        parallel_tool_calls=body.parallel_tool_calls,
        extras=passed | named_extras(body) | (logprobs_of(body.top_logprobs) if logprobs else {}),
    )
    if not continued and not turns.has_references(messages):  # else other messages may bring tools
        prompt = settled(prompt)
    return create(
        body,
        prompt,
        checks,
        paths,
        not_passed_on=told(lost),
        instructions=body.instructions or None,
        previous_response_id=body.previous_response_id,
        generate=body.generate is not False,
        reasoning_summary=body.reasoning is not None and _wants_summary(body.reasoning),
        store=body.store,
    )


def _native(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what only a provider with this API understands."""
    native = {name: fields[name] for name in _ONLY_THERE if name in fields and not is_absent(fields[name])}
    given = fields.get("reasoning") or {}
    reasoning = {name: value for name, value in given.items() if name != "effort" and value is not None}
    return native | ({"reasoning": reasoning} if reasoning else {})


def _wants_summary(asked: ReasoningOptions) -> bool:
    return (asked.summary or asked.generate_summary or "none") != "none"


def named_extras(body: Body) -> dict[str, Any]:
    """Return the fields of both dialects that only the provider reads."""
    return {name: value for name in _NAMED if (value := getattr(body, name)) is not None}


def logprobs_of(top_logprobs: int | None) -> dict[str, Any]:
    """Return the fields that ask a provider for log-probabilities, and for those of so many other tokens."""
    return {"logprobs": True} | ({} if top_logprobs is None else {"top_logprobs": top_logprobs})


def create(
    body: RequestBody, prompt: Prompt, checks: Collection[str], paths: Paths = RESPONSES_PATHS, **specific: Any
) -> Create:
    """Return a request of any dialect. `specific` are the fields of `Create` that only one dialect has."""
    metadata = read_metadata(body.metadata)
    given = GivenOptions(body.millrace, metadata)
    options = given.options
    named = given.checks(checks)
    if prompt.service_tier == BATCH_TIER:
        raise invalid("service_tier", 'service_tier: "batch" is of batches; upload a file instead: POST /v1/files')
    if prompt.extras:
        prompt = dataclasses.replace(prompt, extras_size=len(msgspec.json.encode(prompt.extras)))
    _ = prompt.whole_size  # of schemas it is computed once: here, since a long request is read off the loop
    return Create(
        model=body.model,
        strategy=options.strategy,
        delivery=options.delivery,
        cache=options.cache or CacheMode.ON,
        prompt=prompt,
        metadata=echoed(metadata),
        context=given.context(),
        context_budget=options.context_budget,
        grace_ms=options.grace_ms,
        hedge_ms=options.hedge_ms,
        stream=bool(body.stream),
        deadline_ms=options.deadline_ms,
        max_cost_usd=given.max_cost(),
        on_disconnect=options.on_disconnect or OnDisconnect.CANCEL,
        idempotency_key=options.idempotency_key,
        cache_scope=options.cache_scope or "",
        context_version=options.context_version,
        checks=named.names,
        check_schema=named.schema,
        check_pattern=named.pattern,
        concise=bool(options.concise),
        tag=options.tag or "",
        evidence=options.evidence is not False,
        paths=_with_options(paths, given.path("max_cost_usd"), named),
        **specific,
    )


def _with_options(paths: Paths, max_cost: str, named: NamedChecks) -> Paths:
    """Return the paths with those of some options. Nearly all requests give none of them."""
    given = (max_cost, named.schema_path, named.pattern_path)
    if given == (paths.max_cost, paths.check_schema, paths.check_pattern):
        return paths
    return replace(paths, max_cost=max_cost, check_schema=named.schema_path, check_pattern=named.pattern_path)


def form_of(given: TextForm | ObjectForm | SchemaForm | None) -> Format | None:
    """Return the format of the answer; None for any text."""
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
    """Read a `response.cancel`. `response_id` takes precedence over the lane."""
    return Cancel(convert(envelope.fields, ResponseCancel).response_id, envelope.stream_id)


def read_resume(envelope: Envelope) -> Resume:
    """Read a `millrace.resume`."""
    fields = convert(envelope.fields, MillraceResume)
    return Resume(fields.response_id, fields.after, fields.epoch)


def read_ping(envelope: Envelope) -> Ping:
    """Read a `millrace.ping`."""
    fields = convert(envelope.fields, MillracePing)
    if len(msgspec.json.encode(fields.t)) > limits.PING_BYTES:
        raise invalid("t", f"t: expected at most {limits.PING_BYTES} bytes of JSON")
    return Ping(fields.t)


def write_create(body: dict[str, Any], *, stream_id: str | None = None) -> bytes:
    """Encode a Responses body as a `response.create` frame. For clients."""
    lane = {} if stream_id is None else {"stream_id": stream_id}
    return msgspec.json.encode({"type": "response.create", **lane, **body})


def write_cancel(*, response_id: str | None = None, stream_id: str | None = None) -> bytes:
    """Encode a `response.cancel` frame. For clients."""
    ids = {"response_id": response_id, "stream_id": stream_id}
    return msgspec.json.encode({"type": "response.cancel", **{key: id_ for key, id_ in ids.items() if id_}})


def write_resume(resume: Resume, *, stream_id: str | None = None, event_id: str | None = None) -> bytes:
    """Encode a `millrace.resume` frame. For clients."""
    ids = {name: id_ for name, id_ in (("stream_id", stream_id), ("event_id", event_id)) if id_ is not None}
    fields = {"response_id": resume.response_id, "after": resume.after, "epoch": resume.epoch}
    return msgspec.json.encode({"type": "millrace.resume", **ids, **fields})


def write_ping(t: Any = None) -> bytes:
    """Encode a `millrace.ping` frame. For clients."""
    return msgspec.json.encode({"type": "millrace.ping", "t": t})
