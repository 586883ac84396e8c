"""Single flight: identical requests that run at the same time share one generation, each from its first delta.

The generation runs in a task of its own and appends to a log of its own, which all requests follow, the first one too.
So a request that leaves does not affect the others. The participant that joined first pays for the upstream calls. If
it leaves, or its budget has no more, it owes the input and the output so far, and the next participant pays the rest.
When the last participant leaves, the generation is cancelled.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from millrace.errors import internal_error
from millrace.funnel.bill import Bill
from millrace.funnel.ending import Result
from millrace.funnel.fingerprint import Keys
from millrace.funnel.open_charge import OpenCharge
from millrace.funnel.response_log import ResponseLog
from millrace.ports import Attempt
from millrace.types import CacheMode, Call, Outcome, Request


class FlightKey(NamedTuple):
    """What requests in one flight have in common."""

    exact: bytes
    commits_early: bool
    service_tier: str  # which is paid for
    key_cap: int | None

    @classmethod
    def of(cls, request: Request, keys: Keys) -> "FlightKey | None":
        """Return the key of a request's flight; None for one that wants an answer of its own."""
        if request.cache is not CacheMode.ON or request.max_cost is not None:
            return None
        return cls(keys.exact, request.commits_early, request.prompt.service_tier, request.key_cap)

    @property
    def name(self) -> bytes:
        """The same for all replicas, in 16 bytes."""
        beside = f"{self.commits_early} {self.key_cap} {self.service_tier}"
        return hashlib.sha256(self.exact + beside.encode()).digest()[:16]


class Participant(NamedTuple):
    """A request in a flight."""

    response: ResponseLog
    bill: Bill
    over: asyncio.Future[bool]  # done once the flight has ended, or, if true, cannot be shown to this request any more


Generate = Callable[[ResponseLog, "Flight"], Coroutine[Any, Any, Result]]


class Flight:
    """One shared generation, and the `Payer` of its calls. `on_end` is called when nobody may join it any more."""

    __slots__ = ("_generate", "_on_end", "_participants", "_payer", "_task", "response")

    def __init__(self, first: ResponseLog, generate: Generate, on_end: "Callable[[Flight], None]") -> None:
        self.response = ResponseLog(first.request, first.clock)
        self._participants: list[Participant] = []  # the first one pays
        self._payer: Bill  # its bill; once nobody is left, that of the last one, until the task has ended
        self._generate = generate
        self._on_end = on_end  # idempotent: called by `_leave`, and again when the task has ended
        self._task: asyncio.Task[Result] | None = None

    def affordable(self, call: Call) -> int | None:
        """Return what the payer's budget buys: None, since requests with a budget do not share a flight."""
        return self._payer.affordable(call)

    def reserve(self, call: Call) -> bool:
        """Reserve what one more call may cost within the limits of the payer's key."""
        return self._payer.reserve(call)

    def covers(self, call: Call, *, whole: bool = False) -> bool:
        """See that what is reserved for the payer pays for a call, or else for one of the others, who pays then."""
        if self._payer.covers(call, whole=whole):
            return True
        other = next((one for one in self._participants[1:] if one.bill.covers(call, whole=whole)), None)
        if other is not None:
            self._have_pay(other)
        return other is not None

    def open(self, call: Call, attempt: Attempt) -> OpenCharge:
        """Charge a new upstream call to the present payer."""
        return self._payer.open(call, attempt)

    def open_again(self, charge: OpenCharge, call: Call) -> None:
        """Charge a call in place of one that has failed to the present payer, who has that one's charge."""
        self._payer.open_again(charge, call)

    async def join(self, response: ResponseLog, bill: Bill) -> Result:
        """Join the flight and wait for its end. The first participant starts it. Raises the error of the generation.

        A participant is added before the task exists, since the task charges its first call to the first participant.
        A future is awaited, not the task: the cancel of one request must not cancel the generation of all others.
        """
        is_joined = self._task is not None
        participant = Participant(response, bill, response.follow(self.response, is_joined=is_joined))
        self._participants.append(participant)
        if self._task is None:
            self._payer, bill.pass_on = bill, self._pass_on
            self._task = asyncio.get_running_loop().create_task(self._generate(self.response, self))
            self._task.add_done_callback(self._ended)
        task = self._task
        try:
            if not task.done():
                await participant.over
        finally:
            await self._leave(participant, task)
        if participant.over.done() and participant.over.result():
            raise internal_error()
        result = task.result()
        return result.joined() if is_joined or bill is not self._payer else result

    def _ended(self, task: asyncio.Task[Result]) -> None:
        self._on_end(self)
        self.response.detach()
        for participant in self._participants:
            if not participant.over.done():
                participant.over.set_result(False)
        # Tracebacks have frames that know this flight, and all that it holds would wait for the collector.
        if task.cancelled():
            self._task = None
            return
        # If the call fails while the last participant leaves, nobody reads the result. Reading the exception here keeps
        # asyncio from logging it as never retrieved.
        if (error := task.exception()) is not None:
            error.__traceback__ = None

    def _pass_on(self) -> bool:
        """Have another one pay for the rest of what runs, since the budget of the payer has no more."""
        other = next((one for one in self._participants[1:] if one.bill.can_take(self._payer)), None)
        if other is not None:
            self._have_pay(other)
        return other is not None

    def _have_pay(self, participant: Participant) -> None:
        self._participants.remove(participant)
        self._participants.insert(0, participant)
        self._charge_to(participant.bill, Outcome.ANSWERED)

    def _charge_to(self, bill: Bill, outcome: Outcome) -> None:
        """Have a bill pay from now on; `outcome` is that of what the payer so far has paid."""
        before, self._payer = self._payer, bill
        before.pass_on, bill.pass_on = bill.pass_on, self._pass_on
        before.hand_over(bill, outcome)

    async def _leave(self, participant: Participant, task: "asyncio.Task[Result]") -> None:
        """Remove a participant; hand over its bill if it pays, and cancel the generation if it is the last.

        The participant settles its bill right after this, so its charges must be final by then (PROTOCOL.md, What
        always holds, 5). A payer's running calls therefore move to the next participant here. The last participant
        keeps them and waits for the task, which closes the socket and sets the outcome of each call. `on_end` comes
        before the cancel, so that an identical request starts a new flight instead of joining one that is being
        cancelled. If the task is done already, every charge is final and stays where it is.
        """
        was_payer = self._participants[0] is participant
        self._participants.remove(participant)
        participant.response.leave()
        if task.done():
            return
        if not self._participants:
            self._on_end(self)
            task.cancel()
            await asyncio.wait((task,))
        elif was_payer:
            self._charge_to(self._participants[0].bill, Outcome.CANCELLED)
