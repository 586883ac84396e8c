"""Guards at work on one call: what its model sends passes on only as far as no guard may still object.

Text that may be taken back passes at once. Once it is shown for good, the end of it that may still become a match is
held back, and with it all that comes after it. A tool call waits for the end of the answer, since nobody is shown it
before.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from millrace.funnel.checks.guards import CONTEXT, WIDEST, Guards, Hit
from millrace.ports import Attempt
from millrace.types import Aside, CallPiece, Finish, FinishReason, OwnFields, Refusal, Scored, Thought

Key = tuple[str, int]  # of a stream: what it is, and the index of a call
TEXT: Key = ("text", 0)
WORDS = ("text", "summary", "thinking")  # of the fields of a provider's own; the others are signatures and the like


class _Stream:
    """One text of an answer, such as its reasoning. `free` characters of it are shown, or may be."""

    __slots__ = ("_before", "_guards", "_rest", "came", "free")

    def __init__(self, guards: Guards) -> None:
        self._guards = guards
        self._before = ""  # the last characters that are free
        self._rest = ""  # what is not
        self.came = self.free = 0

    def add(self, text: str) -> Hit | None:
        """Add text; return the first match. `free` ends before it, or before what may become one."""
        self.came += len(text)
        whole, at = f"{self._before}{self._rest}{text}", len(self._before)
        if self._guards.is_clean(whole, at):
            self._keep(whole, len(whole))
            return None
        hit = self._guards.find(whole, at, is_whole=False)
        open_from = self._guards.open_from(whole, at)
        self._keep(whole, max(at, len(whole) - WIDEST, open_from) if hit is None else hit.at)
        return hit

    def end(self) -> Hit | None:
        """Return the first match in what is left: nothing more comes. All before it is free."""
        whole, at = self._before + self._rest, len(self._before)
        hit = self._guards.find(whole, at, is_whole=True) if self._rest else None
        self._keep(whole, len(whole) if hit is None else hit.at)
        return hit

    def _keep(self, whole: str, free: int) -> None:
        self._rest = whole[free:]
        self._before = whole[max(0, free - CONTEXT) : free]
        self.free = self.came - len(self._rest)


class _Held(Struct):
    """What waits to be passed on; `end` is where it ends in its stream."""

    item: str | Aside
    stream: _Stream | None  # None: it has no text
    end: int


class Watch:
    """Stands between an attempt and the log, from which it takes over `sink` and `aside`."""

    def __init__(self, guards: Guards, attempt: Attempt, *, holds: bool) -> None:
        """`holds`: what passes on is shown for good."""
        self.stopped: asyncio.Future[Finish] = asyncio.get_running_loop().create_future()  # by a guard
        self._guards = guards
        self._holds = holds
        self.begin(attempt)

    def begin(self, attempt: Attempt) -> None:
        """Watch an attempt, whose text begins now. Called again where it begins anew."""
        self._write: Callable[[list[str]], None] = attempt.sink
        self._say: Callable[[Aside], None] = attempt.aside
        self._streams: dict[Key, _Stream] = {TEXT: _Stream(self._guards)}
        self._text = self._streams[TEXT]
        self._held: deque[_Held] = deque()
        attempt.sink, attempt.aside = self.text, self.aside

    def text(self, deltas: list[str]) -> None:
        """Take the text deltas of one read. The hot path, where a guard is on."""
        if self.stopped.done():
            return
        stream = self._text
        came = stream.came
        hit = stream.add(deltas[0] if len(deltas) == 1 else "".join(deltas))
        if hit is None and not self._held and (stream.free == stream.came or not self._holds):
            self._write(deltas)
            return
        if self._holds:
            for delta in deltas:
                came += len(delta)
                self._held.append(_Held(delta, stream, came))
        elif hit is None:
            self._write(deltas)
        self._pass_on(hit)

    def aside(self, aside: Aside) -> None:
        """Take one delta that is not text."""
        if self.stopped.done():
            return
        key, said = _said(aside)
        stream = None if key is None else self._streams.get(key)
        if stream is None and key is not None:
            stream = self._streams[key] = _Stream(self._guards)
        hit = stream.add(said) if stream is not None else None
        if self._holds:
            self._held.append(_Held(aside, stream, stream.came if stream is not None else 0))
        elif hit is None:
            self._say(aside)
        self._pass_on(hit)

    def end(self, finish: Finish) -> Finish:
        """Pass on all that is left, unless a guard objects. Return how the answer ends then."""
        if self.stopped.done():
            return self.stopped.result()
        for stream in self._streams.values():
            hit = stream.end()
            if hit is not None:
                self._pass_on(hit)
                return self.stopped.result()
        while self._held:
            self._let_go(self._held.popleft().item)
        return finish

    def _pass_on(self, hit: Hit | None) -> None:
        """Pass on what is free, in order. After a hit that is the last."""
        while self._held:
            first = self._held[0]
            if isinstance(first.item, CallPiece):
                break
            free = first.end if first.stream is None else first.stream.free
            if free < first.end:
                self._pass_on_a_part(first, free)
                break
            self._held.popleft()
            self._let_go(first.item)
        if hit is not None:
            self._held.clear()
            self.stopped.set_result(Finish(reason=FinishReason.CONTENT_FILTER, guard=hit.guard))

    def _pass_on_a_part(self, held: _Held, free: int) -> None:
        """Pass on the beginning of a delta. One with log-probabilities is never parted from them."""
        item = held.item
        if isinstance(item, Scored) or not isinstance(item, str | Thought | Refusal):
            return
        text = item if isinstance(item, str) else item.text
        size = free - (held.end - len(text))
        if size > 0:
            part, rest = text[:size], text[size:]
            self._let_go(part if isinstance(item, str) else replace(item, text=part))
            held.item = rest if isinstance(item, str) else replace(item, text=rest)

    def _let_go(self, item: str | Aside) -> None:
        if isinstance(item, str):
            self._write([item])
        else:
            self._say(item)


def _said(aside: Aside) -> tuple[Key | None, str]:
    """Return the stream of an aside, and its text."""
    match aside:
        case Thought():
            return ("thought", 0), aside.text
        case Refusal():
            return ("refusal", 0), aside.text
        case CallPiece():
            return ("call", aside.index), aside.arguments
        case OwnFields():
            said = "\n".join(_words(aside.fields))
            return ("fields", 0) if said else None, said
    return None, ""


def _words(fields: Any, name: str = "") -> Iterator[str]:
    """Yield what the model said of fields of a provider's own, such as its reasoning once more."""
    if isinstance(fields, dict):
        for key, value in fields.items():
            yield from _words(value, key)
    elif isinstance(fields, list | tuple):
        for value in fields:
            yield from _words(value, name)
    elif isinstance(fields, str) and name in WORDS:
        yield fields
