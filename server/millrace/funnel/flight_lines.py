"""The log of a flight as lines of JSON, which the replica that leads it sends to those that follow.

A line is the text deltas of one read, or one other fact, or how the flight has ended. An empty one says that the leader
lives. Who cannot read a line, which a newer version may write, has lost its leader.
"""

import asyncio
from collections.abc import Callable

import msgspec
from msgspec import Struct

from millrace.errors import MillraceError, Rule, UpstreamError
from millrace.funnel.catalog import Catalog
from millrace.funnel.ending import Result
from millrace.funnel.facts import Committed, Fact, Revised, Routed
from millrace.funnel.response_log import ResponseLog
from millrace.ports import Sink
from millrace.ports.flights import LeaderGoneError
from millrace.types import (
    Answer,
    Api,
    Aside,
    CacheOutcome,
    CallPiece,
    Delivery,
    FinishReason,
    OwnFields,
    Refusal,
    Sealed,
    Source,
    Stop,
    Thought,
    Usage,
)
from millrace.wire import limits

FORM = 1  # of the lines; a leader that knows only an earlier one refuses


class Wanted(Struct, forbid_unknown_fields=False):
    """What a follower asks for, and who of its clients pays if nobody of the leader's does any more."""

    form: int
    token: str
    key_id: str = ""
    user: str = ""
    tag: str = ""


class Spoken(Struct, tag=True, omit_defaults=True):
    """An aside: one of these."""

    thought: str | None = None
    refusal: str | None = None
    call: CallPiece | None = None
    own_fields: OwnFields | None = None
    sealed: tuple[Api, dict[str, object], int, int, str] | None = None


class Done(Struct, tag=True, omit_defaults=True, kw_only=True):
    """A `Result`."""

    source: Source | None
    model: str
    usage: Usage
    finish: FinishReason
    stop: Stop | None = None
    cut: str | None = None
    capped_by_operator: int | None = None
    check: str | None = None
    entry_id: str | None = None
    age_s: float | None = None
    service_tier: str = ""
    answer_id: str = ""  # empty: it is not to be stored
    reasoning: str = ""


class Failed(Struct, tag=True, omit_defaults=True):
    """Why no model has answered."""

    code: str
    message: str
    rule: Rule
    cause: str
    retry_after_ms: int | None = None


class Over(Struct, tag=True):
    """It has ended for a reason that is the leader's own."""


Line = list[str] | Routed | Revised | Committed | Spoken | Done | Failed | Over

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Writer:
    """A subscriber that makes lines of a log; `notify` is called when there are more."""

    is_metered = False

    def __init__(self, notify: Callable[[], None]) -> None:
        self.is_broken = False
        self._notify = notify
        self._lines: list[bytes] = []
        self._bytes = 0

    @property
    def congested(self) -> bool:
        """Whether too much waits to be sent."""
        return self._bytes > limits.WAITING_BYTES

    def take(self) -> bytes:
        """Return the lines that wait."""
        lines, self._lines, self._bytes = self._lines, [], 0
        return b"".join(lines)

    def text(self, deltas: list[str]) -> None:
        """Write the text deltas of one read."""
        self._write(deltas)

    def fact(self, fact: Fact) -> None:
        """Write a fact that is not each follower's own."""
        if isinstance(fact, Routed | Revised | Committed):
            self._write(fact)
        elif isinstance(fact, Aside):
            self._write(_spoken(fact))

    def fail(self) -> None:
        """Write no more."""
        self.is_broken = True
        self._notify()

    def end(self, result: Result | MillraceError | None) -> None:
        """Write how the flight has ended; None: not as its followers' requests have to."""
        if isinstance(result, Result):
            self._write(_done(result))
        elif isinstance(result, UpstreamError):
            failed = Failed(result.code, result.message, result.rule, result.cause, result.retry_after_ms)
            self._write(failed)
        else:
            self._write(Over())

    def _write(self, line: Line) -> None:
        encoded = _encode(line) + b"\n"
        self._lines.append(encoded)
        self._bytes += len(encoded)
        self._notify()


class Reader:
    """Writes the lines of a leader into the log of a flight here. It is the `Reading` of that log.

    What is committed here cannot be asked for once more, should the leader die. So that waits for the end, unless a
    client sees nothing until then.
    """

    def __init__(self, response: ResponseLog, catalog: Catalog) -> None:
        self.sink: Sink = response.write
        self.aside: Callable[[Aside], None] = response.say
        self.response = response
        self._catalog = catalog
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._model = ""  # that answers
        self._has_text = False
        self._commits = False

    def pause(self) -> None:
        """Read no more until `resume`."""
        self._has_room.clear()

    def resume(self) -> None:
        """Read again."""
        self._has_room.set()

    async def read(self, line: bytes) -> Result | None:
        """Take a line; return the result of the flight once it has one.

        Raises the error of a model. Raises `LeaderGoneError` for a line that cannot be read, and for an end that is
        not one for the requests here.
        """
        if not line:
            return None
        await self._has_room.wait()
        try:
            said = _decode(line)
        except msgspec.DecodeError as error:
            raise LeaderGoneError(f"a line cannot be read: {error}") from None
        if isinstance(said, Done):
            if self._commits:
                self.response.commit()
            return self._result(said)
        self._take(said)
        return None

    def _take(self, said: "list[str] | Routed | Revised | Committed | Spoken | Failed | Over") -> None:
        response = self.response
        match said:
            case list():
                self._has_text = True
                self.sink(said)
            case Routed():
                self._model = said.model
                response.route(said.joined())
            case Revised():
                response.revise(said)
                response.attach(self)
                self._has_text = False
            case Committed():
                self._commits = True
                if any(log.request.delivery is Delivery.PREFIX for log in response.waiting):
                    response.commit()
            case Spoken():
                self._has_text = True
                self.aside(_aside(said))
            case Failed():
                raise UpstreamError(
                    said.code, said.message, retry_after_ms=said.retry_after_ms, rule=said.rule, cause=said.cause
                )
            case Over():
                raise LeaderGoneError("its flight is over")

    def lose(self) -> None:
        """Take back what the leader has said, so that another one can answer. Raises `upstream_truncated` if it stays.

        The log reads it no more.
        """
        response = self.response
        if response.committed:
            cause = "the replica that led the answer is gone"
            raise UpstreamError("upstream_truncated", f"{cause} in the middle of it; ask again", cause=cause)
        if self._has_text:
            response.revise(Revised(from_model=self._model, to_model=self._model, reason="upstream_truncated"))
        response.detach()

    def _result(self, done: Done) -> Result:
        answer = None
        model = next((model for model in self._catalog.models if model.id == done.model), None)
        if done.answer_id and model is not None:
            text = "".join(fact for fact in self.response.standing() if isinstance(fact, str))
            reasoning, check = done.reasoning, done.check
            answer = Answer(
                text=text, model=model, usage=done.usage, check=check, reasoning=reasoning, id=done.answer_id
            )
        return Result(
            source=done.source,
            model=done.model,
            usage=done.usage,
            finish=done.finish,
            stop=done.stop,
            cut=done.cut,
            capped_by_operator=done.capped_by_operator,
            check=done.check,
            cache=CacheOutcome.JOINED,
            entry_id=done.entry_id,
            age_s=done.age_s,
            answer=answer,
            service_tier=done.service_tier,
        )


def _done(result: Result) -> Done:
    return Done(
        source=result.source,
        model=result.model,
        usage=result.usage,
        finish=result.finish,
        stop=result.stop,
        cut=result.cut,
        capped_by_operator=result.capped_by_operator,
        check=result.check,
        entry_id=result.entry_id,
        age_s=result.age_s,
        service_tier=result.service_tier,
        answer_id=result.answer.id if result.answer else "",
        reasoning=result.answer.reasoning if result.answer else "",
    )


def _spoken(aside: Aside) -> Spoken:
    match aside:
        case Thought():
            return Spoken(thought=aside.text)
        case Refusal():
            return Spoken(refusal=aside.text)
        case CallPiece():
            return Spoken(call=aside)
        case OwnFields():
            return Spoken(own_fields=aside)
        case Sealed():
            return Spoken(sealed=(aside.api, aside.fields, aside.parts_before, aside.calls_before, aside.maker))


def _aside(spoken: Spoken) -> Aside:
    if spoken.thought is not None:
        return Thought(spoken.thought)
    if spoken.refusal is not None:
        return Refusal(spoken.refusal)
    if spoken.sealed is not None:
        api, fields, parts_before, calls_before, maker = spoken.sealed
        return Sealed(api=api, fields=fields, parts_before=parts_before, calls_before=calls_before, maker=maker)
    other = spoken.call or spoken.own_fields
    if other is None:
        raise LeaderGoneError("an aside of a kind that is not known")
    return other
