"""Embeddings: passed on to one configured model, within the limits of the key, and booked in a row of their own."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

from msgspec import Struct

from millrace import log, pricing
from millrace.errors import MillraceError, UpstreamError
from millrace.memory import Hold, MemoryBudget, Shares, full
from millrace.ports import Admission, Backlog, Clock, EmbeddingsCall, EmbeddingsUpstream, Ledger, Limiter
from millrace.principal import Principal
from millrace.runs.intake import Traced, backlogged
from millrace.types import (
    EMBEDDINGS,
    CacheOutcome,
    Charge,
    Embedded,
    Entry,
    Outcome,
    Price,
    Statement,
    Status,
    Trace,
    Usage,
    span_of,
)
from millrace.wire.embeddings import EmbeddingsAsked

_OUTCOMES = {Status.COMPLETED: Outcome.ANSWERED, Status.CANCELLED: Outcome.CANCELLED}


class EmbeddingModel(Struct, frozen=True, kw_only=True):
    """The configured model: its name at the provider, and its price of input."""

    id: str
    price: Price

    def charge(self, usage: Usage, outcome: Outcome, span_id: str = "") -> Charge:
        """Return what a call costs."""
        cost = pricing.cost(usage, self.price)
        return Charge(
            model=self.id,
            tier=EMBEDDINGS,
            usage=usage,
            cost=cost,
            outcome=outcome,
            price=self.price,
            span_id=span_id,
        )


class Embeddings:
    """All requests for embeddings in this process. Each is charged at the price that it began with."""

    def __init__(
        self,
        served: tuple[EmbeddingModel, EmbeddingsUpstream] | None,
        limiter: Limiter,
        ledger: Ledger,
        backlog: Backlog,
        memory: MemoryBudget,
        wall: Clock,
        *,
        max_running: int,
        traced: Traced = lambda trace: trace,
    ) -> None:
        """`traced` decides whether spans of a request are recorded."""
        self._traced = traced
        self.served = served  # None: no model is configured; may change at any time, which changes no call that runs
        self._limiter = limiter
        self._ledger = ledger
        self._backlog = backlog
        self._memory = memory
        self._wall = wall
        self._places = Shares(lambda: max_running - self.running, memory.are_many)
        self._calls: dict[EmbeddingsCall, str] = {}  # that run or whose answer is sent, with their keys
        self._halted: dict[EmbeddingsCall, MillraceError] = {}  # why they were ended here

    @asynccontextmanager
    async def answered(
        self,
        request_id: str,
        asked: EmbeddingsAsked,
        body: bytes,
        principal: Principal,
        *,
        batch: str = "",
        trace: Trace | None = None,
    ) -> AsyncIterator[list[bytes]]:
        """Yield the pieces of the answer, held until they are sent. `body` is the request as the provider gets it.

        `batch` is the one that it is a line of, `trace` what its client says of its trace. Raises what refuses it here,
        or the provider's error. It is settled on every way.
        """
        held = self._memory.hold(principal.tenant)
        try:
            held.resize(len(body))
            async with self._called(request_id, asked, body, principal, held, batch, self._traced(trace)) as embedded:
                yield embedded.pieces
        finally:
            held.close()

    @asynccontextmanager
    async def _called(
        self,
        request_id: str,
        asked: EmbeddingsAsked,
        body: bytes,
        principal: Principal,
        held: Hold,
        batch: str,
        trace: Trace | None,
    ) -> AsyncIterator[Embedded]:
        if self.served is None:
            raise not_served()
        if self._backlog.is_full:
            raise backlogged()
        if self._places.lack(principal.tenant, 1) > 0:
            raise full()
        model, upstream = self.served
        likely = model.charge(Usage(input_tokens=asked.tokens, estimated=True), Outcome.RUNNING)
        await self._limiter.prepare(principal, asked.user)
        async with self._limiter.drawn(principal, likely.cost, asked.tokens, asked.user):
            admission = self._limiter.admit(principal, likely.cost, asked.tokens, asked.user)
        try:
            row = _Row(request_id, principal, self._wall, self._ledger, admission, likely, asked.user, batch, trace)
            call = upstream.open(body, held, row.traceparent, "" if trace is None else trace.state)
        except BaseException:
            admission.settle(pricing.ZERO, 0)
            raise
        self._calls[call] = principal.key_id
        try:
            with self._places.one(principal.tenant):
                yield await self._settled(call, row, model)
        finally:
            del self._calls[call]
            self._halted.pop(call, None)

    def cost(self, tokens: int) -> Decimal:
        """Return what so many tokens cost, in dollars; nothing if no model for embeddings is configured."""
        if self.served is None:
            return pricing.ZERO
        model, _ = self.served
        return model.charge(Usage(input_tokens=tokens), Outcome.ANSWERED).cost

    @property
    def running(self) -> int:
        """The number of requests that run, or are being answered."""
        return len(self._calls)

    def end_revoked(self, is_valid: Callable[[str], bool]) -> None:
        """End the calls of keys that are not valid any more."""
        for call, key_id in tuple(self._calls.items()):
            if not is_valid(key_id):
                self._halt(call, MillraceError("cancelled", "the key was revoked"))

    def end_all(self, error: MillraceError) -> None:
        """End all calls for a reason."""
        for call in tuple(self._calls):
            self._halt(call, error)

    def _halt(self, call: EmbeddingsCall, error: MillraceError) -> None:
        if not call.done.done():
            self._halted[call] = error
            call.done.cancel()

    async def _settled(self, call: EmbeddingsCall, row: "_Row", model: EmbeddingModel) -> Embedded:
        """Return what a call brings, and close its row."""
        status, code, is_billable = Status.CANCELLED, "cancelled", True
        tokens: int | None = None
        try:
            embedded = await call.done
            status, code, tokens = Status.COMPLETED, "", embedded.input_tokens
            return embedded
        except asyncio.CancelledError:
            if (halted := self._halted.get(call)) is None:
                raise  # the client has gone
            status, code = Status.CANCELLED if halted.code == "cancelled" else Status.FAILED, halted.code
            halted.has_run = True
            raise halted from None
        except MillraceError as error:
            error.has_run = True
            status, code = Status.FAILED, error.code
            is_billable = error.billable if isinstance(error, UpstreamError) else True
            raise
        except BaseException:
            status, code = Status.FAILED, "internal_error"
            raise
        finally:
            usage = row.likely.usage if tokens is None else Usage(input_tokens=tokens)
            outcome = _OUTCOMES.get(status, Outcome.FAILED)
            used = usage if is_billable and call.sent else Usage()
            row.settle(model.charge(used, outcome, span_of(row.traceparent)), status, code or None)


class _Row:
    """The row of one request in the ledger, and what is reserved for it. Opened at once, settled once."""

    def __init__(  # noqa: PLR0913, PLR0917 - its parts
        self,
        request_id: str,
        principal: Principal,
        wall: Clock,
        ledger: Ledger,
        admission: Admission,
        likely: Charge,
        user: str,
        batch: str,
        trace: Trace | None,
    ) -> None:
        self.likely = likely
        self.traceparent = "" if trace is None else trace.for_call()
        self._trace = trace
        self._batch = batch
        self._id = request_id
        self._user = user
        self._principal = principal
        self._wall = wall
        self._ledger = ledger
        self._admission = admission
        self._opened_at = wall()
        ledger.opened(self._entry(likely, Status.OPEN))

    def settle(self, charge: Charge, status: Status, code: str | None) -> None:
        """Write what it cost, and replace the reservation by it."""
        latency_ms = max(0.0, self._wall() - self._opened_at) * 1000
        try:
            self._ledger.settled(self._entry(charge, status, code, latency_ms))
        finally:
            self._admission.settle(charge.cost, charge.usage.input_tokens)
        log.get().info(
            "settled",
            id=self._id,
            tenant=self._principal.tenant,
            status=status.value,
            strategy=EMBEDDINGS,
            code=code,
            cost_usd=float(charge.cost),
            latency_ms=round(latency_ms, 1),
        )

    def _entry(self, charge: Charge, status: Status, code: str | None = None, latency_ms: float = 0.0) -> Entry:
        # No other model could have answered: nothing is saved, and what brought nothing is wasted.
        saved = pricing.ZERO if status in (Status.OPEN, Status.COMPLETED) else -charge.cost
        return Entry(
            request_id=self._id,
            tenant=self._principal.tenant,
            opened_at=self._opened_at,
            status=status,
            source=None,
            cache=CacheOutcome.MISS,
            strategy=EMBEDDINGS,
            check=None,
            code=code,
            statement=Statement(usage=charge.usage, cost=charge.cost, saved=saved, charges=(charge,)),
            ttft_ms=None,
            latency_ms=latency_ms,
            key_id=self._principal.key_id,
            user=self._user,
            batch=self._batch,
            dialect=EMBEDDINGS,
            trace=self._trace,
        )


def not_served() -> MillraceError:
    """Return the error of a server without a model for embeddings."""
    message = "model: no model for embeddings is configured; add [models.embeddings] to the server's configuration"
    return MillraceError("model_not_found", message, param="model")


def new_id() -> str:
    """Return the id of a request for embeddings, as its row and `x-request-id` have it."""
    return "emb_" + secrets.token_hex(16)
