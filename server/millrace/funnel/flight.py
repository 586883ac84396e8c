"""Single flight: identical requests in flight share one generation, each seeing it from the first word.

The call runs in a task of its own and writes into a log of its own; every request that wants its answer, the first one
too, rides along as a subscriber. Whoever leaves leaves only their place. The one who pays hands the bill on when they
leave: they owe the input and what was streamed until then, their heir the rest. With nobody aboard the call stops.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from millrace.funnel.bill import Bill, OpenCharge
from millrace.funnel.ending import Result
from millrace.funnel.response_log import Committed, Ended, Fact, Metered, ResponseLog, Revised, Routed, Started
from millrace.ports import Attempt
from millrace.types import CacheOutcome, Call


@dataclass(slots=True, eq=False)
class Participant:
    """A request aboard: passes what the flight writes on into its own log."""

    flight: "Flight"
    response: ResponseLog
    bill: Bill
    cache: CacheOutcome  # miss for the first one, joined for the others

    @property
    def congested(self) -> bool:
        """Whether all who listen to this request are."""
        return self.response.paused

    def text(self, deltas: list[str]) -> None:
        """Pass words on."""
        self.response.write(deltas)

    def fact(self, fact: Fact) -> None:
        """Pass on what concerns every listener."""
        match fact:
            case Routed():
                self.response.route(fact.joined() if self.cache is CacheOutcome.JOINED else fact)
            case Revised():
                self.response.revise(fact)
            case Committed():
                self.response.commit()
            case Started() | Metered() | Ended():
                pass  # each request has its own
            case aside:
                self.response.say(aside)


Work = Callable[[ResponseLog, "Flight"], Coroutine[Any, Any, Result]]


class Flight:
    """One shared generation. `over` is called when it has ended, maybe twice."""

    def __init__(self, leader: ResponseLog, work: Work, on_end: "Callable[[Flight], None]") -> None:
        self.response = ResponseLog(leader.request, leader.clock)
        self._participants: list[Participant] = []  # the first one pays
        self._work = work
        self._on_end = on_end
        self._task: asyncio.Task[Result] | None = None

    def affordable(self, call: Call) -> int | None:
        """Return what the budget of whoever pays now leaves for one more call; those with one fly alone, so None."""
        return self._participants[0].bill.affordable(call)

    def open(self, call: Call, attempt: Attempt) -> OpenCharge:
        """Put a new upstream call on the bill of whoever pays now."""
        return self._participants[0].bill.open(call, attempt)

    async def join(self, response: ResponseLog, bill: Bill) -> Result:
        """Come aboard and stay to the end; the first to come starts the flight."""
        first = self._task is None
        participant = Participant(self, response, bill, CacheOutcome.MISS if first else CacheOutcome.JOINED)
        self._participants.append(participant)
        response.follow(self.response)
        self.response.subscribe(participant)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(self.response, self))
            self._task.add_done_callback(self._ended)
        self.response.steer()
        try:
            await asyncio.wait((self._task,))
        finally:
            await self._leave(participant)
        result = self._task.result()
        return result.joined() if participant.cache is CacheOutcome.JOINED else result

    def _ended(self, task: asyncio.Task[Result]) -> None:
        self._on_end(self)
        if not task.cancelled():
            task.exception()  # heard: a flight may fail while its last rider is leaving

    async def _leave(self, participant: Participant) -> None:
        assert self._task is not None, "a rider has seen it start"
        paid = self._participants[0] is participant
        self._participants.remove(participant)
        self.response.unsubscribe(participant)
        if self._task.done():
            return
        if not self._participants:
            self._on_end(self)
            self._task.cancel()
            await asyncio.wait((self._task,))  # it closes its socket, and says so on the bill of the last to leave
        elif paid:
            participant.bill.hand_over(self._participants[0].bill)
