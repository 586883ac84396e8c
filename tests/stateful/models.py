"""Models that a rule controls: what they send, and when. They count what they charge on their own."""

import asyncio
from collections import deque
from collections.abc import Callable

from millrace import tokens
from millrace.errors import UpstreamError
from millrace.funnel.calls import Caller
from millrace.funnel.checks import Checks
from millrace.funnel.funnel import Funnel
from millrace.funnel.recall import Recall
from millrace.funnel.routing.choice import Policy
from millrace.funnel.routing.router import Router
from millrace.memory import Shares
from millrace.ports import Clock, ExactCache, Ledger, Sink
from millrace.types import Aside, Call, Finish, FinishReason, Usage, calls_of, reasoning_of, refusal_of
from tests.support.inline_schemas import InlineSchemas
from tests.support.scripted_models import CATALOG, CUT, health_of

Step = str | Aside | Finish | UpstreamError


class ManualAttempt:
    """One call. What it is to say waits while it is paused, as in the socket."""

    def __init__(self, call: Call, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.call = call
        self.number = number
        self.sink: Sink = _nowhere
        self.aside: Callable[[Aside], None] = _nowhere
        self.on_begin: Callable[[], None] = _nothing
        self.done: asyncio.Future[Finish] = loop.create_future()
        self.parts: list[str] = []
        self.asides: list[Aside] = []
        self.sent = False
        self._most = call.max_output_tokens
        self.notes: tuple[str, ...] = ()
        self.retried_after = ""
        self.service_tier = ""
        self.usage: Usage | None = None
        self.input_usage: Usage | None = None
        self.finish: Finish | None = None
        self.paused = self.waited = False
        self.calls = 0  # that it was made to make: two in one turn are two
        self.was_refused = False  # so that it charges nothing
        self._loop = loop
        self._waiting: deque[Step] = deque()
        loop.call_soon(self._send)

    @property
    def question(self) -> str:
        """What it was asked last."""
        return next(message.text for message in reversed(self.call.prompt.messages) if message.role == "user")

    @property
    def is_open(self) -> bool:
        """Whether its socket is."""
        return not self.done.done()

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def answer(self) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
        """All it has said: words, reasoning, refusal, calls."""
        calls = tuple((call.name, call.arguments) for call in calls_of(self.asides))
        return self.text, reasoning_of(self.asides), refusal_of(self.asides), calls

    @property
    def input_tokens(self) -> int:
        """Tokens of its prompt."""
        return tokens.count_prompt(self.call.prompt)

    @property
    def is_silent(self) -> bool:
        """Whether it has said nothing, and is not about to."""
        return not (self.parts or self.asides or self._waiting)

    @property
    def charged(self) -> Usage:
        """What the provider puts on its bill."""
        if self.usage is not None:
            return self.usage
        if not self.sent or self.was_refused:
            return Usage()
        said = min(tokens.count_output(self.parts, self.asides), self.call.max_output_tokens)
        return Usage(input_tokens=self.input_tokens, output_tokens=said)

    def say(self, *steps: Step) -> None:
        """Say this as soon as it is read."""
        if self.is_open:
            self._waiting.extend(steps)
            self._read()

    def abort(self) -> None:
        if self.is_open:
            self.done.cancel()

    def limit(self, output_tokens: int) -> None:
        self._most = output_tokens

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._loop.call_soon(self._read)

    def _send(self) -> None:
        self.sent = self.is_open

    def _read(self) -> None:
        self.waited |= self.paused and bool(self._waiting)
        while self._waiting and self.is_open and not self.paused:
            self._take(self._waiting.popleft())

    def _take(self, step: Step) -> None:
        if isinstance(step, str | Aside) and self._is_full(step):
            step = CUT
        if isinstance(step, str):
            self._note_begin(step)
            self.parts.append(step)
            self.sink([step])
        elif isinstance(step, Finish):
            self.finish = step
            used = min(tokens.count_output(self.parts, self.asides), self.call.max_output_tokens)
            self.usage = Usage(input_tokens=self.input_tokens + 4, output_tokens=used)
            self.done.set_result(step)
        elif isinstance(step, UpstreamError):
            self.was_refused = not step.billable
            self.done.set_exception(step)
        else:
            self._note_begin()
            self.asides.append(step)
            self.aside(step)

    def _note_begin(self, text: str = ".") -> None:
        if not self.asides and not self.text.strip() and text.strip():
            self.on_begin()

    def _is_full(self, step: str | Aside) -> bool:
        more = ([*self.parts, step], self.asides) if isinstance(step, str) else (self.parts, [*self.asides, step])
        return tokens.count_output(*more) > min(self._most, self.call.max_output_tokens)


class ManualUpstream:
    """A provider; `attempts` are all calls to it and its like, the oldest first."""

    def __init__(self, attempts: list[ManualAttempt]) -> None:
        self._attempts = attempts

    def open(self, call: Call) -> ManualAttempt:
        attempt = ManualAttempt(call, len(self._attempts))
        self._attempts.append(attempt)
        return attempt


def filtered() -> Finish:
    return Finish(reason=FinishReason.CONTENT_FILTER)


def _nowhere(_: object) -> None:
    """Take words nobody wants."""


def _nothing() -> None:
    """Nobody wants to know when it begins."""


def funnel_of(
    upstream: "ManualUpstream",
    exact: ExactCache,
    ledger: Ledger,
    places: Shares,
    router: Router,
    clock: Clock,
    wall: Clock,
) -> Funnel:
    """Return a funnel whose models are worked by hand."""
    return Funnel(
        catalog=CATALOG,
        caller=Caller(health_of(upstream, upstream, clock, wall), Checks(InlineSchemas()), CATALOG),
        recall=Recall(CATALOG, exact, None),
        ledger=ledger,
        wall=wall,
        policy=Policy(context_budget=None, grace_ms=200, hedge_ms=300, concise_line="Be brief."),
        router=router,
        places=places,
    )
