"""The chat-completions dialect: a response as a stream of chunks, or as one completion.

Nothing is negotiated in this dialect, so no text is sent that may be taken back later.
"""

from functools import partial

from msgspec import UNSET, UnsetType

from millrace.dialects.metadata import metadata_of, service_tier_of
from millrace.dialects.projection import Dialect, Projection
from millrace.errors import FailedWithUsage, MillraceError
from millrace.funnel.facts import Ended, Fact, Revised, Routed
from millrace.funnel.response_log import ResponseLog
from millrace.types import Aside, CallPiece, OwnFields, Refusal, Request, Sealed, Status, Thought, ToolCall
from millrace.wire import chunks
from millrace.wire.chunks import CallDelta, Chunk, ChunkChoice, CustomDelta, Delta, FunctionDelta, LastChunk
from millrace.wire.completions import CalledCustom, CalledFunction
from millrace.wire.responses import error_body

_CUT: dict[str | None, chunks.ChatFinish] = {"max_output_tokens": "length", "content_filter": "content_filter"}


class CompletionProjection(Projection):
    """A subscriber of a response that makes the chunks of its chat completion."""

    __slots__ = ("_calls", "_created_at", "_has_sealed", "_include_usage", "_is_open", "_model")

    def __init__(self, response: ResponseLog, created_at: int, *, include_usage: bool) -> None:
        super().__init__(response)
        self._created_at = created_at
        self._include_usage = include_usage
        self._model = response.request.model  # the model that answers, as far as known
        self._is_open = False
        self._has_sealed = False
        self._calls: dict[int, tuple[bool, str | None]] = {}  # by index: whether it is of a custom tool

    def _show_fact(self, fact: Fact) -> None:
        match fact:
            case Routed():
                self._model = fact.model
            case Revised():
                self._model = fact.to_model
            case Ended():
                self._end(fact)
                self.event_log.finish()

    def _show_text(self, deltas: list[str]) -> None:
        self._open()
        self.event_log.text(deltas)
        self._go_on()

    def _show_aside(self, aside: Aside) -> None:
        self._open()
        match aside:
            case Thought():
                self._add(Delta(reasoning_content=aside.text), len(aside.text))
            case Refusal():
                self._add(Delta(refusal=aside.text), len(aside.text))
            case CallPiece():
                self._add(Delta(tool_calls=[self._call(aside)]), len(aside.arguments))
            case OwnFields():
                self._add(chunks.with_own_fields(Delta(), aside.fields))
            case Sealed():
                self._has_sealed = True

    def _call(self, piece: CallPiece) -> CallDelta:
        is_custom, name = self._calls.get(piece.index, (piece.is_custom, piece.name))
        delta = CallDelta(index=piece.index)
        if piece.index not in self._calls:
            self._calls[piece.index] = piece.is_custom, None
            delta.id, delta.type = piece.id, "custom" if is_custom else "function"
        if is_custom:
            delta.custom = CustomDelta(name=name, input=piece.arguments)
        else:
            delta.function = FunctionDelta(name=name, arguments=piece.arguments)
        return chunks.with_own_fields(delta, piece.own_fields)

    def _open(self) -> None:
        """Add the chunk with the role, which comes before the first text: by then it is known which model answers."""
        if not self._is_open:
            self._is_open = True
            self._add(Delta(role="assistant", content=""))

    def _end(self, fact: Ended) -> None:
        if not fact.accepted:
            if self._is_open:  # else the error is an HTTP error
                self.event_log.event(
                    chunks.Broken(error_body(error_of(fact)), chunks.usage_of_completion(fact.statement))
                )
            return
        self._open()
        self._model = fact.model or self._model
        if self._has_sealed and (sealed := self._log.message().sealed):
            self._add(chunks.with_sealed(Delta(), sealed), 4 * sum(one.size for one in sealed) // 3)  # in base64
        finish = [ChunkChoice(Delta(), finish_of(fact, calls=bool(self._calls)))]
        usage: chunks.UsageOfCompletion | UnsetType = UNSET
        if self._include_usage:
            self.event_log.event(self._chunk(finish))
            finish, usage = [], chunks.usage_of_completion(fact.statement)
        self.event_log.event(
            LastChunk(
                id=completion_id(self._request),
                created=self._created_at,
                model=self._model,
                choices=finish,
                usage=usage,
                metadata=metadata_of(self._request, fact),
                service_tier=service_tier_of(self._request, fact) or UNSET,
            )
        )

    def _add(self, delta: Delta, characters: int = 0) -> None:
        self.event_log.event(self._chunk([ChunkChoice(delta)]), characters)

    def _chunk(self, choices: list[ChunkChoice]) -> Chunk:
        return Chunk(id=completion_id(self._request), created=self._created_at, model=self._model, choices=choices)


def in_chat(*, include_usage: bool) -> Dialect[CompletionProjection]:
    """Return the chat-completions dialect, with or without a last chunk of usage."""
    return Dialect("chat", include_usage, partial(CompletionProjection, include_usage=include_usage))


def completion_of(response: ResponseLog, created_at: int) -> chunks.Completion:
    """Return an ended response as one completion. Raises `Unanswered` if it has no answer."""
    ended, request = response.ended, response.request
    assert ended is not None, "it has ended"
    if not ended.accepted:
        raise FailedWithUsage(error_of(ended), chunks.usage_of_completion(ended.statement))
    answer = response.message()
    calls = [chunks.with_own_fields(_called(call), call.own_fields) for call in answer.calls]
    message = chunks.CompletionMessage(
        content=None if not answer.text and (calls or answer.refusal) else answer.text,
        refusal=answer.refusal or None,
        reasoning_content=answer.reasoning or UNSET,
        tool_calls=calls or UNSET,
    )
    return chunks.Completion(
        id=completion_id(request),
        created=created_at,
        model=ended.model or request.model,
        choices=[
            chunks.CompletionChoice(
                chunks.with_sealed(chunks.with_own_fields(message, answer.own_fields), answer.sealed),
                finish_of(ended, calls=bool(calls)),
                logprobs=chunks.logprobs_of(response.scores()),
            )
        ],
        usage=chunks.usage_of_completion(ended.statement),
        metadata=metadata_of(request, ended),
        service_tier=service_tier_of(request, ended) or UNSET,
    )


def _called(call: ToolCall) -> chunks.CallOfCompletion | chunks.CustomCallOfCompletion:
    if call.is_custom:
        return chunks.CustomCallOfCompletion(call.id, CalledCustom(call.name, call.arguments))
    return chunks.CallOfCompletion(call.id, CalledFunction(call.name, call.arguments))


def completion_id(request: Request) -> str:
    """Return the id of a response in this dialect."""
    return "chatcmpl-" + request.id.removeprefix("resp_")


def finish_of(ended: Ended, *, calls: bool) -> chunks.ChatFinish:
    """Return the finish reason of an accepted answer. A cap goes before `tool_calls`."""
    if ended.status is not Status.COMPLETED:
        return _CUT.get(ended.reason, "length")
    return "tool_calls" if calls else "stop"


def error_of(ended: Ended) -> MillraceError:
    """Return the error of a response without an answer, or with a part of one: this dialect has no `incomplete`."""
    return ended.error or MillraceError("cancelled", "the response was cancelled before it was complete")
