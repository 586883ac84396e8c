"""Small against large: the first meaningful token wins, the other is closed at once and its cost is booked.

`race` starts both, and lets the large model win if it speaks within the grace after the small one. `hedge` starts the
small one, and the large one too if nothing meaningful came in time. A small model that wins is judged like any other.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from millrace.funnel.bill import Line, Tab
from millrace.funnel.calls import Caller
from millrace.funnel.cascade import keep_or_escalate, straight
from millrace.funnel.catalog import Catalog
from millrace.funnel.ending import Landed
from millrace.funnel.response_log import Response, Routed
from millrace.types import Model, Outcome


class Runner:
    """One model in the race; its words wait in its attempt, and behind the first at the socket, until it has won."""

    def __init__(self, model: Model, response: Response, tab: Tab, caller: Caller) -> None:
        self.model = model
        self.calls = ExitStack()
        self._response = response
        self._line = self.calls.enter_context(caller.undecided(model, response, tab))
        self._attempt = self._line.attempt
        self._attempt.sink = self._hear
        self._spoke: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def is_out(self) -> bool:
        """Whether it has ended with nothing worth saying, or has broken."""
        done = self._attempt.done
        return done.done() and (done.exception() is not None or not self._spoke.done())

    def is_ready(self) -> bool:
        """Whether it has something to say."""
        return self._spoke.done() and not self.is_out()

    @property
    def news(self) -> tuple[asyncio.Future[None], asyncio.Future[object]]:
        """What to wait for: its first meaningful word, or its end."""
        return self._spoke, self._attempt.done  # type: ignore[return-value]

    def lose(self) -> None:
        """Close its socket at once, and book what it cost."""
        if not (self.is_out() and self._attempt.done.exception()):
            self._line.outcome = Outcome.LOST
        self.calls.close()

    @contextmanager
    def winning(self) -> Iterator[Line]:
        """Let its words flow into the response: those it has said, and those to come."""
        with self.calls:
            self._response.attach(self._attempt)
            for aside in self._attempt.asides:  # what comes beside the text comes before it
                self._response.say(aside)
            if self._attempt.parts:
                self._response.write(list(self._attempt.parts))
            if not self._response.paused:
                self._attempt.resume()
            yield self._line

    def _hear(self, deltas: list[str]) -> None:
        if not self._spoke.done() and any(delta.strip() for delta in deltas):
            self._spoke.set_result(None)
            self._attempt.pause()


async def race(response: Response, tab: Tab, caller: Caller, catalog: Catalog, *, grace_s: float) -> Landed:
    """Start both models; the large one wins if it speaks within the grace after the small one."""
    with ExitStack() as runners:
        small = _start(runners, catalog.small, response, tab, caller)
        large = _start(runners, catalog.large, response, tab, caller)
        await _first(small, large)
        if small.is_ready() and not large.is_ready():
            await _first(large, timeout_s=grace_s)
        winner, loser = (large, small) if large.is_ready() or small.is_out() else (small, large)
        _decide(response, winner, loser)
        return await _run_home(winner, response, tab, caller, catalog)


async def hedge(response: Response, tab: Tab, caller: Caller, catalog: Catalog, *, after_s: float) -> Landed:
    """Start the small model; the large one too if nothing meaningful came in time, or the small one failed."""
    with ExitStack() as runners:
        small = _start(runners, catalog.small, response, tab, caller)
        await _first(small, timeout_s=after_s)
        if small.is_ready():
            return await _run_home(small, response, tab, caller, catalog)
        large = _start(runners, catalog.large, response, tab, caller)
        await _first(small, large)
        winner, loser = (small, large) if small.is_ready() else (large, small)
        _decide(response, winner, loser)
        return await _run_home(winner, response, tab, caller, catalog)


def _start(runners: ExitStack, model: Model, response: Response, tab: Tab, caller: Caller) -> Runner:
    runner = Runner(model, response, tab, caller)
    runners.push(runner.calls)
    return runner


async def _first(*runners: Runner, timeout_s: float | None = None) -> None:
    """Wait until one of them is ready, all have failed, or the time is up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not any(runner.is_ready() for runner in runners) and not all(runner.is_out() for runner in runners):
                news = [future for runner in runners if not runner.is_out() for future in runner.news]
                await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)


def _decide(response: Response, winner: Runner, loser: Runner) -> None:
    """Close the loser's socket at once, and say who goes on."""
    how = f"{loser.model.id} had nothing to say" if loser.is_out() else f"the first word; {loser.model.id} was closed"
    loser.lose()
    strategy = response.request.strategy
    response.route(
        Routed(strategy=strategy, model=winner.model.id, tier=winner.model.tier, reason=f"won the {strategy}: {how}")
    )


async def _run_home(winner: Runner, response: Response, tab: Tab, caller: Caller, catalog: Catalog) -> Landed:
    if winner.model is catalog.large:
        response.commit()
        return await straight(response, winner.winning())
    return await keep_or_escalate(response, tab, caller, catalog, winner.winning())
