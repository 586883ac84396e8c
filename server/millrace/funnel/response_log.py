"""One response as a log of facts. The funnel appends; whoever listens subscribes and shows what it may.

A text delta is kept as a plain `str`, every other fact is a small frozen value: the token plane makes no objects.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, overload

from millrace.errors import MillraceError
from millrace.ports import Attempt, Clock
from millrace.types import (
    Aside,
    CacheOutcome,
    Message,
    Refusal,
    Request,
    SemanticHit,
    Source,
    Statement,
    Status,
    StoredAnswer,
    Strategy,
    Tier,
    calls_of,
    reasoning_of,
    refusal_of,
)
from millrace.wire import limits


@dataclass(frozen=True, slots=True)
class Started:
    """The request runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """Who is going to answer, and why."""

    strategy: Strategy
    model: str
    reason: str
    tier: Tier | None = None
    cache: CacheOutcome = CacheOutcome.MISS
    score: float | None = None  # the router's
    age_s: float | None = None
    similarity: float | None = None
    entry_id: str | None = None

    @classmethod
    def cached(
        cls,
        request: Request,
        stored: StoredAnswer,
        cache: CacheOutcome,
        reason: str,
        now: float,
        near: SemanticHit | None,
    ) -> "Routed":
        """Return that a stored answer is served; `now` in Unix seconds, `near` where it was asked in other words."""
        return cls(
            strategy=request.strategy,
            model=stored.model_id,
            reason=reason,
            cache=cache,
            age_s=max(0.0, now - stored.stored_at),
            similarity=near.similarity if near else None,
            entry_id=near.entry_id if near else None,
        )

    def joined(self) -> "Routed":
        """Return the fact as it is for a request that rides along."""
        return replace(self, cache=CacheOutcome.JOINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revised:
    """All words so far are taken back; another model's follow."""

    from_model: str
    to_model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Committed:
    """From here on, and back to the last revise, no word will be taken back."""


@dataclass(frozen=True, slots=True)
class Metered:
    """What it has used and cost until now."""

    statement: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How it ended; the last fact."""

    status: Status
    reason: str | None = None  # why it is incomplete
    error: MillraceError | None = None
    model: str | None = None  # whose answer is shown
    source: Source | None = None
    cache: CacheOutcome = CacheOutcome.MISS
    check: str | None = None  # `PASSED`, or the check that failed; None: nothing was judged
    trimmed_tokens: int = 0  # cut from the prompt
    statement: Statement

    @property
    def accepted(self) -> bool:
        """Whether the words shown are the answer, even if a limit cut it."""
        return self.status is Status.COMPLETED or (self.status is Status.INCOMPLETE and self.error is None)


Fact = Started | Routed | Revised | Committed | Metered | Ended | Aside


class Subscriber(Protocol):
    """Someone who listens to a response. Called synchronously, in order; must not raise."""

    @property
    def congested(self) -> bool | None:
        """Whether so much waits already that the models had better be read no further; None where nobody listens."""
        ...

    def text(self, deltas: list[str]) -> None:
        """Take the words of one read."""
        ...

    def fact(self, fact: Fact) -> None:
        """Take anything else."""
        ...


@dataclass(slots=True, eq=False)
class ResponseLog:
    """The log of one request, from `Started` to exactly one `Ended`."""

    request: Request
    clock: Clock
    facts: list[Fact | str] = field(default_factory=list)
    subscribers: list[Subscriber] = field(default_factory=list)
    started_at: float | None = None
    first_text_at: float | None = None  # of the words that stand
    cache: CacheOutcome = CacheOutcome.MISS  # as last routed
    committed: bool = False
    paused: bool = False
    halt: MillraceError | None = None  # why it was stopped, if not by its client
    ended: Ended | None = None
    attempt: Attempt | None = None  # the one whose words come in now
    _source: "ResponseLog | None" = None
    metered_at: float | None = None  # when it last noted what it had cost
    _awaited: int = 0  # deltas until `_reached` is due
    _reached: asyncio.Future[None] | None = None

    @property
    def id(self) -> str:
        """The response's id on the wire."""
        return self.request.id

    @property
    def seen(self) -> bool:
        """Whether a client that keeps up has seen a word of the answer."""
        return self.first_text_at is not None and self.request.delivery.shows(committed=self.committed)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell a listener everything from the first fact, then each new one as it comes."""
        self.replay(subscriber)
        self.subscribers.append(subscriber)
        self.steer()

    def replay(self, subscriber: Subscriber) -> None:
        """Tell everything until now."""
        for fact in grouped(self.facts):
            if isinstance(fact, list):
                subscriber.text(fact)
            else:
                subscriber.fact(fact)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Tell a listener no more."""
        self.subscribers.remove(subscriber)
        self.steer()

    def follow(self, source: "ResponseLog") -> None:
        """Get words from the log of another response, which reads on while any of its listeners keeps up."""
        self._source = source

    def steer(self) -> None:
        """Read on or pause: the slowest listener must not hold the others back, so all have to be behind."""
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
            self._source.steer()

    def start(self) -> None:
        """Note that the request runs."""
        self.started_at = self.clock()
        self._append(Started())

    def route(self, routed: Routed) -> None:
        """Note who is going to answer."""
        self.cache = routed.cache
        self._append(routed)

    def attach(self, attempt: Attempt) -> None:
        """Let an attempt's words flow into the log from here on."""
        self.attempt = attempt
        attempt.sink = self.write
        attempt.aside = self.say
        if self.paused:
            attempt.pause()

    def write(self, deltas: list[str]) -> None:
        """Take the words of one read: the token plane ends here and in the subscribers."""
        if self.first_text_at is None:
            self.first_text_at = self.clock()
        self.facts.extend(deltas)
        for subscriber in self.subscribers:
            subscriber.text(deltas)
        if self._awaited > 0:
            self._awaited -= len(deltas)
            if self._awaited <= 0 and self._reached is not None and not self._reached.done():
                self._reached.set_result(None)

    def say(self, aside: Aside) -> None:
        """Take what is not text."""
        if isinstance(aside, Refusal) and self.first_text_at is None:
            self.first_text_at = self.clock()
        self._append(aside)

    def reached(self, deltas: int) -> asyncio.Future[None]:
        """Return a future that is done when so many deltas have come from now on."""
        self._awaited = deltas
        self._reached = asyncio.get_running_loop().create_future()
        if deltas <= 0:
            self._reached.set_result(None)
        return self._reached

    def commit(self) -> None:
        """Promise that the words so far, and those to come, stand."""
        if not self.committed:
            self.committed = True
            if self.first_text_at is not None and not self.request.delivery.shows(committed=False):
                self.first_text_at = self.clock()  # until now nobody has seen them
            self._append(Committed())

    def revise(self, revised: Revised) -> None:
        """Take back the words of the attempt so far; its later ones no longer arrive."""
        assert not self.committed, "committed words are never taken back"
        self._detach()
        if not self.request.delivery.shows(committed=False):
            self.first_text_at = None  # nobody has seen them
        self._append(revised)

    def may_meter(self, now: float) -> bool:
        """Whether a usage may be sent: at most one a second (PROTOCOL.md, Once negotiated)."""
        return self.metered_at is None or now - self.metered_at >= limits.USAGE_EVERY_S

    def meter_due(self, now: float) -> bool:
        """Whether it has run for long enough, since it began and since the last time, to say what it has cost."""
        return self.started_at is not None and now - self.started_at >= limits.USAGE_EVERY_S and self.may_meter(now)

    def meter(self, statement: Statement) -> None:
        """Say what it has used and cost until now. Whoever comes later gets the next one; so it is not kept."""
        self.metered_at = self.clock()
        for subscriber in self.subscribers:
            subscriber.fact(Metered(statement))

    def end(self, ended: Ended) -> None:
        """Note the end. Later words are not taken any more."""
        assert self.ended is None, "a response ends once"
        self._detach()
        self._source = None  # it has a log of its own
        self.ended = ended
        self._append(ended)

    def pack(self) -> None:
        """Join the words of an ended response: nobody needs to know any more how they came."""
        self.facts = ["".join(fact) if isinstance(fact, list) else fact for fact in grouped(self.facts)]

    def standing(self) -> Message:
        """Return the answer as it stands: all that was said since the last revise."""
        revised = max((at for at, fact in enumerate(self.facts) if isinstance(fact, Revised)), default=-1)
        facts = self.facts[revised + 1 :]
        text = "".join(fact for fact in facts if isinstance(fact, str))
        asides = [fact for fact in facts if isinstance(fact, Aside)]
        return Message(
            role="assistant",
            parts=(text,) if text else (),
            calls=calls_of(asides),
            reasoning=reasoning_of(asides),
            refusal=refusal_of(asides),
        )

    def _detach(self) -> None:
        if self.attempt is not None:
            self.attempt.sink = self.attempt.aside = _nowhere
            self.attempt = None

    def _append(self, fact: Fact) -> None:
        self.facts.append(fact)
        for subscriber in self.subscribers:
            subscriber.fact(fact)


@overload
def grouped(facts: Iterable[Aside | str]) -> Iterator[Aside | list[str]]: ...


@overload
def grouped(facts: Iterable[Fact | str]) -> Iterator[Fact | list[str]]: ...


def grouped(facts: Iterable[Fact | str]) -> Iterator[Fact | list[str]]:
    """Yield facts in order, adjacent texts together as a list."""
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


def _nowhere(_: object) -> None:
    """Take words nobody wants any more."""
