"""What has been said until now: messages, their media, tool calls and their results."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from millrace.simulator.shapes import BadRequestError

_MEDIA = {"image_url": "image", "file": "file", "input_audio": "recording"}


class Part(msgspec.Struct, frozen=True):
    """One part of a message; parts that are not text count as empty."""

    type: str = "text"
    text: str = ""


class CalledFunction(msgspec.Struct, frozen=True):
    """What was called."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True):
    """A call of an earlier turn."""

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
        """All the text of the message."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""

    @property
    def called(self) -> str:
        """What it called, as one text."""
        return "".join(f"{call.function.name}({call.function.arguments})" for call in self.tool_calls or ())

    @property
    def media(self) -> Counter[str]:
        """How many images, files and recordings are in it, by these names."""
        parts = self.content if isinstance(self.content, list) else ()
        return Counter(_MEDIA[part.type] for part in parts if part.type in _MEDIA)


def check_results(messages: Iterable[Message]) -> None:
    """Refuse what OpenAI refuses: a tool's result without its call just before it, or a call without its result."""
    due: set[str] = set()
    for message in messages:
        if message.role != "tool":
            _check_answered(due)
            due = {call.id for call in message.tool_calls or ()}
        elif message.tool_call_id in due:
            due.remove(message.tool_call_id)
        else:
            fault = "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            raise BadRequestError(fault, param="messages")
    _check_answered(due)


def _check_answered(due: set[str]) -> None:
    if due:
        message = "An assistant message with 'tool_calls' must be followed by tool messages responding to each: "
        raise BadRequestError(message + ", ".join(sorted(due)), param="messages")
