"""Small against large: the first meaningful delta wins. The loser's socket is closed at once and its cost is charged.

`race` starts both models; the large one wins if it answers within `grace_s` after the small one. `hedge` starts the
small one, and `after_s` later the large one if no meaningful delta has come. A small model that wins is judged like in
a cascade. A delta is meaningful if it is not only white space.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from millrace.errors import UpstreamError
from millrace.funnel.bill import OpenCharge, Payer
from millrace.funnel.calls import Caller, error_of
from millrace.funnel.cascade import keep, keep_or_escalate
from millrace.funnel.catalog import Catalog
from millrace.funnel.ending import Result
from millrace.funnel.facts import Routed
from millrace.funnel.failures import failure_of
from millrace.funnel.response_log import ResponseLog
from millrace.types import Model, Outcome


class Contender:
    """One model in the race. Until it has won, its deltas are buffered in its attempt.

    Both models must not write into one log (PROTOCOL.md, What always holds, 3), so neither attempt is attached before
    the race is decided. After its first meaningful delta a contender is not read further: the rest waits in the socket
    buffers, so that a long grace cannot fill the memory.
    """

    def __init__(self, model: Model, response: ResponseLog, payer: Payer, caller: Caller) -> None:
        self.model = model
        self.exit_stack = ExitStack()
        self._response = response
        self._caller = caller
        self._charge = self.exit_stack.enter_context(caller.unattached(model, response, payer))
        self._attempt = self._charge.attempt
        self._attempt.sink = self._on_text
        self._first_text: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def has_failed(self) -> bool:
        """Whether it has ended without a meaningful delta, or with an error."""
        done = self._attempt.done
        return done.done() and (done.exception() is not None or not self._first_text.done())

    def has_text(self) -> bool:
        """Whether it has sent a meaningful delta and has not failed."""
        return self._first_text.done() and not self.has_failed()

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

    def lose(self) -> None:
        """Close its socket at once. What it has cost stays on the bill, as LOST, unless it failed by itself."""
        if self.error is None:
            self._charge.outcome = Outcome.LOST
        self.exit_stack.close()

    @contextmanager
    def attached(self) -> Iterator[OpenCharge]:
        """Attach it to the response: first the buffered deltas, then the new ones. Leaving closes its socket."""
        with self.exit_stack:
            self._caller.attach(self._response, self._charge)
            for aside in self._attempt.asides:  # they came before the text, at which reading stopped
                self._attempt.aside(aside)
            if self._attempt.parts:
                self._attempt.sink(list(self._attempt.parts))
            if not self._response.paused:
                self._attempt.resume()
            yield self._charge

    def _on_text(self, deltas: list[str]) -> None:
        if not self._first_text.done() and any(delta.strip() for delta in deltas):
            self._first_text.set_result(None)
            self._attempt.pause()


async def race(response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog, *, grace_s: float) -> Result:
    """Start both models; the large one wins if it sends text within `grace_s` after the small one."""
    with ExitStack() as contenders:
        small = _start(contenders, catalog.small, response, payer, caller)
        large = _start(contenders, catalog.large, response, payer, caller)
        await _wait_for_text(small, large)
        if small.has_text() and not large.has_text():
            await _wait_for_text(large, timeout_s=grace_s)
        winner, loser = (large, small) if large.has_text() or small.has_failed() else (small, large)
        _decide(response, winner, loser)
        return await _answer(winner, loser, response, payer, caller, catalog)


async def hedge(response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog, *, after_s: float) -> Result:
    """Start the small model; the large one too if the small one has failed, or has sent no text within `after_s`."""
    with ExitStack() as contenders:
        small = _start(contenders, catalog.small, response, payer, caller)
        await _wait_for_text(small, timeout_s=after_s)
        if small.has_text():
            return await _answer(small, None, response, payer, caller, catalog)
        large = _start(contenders, catalog.large, response, payer, caller)
        await _wait_for_text(small, large)
        winner, loser = (small, large) if small.has_text() else (large, small)
        _decide(response, winner, loser)
        return await _answer(winner, loser, response, payer, caller, catalog)


def _start(contenders: ExitStack, model: Model, response: ResponseLog, payer: Payer, caller: Caller) -> Contender:
    contender = Contender(model, response, payer, caller)
    contenders.push(contender.exit_stack)
    return contender


async def _wait_for_text(*contenders: Contender, timeout_s: float | None = None) -> None:
    """Wait until one of them has text, all have failed, or the time is up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not any(contender.has_text() for contender in contenders) and not all(
                contender.has_failed() for contender in contenders
            ):
                running = [contender for contender in contenders if not contender.has_failed()]
                futures = [future for contender in running for future in contender.futures]
                await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _decide(response: ResponseLog, winner: Contender, loser: Contender) -> None:
    """Close the loser's socket at once, and note the winner in the log. A loser that was slower has not failed."""
    error = loser.error
    if error is not None:
        why = f"{loser.model.id} failed: {error.cause}"
    elif loser.has_failed():
        why = f"{loser.model.id} had nothing to say"
    else:
        why = f"the first word; {loser.model.id} was closed"
    loser.lose()
    strategy = response.request.strategy
    response.route(
        Routed(
            strategy=strategy,
            model=winner.model.id,
            tier=winner.model.tier,
            reason=f"won the {strategy}: {why}",
            trimmed_tokens=response.request.trimmed_tokens,
            max_output_tokens=winner.capped_by_operator,
            failed=() if error is None else (failure_of(loser.model, error),),
        )
    )


async def _answer(
    winner: Contender, loser: Contender | None, response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog
) -> Result:
    """Keep the winner's answer. A large model that has refused is not asked again for a weak small answer."""
    failure = loser.error if loser is not None else None
    is_small = winner.model is catalog.small
    if is_small and (failure is None or _may_be_repeated(failure)):
        return await keep_or_escalate(response, payer, caller, catalog, winner.attached())
    return await keep(response, caller, winner.attached(), other=failure)


def _may_be_repeated(error: UpstreamError) -> bool:
    return error.rule.retry and error.retry_after_ms is None
