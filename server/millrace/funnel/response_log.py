"""One response as a log of facts. The funnel appends facts; subscribers turn them into the events of a dialect.

A text delta is stored as a plain `str`, any other fact as a small frozen value, so that no object is made per token.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from sys import getsizeof
from typing import Protocol, overload

from millrace import log
from millrace.errors import EXITS, MillraceError
from millrace.ports import Attempt, Clock
from millrace.types import (
    Aside,
    CacheOutcome,
    CallPiece,
    Failure,
    Message,
    OwnFields,
    Refusal,
    Request,
    Scored,
    SemanticHit,
    Source,
    Statement,
    Status,
    StoredAnswer,
    Strategy,
    Thought,
    Tier,
    calls_of,
    joined,
    own_fields_of,
    reasoning_of,
    refusal_of,
    scores_of,
)
from millrace.types.conversation import memory_bytes_of
from millrace.wire import limits

# Bytes, about; a test holds what is counted of a run against what Python allocates.
FACT_SIZE = 150  # a fact, beside its text
SLOT_SIZE = 8  # a place in a list


@dataclass(frozen=True, slots=True)
class Started:
    """The request runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """Which model or cache is going to answer, and why."""

    strategy: Strategy
    model: str
    reason: str
    tier: Tier | None = None
    cache: CacheOutcome = CacheOutcome.MISS
    missed: str = ""  # why the semantic cache did not answer; may repeat words of the question
    trimmed_tokens: int = 0  # cut from the prompt
    max_output_tokens: int | None = None  # the operator's cap of the model's answer, if no other one is lower
    score: float | None = None  # the router's
    age_s: float | None = None
    similarity: float | None = None
    entry_id: str | None = None
    failed: tuple[Failure, ...] = ()  # models that were asked before, or are not asked now, because they failed

    @classmethod
    def cached(
        cls,
        request: Request,
        stored: StoredAnswer,
        cache: CacheOutcome,
        reason: str,
        now: float,
        hit: SemanticHit | None,
    ) -> "Routed":
        """Return the fact for a cache hit; `now` in Unix seconds, `hit` if it came from the semantic cache."""
        return cls(
            strategy=request.strategy,
            model=stored.model_id,
            reason=reason,
            cache=cache,
            trimmed_tokens=request.trimmed_tokens,
            age_s=max(0.0, now - stored.stored_at),
            similarity=hit.similarity if hit else None,
            entry_id=hit.entry_id if hit else None,
        )

    @property
    def explanation(self) -> str:
        """The reason, and why the semantic cache did not answer."""
        return f"{self.reason}; cache: {self.missed}" if self.missed else self.reason

    def joined(self) -> "Routed":
        """Return the fact for a request that joined a flight."""
        return replace(self, cache=CacheOutcome.JOINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revised:
    """All text so far is taken back; that of another model follows."""

    from_model: str
    to_model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Committed:
    """All text since the last `Revised`, and all later text, is final."""


@dataclass(frozen=True, slots=True)
class Metered:
    """What the response has used and cost so far."""

    statement: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the response ended. The last fact."""

    status: Status
    reason: str | None = None  # why it is incomplete
    error: MillraceError | None = None
    model: str | None = None  # of the answer shown
    source: Source | None = None
    cache: CacheOutcome = CacheOutcome.MISS
    check: str | None = None  # `PASSED`, or the check that failed; None: nothing was judged
    trimmed_tokens: int = 0  # cut from the prompt
    failed: tuple[Failure, ...] = ()  # models that failed before another one was asked
    statement: Statement

    @property
    def accepted(self) -> bool:
        """Whether the text shown is the answer, even if a cap cut it."""
        return self.status is Status.COMPLETED or (self.status is Status.INCOMPLETE and self.error is None)


Fact = Started | Routed | Revised | Committed | Metered | Ended | Aside


class Subscriber(Protocol):
    """Receives the facts of a response, synchronously and in order. One that raises is dropped; the others go on."""

    @property
    def congested(self) -> bool | None:
        """Whether too much waits to be sent, so that the model should not be read on; None if nobody listens."""
        ...

    def text(self, deltas: list[str]) -> None:
        """Receive the text deltas of one read."""
        ...

    def fact(self, fact: Fact) -> None:
        """Receive any other fact."""
        ...

    def fail(self) -> None:
        """End with `internal_error`: it has raised, and receives nothing more."""
        ...


@dataclass(slots=True, eq=False)
class ResponseLog:
    """The log of one request, from `Started` to exactly one `Ended`."""

    request: Request
    clock: Clock
    facts: list[Fact | str] = field(default_factory=list)
    subscribers: list[Subscriber] = field(default_factory=list)
    started_at: float | None = None
    first_text_at: float | None = None  # of the text that is shown
    cache: CacheOutcome = CacheOutcome.MISS  # of the last `Routed`
    reason: str | None = None  # of the last `Routed`; holds nothing that a client wrote
    failed: tuple[Failure, ...] = ()  # of the last `Routed`
    committed: bool = False
    paused: bool = False
    halt: MillraceError | None = None  # why the server stopped it; None if a client did
    ended: Ended | None = None
    attempt: Attempt | None = None  # the one whose deltas are appended now
    _source: "ResponseLog | None" = None  # the log of the flight that it takes part in
    metered_at: float | None = None  # when it last sent a `Metered`
    _measured: tuple[int, int] = (0, 0)  # facts, and their bytes
    _missing_deltas: int = 0  # until `_enough_deltas` is done
    _enough_deltas: asyncio.Future[None] | None = None

    @property
    def id(self) -> str:
        """The id of the response on the wire."""
        return self.request.id

    @property
    def seen(self) -> bool:
        """Whether a client that keeps up has seen any text of the answer."""
        return self.first_text_at is not None and self.request.delivery.shows(committed=self.committed)

    @property
    def size(self) -> int:
        """Bytes of its facts, about. Only the facts since the last look are looked at, so that no token pays for it."""
        count, size = self._measured
        size += sum(_size_of(fact) for fact in islice(self.facts, count, None))
        self._measured = len(self.facts), size
        return size

    def subscribe(self, subscriber: Subscriber) -> None:
        """Replay all facts to a subscriber, then pass on each new one."""
        self.subscribers.append(subscriber)
        try:
            self.replay(subscriber)
        except BaseException as error:
            self._drop(subscriber, error)
        self.apply_backpressure()

    def replay(self, subscriber: Subscriber) -> None:
        """Pass all facts so far to a subscriber."""
        for fact in grouped(self.facts):
            if isinstance(fact, list):
                subscriber.text(fact)
            else:
                subscriber.fact(fact)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a subscriber. Idempotent."""
        self.subscribers = [other for other in self.subscribers if other is not subscriber]
        self.apply_backpressure()

    def follow(self, source: "ResponseLog") -> None:
        """Name the log that this one is copied from, so that backpressure reaches its attempt."""
        self._source = source

    def apply_backpressure(self) -> None:
        """Pause reading the model if all subscribers are congested; resume it if one is not.

        The slowest client must not slow down the others, so one that keeps up is enough to read on (PROTOCOL.md, A
        connection, Slow readers). A subscriber that nobody listens to has no vote, so a detached response is read on.
        A log that is copied from a flight has no attempt: its `paused` is its vote in the flight's log. So `paused` is
        set first, and then the flight's log counts its votes again.
        """
        votes = [congested for subscriber in self.subscribers if (congested := subscriber.congested) is not None]
        paused = bool(votes) and all(votes)
        if paused is self.paused:
            return
        self.paused = paused
        if self.attempt is not None and paused:
            self.attempt.pause()
        elif self.attempt is not None:
            self.attempt.resume()
        if self._source is not None:
            self._source.apply_backpressure()

    def start(self) -> None:
        """Append that the request runs."""
        self.started_at = self.clock()
        self._append(Started())

    def route(self, routed: Routed) -> None:
        """Append which model or cache is going to answer."""
        self.cache, self.reason, self.failed = routed.cache, routed.reason, routed.failed
        self._append(routed)

    def attach(self, attempt: Attempt) -> None:
        """Append the deltas of an attempt from now on."""
        self.attempt = attempt
        attempt.sink = self.write
        attempt.aside = self.say
        if self.paused:
            attempt.pause()

    def write(self, deltas: list[str]) -> None:
        """Append the text deltas of one read. The hot path: it runs for every token."""
        if self.first_text_at is None:
            self.first_text_at = self.clock()
        self.facts.extend(deltas)
        for subscriber in self.subscribers:
            try:
                subscriber.text(deltas)
            except BaseException as error:
                self._drop(subscriber, error)
        if self._missing_deltas > 0:
            self._missing_deltas -= len(deltas)
            if self._missing_deltas <= 0 and self._enough_deltas is not None and not self._enough_deltas.done():
                self._enough_deltas.set_result(None)

    def say(self, aside: Aside) -> None:
        """Append a delta that is not text."""
        if isinstance(aside, Refusal) and self.first_text_at is None:
            self.first_text_at = self.clock()
        self._append(aside)

    def after_deltas(self, count: int) -> asyncio.Future[None]:
        """Return a future that is done once `count` more text deltas have come."""
        self._missing_deltas = count
        self._enough_deltas = asyncio.get_running_loop().create_future()
        if count <= 0:
            self._enough_deltas.set_result(None)
        return self._enough_deltas

    def commit(self) -> None:
        """Promise that the text so far and all later text is final. Idempotent.

        Clients that did not negotiate see text only after this, since they must never see any that is taken back later
        (PROTOCOL.md, What always holds, 9). For a delivery that hides text until the commit the first visible text is
        therefore seen now, and not when the model sent it. `first_text_at`, from which TTFT is taken, moves with it.
        """
        if not self.committed:
            self.committed = True
            if self.first_text_at is not None and not self.request.delivery.shows(committed=False):
                self.first_text_at = self.clock()
            self._append(Committed())

    def revise(self, revised: Revised) -> None:
        """Take back all text so far; the next attempt's text follows.

        The attempt is detached first. If one of its deltas came after `Revised`, it would pass for text of the next
        model, and the deltas would no longer add up to the output (PROTOCOL.md, What always holds, 3). Text that the
        delivery hides has not been seen, so the first visible text is still to come.
        """
        assert not self.committed, "committed text is never taken back"
        self._detach()
        if not self.request.delivery.shows(committed=False):
            self.first_text_at = None
        self._append(revised)

    def may_meter(self, now: float) -> bool:
        """Whether a `Metered` may be sent: at most one a second (PROTOCOL.md, Once negotiated)."""
        return self.metered_at is None or now - self.metered_at >= limits.USAGE_EVERY_S

    def meter_due(self, now: float) -> bool:
        """Whether a `Metered` is due: a second after the start and after the last one."""
        return self.started_at is not None and now - self.started_at >= limits.USAGE_EVERY_S and self.may_meter(now)

    def meter(self, statement: Statement) -> None:
        """Send what it has used and cost so far. Not stored: later subscribers get the next one."""
        self.metered_at = self.clock()
        self._pass_on(Metered(statement))

    def end(self, ended: Ended) -> None:
        """Append the end. Nothing is appended after it (PROTOCOL.md, What always holds, 1)."""
        assert self.ended is None, "a response ends once"
        self._detach()
        self._source = None
        self.ended = ended
        self._append(ended)

    def pack(self) -> None:
        """Merge adjacent text deltas of an ended response to save memory. Written events keep their own deltas."""
        self._measured = (0, 0)
        self.facts = [joined(fact) if isinstance(fact, list) else fact for fact in grouped(self.facts)]

    def message(self) -> Message:
        """Return the answer so far: all text and asides since the last `Revised`."""
        facts = self._shown()
        text = "".join(fact for fact in facts if isinstance(fact, str))
        asides = [fact for fact in facts if isinstance(fact, Aside)]
        return Message(
            role="assistant",
            parts=(text,) if text else (),
            calls=calls_of(asides),
            reasoning=reasoning_of(asides),
            refusal=refusal_of(asides),
            own_fields=own_fields_of(asides),
        )

    def scores(self) -> bytes:
        """Return the log-probabilities of the answer so far, as `Scored` has them."""
        return scores_of(joined([fact for fact in self._shown() if isinstance(fact, str)]))

    def _shown(self) -> list[Fact | str]:
        """Return all facts since the last `Revised`."""
        revised = max((at for at, fact in enumerate(self.facts) if isinstance(fact, Revised)), default=-1)
        return self.facts[revised + 1 :]

    def _detach(self) -> None:
        if self.attempt is not None:
            self.attempt.sink = self.attempt.aside = _discard
            self.attempt = None

    def _append(self, fact: Fact) -> None:
        self.facts.append(fact)
        self._pass_on(fact)

    def _pass_on(self, fact: Fact) -> None:
        for subscriber in self.subscribers:
            try:
                subscriber.fact(fact)
            except BaseException as error:
                self._drop(subscriber, error)

    def _drop(self, subscriber: Subscriber, error: BaseException) -> None:
        """End a subscriber that has raised. A fault of one client's view is not that of the model or of another client.

        The list is replaced, not changed, since it may be iterated over right now.
        """
        if isinstance(error, EXITS):
            raise error
        log.get().error("subscriber crashed", id=self.id, exc_info=error)
        self.subscribers = [other for other in self.subscribers if other is not subscriber]
        try:
            subscriber.fail()
        except EXITS:
            raise
        except BaseException as error_of_end:
            log.get().error("subscriber not ended", id=self.id, exc_info=error_of_end)
        self.apply_backpressure()


@overload
def grouped(facts: Iterable[Aside | str]) -> Iterator[Aside | list[str]]: ...


@overload
def grouped(facts: Iterable[Fact | str]) -> Iterator[Fact | list[str]]: ...


def grouped(facts: Iterable[Fact | str]) -> Iterator[Fact | list[str]]:
    """Yield facts in order, with adjacent text deltas as one list."""
    texts: list[str] = []
    for fact in facts:
        if isinstance(fact, str):
            texts.append(fact)
            continue
        if texts:
            yield texts
            texts = []
        yield fact
    if texts:
        yield texts


def _size_of(fact: Fact | str) -> int:
    match fact:
        case str():
            return SLOT_SIZE + getsizeof(fact) + (getsizeof(fact.scores) if isinstance(fact, Scored) else 0)
        case Thought() | Refusal():
            return FACT_SIZE + getsizeof(fact.text)
        case CallPiece():
            return FACT_SIZE + getsizeof(fact.arguments) + memory_bytes_of(fact.own_fields)
        case OwnFields():
            return FACT_SIZE + memory_bytes_of(fact.fields)
        case Routed():
            return FACT_SIZE + sum(getsizeof(failure.message) for failure in fact.failed)
    return FACT_SIZE


def _discard(_: object) -> None:
    """Ignore the deltas of a detached attempt."""
