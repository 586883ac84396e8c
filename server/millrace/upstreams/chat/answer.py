"""Reads one answer from the events of a chat completion: text, asides, usage and the end. No I/O."""

from collections.abc import Sequence
from typing import Any

from millrace.errors import UpstreamError
from millrace.types import Aside, Finish, FinishReason, OwnFields, Refusal, Scored, Thought, Tool, Usage
from millrace.upstreams import finishes, interning
from millrace.upstreams.asides import Placed
from millrace.upstreams.bodies import DONE
from millrace.upstreams.characters import Characters, is_cut
from millrace.upstreams.chat import chunks
from millrace.upstreams.chat.chunks import Choice, Chunk, Delta
from millrace.upstreams.chat.own_fields import OwnFieldsReader
from millrace.upstreams.chat.tool_calls import CallReader
from millrace.upstreams.finishes import MAX_WORD
from millrace.upstreams.interning import SHORT
from millrace.upstreams.provider_api import UnreadableError
from millrace.upstreams.refusals import Refusals, error_of
from millrace.upstreams.sse import ErrorEvent
from millrace.upstreams.usage import UsageReader, reports


class ChatReader:
    """One answer. `heard` is the number of pieces of text, reasoning, refusals and calls that it has read."""

    __slots__ = (
        "_calls",
        "_context_window",
        "_model",
        "_own_fields",
        "_refusal",
        "_refusals",
        "_refused",
        "_scores",
        "_service_tier",
        "_text",
        "_thought",
        "_tools",
        "_usage",
        "_wants_scores",
        "_word",
        "has_scores",
        "heard",
        "is_terminated",
    )

    def __init__(
        self,
        model: str,
        tools: Sequence[Tool],
        refusals: Refusals,
        context_window: int,
        *,
        wants_logprobs: bool = False,
    ) -> None:
        self.heard = 0
        self.is_terminated = False  # the provider sent its own terminal, or a whole document
        self._model = model
        self._refusals = refusals
        self._context_window = context_window
        self._word = ""  # the provider's latest finish reason
        self._service_tier: Any = ""  # the last that the provider has named
        self._refused = False
        self.has_scores = False  # log-probabilities of some text have come
        self._wants_scores = wants_logprobs
        self._scores = b""  # that have come before their text
        self._usage = UsageReader()
        self._tools = tools
        self._calls: CallReader | None = None  # made with the first call, as most answers have none
        self._own_fields: OwnFieldsReader | None = None  # the same
        self._text, self._thought, self._refusal = Characters(), Characters(), Characters()

    @property
    def has_begun(self) -> bool:
        """Whether anything of the answer has come."""
        return bool(self.heard or self._word)

    @property
    def has_finish(self) -> bool:
        """Whether the provider has given a finish reason; more of the answer may follow it."""
        return bool(self._word)

    @property
    def is_half_said(self) -> bool:
        """Whether a call is incomplete."""
        return self._calls is not None and self._calls.is_half_said

    @property
    def usage(self) -> Usage | None:
        """What the provider has reported so far."""
        return self._usage.read(self._context_window, is_empty=not self.heard)

    @property
    def input_usage(self) -> Usage | None:
        """The same, as soon as the input has been reported."""
        return self._usage.read(self._context_window, is_empty=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the answer is left out."""
        return tuple(read.note for read in (self._own_fields, self._calls) if read is not None and read.note)

    @property
    def service_tier(self) -> str:
        """The service tier that the provider says it has used; empty if it says none."""
        return self._refusals.tier(self._service_tier)

    def take(self, data: bytes, deltas: list[str], placed: list[Placed]) -> None:
        """Take the data of one event; append what it brings. Raises `UpstreamError`."""
        if data.startswith(DONE):
            self.is_terminated = True
            return
        try:
            chunk = chunks.read(data)
        except chunks.UnreadableError:
            self._take_unreadable(data)
            return
        is_usage = chunk.usage is not None and b"rror" not in data
        is_other = chunk.x_groq is not None or chunk.usageMetadata is not None or not (chunk.choices or is_usage)
        if is_other or chunk.error is not None or isinstance(data, ErrorEvent):
            self._take_other(data)
        elif chunk.usage is not None:
            self._usage.take(chunk.usage)
        self._service_tier = chunk.service_tier or self._service_tier
        for choice in chunk.choices or ():
            if choice.index and choice.index not in ("0", False):  # another answer than the one that was asked for
                continue
            if choice.logprobs is not None:
                self._take_scores(choice.logprobs)
            if choice.delta is not None:
                self._take_delta(choice.delta, deltas, placed)
            elif whole := chunks.whole_of(choice, has_begun=bool(self.heard)):
                self._take_delta(whole, deltas, placed)
            if choice.finish_reason is not None or choice.finishReason is not None:
                self._take_finish(choice)
            if choice.usage is not None:
                self._usage.take(choice.usage)

    def _take_unreadable(self, data: bytes) -> None:
        """Take what is no JSON: an end with blanks before it. Raises the error that an event is, or one of its own."""
        if isinstance(data, ErrorEvent):
            raise self._refusals.of_event(data.decode("utf-8", "replace"), billable=bool(self.heard))
        if not data.lstrip().startswith(DONE):
            raise UnreadableError("upstream_error", f"{self._model} sent a chunk that cannot be read")
        self.is_terminated = True

    def is_plain(self, data: bytes, text: str) -> bool:
        """Whether an event that was taken brought this text and nothing else, and no part of it is held back."""
        if self._text.pending or self._scores or isinstance(data, ErrorEvent):
            return False
        chunk = chunks.read(data)
        first = chunk.choices[0] if chunk.choices else Choice()
        alone = Choice(index=first.index, delta=Delta(content=text))
        return first.index in (None, 0) and chunk == Chunk(choices=[alone], service_tier=chunk.service_tier)

    def end(self, deltas: list[str], placed: list[Placed]) -> Finish:
        """Return the end of the answer after its last event; append what was held back until now.

        Raises `upstream_truncated` if the provider has not ended it, or has said nothing at all.
        """
        if not self._word and (not (self.is_terminated and self.heard) or self.is_half_said):
            raise self.truncated()
        if finishes.is_broken(self._word):
            message = f"{self._model} broke off its answer ({self._word[:40]})"
            raise UpstreamError("upstream_truncated", message, cause="broke off its answer")
        text = self._text.flush()
        if text or (self._scores and self.has_scores):
            deltas.append(self._scored(text) if self._scores else text)
        if thought := self._thought.flush():
            placed.append((len(deltas), Thought(thought)))
        if refusal := self._refusal.flush():
            placed.append((len(deltas), Refusal(refusal)))
        if self._calls is not None:
            placed += [(len(deltas), piece) for piece in self._calls.end()]
        if self._own_fields is not None and (own_fields := self._own_fields.end()):
            placed.append((len(deltas), OwnFields(own_fields)))
        reason = finishes.reason(self._word) if self._word else FinishReason.STOP
        if self._calls is not None and reason is FinishReason.STOP:  # some servers send `stop` after a tool call
            reason = FinishReason.TOOL_CALLS
        elif reason is FinishReason.TOOL_CALLS and self._calls is None:
            if not self.heard:
                message = f"{self._model} ended with finish_reason {self._word[:40]}, but called none"
                raise UpstreamError("upstream_error", message, cause="ended with a call, but called no tool")
            reason = FinishReason.STOP  # it has answered in words
        word = "" if not self._word or finishes.is_known(self._word) else self._word[:MAX_WORD]
        return Finish(reason=reason, refused=self._refused, word=word)

    def truncated(self) -> UpstreamError:
        """Return the error of a stream that ended before its answer."""
        return UpstreamError("upstream_truncated", f"{self._model} ended its stream without finishing the answer")

    def _take_other(self, data: bytes) -> None:
        """Take an event that is no ordinary chunk. Raises the error that it is."""
        try:
            fields = chunks.fields_of(data)
        except chunks.UnreadableError:
            fields = {}
        error = error_of(fields)
        if error is None and isinstance(data, ErrorEvent):
            error = fields
        for given in reports(fields):
            self._usage.take(given)
        if error is not None:
            raise self._refusals.of_event(error, billable=bool(self.heard))

    def _take_finish(self, choice: Choice) -> None:
        if choice.error is not None:
            raise self._refusals.of_event(choice.error, billable=bool(self.heard))
        for word in (choice.finish_reason, choice.finishReason):
            if finishes.is_word(word):
                self._word = self._refusals.masked(word)
                return

    def _take_scores(self, logprobs: Any) -> None:
        if self._wants_scores and (scores := chunks.scores_of(logprobs)):
            self._scores = b"%b,%b" % (self._scores, scores) if self._scores else scores

    def _scored(self, text: str) -> Scored:
        scores, self._scores, self.has_scores = self._scores, b"", True
        return Scored(text, scores)

    def _take_delta(self, delta: Delta, deltas: list[str], placed: list[Placed]) -> None:
        text = delta.content
        thought = ""
        if text and type(text) is not str:
            text, thought = chunks.parts_of(text)
        if text:
            if self._text.pending or is_cut(text):
                text = self._text.join(text)
            if text:
                self.heard += 1
                if len(text) <= SHORT:
                    text = interning.known.get(text) or interning.remembered(text)
                deltas.append(self._scored(text) if self._scores else text)
        if (
            thought
            or delta.reasoning_content
            or delta.reasoning
            or delta.refusal
            or delta.tool_calls
            or delta.function_call
            or delta.thinking
            or delta.reasoning_details
            or delta.extra_content
            or delta.thinking_blocks
            or delta.provider_specific_fields
            or delta.reasoning_opaque
        ):
            self._take_asides(delta, thought, len(deltas) - bool(text), len(deltas), placed)

    def _take_asides(self, delta: Delta, thought: str, before: int, after: int, placed: list[Placed]) -> None:
        """Take what is not text. Reasoning goes before the text of the same chunk, anything else after it."""
        thought = thought or chunks.thought_of(delta)
        if thought and (thought := _joined(self._thought, thought)):
            self._add(before, Thought(thought), placed)
        if delta.refusal and isinstance(delta.refusal, str):
            self._refused = True
            if refusal := _joined(self._refusal, delta.refusal):
                self._add(after, Refusal(refusal), placed)
        calls = delta.tool_calls or ()
        beside: list[Any] = []  # calls that come side by side are different ones, however alike they are
        for given in calls if isinstance(calls, list | tuple) else [calls]:
            if given:
                self._take_call(given, after, placed, is_another=given in beside)
                beside.append(given)
        if delta.function_call and not calls:
            self._take_call(delta.function_call, after, placed)
        for name in chunks.OWN_FIELDS:
            if field := getattr(delta, name):
                if self._own_fields is None:
                    self._own_fields = OwnFieldsReader()
                self._own_fields.take(name, field)

    def _take_call(self, given: Any, after: int, placed: list[Placed], *, is_another: bool = False) -> None:
        if self._calls is None:
            self._calls = CallReader(self._model, self._tools)
        piece = self._calls.read(given, is_another=is_another)
        self.heard += 1
        if piece is not None:
            placed.append((after, piece))

    def _add(self, at: int, aside: Aside, placed: list[Placed]) -> None:
        self.heard += 1
        placed.append((at, aside))


def _joined(characters: Characters, text: str) -> str:
    return characters.join(text) if characters.pending or is_cut(text) else text
