"""THE PICTURE: a request falls from stage to stage, and each stage catches it or lets it fall.

enter     fewer requests running than this process takes?
trim      context and history cut to the token budget         (prompt.py)
exact     same request answered before?                       free, < 1 ms
join      same request in flight? share its generation         (flight.py)
semantic  near-identical question answered before?            free
route     too long for small? then large at once              (routing/)
small     stream it; check it; keep it or take it back        (cascade.py; race.py)
large     when small cannot take it, was weak, failed or late
store     write the answer back, off the hot path             (recall.py; evidence may take it: sampling.py)
settle    one ledger row, whatever happened                   (ending.py)
"""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial

from millrace import log
from millrace.errors import EXITS, MillraceError, internal_error
from millrace.funnel import brownout, prompt
from millrace.funnel.bill import Bill, Payer
from millrace.funnel.calls import Caller
from millrace.funnel.cascade import keep
from millrace.funnel.catalog import Catalog
from millrace.funnel.ending import Result, answered, cancelled, failed, settle
from millrace.funnel.fingerprint import Keys
from millrace.funnel.flight import Flight, FlightKey
from millrace.funnel.race import cascade, hedge, race
from millrace.funnel.recall import Recall, looked_up, served
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.routing.choice import Choice, Policy, choose
from millrace.funnel.routing.router import Router
from millrace.funnel.sampling import Sampling
from millrace.funnel.shared_flights import led
from millrace.memory import Shares
from millrace.ports import Admission, Clock, Ledger
from millrace.types import Answer, CacheMode, CacheOutcome, SemanticHit, StoredAnswer, Strategy, Tier


class Funnel:
    """Takes requests through the stages. Knows nothing of frames and does no I/O of its own."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        caller: Caller,
        recall: Recall,
        ledger: Ledger,
        wall: Clock,  # Unix seconds
        policy: Policy,
        router: Router,
        places: Shares,  # of requests that may run, which all funnels of a process share
    ) -> None:
        self.health, self.hedging, self.checks = caller.health, caller.hedging, caller.checks  # of the models
        self._router, self.sampling = router, Sampling(catalog, router)  # who is told what became of requests
        self.catalog = catalog
        self._caller = caller
        self._recall = recall
        self._ledger = ledger
        self._wall = wall
        self._policy = policy
        self.bills: dict[ResponseLog, Bill] = {}  # of what runs in this one
        self._places = places
        self._flights: dict[FlightKey, Flight] = {}

    @property
    def running(self) -> int:
        """The number of clients' requests in all funnels of the process."""
        return self._places.used

    async def answer(self, response: ResponseLog, admission: Admission | None = None) -> Answer | None:
        """Take one request through all stages. Whatever happens, settle its bill and end its log, exactly once.

        Return a model's answer that is whole and passed its checks; None if there is no such one.

        Raises `overloaded` before it starts. Afterwards an error is the terminal of the response, never raised
        (PROTOCOL.md, What always holds, 1); only a cancel is raised again, once the bill is settled.
        """
        with self._enter(response, admission, takes_place=not response.request.asked_again) as bill:
            try:
                response.start()
                result = await self._trim_to_join(response, bill)
                ended = answered(response, bill, result)
                return result.answer
            except asyncio.CancelledError:
                ended = cancelled(response, bill)
                raise
            except MillraceError as error:
                ended = failed(response, bill, error)
            except BaseException as error:  # also a panic in a library; the client gets a terminal
                log.get().error("request crashed", id=response.id, exc_info=error)
                ended = failed(response, bill, internal_error())
                if isinstance(error, EXITS):
                    raise
            finally:
                settle(response, bill, ended)
                self.sampling.settled(response.request, ended)
            return None

    def drop(self, response: ResponseLog, admission: Admission | None = None) -> None:
        """End a request that was cancelled while it was queued. It still gets its events and its row in the ledger."""
        with closing(self._bill(response, admission)) as bill:
            response.start()
            settle(response, bill, cancelled(response, bill))

    def meter(self, now: float) -> None:
        """Send every running response its cost so far, at most once a second."""
        for response, bill in self.bills.items():
            if now >= response.meter_due_at and (response.is_metered or self._ledger.wants_progress):
                response.meter_soon(bill.progress)

    def covers(self, response: ResponseLog) -> bool:
        """Book more for an answer that has outgrown what is booked. False: its key's budget has no more."""
        bill = self.bills.get(response)
        return bill is None or bill.book_more()

    async def _trim_to_join(self, response: ResponseLog, bill: Bill) -> Result:
        """Stages trim, exact and join: each request for itself."""
        await self._trim(response, bill)
        if not response.request.generate:
            response.commit()
            return Result.ready(response.request)
        keys, found = await brownout.looked_up(self._recall, response, self.catalog)
        response.looked_up = looked_up(response.request, keys)
        if isinstance(found, StoredAnswer):
            return served(response, found, CacheOutcome.EXACT, "answered before", self._wall())
        if (key := FlightKey.of(response.request, keys)) is None:
            return await self._semantic_to_store(keys, response, bill)
        if (flight := self._flights.get(key)) is None:
            here, enter = partial(self._semantic_to_store, keys), partial(self._enter, takes_place=False)
            generate = led(self._recall.shared, found, here, enter, self.catalog)
            self._flights[key] = flight = Flight(response, generate, partial(self._flight_ended, key))
        return await flight.join(response, bill)

    async def _semantic_to_store(self, keys: Keys, response: ResponseLog, payer: Payer) -> Result:
        """Stages semantic, route, small, large and store: once for all requests in a flight."""
        request = response.request
        found = response.found = await self._recall.semantic(request, keys)
        if isinstance(found, SemanticHit):
            self.sampling.hit(request, keys, found)
            why = "asked before in other words"
            return served(response, found.answer, CacheOutcome.SEMANTIC, why, self._wall(), found)
        if request.cache is CacheMode.ONLY:
            raise brownout.no_answer(request)
        choice = choose(request, self.catalog, self._policy, self._router, self._caller.health.wait(Tier.SMALL))
        response.route(choice.routed(request, found), choice.advice)
        if choice.is_kept_cheap:
            response.request = self._caller.checks.hard_alone(request)
        result = await self._small_and_large(choice, response, payer)
        self._recall.store(request, keys, None if choice.is_kept_cheap else result.answer)
        self.sampling.answer(request, keys, found, choice, result)
        return result

    async def _small_and_large(self, choice: Choice, response: ResponseLog, payer: Payer) -> Result:
        """Stages small and large, as the strategy says."""
        caller, catalog, first = self._caller, self.catalog, choice.first
        match choice.strategy:
            case Strategy.SMALL | Strategy.LARGE as strategy:
                call, judged = caller.call(first, response, payer), strategy is Strategy.LARGE
                return await keep(response, caller, call, first, judged=judged, other=choice.passed_over)
            case Strategy.RACE:
                return await race(response, payer, caller, catalog, grace_s=choice.grace_s)
            case Strategy.HEDGE:
                return await hedge(response, payer, caller, catalog, after_s=choice.hedge_s)
            case _:
                return await cascade(response, payer, caller, catalog)

    async def _trim(self, response: ResponseLog, bill: Bill) -> None:
        request, policy = response.request, self._policy
        budget = policy.context_budget if request.context_budget is None else request.context_budget
        asked = policy.prompt_for(request)
        request = response.request = await prompt.trimmed(request, asked, budget, self.catalog)
        bill.input_tokens, bill.trimmed_tokens = request.input_tokens, request.trimmed_tokens

    def _flight_ended(self, flight_key: FlightKey, flight: Flight) -> None:
        if self._flights.get(flight_key) is flight:  # else it was removed before, and another one may have its place
            del self._flights[flight_key]

    @contextmanager
    def _enter(self, response: ResponseLog, admission: Admission | None, *, takes_place: bool) -> Iterator[Bill]:
        with closing(self._bill(response, admission)) as bill:
            tenant = response.request.tenant
            if takes_place and self._places.lack(tenant, 1) > 0:
                message = f"{self._places.held(tenant)} of your requests are running already; try again in a second"
                raise MillraceError("overloaded", message, retry_after_ms=1000)
            self.bills[response] = bill
            try:
                with self._places.one(tenant) if takes_place else nullcontext():
                    yield bill
            finally:
                del self.bills[response]

    def _bill(self, response: ResponseLog, admission: Admission | None) -> Bill:
        return Bill(response.request, self.catalog.large.price, self._ledger, self._wall(), admission)
