"""The Messages dialect: a response as a stream of content blocks, or as one message.

Nothing is negotiated in this dialect, so no text is sent that may be taken back later.
"""

from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from millrace.dialects.chat import error_of
from millrace.dialects.content_blocks import ContentBlocks
from millrace.dialects.metadata import metadata_of, service_tier_of
from millrace.dialects.projection import Dialect, Projection
from millrace.errors import FailedWithUsage
from millrace.funnel.facts import Ended, Fact, grouped
from millrace.funnel.response_log import ResponseLog
from millrace.types import Api, Aside, Request, Status, joined
from millrace.wire import message_events as wire

_CUT = {"max_output_tokens": "max_tokens", "content_filter": "refusal"}


class MessagesProjection(Projection):
    """A subscriber of a response that makes the events of its message. `model` is the name that the request gave."""

    def __init__(self, response: ResponseLog, created_at: int, *, model: str) -> None:
        super().__init__(response)
        self._model = model
        self._blocks = ContentBlocks(self.event_log.event, self.event_log.text)
        self._is_open = False

    def _show_text(self, deltas: list[str]) -> None:
        self._open()
        self._blocks.text(deltas)
        self._go_on()

    def _show_aside(self, aside: Aside) -> None:
        self._is_plain = False  # text after it begins another block
        self._open()
        self._blocks.aside(aside)

    def _show_fact(self, fact: Fact) -> None:
        if isinstance(fact, Ended):
            self._end(fact)
            self.event_log.finish()

    def _open(self) -> None:
        if not self._is_open:
            self._is_open = True
            usage = wire.MessageUsage(input_tokens=self._request.input_tokens, output_tokens=0)
            message = wire.WholeMessage(id=message_id(self._request), model=self._model, content=[], usage=usage)
            self.event_log.event(wire.MessageStart(message))

    def _end(self, fact: Ended) -> None:
        if not fact.accepted:
            if self._is_open:  # else the error is an HTTP error
                error = FailedWithUsage(error_of(fact), wire.usage_of_message(fact.statement))
                self.event_log.event(wire.failed(error, self._request.id))
            return
        self._open()
        self._blocks.end()
        beside = beside_of(fact)
        self.event_log.event(
            wire.MessageDelta(
                delta=wire.Stopped(
                    stop_reason_of(fact, self._blocks),
                    stop_sequence_of(fact),
                    beside.get("stop_details", UNSET),
                    beside.get("container", UNSET),
                ),
                usage=wire.usage_of_message(fact.statement, service_tier_of(self._request, fact)),
                metadata=metadata_of(self._request, fact),
                context_management=beside.get("context_management", UNSET),
            )
        )
        self.event_log.event(wire.MessageStop())


def in_messages(model: str) -> Dialect[MessagesProjection]:
    """Return the Messages dialect for a request that gave this name as its model."""
    return Dialect("messages", variant=False, make=partial(MessagesProjection, model=model))


def message_of(response: ResponseLog, model: str) -> wire.WholeMessage:
    """Return an ended response as one message. Raises `FailedWithUsage` if it has no answer."""
    ended, request = response.ended, response.request
    assert ended is not None, "it has ended"
    if not ended.accepted:
        raise FailedWithUsage(error_of(ended), wire.usage_of_message(ended.statement))
    whole = _Whole()
    blocks = ContentBlocks(whole.event, whole.text)
    for fact in grouped(response.standing()):
        if isinstance(fact, list):
            blocks.text(fact)
        elif isinstance(fact, Aside):
            blocks.aside(fact)
    blocks.end()
    return wire.WholeMessage(
        id=message_id(request),
        model=model,
        content=whole.content,
        stop_reason=stop_reason_of(ended, blocks),
        stop_sequence=stop_sequence_of(ended),
        usage=wire.usage_of_message(ended.statement, service_tier_of(request, ended)),
        metadata=metadata_of(request, ended) or UNSET,
        **beside_of(ended),
    )


class _Whole:
    """The content of a message, made of the events of its stream."""

    def __init__(self) -> None:
        self.content: list[dict[str, Any]] = []
        self._pieces: list[str] = []

    def text(self, deltas: list[str]) -> None:
        self._pieces += deltas

    def event(self, event: Any, characters: int = 0) -> None:
        match event:
            case wire.BlockStart():
                self.content.append({**event.content_block})
                self._pieces = []
            case wire.BlockDelta(delta=wire.SignatureDelta(signature)):
                self.content[-1]["signature"] = signature
            case wire.BlockDelta(delta=wire.CitationsDelta(citation)):
                self.content[-1].setdefault("citations", []).append(citation)
            case wire.BlockDelta(delta=wire.ThinkingDelta(piece) | wire.InputDelta(piece)):
                self._pieces.append(piece)
            case wire.BlockStop() if self._pieces:
                block, text = self.content[-1], joined(self._pieces)
                if block["type"] in ("text", "thinking"):
                    block[block["type"]] = text
                else:
                    block["input"] = _input(text)


def _input(arguments: str) -> Any:
    """Return the input of a call as the model wrote it. What was cut in the middle is no JSON, and none is made up."""
    try:
        is_object = isinstance(msgspec.json.decode(arguments), dict)
    except (msgspec.DecodeError, RecursionError):
        is_object = False
    return msgspec.Raw(arguments.encode()) if is_object else {}


def message_id(request: Request) -> str:
    """Return the id of a response in this dialect."""
    return "msg_" + request.id.removeprefix("resp_")


def stop_reason_of(ended: Ended, blocks: ContentBlocks) -> str:
    """Return why an accepted answer ended. The word of a model of this API goes before those made up here."""
    if ended.stop is not None and ended.stop.api is Api.MESSAGES:
        return ended.stop.reason
    if ended.status is not Status.COMPLETED:
        return _CUT.get(ended.reason or "", "max_tokens")
    return "tool_use" if blocks.has_calls else "refusal" if blocks.is_refused else "end_turn"


def beside_of(ended: Ended) -> dict[str, Any]:
    """Return what a model of this API says besides, by its names."""
    return {} if ended.stop is None or ended.stop.api is not Api.MESSAGES else ended.stop.beside


def stop_sequence_of(ended: Ended) -> str | None:
    """Return the stop sequence that ended an answer, if the model says so."""
    return None if ended.stop is None else ended.stop.sequence
