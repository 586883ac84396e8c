"""The calls for one answer, one after the other: where one fails before its first word, another one is made.

Another deployment of the model is asked, and where none is left the next model of its chain. Each call is a charge of
its own. What clients have been promised to be final is never taken back, so a call that fails later ends them.
"""

import asyncio
import random
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from functools import partial

from millrace import log
from millrace.errors import EXITS, UpstreamError, internal_error
from millrace.funnel.bill import Payer
from millrace.funnel.facts import Revised, Routed
from millrace.funnel.failures import failure_of, is_of_the_request, none_left, over_budget
from millrace.funnel.health import Health
from millrace.funnel.open_charge import OpenCharge
from millrace.funnel.pools import Place
from millrace.funnel.response_log import ResponseLog
from millrace.ports import Attempt, Sink, said
from millrace.types import Aside, Call, Finish, Model, Outcome, Usage

RETRY_S = 0.05  # before the first retry, at most; twice as long before each further one

Plan = Callable[[Model], Call | None]  # returns a call of a model; None if the budget does not buy one


class Tries:
    """The calls as one `Attempt`. `charge` is that of the present one."""

    __slots__ = (
        "_aside",
        "_attempt",
        "_began_at",
        "_charge",
        "_errors",
        "_head",
        "_health",
        "_is_bound",
        "_is_last",
        "_is_said",
        "_key",
        "_models",
        "_other_than",
        "_payer",
        "_place",
        "_plan",
        "_response",
        "_sink",
        "_timer",
        "_tried",
        "asides",
        "call",
        "done",
        "is_paused",
        "on_begin",
        "parts",
        "tells",
    )

    def __init__(  # noqa: PLR0913 - its parts
        self,
        response: ResponseLog,
        payer: Payer,
        health: Health,
        *,
        first: Call,
        models: Iterator[Model],
        plan: Plan,
        key: Hashable | None,
        other_than: str,
        is_bound: bool,
        tells: bool,
    ) -> None:
        """`first` is the call of the model that is wanted, `models` are those that may be asked in its place.

        `key` is what should stay with its deployment (`Pool.choose`). `tells`: whether the log is told who stands in;
        it may be set later.
        """
        self.done: asyncio.Future[Finish] = asyncio.get_running_loop().create_future()
        self.parts: list[str] = []
        self.asides: list[Aside] = []
        self._sink: Sink = _discard
        self._aside: Callable[[Aside], None] = _discard
        self.on_begin: Callable[[], None] = _nothing
        self.is_paused = False
        self._response = response
        self._payer = payer
        self._health = health
        self._models = models
        self._plan = plan
        self._key = key
        self._other_than = other_than
        self._is_bound = is_bound
        self.tells = tells
        self._attempt: Attempt | None = None
        self._place: Place | None = None  # where it is asked; None once that call has ended
        self._began_at = 0.0
        self._tried: set[Place] = set()
        self._errors: list[UpstreamError] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_said = False  # the present call is answered already, in a batch of its provider
        self._is_last = False  # the budget of the key has nothing left for a further call
        self._head = first.model
        self.call = first
        self._charge: OpenCharge | None = None  # until it is started, and once it is closed

    def start(self) -> OpenCharge:
        """Make the first call; return its charge, which will be that of each further call. Called once."""
        self._health.pools[self._head.name].earn()
        found = self._choose(self.call)
        if found is None:
            self._charge = OpenCharge(self.call, self, 0)  # of nothing, since no call is made
            self._end(none_left(*self._errors))
            return self.charge
        place, self.call = found
        if not self._payer.covers(self.call):
            raise over_budget(
                self._response, f"what is left of it does not buy one output token of {self.call.model.id}"
            )
        self._charge = self._payer.open(self.call, self)
        if self.call.model is not self._head:
            self._tell(self._errors[0], self._head.id)
        self._reserve(place)
        self._start(place)
        return self.charge

    @property
    def charge(self) -> OpenCharge:
        """That of the present call, until `abort`."""
        assert self._charge is not None, "it has not been aborted"
        return self._charge

    @property
    def sink(self) -> Sink:
        """Receives the text deltas of one read."""
        return self._sink

    @sink.setter
    def sink(self, sink: Sink) -> None:
        self._sink = sink
        if self._attempt is not None and not self._is_waiting:
            self._attempt.sink = sink

    @property
    def aside(self) -> Callable[[Aside], None]:
        """Receives one delta that is not text."""
        return self._aside

    @aside.setter
    def aside(self, aside: Callable[[Aside], None]) -> None:
        self._aside = aside
        if self._attempt is not None and not self._is_waiting:
            self._attempt.aside = aside

    @property
    def sent(self) -> bool:
        """Whether the present call has been sent."""
        return self._attempt is not None and self._attempt.sent

    @property
    def usage(self) -> Usage | None:
        """What its provider has reported at the end."""
        return None if self._attempt is None else self._attempt.usage

    @property
    def input_usage(self) -> Usage | None:
        """The input as its provider has reported it."""
        return None if self._attempt is None else self._attempt.input_usage

    @property
    def notes(self) -> tuple[str, ...]:
        """How the present call differs from what was asked."""
        return () if self._attempt is None else self._attempt.notes

    @property
    def retried_after(self) -> str:
        """Why the present call was tried once more at the same deployment."""
        return "" if self._attempt is None else self._attempt.retried_after

    @property
    def service_tier(self) -> str:
        """The service tier of the present call."""
        return self.call.service_tier if self._attempt is None else self._attempt.service_tier

    def limit(self, output_tokens: int) -> None:
        """Cut the present call at so many tokens."""
        if self._attempt is not None:
            self._attempt.limit(output_tokens)

    def pause(self) -> None:
        """Read no more."""
        self.is_paused = True
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        """Read on."""
        if self.is_paused and self._place is not None and self._is_waiting:
            self._place.waiting[self] = self._response.clock()  # it could not speak before
        self.is_paused = False
        if self._attempt is not None:
            self._attempt.resume()

    def abort(self) -> None:
        """Close the socket at once, and make no further call. Idempotent.

        What it refers to refers to it: attempt, charge, listeners. That ends here, or all would wait for the collector.
        """
        self.done.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if (attempt := self._attempt) is not None:
            attempt.abort()
            attempt.sink = attempt.aside = _discard
            attempt.on_begin = _nothing
        self._leave()
        self._charge = None
        self._sink = self._aside = _discard
        self.on_begin = _nothing

    def conclude(self) -> None:
        """Note how the present call has ended; one that still runs is dropped."""
        attempt, place = self._attempt, self._place
        if attempt is None or place is None:
            return
        done = attempt.done
        if not done.done() or done.cancelled():
            if attempt.parts or attempt.asides:
                self._note(place, None)
        elif (error := done.exception()) is None:
            self._finished(place, done.result())
        elif isinstance(error, UpstreamError):
            self._note(place, error)
        self._leave()

    def move(self, error: UpstreamError) -> None:
        """Go elsewhere, if there is anybody else to ask."""
        if self._is_waiting and not self.done.done():
            self._guarded(partial(self._next, error, is_silent=True))

    @property
    def _is_waiting(self) -> bool:
        """Whether the present call has no word yet."""
        return self._place is not None and self in self._place.waiting

    def _choose(self, call: Call | None, *, retry: bool = False) -> tuple[Place, Call] | None:
        """Return whom to ask next, and what: of the same model, or of those after it. None if nobody is left."""
        while True:
            if call is not None:
                pool = self._health.pools[call.model.name]
                place = pool.choose(self._key, self._tried, self._other_than, is_bound=self._is_bound)
                if place is None and not self._tried and _is_said(call):
                    place = pool.places[0]  # its answer is at hand, whatever has become of the provider since
                if place is not None and (not retry or pool.has_retry):
                    if retry:
                        pool.spend()
                    label, is_once = place.deployment.label, len(pool.places) > 1 or not pool.has_retry
                    trace = self._response.request.trace
                    if trace is not None:
                        call = replace(call, traceparent=trace.for_call(), tracestate=trace.state)
                    as_planned = label == call.deployment and is_once is call.once
                    return place, call if as_planned else replace(call, deployment=label, once=is_once)
                if not retry:
                    self._errors.append(pool.unavailable())
            model = next((model for model in self._models if model.name not in self._response.asked), None)
            if model is None:
                return None
            self._health.pools[model.name].earn()
            call, retry = self._plan(model), False

    def _reserve(self, place: Place) -> None:
        self._tried.add(place)
        self._response.asked |= {place.model.name}
        self._place = place
        self._health.pools[place.model.name].take(place)

    def _start(self, place: Place) -> None:
        self._timer = None
        self.charge.began_at = self._began_at = self._response.clock()
        self._is_said = _is_said(self.call)
        attempt = self._attempt = place.upstream.open(self.call)
        place.waiting[self] = self._began_at
        self.parts, self.asides = attempt.parts, attempt.asides
        attempt.sink, attempt.aside = self._first_text, self._first_aside
        attempt.on_begin = self._begin
        if self.is_paused:
            attempt.pause()
        attempt.done.add_done_callback(self._ended)
        self.charge.limit()  # if so little is booked that the next look could be too late

    def _leave(self) -> None:
        """Count the present call no more. Idempotent."""
        if self._place is not None:
            if self._charge is not None and self._attempt is not None:
                self._charge.ended_at = self._response.clock()
            self._place.running -= 1
            self._place.waiting.pop(self, None)
            self._place = None

    def _begin(self) -> None:
        self.on_begin()

    def _first_text(self, deltas: list[str]) -> None:
        self._speak()
        self._sink(deltas)

    def _first_aside(self, aside: Aside) -> None:
        self._speak()
        self._aside(aside)

    def _speak(self) -> None:
        """Note the first word. What follows takes no detour."""
        attempt, place = self._attempt, self._place
        if attempt is not None and place is not None and place.waiting.pop(self, None) is not None:
            attempt.sink, attempt.aside = self._sink, self._aside
            self.charge.spoke_at = self._response.clock()
            if not self._is_said:
                self._health.pools[place.model.name].spoke(place, self._began_at)

    def _ended(self, done: asyncio.Future[Finish]) -> None:
        """Go on after the end of a call, unless somebody has seen to it already."""
        if not done.cancelled():
            done.exception()  # asyncio logs one that nobody has read
        attempt, place = self._attempt, self._place
        if self.done.done() or attempt is None or place is None or done is not attempt.done:
            return
        if done.cancelled():
            self.done.cancel()
        elif (error := done.exception()) is None:
            self._finished(place, done.result())
            self._leave()
            self.done.set_result(done.result())
        elif isinstance(error, UpstreamError):
            self._guarded(partial(self._next, error))
        else:
            self._end(error)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Take a step. If it crashes, the request ends, which would wait for ever otherwise."""
        try:
            step()
        except EXITS:
            raise
        except BaseException as error:
            log.get().error("retry crashed", id=self._response.id, exc_info=error)
            self._end(internal_error())

    def _next(self, error: UpstreamError, *, is_silent: bool = False) -> None:
        """Make another call in place of one that has failed, or end with all errors.

        `is_silent`: it has not failed, and is waited for if there is nobody else.
        """
        place, response, before = self._place, self._response, self.call
        assert place is not None, "a call has failed"
        has_begun = bool(self.parts or self.asides)
        is_final = has_begun and (response.attempt is not self or response.committed)
        before_it, self._errors = self._errors, [*self._errors, place.named(error)]
        self.charge.outcome, self.charge.billable = Outcome.FAILED, error.billable
        call = None if is_of_the_request(error) else self._plan(before.model)
        found = None if is_final or self._is_last else self._choose(call, retry=True)
        if found is not None and not self._payer.covers(found[1], whole=True):
            found, self._is_last = None, True  # what is reserved does not pay for a further one
        if found is None and is_silent:
            self.charge.run_on()
            self._errors = before_it
            return
        if not is_silent:
            self._note(place, error)
        self._leave()
        if found is None:
            self._end(none_left(*self._errors))
            return
        was_at = place.name
        place, self.call = found
        attempt = self._attempt
        self._payer.open_again(self.charge, self.call)
        self._attempt, self.parts, self.asides = None, [], []
        if attempt is not None:
            attempt.abort()
        if has_begun:
            revised = Revised(from_model=before.model.id, to_model=self.call.model.id, reason=error.code)
            response.begin_again(revised, self)
            if self.charge.watch is not None:
                self.charge.watch.begin(self)
        self._tell(error, was_at)
        self._reserve(place)
        delay_s = random.uniform(0, RETRY_S * 2 ** (len(self._tried) - 2))
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._guarded, partial(self._start, place))

    def _tell(self, error: UpstreamError, failed: str) -> None:
        """Tell the log who answers in place of what has failed, and why."""
        response, call = self._response, self.call
        if not self.tells:
            return
        is_other = call.model is not self._head
        failures = (failure_of(self._head, error),) if is_other else ()
        who = f"{call.model.id} stands in" if is_other else f"asked at {call.deployment}"
        response.route(
            Routed(
                strategy=response.request.strategy,
                model=call.model.id,
                tier=call.model.tier,
                reason=f"{failed} failed: {error.cause}; {who}",
                trimmed_tokens=response.request.trimmed_tokens,
                max_output_tokens=call.capped_by_operator,
                failed=tuple(dict.fromkeys((*response.failed, *failures))),
            )
        )

    def _finished(self, place: Place, finish: Finish) -> None:
        self.charge.finish_word = finish.word
        if (usage := self.usage) is not None:
            pool = self._health.pools[place.model.name]
            pool.input_tokens += usage.input_tokens
            pool.cached_input_tokens += usage.cached_input_tokens
        self._note(place, None)

    def _note(self, place: Place, error: UpstreamError | None) -> None:
        """Note how the deployment fared. What evidence asks does not count: it would steer what tenants get.

        Nor does what was said before, in a batch: it tells nothing of now.
        """
        if error is not None:
            self.charge.billable = error.billable
        if self._response.request.asked_again or self._is_said:
            return
        if self.retried_after:
            self._health.pools[place.model.name].spend()
            self._health.retried(place, self.retried_after)
        if error is None:
            self._health.answered(place, self._began_at)
        else:
            self._health.failed(place, error, self._began_at)

    def _end(self, error: BaseException) -> None:
        """End with an error. Nobody may wait for it any more."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()


def _is_said(call: Call) -> bool:
    """Whether a call is answered already, in a batch of its provider."""
    before = said.get()
    return before is not None and before.is_for(call.model.id)


def _discard(_: object) -> None:
    """Take what arrives before anybody listens."""


def _nothing() -> None:
    """Nobody wants to know when it begins."""
