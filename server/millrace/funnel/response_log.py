"""One response as a log of facts. The funnel appends facts; subscribers turn them into the events of a dialect.

Requests in one flight follow the log of the flight, which has the words of all; each has a log for what is its own.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Protocol

from msgspec import Struct, field

from millrace import log
from millrace.errors import EXITS, MillraceError
from millrace.funnel.facts import Committed, Ended, Fact, Metered, Revised, Routed, Started, grouped, sizes_of
from millrace.ports import Clock, Reading
from millrace.types import (
    Advice,
    Aside,
    CacheOutcome,
    CallPiece,
    Failure,
    LookedUp,
    Message,
    Prefix,
    Refusal,
    Request,
    Sealed,
    SemanticHit,
    SemanticMiss,
    Statement,
    Tier,
    Verdict,
    calls_of,
    joined,
    own_fields_of,
    reasoning_of,
    refusal_of,
    scores_of,
)
from millrace.wire import limits


class Subscriber(Protocol):
    """Receives the facts of a response, synchronously and in order. One that raises is dropped; the others go on."""

    @property
    def congested(self) -> bool | None:
        """Whether too much waits to be sent, so that the model should not be read on; None if nobody listens."""
        ...

    @property
    def is_metered(self) -> bool:
        """Whether it shows what the response has cost so far."""
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


class ResponseLog(Struct, eq=False):
    """The log of one request, from `Started` to exactly one `Ended`."""

    request: Request
    clock: Clock
    facts: list[Fact | str] = field(default_factory=list)  # while it follows a flight, only what is its own
    subscribers: tuple[Subscriber, ...] = ()
    followers: "tuple[ResponseLog, ...]" = ()  # of the requests, if it is the log of a flight
    started_at: float | None = None
    first_text_at: float | None = None  # of the text that is shown
    cache: CacheOutcome = CacheOutcome.MISS  # of the last `Routed`
    reason: str | None = None  # of the last `Routed`; holds nothing that a client wrote
    failed: tuple[Failure, ...] = ()  # of the last `Routed`
    committed: bool = False
    paused: bool = False
    halt: MillraceError | None = None  # why the server stopped it; None if a client did
    ended: Ended | None = None
    attempt: Reading | None = None  # the one whose deltas are appended now
    asked: frozenset[str] = frozenset()  # names of the models that were asked for it
    looked_up: LookedUp | None = None  # in both caches
    found: SemanticHit | SemanticMiss | None = None  # by the semantic cache
    advice: Advice | None = None  # of the router
    prefix: Prefix | None = None  # of its calls, once one is made
    judged: tuple[tuple[Tier, Verdict], ...] = ()  # by the checks: whole answers
    _source: "ResponseLog | None" = None  # the log of the flight that it follows
    _is_joined: bool = False  # another request had started the flight
    _over: asyncio.Future[bool] | None = None  # see `follow`
    metered_at: float | None = None  # when it last sent a `Metered`
    is_metered: bool = False  # somebody has been shown what it costs
    meter_due_at: float = math.inf  # a second after the start, and after the last one
    _progress: Callable[[], Statement] | None = None  # of a `Metered` that is sent with the next text
    _measured: tuple[int, int] = (0, 0)  # facts, and their bytes
    _on_read: Callable[[], bool] | None = None  # called after each read of text, until it returns true

    @property
    def id(self) -> str:
        """The id of the response on the wire."""
        return self.request.id

    @property
    def seen(self) -> bool:
        """Whether a client that keeps up has seen any text of the answer."""
        return self.first_text_at is not None and self.request.delivery.shows(committed=self.committed)

    @property
    def waiting(self) -> "tuple[ResponseLog, ...]":
        """The logs of the requests that wait for it: those that follow it, if it is the log of a flight."""
        return self.followers or (self,)

    @property
    def deadline_at(self) -> float | None:
        """When the last of those who wait must have an answer, by the clock; None if one of them has all the time."""
        deadlines = [log.request.deadline_at for log in self.waiting]
        return max((each for each in deadlines if each is not None), default=None) if None not in deadlines else None

    @property
    def size(self) -> int:
        """Bytes of its facts, about. Only the facts since the last look are looked at, so that no token pays for it."""
        count, size = self._measured
        if count < len(self.facts):
            size += sizes_of(self.facts[count:])
            self._measured = len(self.facts), size
        return size + (0 if self._source is None else self._source.size)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Replay all facts to a subscriber, then pass on each new one."""
        if self.ended is None:
            self.subscribers = (*self.subscribers, subscriber)
        self.is_metered = self.is_metered or subscriber.is_metered
        try:
            self.replay(subscriber)
        except BaseException as error:
            self._drop(subscriber, error)
        self.apply_backpressure()

    def replay(self, subscriber: Subscriber) -> None:
        """Pass all facts so far to a subscriber."""
        for fact in grouped(self._all()):
            if isinstance(fact, list):
                subscriber.text(fact)
            else:
                subscriber.fact(fact)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a subscriber. Idempotent."""
        self.subscribers = tuple([other for other in self.subscribers if other is not subscriber])
        self.apply_backpressure()

    def follow(self, flight: "ResponseLog", *, is_joined: bool) -> asyncio.Future[bool]:
        """Show the facts of a flight's log, from the first one on; `is_joined`: another request has started it.

        Return a future that gets true if it raises, and follows no more; the flight goes on for the others. Whoever
        ends the flight sets it to false.
        """
        self._source, self._is_joined = flight, is_joined
        self._over = asyncio.get_running_loop().create_future()
        try:
            for fact in grouped(flight.facts):
                if isinstance(fact, list):
                    self._show_text(fact)
                else:
                    self._show(self._own(fact))
            flight.followers = (*flight.followers, self)
            flight.apply_backpressure()
        except BaseException:
            self.leave()
            raise
        return self._over

    def leave(self) -> None:
        """Follow no more; what the flight's log has so far is its own from now on."""
        flight = self._source
        assert flight is not None, "it follows one"
        self.facts, self._source, self._over = [*self._all()], None, None
        self.found, self.advice, self.judged = flight.found, flight.advice, flight.judged
        flight.followers = tuple([other for other in flight.followers if other is not self])
        flight.apply_backpressure()

    def _own(self, fact: Fact) -> Fact:
        """Return a fact of the flight as one of this request."""
        return fact.joined() if self._is_joined and isinstance(fact, Routed) else fact

    def _all(self) -> Iterator[Fact | str]:
        """Yield all facts so far, those of the flight among them."""
        if self._source is None:
            return iter(self.facts)
        of_flight: Iterable[Fact | str] = self._source.facts
        if self._is_joined:
            of_flight = (fact if isinstance(fact, str) else self._own(fact) for fact in of_flight)
        return chain(self.facts, of_flight)

    def apply_backpressure(self) -> None:
        """Pause reading the model if all subscribers are congested; resume it if one is not.

        The slowest client must not slow down the others, so one that keeps up is enough to read on (PROTOCOL.md, A
        connection, Slow readers). A subscriber that nobody listens to has no vote, so a detached response is read on.
        A log that follows a flight has no attempt: its `paused` is its vote in the flight's log. So `paused` is set
        first, and then the flight's log counts its votes again.
        """
        paused = self._must_pause()
        if paused is self.paused:
            return
        self.paused = paused
        if self.attempt is not None and paused:
            self.attempt.pause()
        elif self.attempt is not None:
            self.attempt.resume()
        if self._source is not None:
            self._source.apply_backpressure()

    def _must_pause(self) -> bool:
        """Whether there is a vote, and none to read on."""
        is_congested = False
        for follower in self.followers:
            if not follower.paused:
                return False
            is_congested = True
        for subscriber in self.subscribers:
            congested = subscriber.congested
            if congested is False:
                return False
            is_congested = is_congested or congested is not None
        return is_congested

    def start(self) -> None:
        """Append that the request runs."""
        self.started_at = self.clock()
        self.meter_due_at = self.started_at + limits.USAGE_EVERY_S
        self._append(Started())

    def route(self, routed: Routed, advice: Advice | None = None) -> None:
        """Append which model or cache is going to answer. `advice` is what the router said, where it was asked."""
        self.advice = advice or self.advice
        self._append(routed)

    def attach(self, attempt: Reading) -> None:
        """Append the deltas of an attempt from now on."""
        self.attempt = attempt
        attempt.sink = self.write
        attempt.aside = self.say
        if self.paused:
            attempt.pause()

    def write(self, deltas: list[str]) -> None:
        """Append the text deltas of one read. The hot path: it runs for every token."""
        self.facts += deltas
        if not self.followers:  # else it is the log of a flight, which has no subscribers of its own
            self._show_text(deltas)
        for follower in self.followers:
            try:
                follower._show_text(deltas)
            except BaseException as error:
                self._lose(follower, error)
        if self._on_read is not None and self._on_read():
            self._on_read = None

    def say(self, aside: Aside) -> None:
        """Append a delta that is not text."""
        self._append(aside)

    def after_each_read(self, look: Callable[[], bool]) -> None:
        """Call `look` after each read of text, until it returns true. It must not raise."""
        self._on_read = look

    def commit(self) -> None:
        """Promise that the text so far and all later text is final. Idempotent.

        Clients that did not negotiate see text only after this, since they must never see any that is taken back later
        (PROTOCOL.md, What always holds, 9). For a delivery that hides text until the commit the first visible text is
        therefore seen now, and not when the model sent it. `first_text_at`, from which TTFT is taken, moves with it.
        """
        if not self.committed:
            self._append(Committed())

    def revise(self, revised: Revised) -> None:
        """Take back all text so far; the next attempt's text follows.

        The attempt is detached first. If one of its deltas came after `Revised`, it would pass for text of the next
        model, and the deltas would no longer add up to the output (PROTOCOL.md, What always holds, 3). Text that the
        delivery hides has not been seen, so the first visible text is still to come.
        """
        assert not self.committed, "committed text is never taken back"
        self.detach()
        self._append(revised)

    def begin_again(self, revised: Revised, attempt: Reading) -> None:
        """Take back all text so far of an attempt that answers anew. What looks at its text goes on looking."""
        look = self._on_read
        self.revise(revised)
        self.attach(attempt)
        self._on_read = look

    def may_meter(self, now: float) -> bool:
        """Whether a `Metered` may be sent: at most one a second (PROTOCOL.md, Once negotiated)."""
        return self.metered_at is None or now - self.metered_at >= limits.USAGE_EVERY_S

    def meter_soon(self, progress: Callable[[], Statement]) -> None:
        """Send what it has used and cost so far, in one write with the next text.

        At once if there was none yet, or if it is asked again before there is more.
        """
        if self._progress is None and self.first_text_at is not None:
            self._progress = progress
        else:
            self.meter(progress())

    def _meter_now(self, progress: Callable[[], Statement]) -> None:
        """Send what it has cost beside text, which goes on whatever is wrong with that."""
        try:
            self.meter(progress())
        except EXITS:
            raise
        except BaseException as error:
            self._progress, self.meter_due_at = None, self.clock() + limits.USAGE_EVERY_S
            log.get().error("cost not shown", id=self.id, exc_info=error)

    def meter(self, statement: Statement) -> None:
        """Send what it has used and cost so far. Not stored: later subscribers get the next one."""
        self._progress = None
        self.metered_at = self.clock()
        self.meter_due_at = self.metered_at + limits.USAGE_EVERY_S
        self._show(Metered(statement))

    def end(self, ended: Ended) -> None:
        """Append the end. Nothing is appended after it (PROTOCOL.md, What always holds, 1)."""
        assert self.ended is None, "a response ends once"
        self.detach()
        self.ended, self._progress = ended, None
        self._append(ended)
        self.subscribers = ()  # they know this log: a circle, which would wait for the collector

    def pack(self, shown: str = "") -> None:
        """Merge adjacent text deltas of an ended response to save memory. Written events keep their own deltas.

        Text that was shown as a whole is kept once. What its story was made of goes: the ledger has it.
        """
        self._measured, self.judged = (0, 0), ()
        self.looked_up = self.found = self.advice = self.prefix = None
        facts = [joined(fact) if isinstance(fact, list) else fact for fact in grouped(self.facts)]
        self.facts = [shown if type(fact) is type(shown) is str and fact == shown else fact for fact in facts]

    def message(self) -> Message:
        """Return the answer so far: all text and asides since the last `Revised`."""
        facts = self.standing()
        asides = [fact for fact in facts if not isinstance(fact, str) and isinstance(fact, Aside)]
        parts, sealed = _in_order(facts, (self.ended and self.ended.model) or "")
        return Message(
            role="assistant",
            parts=parts,
            calls=calls_of(asides),
            reasoning=reasoning_of(asides),
            refusal=refusal_of(asides),
            own_fields=own_fields_of(asides),
            sealed=sealed,
        )

    def scores(self) -> bytes:
        """Return the log-probabilities of the answer so far, as `Scored` has them."""
        return scores_of(joined([fact for fact in self.standing() if isinstance(fact, str)]))

    def standing(self) -> list[Fact | str]:
        """Return all facts since the last `Revised`."""
        facts = [*self._all()]
        for at in range(len(facts) - 1, -1, -1):
            if isinstance(facts[at], Revised):
                return facts[at + 1 :]
        return facts

    def detach(self) -> None:
        """Append no more of its attempt. Log and attempt refer to each other until then. Idempotent."""
        if self.attempt is not None:
            self.attempt.sink = self.attempt.aside = _discard
            self.attempt = self._on_read = None

    def _append(self, fact: Fact) -> None:
        self.facts.append(fact)
        self._show(fact)
        for follower in self.followers:
            try:
                follower._show(follower._own(fact))
            except BaseException as error:
                self._lose(follower, error)

    def _show_text(self, deltas: list[str]) -> None:
        """Pass on text deltas."""
        if self.first_text_at is None:
            self.first_text_at = self.clock()
        for subscriber in self.subscribers:
            try:
                subscriber.text(deltas)
            except BaseException as error:
                self._drop(subscriber, error)
        if self._progress is not None:
            self._meter_now(self._progress)

    def _show(self, fact: Fact) -> None:
        """Note what a fact says of this request, and pass it on."""
        match fact:
            case Routed():
                self.cache, self.reason, self.failed = fact.cache, fact.reason, fact.failed
            case Committed():
                self.committed = True
                if self.first_text_at is not None and not self.request.delivery.shows(committed=False):
                    self.first_text_at = self.clock()
            case Revised() if not self.request.delivery.shows(committed=False):
                self.first_text_at = None
            case Refusal() if self.first_text_at is None:
                self.first_text_at = self.clock()
        for subscriber in self.subscribers:
            try:
                subscriber.fact(fact)
            except BaseException as error:
                self._drop(subscriber, error)

    def _lose(self, follower: "ResponseLog", error: BaseException) -> None:
        """Go on without a follower that has raised. All are replaced, since they are iterated over right now."""
        if isinstance(error, EXITS):
            raise error
        log.get().error("participant crashed", id=follower.id, exc_info=error)
        self.followers = tuple([other for other in self.followers if other is not follower])
        if follower._over is not None and not follower._over.done():
            follower._over.set_result(True)

    def _drop(self, subscriber: Subscriber, error: BaseException) -> None:
        """End a subscriber that has raised. A fault of one client's view is not that of the model or of another client.

        They are replaced, not changed, since one may iterate over them right now.
        """
        if isinstance(error, EXITS):
            raise error
        log.get().error("subscriber crashed", id=self.id, exc_info=error)
        self.subscribers = tuple([other for other in self.subscribers if other is not subscriber])
        try:
            subscriber.fail()
        except EXITS:
            raise
        except BaseException as error_of_end:
            log.get().error("subscriber not ended", id=self.id, exc_info=error_of_end)
        self.apply_backpressure()


def _in_order(facts: Iterable[Fact | str], maker: str) -> tuple[tuple[str, ...], tuple[Sealed, ...]]:
    """Return the text of an answer, in pieces where sealed blocks stand between, and these blocks."""
    parts: list[list[str]] = [[]]
    sealed: list[Sealed] = []
    calls: set[int] = set()
    for fact in facts:
        match fact:
            case str():
                parts[-1].append(fact)
            case CallPiece():
                calls.add(fact.index)
            case Sealed():
                if parts[-1]:
                    parts.append([])
                place = len(parts) - 1
                sealed.append(replace(fact, parts_before=place, calls_before=len(calls), maker=fact.maker or maker))
    return tuple("".join(part) for part in parts if part), tuple(sealed)


def _discard(_: object) -> None:
    """Ignore the deltas of a detached attempt."""
