"""THE PICTURE: a request falls from stage to stage, and each stage catches it or lets it fall.

admit    room in this process?
exact    same request answered before?                 free, < 1 ms
small    stream it; check it; keep it or take it back  (cascade.py)
large    when small was weak or failed, or when asked for
settle   one ledger row, whatever happened
store    write the answer back, off the hot path
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from millrace import checks, log
from millrace.attempts import Caller
from millrace.cascade import cascade, straight
from millrace.catalog import Catalog
from millrace.ending import Landed, cancelled, crashed, failed, landed, settle
from millrace.errors import MillraceError
from millrace.fingerprint import exact_key
from millrace.ledger import Bill
from millrace.ports import Clock, ExactCache, Ledger
from millrace.response import Response, Routed
from millrace.types import CacheMode, CacheOutcome, Strategy, Tier

_METER_EVERY_S = 1.0


class Funnel:
    """Leads requests to the cheapest answer that is good enough. Knows no frame and does no I/O of its own."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        caller: Caller,
        exact: ExactCache | None,
        ledger: Ledger,
        wall: Clock,  # Unix seconds
        max_running: int,
    ) -> None:
        self._catalog = catalog
        self._caller = caller
        self._exact = exact
        self._ledger = ledger
        self._wall = wall
        self._max_running = max_running
        self._running: dict[Response, Bill] = {}

    @property
    def running(self) -> int:
        """How many requests are in the funnel now."""
        return len(self._running)

    async def answer(self, response: Response) -> None:
        """Lead one request through; whatever happens, end its log and settle its bill once.

        Raises MillraceError only before anything started.
        """
        with self._admitted(response) as bill:
            response.start()
            try:
                ended = landed(bill, await self._fall(response, bill))
            except asyncio.CancelledError:
                ended = cancelled(bill)
                raise
            except MillraceError as error:
                ended = failed(bill, error)
            except Exception as error:  # the user must get a terminal, the operator the trace
                log.get().error("request crashed", id=response.id, exc_info=error)
                ended = crashed(bill)
            finally:
                settle(response, bill, ended)

    def drop(self, response: Response) -> None:
        """End a request that was cancelled before it ran: it gets its beginning, its end and its row all the same."""
        bill = self._bill(response)
        response.start()
        settle(response, bill, cancelled(bill))

    def meter(self, now: float) -> None:
        """Note in every running response what it has cost until now, once a second. Called by the sweeper."""
        for response, bill in self._running.items():
            if response.meter_due(now, _METER_EVERY_S):
                response.meter(bill.statement())

    async def _fall(self, response: Response, bill: Bill) -> Landed:
        request = response.request
        key = exact_key(request, self._catalog.models, checks.NAMES)
        if caught := await self._from_exact(response, key):
            return caught
        if request.cache is CacheMode.ONLY:
            raise MillraceError("response_not_found", "nothing is stored for this request, and cache is 'only'")
        caught = await self._from_models(response, bill)
        if caught.answer and self._exact and request.cache is not CacheMode.OFF:
            self._exact.store(key, request.tenant, caught.answer)
        return caught

    async def _from_exact(self, response: Response, key: bytes) -> Landed | None:
        request = response.request
        if self._exact is None or request.cache in (CacheMode.OFF, CacheMode.REFRESH):
            return None
        stored = self._exact.recall(key) or await self._exact.find(key)
        if stored is None:
            return None
        age_s = max(0.0, self._wall() - stored.stored_at)
        _route(response, stored.model_id, "answered before", cache=CacheOutcome.EXACT, age_s=age_s)
        response.commit()
        response.write([stored.text])
        return Landed.from_store(stored, CacheOutcome.EXACT)

    async def _from_models(self, response: Response, bill: Bill) -> Landed:
        small, large = self._catalog.models
        match response.request.strategy:
            case Strategy.SMALL:
                _route(response, small.id, "asked for", tier=small.tier)
                return await straight(response, bill, self._caller, small, judged=False)
            case Strategy.LARGE:
                _route(response, large.id, "asked for", tier=large.tier)
                return await straight(response, bill, self._caller, large)
            case _:
                _route(response, small.id, "small first", tier=small.tier)
                return await cascade(response, bill, self._caller, self._catalog)

    @contextmanager
    def _admitted(self, response: Response) -> Iterator[Bill]:
        if len(self._running) >= self._max_running:
            message = f"{self._max_running} requests are running already; try again in a second"
            raise MillraceError("overloaded", message, retry_after_ms=1000)
        bill = self._running[response] = self._bill(response)
        try:
            yield bill
        finally:
            del self._running[response]

    def _bill(self, response: Response) -> Bill:
        return Bill(response.request, self._catalog.large.price, self._ledger, self._wall())


def _route(
    response: Response,
    model: str,
    reason: str,
    *,
    tier: Tier | None = None,
    cache: CacheOutcome = CacheOutcome.MISS,
    age_s: float | None = None,
) -> None:
    strategy = response.request.strategy
    response.route(Routed(strategy=strategy, model=model, tier=tier, reason=reason, cache=cache, age_s=age_s))
