"""Reads one answer from the events of the Responses API: text, asides, usage and the end. No I/O.

An answer is a list of items. Each comes in deltas, and once more whole when it is done; a server may leave out either,
or send all items only with the event that ends the answer. What has not come before is taken from there.
"""

from collections.abc import Callable, Iterable
from typing import Any

from millrace.errors import UpstreamError
from millrace.types import Api, Aside, Finish, FinishReason, OwnFields, Refusal, Scored, Sealed, Thought, Tool, Usage
from millrace.upstreams import interning
from millrace.upstreams.asides import Placed
from millrace.upstreams.bodies import DONE
from millrace.upstreams.characters import Characters, is_cut
from millrace.upstreams.chat import chunks
from millrace.upstreams.finishes import MAX_WORD
from millrace.upstreams.interning import SHORT
from millrace.upstreams.provider_api import UnreadableError
from millrace.upstreams.refusals import Refusals, error_of
from millrace.upstreams.responses import events
from millrace.upstreams.responses.calls import KINDS, CallsReader
from millrace.upstreams.responses.events import Event
from millrace.upstreams.responses.items import PHASE
from millrace.upstreams.sse import ErrorEvent
from millrace.upstreams.usage import UsageReader

_TEXT, _REFUSAL = "output_text", "refusal"  # parts of a message
_REASONS = {"max_output_tokens": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}
_PARAGRAPH = "\n\n"  # between the parts of a summary
WITHOUT_ANNOTATIONS = "without annotations"


class ResponsesReader:
    """One answer. `heard` is the number of events that brought something of it, or told that work goes on."""

    def __init__(
        self,
        model: str,
        tools: Iterable[Tool],
        refusals: Refusals,
        context_window: int,
        *,
        wants_logprobs: bool = False,
    ) -> None:
        self.heard = 0
        self.is_terminated = False
        self.has_scores = False  # log-probabilities of some text have come
        self._model = model
        self._refusals = refusals
        self._context_window = context_window
        self._wants_scores = wants_logprobs
        self._scores = b""  # that have come before their text
        self._has_begun = False
        self._silent: set[Any] = set()  # items under way that may bring nothing for long: reasoning, hosted tools
        self._reason: FinishReason | None = None
        self._word = ""  # the provider's own for it, if it is not known
        self._service_tier: Any = ""
        self._refused = False
        self._has_annotations = False
        self._usage = UsageReader()
        self._calls = CallsReader(model, tuple(tools))
        self._text, self._thought, self._refusal = Characters(), Characters(), Characters()
        self._item: Any = ()  # of the latest delta of text, and its part
        self._part: int | None = None
        self._said: set[tuple[Any, str, Any]] = set()  # item, kind and part of all that has been passed on
        self._kinds: set[str] = set()  # of the items that are complete
        self._own_fields: dict[str, Any] = {}  # beside the answer
        self._sealed: set[tuple[Any, Any]] = set()  # the items that were passed on whole
        self._thought_as: dict[Any, str] = {}  # item -> which of its two texts is shown: the summary or the content
        self._thought_in: tuple[Any, Any] | None = None  # item and part of the latest thought

    @property
    def has_begun(self) -> bool:
        """Whether anything of the answer has come, and nothing is under way that may be silent for as long again."""
        return self._has_begun and not self._silent

    @property
    def has_finish(self) -> bool:
        """Whether the provider has ended the answer."""
        return self._reason is not None

    @property
    def is_half_said(self) -> bool:
        """Whether a call is incomplete."""
        return self._calls.is_half_said

    @property
    def usage(self) -> Usage | None:
        """What the provider has reported."""
        return self._usage.read(self._context_window, is_empty=not self._has_begun)

    @property
    def input_usage(self) -> Usage | None:
        """The same, as soon as the input has been reported."""
        return self._usage.read(self._context_window, is_empty=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the answer is left out."""
        return (WITHOUT_ANNOTATIONS,) if self._has_annotations else ()

    @property
    def service_tier(self) -> str:
        """The service tier that the provider says it has used; empty if it says none."""
        return self._refusals.tier(self._service_tier)

    def take(self, data: bytes, deltas: list[str], placed: list[Placed]) -> None:
        """Take the data of one event; append what it brings. Raises `UpstreamError`."""
        if data.startswith(DONE):  # of a gateway; it ends no answer of this API
            return
        try:
            event = events.read(data)
        except chunks.UnreadableError:
            raise UnreadableError("upstream_error", f"{self._model} sent an event that cannot be read") from None
        if event.type == "response.output_text.delta":
            self._take_text(event.delta, event.logprobs, _place(event), event.content_index or 0, deltas)
        elif (taker := _TAKERS.get(event.type)) is not None:
            taker(self, event, deltas, placed)
        elif event.type is None or event.type == "error" or isinstance(data, ErrorEvent):
            self._take_error(data)
        elif event.type.startswith(_PROGRESS) or (event.type == "keepalive" and self._silent):
            self.heard += 1

    def is_plain(self, data: bytes, text: str) -> bool:
        """Return False: events are numbered, so no two of them differ in their text alone."""
        return False

    def end(self, deltas: list[str], placed: list[Placed]) -> Finish:
        """Return the end of the answer after its last event; append what was held back until now.

        Raises `upstream_truncated` if the provider has not ended it.
        """
        if self._reason is None:
            raise self.truncated()
        text = self._text.flush()
        if text or (self._scores and self.has_scores):
            deltas.append(self._scored(text) if self._scores else text)
        if thought := self._thought.flush():
            placed.append((len(deltas), Thought(thought)))
        if refusal := self._refusal.flush():
            placed.append((len(deltas), Refusal(refusal)))
        reason = self._reason
        if reason is FinishReason.STOP and self._calls.any:
            placed += [(len(deltas), piece) for piece in self._calls.end()]
            reason = FinishReason.TOOL_CALLS
        if self._own_fields:
            placed.append((len(deltas), OwnFields(self._own_fields)))
        return Finish(reason=reason, refused=self._refused, word=self._word)

    def truncated(self) -> UpstreamError:
        """Return the error of a stream that ended before its answer."""
        return UpstreamError("upstream_truncated", f"{self._model} ended its stream without finishing the answer")

    # Messages.

    def _take_text(self, text: Any, logprobs: Any, item: Any, part: Any, deltas: list[str]) -> None:
        if not text or not isinstance(text, str):
            return
        if item != self._item or part != self._part:
            self._item, self._part = item, part
            self._said.add((item, _TEXT, part))
        if logprobs and self._wants_scores and (scores := chunks.scores_of({"content": logprobs})):
            self._scores = b"%b,%b" % (self._scores, scores) if self._scores else scores
        if self._text.pending or is_cut(text):
            text = self._text.join(text)
        if text:
            self.heard += 1
            self._has_begun = True
            if len(text) <= SHORT:
                text = interning.known.get(text) or interning.remembered(text)
            deltas.append(self._scored(text) if self._scores else text)

    def _take_text_done(self, event: Event, deltas: list[str], _: list[Placed]) -> None:
        if (_place(event), _TEXT, event.content_index or 0) not in self._said:
            self._take_text(event.text, event.logprobs, _place(event), event.content_index or 0, deltas)

    def _take_refusal(self, text: Any, item: Any, part: Any, deltas: list[str], placed: list[Placed]) -> None:
        if text and isinstance(text, str):
            self._said.add((item, _REFUSAL, part))
            self._refused = True
            if text := _joined(self._refusal, text):
                self._add(Refusal(text), deltas, placed)

    def _take_refusal_delta(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        self._take_refusal(event.delta, _place(event), event.content_index or 0, deltas, placed)

    def _take_refusal_done(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        if (_place(event), _REFUSAL, event.content_index or 0) not in self._said:
            self._take_refusal(event.refusal, _place(event), event.content_index or 0, deltas, placed)

    def _take_part_done(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        self._take_part(event.part, _place(event), event.content_index or 0, deltas, placed)

    def _take_part(self, part: Any, item: Any, at: Any, deltas: list[str], placed: list[Placed]) -> None:
        """Take a complete part of a message."""
        if not isinstance(part, dict):
            return
        kind = part.get("type")
        if kind == _TEXT and (item, _TEXT, at) not in self._said:
            self._take_text(part.get("text"), part.get("logprobs"), item, at, deltas)
        elif kind == _REFUSAL and (item, _REFUSAL, at) not in self._said:
            self._take_refusal(part.get("refusal"), item, at, deltas, placed)

    # Reasoning.

    def _take_thought(
        self, text: Any, kind: str, item: Any, part: Any, deltas: list[str], placed: list[Placed]
    ) -> None:
        """Take a piece of the reasoning. Some servers send its content and a summary: what comes first is shown."""
        if not text or not isinstance(text, str) or self._thought_as.setdefault(item, kind) != kind:
            return
        if self._thought_in not in (None, (item, part)):
            text = _PARAGRAPH + text
        self._thought_in = (item, part)
        self._said.add((item, kind, part))
        if text := _joined(self._thought, text):
            self._add(Thought(text), deltas, placed)

    def _take_summary(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        self._take_thought(event.delta, "summary", _place(event), event.summary_index or 0, deltas, placed)

    def _take_summary_done(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        if (_place(event), "summary", event.summary_index or 0) not in self._said:
            self._take_thought(event.text, "summary", _place(event), event.summary_index or 0, deltas, placed)

    def _take_content(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        self._take_thought(event.delta, "content", _place(event), event.content_index or 0, deltas, placed)

    def _take_content_done(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        if (_place(event), "content", event.content_index or 0) not in self._said:
            self._take_thought(event.text, "content", _place(event), event.content_index or 0, deltas, placed)

    # Calls.

    def _take_call_delta(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        self.heard += 1
        if (piece := self._calls.more(event)) is not None:
            placed.append((len(deltas), piece))

    def _take_call_done(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        self.heard += 1
        placed += [(len(deltas), piece) for piece in self._calls.done(event)]

    # Items.

    def _take_item_added(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        self.heard += 1
        item = event.item
        if not isinstance(item, dict):
            return
        kind = str(item.get("type"))
        if kind in KINDS:
            if item.get("name"):
                self._add(self._calls.begin(item, event.output_index), deltas, placed)
        elif kind != "message":
            self._silent.add(_place_of(item, event.output_index))

    def _take_item_done(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        self._take_item(event.item, event.output_index, deltas, placed)

    def _take_item(self, item: Any, index: Any, deltas: list[str], placed: list[Placed]) -> None:
        """Take a complete item; pass on what of it has not come in deltas."""
        if not isinstance(item, dict):
            return
        self.heard += 1
        kind = str(item.get("type"))
        self._kinds.add(kind)
        place = _place_of(item, index)
        self._silent.discard(place)
        if kind == "message":
            if isinstance(phase := item.get(PHASE), str):
                self._own_fields = {PHASE: phase}
            content = _list(item.get("content"))
            self._has_annotations |= any(isinstance(part, dict) and bool(part.get("annotations")) for part in content)
            came = {kind for of, kind, _ in self._said if of == place}  # some servers do not say of which part
            for at, part in enumerate(content):
                if isinstance(part, dict) and str(part.get("type")) not in came:
                    self._take_part(part, place, at, deltas, placed)
        elif kind in KINDS:
            for piece in self._calls.whole(item, index):
                self._add(piece, deltas, placed)
        elif (key := (place, _id_of(item))) not in self._sealed:
            self._sealed.add(key)
            if kind == "reasoning" and place not in self._thought_as:
                self._take_thoughts(item, place, deltas, placed)
            if thought := self._thought.flush():
                self._add(Thought(thought), deltas, placed)
            self._add(Sealed(api=Api.RESPONSES, fields=item), deltas, placed)

    def _take_thoughts(self, item: dict[str, Any], place: Any, deltas: list[str], placed: list[Placed]) -> None:
        """Take the texts of a reasoning item that came without deltas."""
        for kind in ("content", "summary"):
            for at, part in enumerate(_list(item.get(kind))):
                if isinstance(part, dict):
                    self._take_thought(part.get("text"), kind, place, at, deltas, placed)

    # The response.

    def _take_begin(self, event: Event, _: list[str], __: list[Placed]) -> None:
        if isinstance(event.response, dict):
            self._service_tier = event.response.get("service_tier") or self._service_tier
            self._usage.take(event.response.get("usage"))

    def _take_end(self, event: Event, deltas: list[str], placed: list[Placed]) -> None:
        response = event.response if isinstance(event.response, dict) else {}
        self._take_begin(event, deltas, placed)
        status = response.get("status")
        kind = events.TERMINALS.get(status, event.type) if isinstance(status, str) else event.type
        if kind == events.TERMINALS["failed"] or response.get("error"):
            billable = self._has_begun or self.usage is not None
            raise self._refusals.of_event(response.get("error") or {}, billable=billable)
        if kind == events.TERMINALS["cancelled"]:
            message = f"{self._model} broke off its answer (cancelled)"
            raise UpstreamError("upstream_truncated", message, cause="broke off its answer")
        self._take_late(_list(response.get("output")), deltas, placed)
        self._reason = FinishReason.STOP
        if kind == events.TERMINALS["incomplete"]:
            details = response.get("incomplete_details")
            word = details.get("reason") if isinstance(details, dict) else None
            self._reason = _REASONS.get(word, FinishReason.LENGTH) if isinstance(word, str) else FinishReason.LENGTH
            if isinstance(word, str) and word not in _REASONS:
                self._word = self._refusals.masked(word)[:MAX_WORD]
        self.is_terminated = True

    def _take_late(self, output: list[Any], deltas: list[str], placed: list[Placed]) -> None:
        """Take the items of the whole answer that are of a kind which the stream has not brought."""
        came = {*self._kinds}
        came |= {"message" for _, kind, _ in self._said if kind in (_TEXT, _REFUSAL)}
        has_thought = bool(self._thought_as)
        for index, item in enumerate(output):
            if isinstance(item, dict) and str(item.get("type")) not in came:
                if has_thought:
                    self._thought_as.setdefault(_place_of(item, index), "shown")
                self._take_item(item, index, deltas, placed)

    def _take_error(self, data: bytes) -> None:
        """Take an event that may be an error. Raises it."""
        fields = chunks.fields_of(data)
        error = error_of(fields)
        if error is None and isinstance(data, ErrorEvent):
            error = fields
        if error is not None:
            raise self._refusals.of_event(error, billable=self._has_begun)

    def _scored(self, text: str) -> Scored:
        scores, self._scores, self.has_scores = self._scores, b"", True
        return Scored(text, scores)

    def _add(self, aside: Aside, deltas: list[str], placed: list[Placed]) -> None:
        self.heard += 1
        self._has_begun = True
        placed.append((len(deltas), aside))


# Events of tools that the provider runs: they bring nothing of the answer, and tell that it goes on.
_PROGRESS = (
    "response.web_search_call.",
    "response.file_search_call.",
    "response.code_interpreter_call",
    "response.image_generation_call.",
    "response.mcp_",
    "response.shell_call",
    "response.compaction.",
)
_Take = Callable[[ResponsesReader, Event, list[str], list[Placed]], None]
_TAKERS: dict[Any, _Take] = {
    "response.created": ResponsesReader._take_begin,
    "response.in_progress": ResponsesReader._take_begin,
    "response.output_item.added": ResponsesReader._take_item_added,
    "response.output_item.done": ResponsesReader._take_item_done,
    "response.content_part.done": ResponsesReader._take_part_done,
    "response.output_text.done": ResponsesReader._take_text_done,
    "response.refusal.delta": ResponsesReader._take_refusal_delta,
    "response.refusal.done": ResponsesReader._take_refusal_done,
    "response.reasoning_summary_text.delta": ResponsesReader._take_summary,
    "response.reasoning_summary_text.done": ResponsesReader._take_summary_done,
    "response.reasoning_text.delta": ResponsesReader._take_content,
    "response.reasoning_text.done": ResponsesReader._take_content_done,
    "response.function_call_arguments.delta": ResponsesReader._take_call_delta,
    "response.function_call_arguments.done": ResponsesReader._take_call_done,
    "response.custom_tool_call_input.delta": ResponsesReader._take_call_delta,
    "response.custom_tool_call_input.done": ResponsesReader._take_call_done,
    **dict.fromkeys(events.TERMINALS.values(), ResponsesReader._take_end),
}


def _place(event: Event) -> Any:
    """Return what tells an item from others: its index, as some servers give it another id with each event."""
    return event.item_id if event.output_index is None else event.output_index


def _place_of(item: dict[str, Any], index: int | None) -> Any:
    return _id_of(item) if index is None else index


def _id_of(item: dict[str, Any]) -> str | None:
    id_ = item.get("id")
    return id_ if isinstance(id_, str) else None


def _list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _joined(characters: Characters, text: str) -> str:
    return characters.join(text) if characters.pending or is_cut(text) else text
