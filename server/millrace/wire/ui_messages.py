"""What the AI SDK's chat transport sends: frames, and the UI messages in them. They are read into the same `Create`.

A message of the assistant holds all steps of a turn, with the results of its tools between them. A request's `body`
has the fields of a Responses body, but for `input`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from millrace.errors import MillraceError, invalid
from millrace.types import Message, Part, Path, Paths, ToolCall
from millrace.wire import carried, items, requests
from millrace.wire.items import MAX_ID, Id
from millrace.wire.reading import convert, decode, json_name
from millrace.wire.requests import Conversation, Create, Envelope
from millrace.wire.tools import ToolName
from millrace.wire.ui_chunks import CARRIED, OURS

PATHS = Paths(input="messages", schema="body.text.format.schema", tool="body.tools[{}].parameters")
DENIED = "The user has not allowed this call."
TYPES = ("send", "resume", "abort")
_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}

Parts = Annotated[list[dict[str, Any]], Meta(max_length=items.MAX_ITEMS)]
Text = Annotated[str, Meta(min_length=1)]


class UiMessage(Struct):
    """A message as `useChat` keeps it. What its parts are is said by their `type`."""

    role: Literal["system", "user", "assistant"]
    parts: Parts
    id: Annotated[str, Meta(max_length=MAX_ID)] = ""


class SendFrame(Struct, tag="send", rename="camel", kw_only=True):
    """Asks for an answer. `id` is the chat's; `body` has the fields of a Responses request, but for `input`."""

    request_id: Id
    id: Id
    messages: Annotated[list[UiMessage], Meta(min_length=1, max_length=items.MAX_ITEMS)]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None
    headers: dict[str, Any] | None = None
    body: dict[str, Any] | None = None
    metadata: Any = None


class ResumeFrame(Struct, tag="resume", rename="camel", kw_only=True):
    """Asks for the chat's latest answer again: what comes after a chunk, or all of it."""

    request_id: Id
    id: Id
    last_sequence: Annotated[int, Meta(ge=-1, le=2**53)] | None = None
    headers: dict[str, Any] | None = None
    body: dict[str, Any] | None = None
    metadata: Any = None


class AbortFrame(Struct, tag="abort", rename="camel", kw_only=True):
    """Cancels the answer to a request. Nothing happens if it has ended."""

    request_id: Id


ClientFrame = SendFrame | ResumeFrame | AbortFrame


class TextPart(Struct, rename="camel"):
    """Text, or what the model thought."""

    text: str


class FilePart(Struct, rename="camel"):
    """A file, by its URL; `data:` URLs are allowed."""

    media_type: Text
    url: Text
    filename: str | None = None


class CustomPart(Struct, rename="camel"):
    """What a provider has beside text. That of Millrace comes back as it was sent."""

    kind: str
    provider_metadata: dict[str, dict[str, Any]] | None = None


class ToolPart(Struct, rename="camel", kw_only=True):
    """A tool's call, and its result if there is one."""

    tool_call_id: Id
    state: Literal[
        "input-streaming",
        "input-available",
        "approval-requested",
        "approval-responded",
        "output-available",
        "output-error",
        "output-denied",
    ]
    tool_name: ToolName = ""  # of a dynamic tool
    input: Any = None
    raw_input: Any = None  # what the model wrote that is no JSON
    output: Any = None
    error_text: str = ""
    provider_executed: bool | None = None
    approval: dict[str, Any] | None = None
    call_provider_metadata: dict[str, dict[str, Any]] | None = None

    @property
    def is_denied(self) -> bool:
        """Whether the user has not allowed the call."""
        refused = self.approval is not None and self.approval.get("approved") is False
        return self.state == "output-denied" or (self.state == "approval-responded" and refused)


class _Step(Struct):
    """What was read of one step of an assistant's message."""

    parts: list[Part] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    results: list[Message] = field(default_factory=list)
    word: carried.Carried = carried.NOTHING

    def messages(self) -> Iterator[Message]:
        """Yield the answer, then the results of its tools."""
        own_fields = self.word.calls
        calls = tuple(replace(call, own_fields=own_fields.get(call.id, {})) for call in self.calls)
        answer = Message(
            role="assistant",
            parts=tuple(self.parts),
            calls=calls,
            reasoning="".join(self.thoughts),
            own_fields=self.word.message,
            sealed=self.word.blocks,
        )
        if answer.parts or answer.calls or answer.sealed:
            yield answer
        yield from self.results


def open_frame(raw: str | bytes) -> Envelope:
    """Decode one text frame. Its lane is the chat, and its id that of the request. Raises `invalid_json`."""
    return _envelope(decode(raw))


def open_beginning(raw: bytes) -> Envelope:
    """Return what the beginning of a frame says, as far as its fields are whole. Raises nothing."""
    return _envelope(requests.open_beginning(raw).fields)


def _envelope(fields: dict[str, Any]) -> Envelope:
    kind, chat, asked = fields.get("type"), fields.get("id"), fields.get("requestId")
    return Envelope(
        kind if isinstance(kind, str) else "",
        chat if isinstance(chat, str) and 0 < len(chat) <= MAX_ID else None,
        asked if isinstance(asked, str) and 0 < len(asked) <= MAX_ID else None,
        fields,
    )


def check_ids(envelope: Envelope) -> None:
    """Raise `invalid_request` if nobody could be answered, or `unknown_event`."""
    asked = envelope.fields.get("requestId")
    if envelope.event_id is None:
        why = "missing" if asked is None else f"expected 1 to {MAX_ID} characters"
        raise invalid("requestId", f"requestId: {why}")
    if envelope.type not in TYPES:
        given = envelope.fields.get("type")
        why = f"{given[:80]!r} is not known" if isinstance(given, str) else f"expected a string, got {json_name(given)}"
        raise MillraceError("unknown_event", f"type: {why}; write one of {', '.join(TYPES)}", param="type")


def read_resume(envelope: Envelope) -> ResumeFrame:
    """Read a `resume`."""
    return convert(envelope.fields, ResumeFrame)


def read_send(envelope: Envelope, checks: Collection[str]) -> tuple[SendFrame, Create]:
    """Read a `send`. `checks` are the names of all checks that exist.

    Raises `invalid_request` with the path of the field.
    """
    send = convert(envelope.fields, SendFrame)
    body = dict(send.body or {})
    for name in ("input", "stream"):
        if body.pop(name, None) is not None:
            raise invalid(f"body.{name}", f"body.{name}: leave it out; what is asked stands in messages")
    body["millrace"] = _options(send, body)
    lost: list[Path] = []
    messages = tuple(
        read for index, message in enumerate(send.messages) for read in _messages(message, ("messages", index), lost)
    )
    conversation = Conversation(messages, tuple(lost), PATHS)
    return send, requests.read_create(body | {"input": ""}, checks, conversation)


def names_of(send: SendFrame, headers: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what may name the session: the body, and the headers, those of the frame before those of the upgrade."""
    given = {name.lower(): value for name, value in (send.headers or {}).items() if isinstance(value, str)}
    return send.body or {}, {**headers, **given}


def _options(send: SendFrame, body: Mapping[str, Any]) -> Any:
    """Return the options. Who asks for another answer gets no stored one, and one that leaves may come back."""
    given = body.get("millrace")
    if given is not None and not isinstance(given, dict):
        return given  # is refused with its path
    metadata = body.get("metadata")
    default = {"on_disconnect": "detach"}
    if send.trigger == "regenerate-message":
        default["cache"] = "refresh"
    if isinstance(metadata, dict):
        default = {name: value for name, value in default.items() if f"millrace.{name}" not in metadata}
    return default | (given or {})


def _messages(message: UiMessage, at: Path, lost: list[Path]) -> Iterator[Message]:
    """Yield what a message becomes. Paths of what has no place in it are added to `lost`."""
    if message.role == "assistant":
        yield from _steps(message.parts, at, lost)
        return
    parts = [*_said(message.parts, at, lost, files=message.role == "user")]
    if parts:
        yield Message(role=message.role, parts=tuple(parts))


def _said(parts: Sequence[dict[str, Any]], at: Path, lost: list[Path], *, files: bool) -> Iterator[Part]:
    for index, part in enumerate(parts):
        place = (*at, "parts", index)
        match _kind(part, place):
            case "text":
                yield convert(part, TextPart, _path(place)).text
            case "file" if files:
                yield _file(convert(part, FilePart, _path(place)))
            case _:
                lost.append(place)


def _steps(parts: Sequence[dict[str, Any]], at: Path, lost: list[Path]) -> Iterator[Message]:
    step = _Step()
    for index, part in enumerate(parts):
        place = (*at, "parts", index)
        path = _path(place)
        match kind := _kind(part, place):
            case "step-start":
                yield from step.messages()
                step = _Step()
            case "steering-message":
                yield from step.messages()
                step = _Step()
                said = convert(part.get("parts"), Parts, f"{path}.parts")
                yield Message(role="user", parts=tuple(_said(said, place, lost, files=True)))
            case "text":
                if text := convert(part, TextPart, path).text:
                    step.parts.append(text)
            case "reasoning":
                step.thoughts.append(convert(part, TextPart, path).text)
            case "custom" if (word := _word(convert(part, CustomPart, path))) is not None:
                step.word = carried.read(word)
            case "dynamic-tool":
                _add_tool(step, convert(part, ToolPart, path), path)
            case _ if kind.startswith("tool-"):
                name = convert(kind.removeprefix("tool-"), ToolName, f"{path}.type")
                _add_tool(step, convert({**part, "toolName": name}, ToolPart, path), path)
            case _:
                lost.append(place)
    yield from step.messages()


def _add_tool(step: _Step, part: ToolPart, path: str) -> None:
    """Add a call and its result. A call without one is left out, since no model goes on without the result."""
    if not part.tool_name:
        raise invalid(f"{path}.toolName", f"{path}.toolName: missing")
    ours = (part.call_provider_metadata or {}).get(OURS, {})
    match part.state:
        case "output-available":
            text, is_error = _text(part.output), False
        case "output-error":
            text, is_error = part.error_text, True
        case _ if part.is_denied:
            reason = (part.approval or {}).get("reason")
            text, is_error = (reason if isinstance(reason, str) and reason else DENIED), True
        case _:
            return
    if part.provider_executed:
        return  # the provider has both
    is_custom = ours.get("custom") is True
    given = part.raw_input if part.input is None else part.input
    namespace = ours.get("namespace")
    step.calls.append(
        ToolCall(
            id=part.tool_call_id,
            name=part.tool_name,
            arguments=given if isinstance(given, str) else json_of({} if given is None else given),
            namespace=namespace if isinstance(namespace, str) else "",
            is_custom=is_custom,
        )
    )
    step.results.append(Message(role="tool", parts=(text,), call_id=part.tool_call_id, is_error=is_error))


def _file(part: FilePart) -> Part:
    kind, data = part.media_type.partition("/")[0], part.url.startswith("data:")
    if kind == "image":
        return items.media("image", url=part.url)
    form = _AUDIO.get(part.media_type.partition(";")[0])
    if form is not None and data and ";base64," in part.url:
        return items.media("audio", data=part.url.partition(",")[2], format=form)
    where = {"file_data": part.url} if data else {"file_url": part.url}
    return items.media("file", **where, filename=part.filename)


def _word(part: CustomPart) -> str | None:
    """Return what only Millrace can read of a part, if it is one of Millrace."""
    if part.kind != CARRIED:
        return None
    word = (part.provider_metadata or {}).get(OURS, {}).get(carried.FIELD)
    return word if isinstance(word, str) else ""


def _kind(part: Mapping[str, Any], place: Path) -> str:
    kind = part.get("type")
    if not isinstance(kind, str):
        path = f"{_path(place)}.type"
        raise invalid(path, f"{path}: " + ("missing" if kind is None else f"expected a string, got {json_name(kind)}"))
    return kind


def _path(place: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")


def _text(output: Any) -> str:
    return output if isinstance(output, str) else json_of(output)


def json_of(value: Any) -> str:
    """Return a value as JSON."""
    return msgspec.json.encode(value).decode()
