"""One response as a log of facts. The funnel appends; whoever listens subscribes and shows what it may.

A text delta is kept as a plain `str`, every other fact is a small frozen value: the token plane makes no objects.
"""

import asyncio
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Protocol

from millrace.errors import MillraceError
from millrace.ports import Attempt, Clock
from millrace.types import CacheOutcome, Delivery, Request, Source, Statement, Status, Strategy, Tier


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
    check: str | None = None  # "passed", or the check that failed; None: nothing was judged
    trimmed_tokens: int = 0  # cut from the prompt
    statement: Statement

    @property
    def accepted(self) -> bool:
        """Whether the words shown are the answer, even if a limit cut it."""
        return self.status is Status.COMPLETED or (self.status is Status.INCOMPLETE and self.error is None)


Fact = Started | Routed | Revised | Committed | Metered | Ended


class Flow(Protocol):
    """Where the words come from, when more than one response gets them."""

    def steer(self) -> None:
        """See whether the listeners are too far behind to read on."""
        ...


class Subscriber(Protocol):
    """Someone who listens to a response. Called synchronously, in order; must not raise."""

    def text(self, deltas: list[str]) -> None:
        """Take the words of one read."""
        ...

    def fact(self, fact: Fact) -> None:
        """Take anything else."""
        ...


@dataclass(slots=True, eq=False)
class Response:
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
    ended: Ended | None = None
    attempt: Attempt | None = None  # the one whose words come in now
    _flow: Flow | None = None
    _metered_at: float = 0.0
    _awaited: int = 0  # deltas until `_reached` is due
    _reached: asyncio.Future[None] | None = None

    @property
    def id(self) -> str:
        """The response's id on the wire."""
        return self.request.id

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell a listener everything from the first fact, then each new one as it comes."""
        for is_text, run in groupby(self.facts, lambda fact: isinstance(fact, str)):
            if is_text:
                subscriber.text([fact for fact in run if isinstance(fact, str)])
            else:
                for fact in run:
                    assert not isinstance(fact, str), "grouped"
                    subscriber.fact(fact)
        self.subscribers.append(subscriber)

    def follow(self, flow: Flow) -> None:
        """Get words from a flow that is shared: `pause` and `resume` are for it to weigh."""
        self._flow = flow

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
        if self.paused:
            attempt.pause()

    def pause(self) -> None:
        """Read no further from the model: whoever listens cannot keep up."""
        self.paused = True
        if self.attempt is not None:
            self.attempt.pause()
        if self._flow is not None:
            self._flow.steer()

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        if self.attempt is not None:
            self.attempt.resume()
        if self._flow is not None:
            self._flow.steer()

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
            if self.first_text_at is not None and self.request.delivery is not Delivery.SPECULATE:
                self.first_text_at = self.clock()  # until now nobody has seen them
            self._append(Committed())

    def revise(self, revised: Revised) -> None:
        """Take back the words of the attempt so far; its later ones no longer arrive."""
        assert not self.committed, "committed words are never taken back"
        self._detach()
        if self.request.delivery is not Delivery.SPECULATE:
            self.first_text_at = None  # nobody has seen them
        self._append(revised)

    def meter_due(self, now: float, every_s: float) -> bool:
        """Whether it is time to say what it has cost."""
        return now - max(self._metered_at, self.started_at or now) >= every_s

    def meter(self, statement: Statement) -> None:
        """Note what it has used and cost until now."""
        self._metered_at = self.clock()
        self._append(Metered(statement))

    def end(self, ended: Ended) -> None:
        """Note the end. Later words are not taken any more."""
        assert self.ended is None, "a response ends once"
        self._detach()
        self.ended = ended
        self._append(ended)

    def _detach(self) -> None:
        if self.attempt is not None:
            self.attempt.sink = _nowhere
            self.attempt = None

    def _append(self, fact: Fact) -> None:
        self.facts.append(fact)
        for subscriber in self.subscribers:
            subscriber.fact(fact)


def _nowhere(deltas: list[str]) -> None:
    """Take words nobody wants any more."""
