"""Small against large: the first meaningful token wins, the other is closed at once and its cost is booked.

`race` starts both, and lets the large model win if it speaks within the grace after the small one. `hedge` starts the
small one, and the large one too if nothing meaningful came in time. A small model that wins is judged like any other.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from millrace.funnel.bill import OpenCharge, Payer
from millrace.funnel.calls import Caller
from millrace.funnel.cascade import keep_or_escalate, straight
from millrace.funnel.catalog import Catalog
from millrace.funnel.ending import Result
from millrace.funnel.response_log import ResponseLog, Routed
from millrace.types import Model, Outcome


class Contender:
    """One model in the race; its words wait in its attempt, and behind the first at the socket, until it has won."""

    def __init__(self, model: Model, response: ResponseLog, payer: Payer, caller: Caller) -> None:
        self.model = model
        self.calls = ExitStack()
        self._response = response
        self._charge = self.calls.enter_context(caller.undecided(model, response, payer))
        self._attempt = self._charge.attempt
        self._attempt.sink = self._on_text
        self._spoke: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def is_out(self) -> bool:
        """Whether it has ended with nothing worth saying, or has broken."""
        done = self._attempt.done
        return done.done() and (done.exception() is not None or not self._spoke.done())

    def is_ready(self) -> bool:
        """Whether it has something to say."""
        return self._spoke.done() and not self.is_out()

    @property
    def events(self) -> tuple[asyncio.Future[None], asyncio.Future[object]]:
        """What to wait for: its first meaningful word, or its end."""
        return self._spoke, self._attempt.done  # type: ignore[return-value]

    def lose(self) -> None:
        """Close its socket at once, and book what it cost."""
        if not (self.is_out() and self._attempt.done.exception()):
            self._charge.outcome = Outcome.LOST
        self.calls.close()

    @contextmanager
    def winning(self) -> Iterator[OpenCharge]:
        """Let its words flow into the response: those it has said, and those to come."""
        with self.calls:
            self._response.attach(self._attempt)
            for aside in self._attempt.asides:  # what comes beside the text comes before it
                self._response.say(aside)
            if self._attempt.parts:
                self._response.write(list(self._attempt.parts))
            if not self._response.paused:
                self._attempt.resume()
            yield self._charge

    def _on_text(self, deltas: list[str]) -> None:
        if not self._spoke.done() and any(delta.strip() for delta in deltas):
            self._spoke.set_result(None)
            self._attempt.pause()


async def race(response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog, *, grace_s: float) -> Result:
    """Start both models; the large one wins if it speaks within the grace after the small one."""
    with ExitStack() as contenders:
        small = _start(contenders, catalog.small, response, payer, caller)
        large = _start(contenders, catalog.large, response, payer, caller)
        await _first(small, large)
        if small.is_ready() and not large.is_ready():
            await _first(large, timeout_s=grace_s)
        winner, loser = (large, small) if large.is_ready() or small.is_out() else (small, large)
        _decide(response, winner, loser)
        return await _finish(winner, response, payer, caller, catalog)


async def hedge(response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog, *, after_s: float) -> Result:
    """Start the small model; the large one too if nothing meaningful came in time, or the small one failed."""
    with ExitStack() as contenders:
        small = _start(contenders, catalog.small, response, payer, caller)
        await _first(small, timeout_s=after_s)
        if small.is_ready():
            return await _finish(small, response, payer, caller, catalog)
        large = _start(contenders, catalog.large, response, payer, caller)
        await _first(small, large)
        winner, loser = (small, large) if small.is_ready() else (large, small)
        _decide(response, winner, loser)
        return await _finish(winner, response, payer, caller, catalog)


def _start(contenders: ExitStack, model: Model, response: ResponseLog, payer: Payer, caller: Caller) -> Contender:
    contender = Contender(model, response, payer, caller)
    contenders.push(contender.calls)
    return contender


async def _first(*contenders: Contender, timeout_s: float | None = None) -> None:
    """Wait until one of them is ready, all have failed, or the time is up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not any(contender.is_ready() for contender in contenders) and not all(
                contender.is_out() for contender in contenders
            ):
                events = [future for contender in contenders if not contender.is_out() for future in contender.events]
                await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)


def _decide(response: ResponseLog, winner: Contender, loser: Contender) -> None:
    """Close the loser's socket at once, and say who goes on."""
    how = f"{loser.model.id} had nothing to say" if loser.is_out() else f"the first word; {loser.model.id} was closed"
    loser.lose()
    strategy = response.request.strategy
    response.route(
        Routed(strategy=strategy, model=winner.model.id, tier=winner.model.tier, reason=f"won the {strategy}: {how}")
    )


async def _finish(winner: Contender, response: ResponseLog, payer: Payer, caller: Caller, catalog: Catalog) -> Result:
    if winner.model is catalog.large:
        return await straight(response, winner.winning())
    return await keep_or_escalate(response, payer, caller, catalog, winner.winning())
