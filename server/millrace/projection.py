"""What one listener may see of a response, as events of the Responses dialect.

The log knows facts; this knows frames: it holds words back until they may be shown, numbers its own events as it
writes them, and remembers what it has shown, so that the terminal repeats exactly that.
"""

from collections.abc import Callable

from msgspec import UNSET, UnsetType

from millrace.response import Committed, Ended, Fact, Metered, Response, Revised, Routed, Started
from millrace.types import Delivery, Status
from millrace.wire import responses as wire

USAGE_EVERY_S = 1.0

Emit = Callable[[bytes], None]

_TERMINALS: dict[Status, Callable[..., wire.Terminal]] = {
    Status.COMPLETED: wire.Completed,
    Status.FAILED: wire.Failed,
    Status.INCOMPLETE: wire.Incomplete,
    Status.CANCELLED: wire.Incomplete,
}


class Projection:
    """One subscriber of a response: dialect A on one lane, negotiated or not, in one delivery mode."""

    def __init__(
        self, response: Response, emit: Emit, *, created_at: int, stream_id: str | None, negotiated: bool
    ) -> None:
        request = response.request
        self._request = request
        self._clock = response.clock
        self._emit = emit
        self._created_at = created_at
        self._stream_id: str | UnsetType = UNSET if stream_id is None else stream_id
        self._negotiated = negotiated
        self._item_id = "msg_" + request.id.removeprefix("resp_")
        self._write_delta = wire.DeltaWriter(self._item_id, stream_id).write
        self._sequence = 0
        self._single = request.delivery is Delivery.FINAL
        self._speculative = negotiated and request.delivery is Delivery.SPECULATE
        self._flowing = self._speculative  # words go out as they come
        self._item_open = False
        self._held: list[str] = []
        self._shown: list[str] = []
        self._metered_at: float | None = None

    def text(self, deltas: list[str]) -> None:
        """Show the words of one read, or hold them back."""
        if not self._flowing:
            self._held += deltas
            return
        if not self._item_open:
            self._open_item()
        sequence = self._sequence
        for delta in deltas:
            self._emit(self._write_delta(delta, sequence))
            sequence += 1
        self._sequence = sequence
        self._shown += deltas

    def fact(self, fact: Fact) -> None:
        """Turn a fact into events."""
        match fact:
            case Started():
                body = self._body("in_progress", self._request.model)
                self._send(wire.Created, response=body)
                self._send(wire.InProgress, response=body)
            case Routed():
                self._route(fact)
            case Revised():
                self._revise(fact)
            case Committed():
                if not self._single:
                    self._flowing = True
                    self._release()
            case Metered():
                self._meter(fact)
            case Ended():
                self._end(fact)

    def _route(self, fact: Routed) -> None:
        if self._negotiated:
            self._send(
                wire.Route,
                response_id=self._request.id,
                strategy=fact.strategy,
                model=fact.model,
                tier=fact.tier,
                reason=fact.reason,
                cache=fact.cache,
                score=fact.score,
                similarity=UNSET if fact.similarity is None else fact.similarity,
                entry_id=UNSET if fact.entry_id is None else fact.entry_id,
                age_s=UNSET if fact.age_s is None else fact.age_s,
            )

    def _revise(self, fact: Revised) -> None:
        self._held.clear()
        self._shown.clear()
        if self._negotiated:
            self._send(
                wire.Revise,
                response_id=self._request.id,
                item_id=self._item_id,
                from_model=fact.from_model,
                to_model=fact.to_model,
                reason=fact.reason,
            )

    def _meter(self, fact: Metered) -> None:
        now = self._clock()
        if not self._negotiated or (self._metered_at is not None and now - self._metered_at < USAGE_EVERY_S):
            return
        self._metered_at = now
        statement = fact.statement
        self._send(
            wire.UsageSoFar,
            response_id=self._request.id,
            tokens=wire.tokens(statement.usage),
            cost_usd=float(statement.cost),
            saved_usd=float(statement.saved),
            attempts=[wire.attempt(charge) for charge in statement.charges],
        )

    def _release(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._flowing = True
            self.text(["".join(held)])

    def _end(self, fact: Ended) -> None:
        if fact.accepted:
            self._release()
            self._close_item(fact.status)
        self._meter(Metered(fact.statement))
        status = "incomplete" if fact.status is Status.INCOMPLETE else fact.status.value
        body = self._body(status, fact.model or self._request.model)
        if self._item_open:
            body.output = [self._item("completed" if fact.status is Status.COMPLETED else "incomplete")]
        body.usage = wire.usage_body(fact.statement)
        body.error = None if fact.status is not Status.FAILED or fact.error is None else wire.error_body(fact.error)
        body.incomplete_details = wire.IncompleteDetails(fact.reason) if fact.reason else None
        body.metadata |= self._marks(fact)
        self._send(_TERMINALS[fact.status], response=body)

    def _marks(self, fact: Ended) -> dict[str, str]:
        marks = {"millrace.cache": fact.cache.value}
        if fact.source is not None:
            marks["millrace.route"] = fact.source.value
        if fact.check is not None:
            marks["millrace.check"] = fact.check
        if fact.trimmed_tokens:
            marks["millrace.trimmed_tokens"] = str(fact.trimmed_tokens)
        return marks

    def _open_item(self) -> None:
        self._item_open = True
        self._send(wire.ItemAdded, item=wire.OutputMessage(self._item_id, "in_progress", []))
        self._send(wire.PartAdded, item_id=self._item_id, part=wire.OutputText(""))

    def _close_item(self, status: Status) -> None:
        if not self._item_open:
            self._open_item()
        text = "".join(self._shown)
        self._send(wire.TextDone, item_id=self._item_id, text=text)
        self._send(wire.PartDone, item_id=self._item_id, part=wire.OutputText(text))
        self._send(wire.ItemDone, item=self._item("completed" if status is Status.COMPLETED else "incomplete"))

    def _item(self, status: str) -> wire.OutputMessage:
        return wire.OutputMessage(self._item_id, status, [wire.OutputText("".join(self._shown))])

    def _body(self, status: str, model: str) -> wire.ResponseBody:
        prompt = self._request.prompt
        return wire.ResponseBody(
            id=self._request.id,
            created_at=self._created_at,
            status=status,
            model=model,
            metadata=dict(self._request.metadata),
            max_output_tokens=prompt.max_output_tokens,
            temperature=prompt.temperature,
            top_p=prompt.top_p,
        )

    def _send(self, kind: Callable[..., wire.Event], **fields: object) -> None:
        self._emit(wire.encode(kind(sequence_number=self._sequence, stream_id=self._stream_id, **fields)))
        self._sequence += 1
