"""The Responses dialect: the facts of a response as events.

A projection holds back what may not be seen yet and keeps what it has sent, so that the terminal event repeats exactly
that (PROTOCOL.md, What always holds, 3). Its event log numbers the events and stores them.
"""

from functools import partial

from msgspec import UNSET, Raw, UnsetType

from millrace.dialects import told
from millrace.dialects.items import OutputItems, length
from millrace.dialects.metadata import metadata_of, service_tier_of
from millrace.dialects.projection import Dialect, Projection
from millrace.errors import MillraceError
from millrace.funnel.facts import Ended, Fact, Metered, Revised, Routed, Started
from millrace.funnel.response_log import ResponseLog
from millrace.types import Aside, CallPiece, OwnFields, Refusal, Sealed, Status, Thought
from millrace.wire import responses as wire

_TERMINALS: dict[Status, type[wire.Terminal]] = {
    Status.COMPLETED: wire.Completed,
    Status.FAILED: wire.Failed,
    Status.INCOMPLETE: wire.Incomplete,
    Status.CANCELLED: wire.Incomplete,
}


class ResponsesProjection(Projection):
    """A subscriber of a response that makes its events, for clients that negotiated or for those that did not."""

    __slots__ = ("_created_at", "_echoed", "_has_usage", "_negotiated", "_response", "_tools", "output")

    def __init__(self, response: ResponseLog, created_at: int, *, negotiated: bool) -> None:
        request = response.request
        super().__init__(response, speculative=negotiated)
        self._response = response
        self._created_at = created_at
        self._negotiated = negotiated
        self._has_usage = False  # a `millrace.usage` has been sent
        self.output = OutputItems(request.id, self.event_log, summarised=request.reasoning_summary)
        tools = request.prompt.own_tools
        self._tools = tuple([Raw(wire.encode(tool)) for tool in wire.tools_of(tools)])  # once: every body repeats them
        self._echoed = len(request.instructions or "") + sum(tool.size for tool in tools)  # characters that it repeats

    @property
    def whole_text(self) -> str:
        """Terminal events repeat it."""
        return self.output.whole_text

    @property
    def is_metered(self) -> bool:
        """Clients that negotiated are told."""
        return self._negotiated

    def _show_text(self, deltas: list[str]) -> None:
        self.output.text(deltas)
        self._go_on()

    def _show_fact(self, fact: Fact) -> None:
        match fact:
            case Started():
                body = self._body("in_progress", self._request.model)
                self.event_log.event(wire.Created(response=body), repeated=self._echoed)
                self.event_log.event(wire.InProgress(response=body), repeated=self._echoed)
                self._tell_of_budget()
            case Routed():
                if self._negotiated:
                    self.event_log.event(told.route(self._request, fact))
            case Revised():
                self._revise(fact)
            case Metered():
                self._meter(fact)
            case Ended():
                self._end(fact)

    def _show_aside(self, aside: Aside) -> None:
        self._is_plain = False  # text after it may begin another item
        match aside:
            case Thought():
                self.output.reasoning(aside)
            case Refusal():
                self.output.refusal(aside)
            case CallPiece():
                self.output.call(aside)
            case OwnFields():
                self.output.own_fields(aside)
            case Sealed():
                self.output.sealed(aside)

    def _tell_of_budget(self) -> None:
        if self._negotiated and (notice := told.notice(self._request)) is not None:
            self.event_log.event(notice)

    def _revise(self, fact: Revised) -> None:
        revised = self.output.revise()
        self._is_plain = False  # that there is text is noted with the next
        if self._negotiated:
            for item_id in revised or [self.output.message_id]:
                self.event_log.event(
                    wire.Revise(
                        response_id=self._request.id,
                        item_id=item_id,
                        from_model=fact.from_model,
                        to_model=fact.to_model,
                        reason=fact.reason,
                    )
                )

    def _meter(self, fact: Metered) -> None:
        if not self._negotiated:
            return
        self._has_usage = True
        self.event_log.event(told.usage(self._request, fact.statement))

    def _end(self, fact: Ended) -> None:
        item_status = "completed" if fact.status is Status.COMPLETED else "incomplete"
        if fact.accepted and fact.source is not None:  # without a source it is `generate: false` and has no answer
            items = self.output.close(item_status, self._response.message().sealed if self.output.has_sealed else ())
        else:
            items = self.output.items(item_status)
        if not self._has_usage or self._response.may_meter(self._response.clock()):
            self._meter(Metered(fact.statement))
        status = "incomplete" if fact.status is Status.INCOMPLETE else fact.status.value
        body = self._body(status, fact.model or self._request.model)
        body.output = items
        body.usage = wire.usage_body(fact.statement)
        body.error = None if fact.status is not Status.FAILED or fact.error is None else wire.error_body(fact.error)
        body.incomplete_details = wire.IncompleteDetails(fact.reason) if fact.reason else None
        body.metadata = metadata_of(self._request, fact)
        body.service_tier = service_tier_of(self._request, fact) or UNSET
        self.event_log.event(_TERMINALS[fact.status](response=body), repeated=self._echoed + sum(map(length, items)))
        self.event_log.finish()

    def _show_fault(self, error: MillraceError) -> None:
        ended = self._response.ended
        body = self._body("failed", self._request.model)
        body.output = self.output.items("incomplete")
        body.usage = None if ended is None else wire.usage_body(ended.statement)
        body.error = wire.error_body(error)
        self.event_log.event(wire.Failed(response=body), self._echoed)

    def body_so_far(self) -> wire.ResponseBody:
        """Return the response object while it runs."""
        body = self._body("in_progress", self._request.model)
        body.output = self.output.items("in_progress")
        return body

    def _body(self, status: str, model: str) -> wire.ResponseBody:
        request, prompt = self._request, self._request.prompt
        return wire.ResponseBody(
            id=request.id,
            created_at=self._created_at,
            status=status,
            model=model,
            metadata=request.metadata,
            max_output_tokens=prompt.max_output_tokens,
            temperature=prompt.temperature,
            top_p=prompt.top_p,
            instructions=request.instructions,
            previous_response_id=request.previous_response_id,
            store=request.store,
            service_tier=prompt.service_tier or UNSET,
            tools=self._tools,
            tool_choice=wire.tool_choice(prompt.tool_choice),
            parallel_tool_calls=prompt.parallel_tool_calls is not False,
        )


def in_responses(*, negotiated: bool) -> Dialect[ResponsesProjection]:
    """Return the Responses dialect, with `millrace.*` events for clients that negotiated them, or without."""
    return Dialect("responses", negotiated, partial(ResponsesProjection, negotiated=negotiated))


def body_of(response: ResponseLog, created_at: int) -> wire.ResponseBody:
    """Return the response object as a client that did not negotiate sees it now; `created_at` in Unix seconds."""
    projection = ResponsesProjection(response, created_at, negotiated=False)
    response.replay(projection)
    last = projection.event_log.last
    return last.response if isinstance(last, wire.Terminal) else projection.body_so_far()


class EventCodec:
    """Encodes events for one listener: JSON with its `stream_id`, or a server-sent event over HTTP."""

    __slots__ = ("_output", "_sse", "_stream_id", "_writer")

    keep_alive = wire.KEEP_ALIVE

    def __init__(self, projection: ResponsesProjection, stream_id: str | None = None, *, sse: bool = False) -> None:
        self._output = projection.output
        self._stream_id: str | UnsetType = UNSET if stream_id is None else stream_id
        self._sse = sse
        self._writer: wire.DeltaWriter | None = None

    def delta(self, text: str, number: int) -> bytes:
        """Encode a text delta."""
        if self._writer is None:
            self._writer = wire.DeltaWriter(self._output.message_id, *self._output.text_at, self._stream_id)
        frame = self._writer.write(text, number)
        return b"event: response.output_text.delta\ndata: %b\n\n" % frame if self._sse else frame

    def event(self, event: wire.Event, number: int) -> bytes:
        """Encode any other event."""
        event.sequence_number, event.stream_id = number, self._stream_id
        frame = wire.encode(event)
        return b"event: %b\ndata: %b\n\n" % (wire.type_of(event).encode(), frame) if self._sse else frame

    def failure(self, error: MillraceError) -> bytes:
        """Encode an `error`."""
        frame = wire.error_event(error)
        return b"event: error\ndata: %b\n\n" % frame if self._sse else frame
