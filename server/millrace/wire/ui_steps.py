"""The steps that a message of the AI SDK has had before an answer goes on with it, as chunks that make them again.

A client that resumes forgets its message and builds it anew from what it gets. So it gets the earlier steps too: those
that it has sent. Their tools have run, so a call is not shown as one that is to be run.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from millrace.wire import ui_chunks as wire
from millrace.wire.responses import encode
from millrace.wire.ui_messages import SendFrame, ToolPart, json_of


class Earlier(msgspec.Struct, frozen=True):
    """The id of a message, and its earlier steps as encoded chunks."""

    message_id: str
    chunks: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes of its chunks."""
        return sum(map(len, self.chunks))


def earlier_of(send: SendFrame) -> Earlier | None:
    """Return what the answer goes on with: the last message, if it is one of the assistant that waits for it."""
    last = send.messages[-1]
    if last.role != "assistant" or send.trigger != "submit-message" or not last.id:
        return None
    return Earlier(last.id, tuple(encode(chunk) for part in last.parts for chunk in _chunks(part)))


def _chunks(part: dict[str, Any]) -> Iterator[wire.UiChunk]:
    """Yield the chunks of a part that was read. What no answer of Millrace has is left out."""
    match kind := part["type"]:
        case "step-start":
            yield wire.StartStepChunk()
        case "text":
            yield from (wire.TextStartChunk(), wire.TextDeltaChunk(delta=part["text"]), wire.TextEndChunk())
        case "reasoning":
            yield wire.ReasoningStartChunk()
            yield wire.ReasoningDeltaChunk(delta=part["text"])
            yield wire.ReasoningEndChunk()
        case "custom":
            if part.get("kind") == wire.CARRIED and part.get("providerMetadata"):
                yield wire.CustomChunk(provider_metadata=part["providerMetadata"])
        case "dynamic-tool":
            yield from _tool(msgspec.convert(part, ToolPart), is_dynamic=True)
        case _ if kind.startswith("tool-"):
            yield from _tool(msgspec.convert({**part, "toolName": kind.removeprefix("tool-")}, ToolPart))


def _tool(part: ToolPart, *, is_dynamic: bool = False) -> Iterator[wire.UiChunk]:
    called = part.tool_call_id
    yield wire.ToolInputStartChunk(
        tool_call_id=called,
        tool_name=part.tool_name,
        dynamic=is_dynamic,
        provider_metadata=part.call_provider_metadata or msgspec.UNSET,
    )
    if part.input is not None:
        yield wire.ToolInputDeltaChunk(tool_call_id=called, input_text_delta=json_of(part.input))
    match part.state:
        case "output-available":
            yield wire.ToolOutputChunk(tool_call_id=called, output=part.output)
        case "output-error":
            yield wire.ToolOutputErrorChunk(tool_call_id=called, error_text=part.error_text)
        case _ if part.is_denied:
            yield wire.ToolOutputDeniedChunk(tool_call_id=called)
