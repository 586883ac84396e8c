"""Reads one answer of the Messages API: text, asides, usage and the end. No I/O."""

from typing import Any

from millrace.errors import UpstreamError
from millrace.types import Api, Call, CallPiece, Finish, FinishReason, Media, Prompt, Sealed, Stop, Thought, Usage
from millrace.upstreams import finishes, interning
from millrace.upstreams.asides import Placed
from millrace.upstreams.bodies import DONE
from millrace.upstreams.characters import Characters, is_cut
from millrace.upstreams.finishes import MAX_WORD
from millrace.upstreams.interning import SHORT
from millrace.upstreams.messages import events
from millrace.upstreams.messages.blocks import Block, ToolBlock
from millrace.upstreams.messages.events import Delta, Event
from millrace.upstreams.provider_api import UnreadableError
from millrace.upstreams.refusals import Refusals, error_of
from millrace.upstreams.sent_tools import SentTools
from millrace.upstreams.sse import ErrorEvent
from millrace.upstreams.usage import UsageReader

_WINDOWS = 2  # that a count may be at most: the API counts in tokens of its own, which are shorter
_CUT = ("max_tokens", "model_context_window_exceeded")
_EVENTS = ("content_block_start", "content_block_stop", "message_start", "message_delta", "message_stop", "ping")


class MessagesReader:
    """One answer. It is whole once the API's own `message_stop` has come, or a whole message."""

    def __init__(self, call: Call, refusals: Refusals) -> None:
        self.heard = 0
        self.is_terminated = False
        self.has_scores = False  # the API has none
        self.notes: tuple[str, ...] = ()
        self._model = call.model.id
        self._most = _WINDOWS * call.model.context_window
        self._refusals = refusals
        self._has_tools = bool(call.prompt.tools)
        self._may_cite = _has_sources(call.prompt)
        self._tools = SentTools(call.prompt.tools)
        self._open: dict[Any, Block] = {}  # by the API's index
        self._calls = 0
        self._ids: set[str] = set()  # of these
        self._stop: Stop | None = None
        self._usage = UsageReader()
        self._is_counted = False  # the output has been reported, and not only the input
        self._service_tier: Any = ""
        self._text, self._thought = Characters(), Characters()

    @property
    def has_begun(self) -> bool:
        """Whether anything of the answer has come, and nothing is under way that may be silent for as long again."""
        return bool(self.heard or self._stop) and not self._is_silent

    @property
    def has_finish(self) -> bool:
        """Whether the API has ended the answer. Why the model stopped does not suffice: more must follow."""
        return self.is_terminated

    @property
    def is_half_said(self) -> bool:
        """Whether a block is incomplete."""
        return bool(self._open)

    @property
    def usage(self) -> Usage | None:
        """What has been reported so far, once the output has been."""
        return self._usage.read(self._most, is_empty=not self.heard) if self._is_counted else None

    @property
    def input_usage(self) -> Usage | None:
        """The same, as soon as the input has been reported."""
        return self._usage.read(self._most, is_empty=True)

    @property
    def service_tier(self) -> str:
        """The service tier that the provider says it has used; empty if it says none."""
        given = self._service_tier
        return self._refusals.masked(given)[:MAX_WORD] if isinstance(given, str) else ""

    def take(self, data: bytes, deltas: list[str], placed: list[Placed]) -> None:
        """Take the data of one event; append what it brings. Raises `UpstreamError`."""
        if data.startswith(DONE):  # of servers that end every stream in this way
            return
        try:
            event = events.read(data)
        except events.UnreadableError:
            raise UnreadableError("upstream_error", f"{self._model} sent an event that cannot be read") from None
        kind, delta = event.type, event.delta
        if kind == "content_block_delta" and delta is not None:
            text = delta.text
            if text and type(text) is str and delta.type == "text_delta":
                self._say(text, event.index, deltas)
            else:
                self._take_delta(event.index, delta, data, deltas, placed)
        elif kind == "message" and isinstance(event.content, list):
            self._take_whole(event, deltas, placed)
        elif kind not in _EVENTS or isinstance(data, ErrorEvent):
            self._take_other(data)
        else:
            self._take_event(event, deltas, placed)

    def is_plain(self, data: bytes, text: str) -> bool:
        """Whether an event that was taken brought this text and nothing else, and no part of it is held back.

        Text that may have citations is not: these repeat it.
        """
        if self._may_cite or self._text.pending or isinstance(data, ErrorEvent):
            return False
        event = events.read(data)
        delta = Delta(type="text_delta", text=text)
        return event == Event(type="content_block_delta", index=event.index, delta=delta)

    def end(self, deltas: list[str], placed: list[Placed]) -> Finish:
        """Return the end of the answer after its last event; append what was held back until now.

        Raises `upstream_truncated` if the provider has not ended it, or has said nothing at all.
        """
        if not self.is_terminated or not (self._stop or self.heard):
            raise self.truncated()
        for index in [*self._open]:  # that a careless server has not closed
            self._close(index, deltas, placed)
        if text := self._text.flush():
            deltas.append(text)
        if thought := self._thought.flush():
            placed.append((len(deltas), Thought(thought)))
        placed += [(len(deltas), piece) for piece in self._tools.rest()]
        word = "" if self._stop is None else self._stop.reason
        reason = self._reason(word)
        is_known = not word or word in (*_CUT, "pause_turn") or finishes.is_known(word)
        refused = reason is FinishReason.CONTENT_FILTER
        return Finish(reason=reason, stop=self._stop, refused=refused, word="" if is_known else word)

    def truncated(self) -> UpstreamError:
        """Return the error of a stream that ended before its answer."""
        return UpstreamError("upstream_truncated", f"{self._model} ended its stream without finishing the answer")

    def _reason(self, word: str) -> FinishReason:
        reason = FinishReason.LENGTH if word in _CUT else finishes.reason(word) if word else FinishReason.STOP
        if self._calls and reason is FinishReason.STOP:
            return FinishReason.TOOL_CALLS
        if reason is FinishReason.TOOL_CALLS and not self._calls:
            if not self.heard:
                message = f"{self._model} ended with stop_reason {word}, but called none"
                raise UpstreamError("upstream_error", message, cause="ended with a call, but called no tool")
            return FinishReason.STOP
        return reason

    def _say(self, text: str, index: Any, deltas: list[str]) -> None:
        """Take a delta of text. The hot path."""
        if self._text.pending or is_cut(text):
            text = self._text.join(text)
            if not text:
                return
        self.heard += 1
        if len(text) <= SHORT:
            text = interning.known.get(text) or interning.remembered(text)
        if self._may_cite and (block := self._open.get(index)) is not None:
            block.pieces.append(text)
        deltas.append(text)

    def _take_event(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        match event.type:
            case "content_block_start":
                self._begin(event.index, event.content_block, deltas, placed)
            case "content_block_stop":
                self._close(event.index, deltas, placed)
            case "message_start":
                if isinstance(event.message, dict):
                    self._count(event.message.get("usage"))
            case "message_delta":
                self._count(event.usage)
                self._is_counted = self._is_counted or isinstance(event.usage, dict)
                if event.delta is not None:
                    self._end_with(event.delta, event.context_management)
            case "message_stop":
                if isinstance(event.usage, dict):
                    self._count(event.usage)
                    self._is_counted = True
                self.is_terminated = True
            case "ping" if self._is_silent:
                self.heard += 1

    @property
    def _is_silent(self) -> bool:
        """Whether a block is open that may bring nothing for minutes: thoughts that are not shown, a tool that runs."""
        return any(block.kind not in ("text", "tool_use") for block in self._open.values())

    def _take_whole(self, message: Event, deltas: list[str], placed: list[Placed]) -> None:
        """Take a message that comes in one piece, as it is without a stream."""
        for index, block in enumerate(message.content):
            self._begin(index, block, deltas, placed)
            self._close(index, deltas, placed)
        self._count(message.usage)
        self._is_counted = isinstance(message.usage, dict)
        self._end_with(message, message.context_management)
        self.is_terminated = True

    def _take_other(self, data: bytes) -> None:
        """Take an event that is none of the API's known ones. Raises the error that it is."""
        try:
            fields = events.fields_of(data)
        except events.UnreadableError:
            fields = {}
        error = error_of(fields) if fields.get("type") == "error" or "error" in fields else None
        if error is None and isinstance(data, ErrorEvent):
            error = fields
        if error is not None:
            raise self._refusals.of_event(error, billable=bool(self.heard))

    def _count(self, usage: Any) -> None:
        self._usage.take(usage)
        if isinstance(usage, dict):
            self._service_tier = usage.get("service_tier") or self._service_tier

    def _end_with(self, said: Delta | Event, context_management: Any) -> None:
        if not finishes.is_word(reason := said.stop_reason):
            return
        beside = {
            "stop_details": said.stop_details,
            "container": said.container,
            "context_management": context_management,
        }
        self._stop = Stop(
            api=Api.MESSAGES,
            reason=self._refusals.masked(reason)[:MAX_WORD],
            sequence=said.stop_sequence if isinstance(said.stop_sequence, str) else None,
            beside={name: value for name, value in beside.items() if value is not None},
        )

    def _begin(self, index: Any, given: Any, deltas: list[str], placed: list[Placed]) -> None:
        """Begin a block. It may have all of its content already."""
        if index in self._open:
            self._close(index, deltas, placed)
        if not isinstance(given, dict):
            return
        self.heard += 1
        if given.get("type") == "tool_use":
            if not self._has_tools:
                raise UpstreamError("upstream_error", f"{self._model} called a tool that nobody offered")
            block: Block = ToolBlock(given, self._calls, self._ids)
            self._calls += 1
        else:
            block = Block(given)
        self._open[index] = block
        self._call(block.begin(), deltas, placed)
        if (text := block.given_text) and block.kind == "text":
            self._say(text, index, deltas)
        elif text:
            self._think(text, block, deltas, placed)

    def _take_delta(self, index: Any, delta: Delta, data: bytes, deltas: list[str], placed: list[Placed]) -> None:
        """Take a delta that is not text."""
        block = self._open.get(index)
        if delta.thinking and isinstance(delta.thinking, str):
            self._think(delta.thinking, block, deltas, placed)
        elif delta.text and isinstance(delta.text, str) and block is not None and block.kind == "text":
            self._say(delta.text, index, deltas)  # of a server that does not say of which kind it is
        elif block is not None and (piece := block.take(delta, data)) is not None:
            self.heard += 1
            self._call([piece], deltas, placed)
        elif block is not None and block.has_grown:
            self.heard += 1

    def _think(self, thought: str, block: Block | None, deltas: list[str], placed: list[Placed]) -> None:
        if self._thought.pending or is_cut(thought):
            thought = self._thought.join(thought)
        if thought:
            self.heard += 1
            if block is not None:
                block.pieces.append(thought)
            placed.append((len(deltas), Thought(thought)))

    def _call(self, pieces: list[CallPiece], deltas: list[str], placed: list[Placed]) -> None:
        """Pass on pieces of a call as those of the tool that is meant."""
        meant = map(self._tools.back, pieces)
        placed.extend((len(deltas), piece) for piece in meant if piece is not None)

    def _close(self, index: Any, deltas: list[str], placed: list[Placed]) -> None:
        """End a block: what only this API understands goes on whole, at its place."""
        block = self._open.pop(index, None)
        if block is None:
            return
        if block.kind == "text" and (text := self._text.flush()):
            if self._may_cite:
                block.pieces.append(text)
            deltas.append(text)
        elif block.kind == "thinking" and (thought := self._thought.flush()):
            self._think(thought, block, deltas, placed)
        self._call(block.end(), deltas, placed)
        if (fields := block.sealed()) is not None:
            placed.append((len(deltas), Sealed(api=Api.MESSAGES, fields=fields)))


def _has_sources(prompt: Prompt) -> bool:
    """Whether there is something that an answer may cite: a document, or what a tool of the provider finds."""
    parts = (part for message in prompt.messages for part in message.parts)
    has_documents = any(isinstance(part, Media) and part.kind in ("file", "block") for part in parts)
    return has_documents or any(tool.hosted is not None for tool in prompt.tools)
