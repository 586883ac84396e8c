"""The messages of a request: text, media, tool calls and their results."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from millrace.simulator.shapes import BadRequestError

_MEDIA = {"image_url": "image", "file": "file", "input_audio": "recording"}


class Part(msgspec.Struct, frozen=True):
    """One part of a message. The text of a part that is not text is empty."""

    type: str = "text"
    text: str = ""


class CalledFunction(msgspec.Struct, frozen=True):
    """The name and arguments of a tool call."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call in an assistant message."""

    id: str
    function: CalledFunction


class Message(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: str
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The text of all parts, one a line."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""

    @property
    def tool_call_text(self) -> str:
        """Its tool calls as one text."""
        return "".join(f"{call.function.name}({call.function.arguments})" for call in self.tool_calls or ())

    @property
    def media(self) -> Counter[str]:
        """The number of images, files and recordings, by those names."""
        parts = self.content if isinstance(self.content, list) else ()
        return Counter(_MEDIA[part.type] for part in parts if part.type in _MEDIA)


def check_results(messages: Iterable[Message]) -> None:
    """Check that each tool result follows its call and each call has its result, as OpenAI does.

    Raises `BadRequestError`.
    """
    pending: set[str] = set()
    for message in messages:
        if message.role != "tool":
            _check_no_pending(pending)
            pending = {call.id for call in message.tool_calls or ()}
        elif message.tool_call_id in pending:
            pending.remove(message.tool_call_id)
        else:
            error = "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            raise BadRequestError(error, param="messages")
    _check_no_pending(pending)


def _check_no_pending(pending: set[str]) -> None:
    if pending:
        message = "An assistant message with 'tool_calls' must be followed by tool messages responding to each: "
        raise BadRequestError(message + ", ".join(sorted(pending)), param="messages")
