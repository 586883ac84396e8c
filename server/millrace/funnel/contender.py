"""One of several calls for the same answer, of which the first with a meaningful delta wins.

A delta is meaningful if it is not only white space.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from millrace.errors import UpstreamError
from millrace.funnel.bill import Payer
from millrace.funnel.calls import Caller, error_of
from millrace.funnel.open_charge import OpenCharge
from millrace.funnel.response_log import ResponseLog
from millrace.types import Model, Outcome


class Contender:
    """One call. Until it has won, its deltas are buffered in its attempt.

    Two calls must not write into one log (PROTOCOL.md, What always holds, 3), so none is attached before it is decided
    which one wins. After its first meaningful delta a contender is not read further: the rest waits in the socket
    buffers, so that a long grace cannot fill the memory.

    One that is alone may lead: it is attached as soon as it begins, before its first delta is passed on.
    """

    def __init__(
        self,
        model: Model,
        response: ResponseLog,
        payer: Payer,
        caller: Caller,
        *,
        other_than: str = "",
        is_alone: bool = False,
    ) -> None:
        self.model = model
        self.exit_stack = ExitStack()
        self._response = response
        self._caller = caller
        call = caller.unattached(model, response, payer, other_than=other_than, tells=is_alone)
        self._charge = self.exit_stack.enter_context(call)
        self._attempt = self._charge.attempt
        self._attempt.sink = self._on_text
        self._first_text: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_attached = False

    async def lead(self, silent_s: float, on_begin: Callable[[], None] = lambda: None) -> bool:
        """Let it be attached as soon as it begins. Return whether it has begun, or has ended, within so many seconds.

        If it has not, it leads no more. What a model thinks, or does, is a begin too. `on_begin` is called before.
        """
        attempt, begun = self._attempt, self._first_text
        noted = attempt.on_begin

        def attach() -> None:
            noted()
            on_begin()
            self._attach()
            if not begun.done():
                begun.set_result(None)

        attempt.on_begin = attach
        await asyncio.wait(self.futures, timeout=silent_s, return_when=asyncio.FIRST_COMPLETED)
        if self._is_attached or attempt.done.done():
            return True
        attempt.on_begin = noted
        return False

    async def ends(self, within_s: float) -> bool:
        """Return whether it has ended within so many seconds. It is read on, and not attached before."""
        self._attempt.sink = _buffered
        await asyncio.wait((self._attempt.done,), timeout=within_s)
        return self._attempt.done.done()

    def has_failed(self) -> bool:
        """Whether it has ended without a meaningful delta, or with an error."""
        done = self._attempt.done
        return done.done() and (done.exception() is not None or not self._first_text.done())

    def has_text(self) -> bool:
        """Whether it has sent a meaningful delta and has not failed."""
        return self._first_text.done() and not self.has_failed()

    @property
    def answering(self) -> Model:
        """The model that is asked now: `model`, or one that stands in for it."""
        return self._charge.model

    @property
    def deployment(self) -> str:
        """The label of the one that is asked."""
        return self._charge.call.deployment

    @property
    def error(self) -> UpstreamError | None:
        """Why it has failed, if it ended with an error."""
        return error_of(self._attempt)

    @property
    def futures(self) -> tuple[asyncio.Future[None], asyncio.Future[object]]:
        """Its first meaningful delta, and its end."""
        return self._first_text, self._attempt.done  # type: ignore[return-value]

    @property
    def capped_by_operator(self) -> int | None:
        """The operator's cap of its answer, if no other one is lower."""
        return self._charge.call.capped_by_operator

    def lose(self, outcome: Outcome = Outcome.LOST) -> None:
        """Close its socket at once. Its cost stays on the bill, with this outcome, unless it failed by itself."""
        if self.error is None:
            self._charge.outcome = outcome
        self.exit_stack.close()

    @contextmanager
    def attached(self) -> Iterator[OpenCharge]:
        """Attach it to the response, if it is not yet. Leaving closes its socket."""
        with self.exit_stack:
            self._attach()
            yield self._charge

    def _attach(self) -> None:
        """Append its deltas to the log: first the buffered ones, from now on the new ones."""
        if self._is_attached:
            return
        self._is_attached = True
        self._caller.attach(self._response, self._charge)
        for aside in self._attempt.asides:  # before the text, at which reading stopped, or that is shown whole
            self._attempt.aside(aside)
        if self._attempt.parts:
            self._attempt.sink(list(self._attempt.parts))
        if not self._response.paused:
            self._attempt.resume()

    def _on_text(self, deltas: list[str]) -> None:
        if not self._first_text.done() and any(delta.strip() for delta in deltas):
            self._first_text.set_result(None)
            self._attempt.pause()


def start(
    contenders: ExitStack,
    model: Model,
    response: ResponseLog,
    payer: Payer,
    caller: Caller,
    *,
    other_than: str = "",
    is_alone: bool = False,
) -> Contender:
    """Start a call that is closed with the others; `other_than`: a deployment that is not asked if there is another.

    `is_alone`: no other call runs, so the log is told of each deployment and model that takes its place.
    """
    contender = Contender(model, response, payer, caller, other_than=other_than, is_alone=is_alone)
    contenders.push(contender.exit_stack)
    return contender


async def wait_for_text(*contenders: Contender, timeout_s: float | None = None) -> None:
    """Wait until one of them has text, all have failed, or the time is up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not any(contender.has_text() for contender in contenders) and not all(
                contender.has_failed() for contender in contenders
            ):
                running = [contender for contender in contenders if not contender.has_failed()]
                futures = [future for contender in running for future in contender.futures]
                await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _buffered(_: object) -> None:
    """Leave the text where it is, in the attempt."""
