"""Single flight over replicas: one of them leads, and the flights of the others show what its log shows.

A flight that follows another replica's opens no calls, so it costs nothing. The leader counts each replica that follows
as one participant more, with a bill of its own: should all other participants leave, the rest of the answer is paid by
the key that follows, in a row at the leader. Whoever loses its leader asks a model itself.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from functools import partial
from typing import NamedTuple

import msgspec

from millrace import log
from millrace.funnel.bill import Bill
from millrace.funnel.catalog import Catalog
from millrace.funnel.ending import Result, settle_lent
from millrace.funnel.flight import Flight, Generate
from millrace.funnel.flight_lines import FORM, Reader, Wanted
from millrace.funnel.response_log import ResponseLog
from millrace.ports import Admission, Clock
from millrace.ports.flights import FollowLog, LeaderGoneError, Lease, Leases

KEPT_S = 3.0  # that a flight stays which has ended: who has just read that it is led may still come
KEPT_BYTES = 8 << 20  # of the logs of these
AWAITED_S = 0.5  # for a flight that is just beginning

Enter = Callable[[ResponseLog, Admission | None], AbstractContextManager[Bill]]


class Led(NamedTuple):
    """A flight that this replica leads, and what opens the bill of one who follows it."""

    flight: Flight
    enter: Enter


def led(
    shared: "SharedFlights | None", lease: Lease | None, here: Generate, enter: Enter, catalog: Catalog
) -> Generate:
    """Return what gives the answer of a flight: `here` asks the models, `lease` says who leads it, of all replicas."""
    if shared is None or lease is None:
        return here
    return partial(shared.generate, lease, here, enter, catalog)


class _Ended(NamedTuple):
    token: str
    flight: Led
    until: float  # by the clock
    size: int  # bytes


class SharedFlights:
    """The flights of this process that other replicas follow, and those that follow others."""

    def __init__(self, leases: Leases, clock: Clock) -> None:
        self.leases = leases
        self.follow_log: FollowLog | None = None  # until it is known how others are asked, each asks for itself
        self._clock = clock
        self._led: dict[str, Led] = {}  # by token, also those that have ended lately
        self._ended: deque[_Ended] = deque()
        self._bytes = 0
        self._awaited: dict[str, asyncio.Future[None]] = {}

    @property
    def bytes_used(self) -> int:
        """Bytes of the logs of flights that have ended, about."""
        return self._bytes

    async def generate(
        self, lease: Lease, here: Generate, enter: Enter, catalog: Catalog, response: ResponseLog, flight: Flight
    ) -> Result:
        """Have a flight follow the one that holds the lease; or generate its answer `here`, for all who follow it."""
        if lease.place != self.leases.place:
            result = await self._followed(lease, Reader(response, catalog))
            if result is not None:
                return result
            lease = self.leases.take_over(lease)
        with self._leading(lease, Led(flight, enter)):
            return await here(response, flight)

    async def find(self, token: str) -> Led | None:
        """Return the flight that is known by a token; wait a moment for one that is just beginning."""
        if token not in self._led:
            begun = self._awaited.setdefault(token, asyncio.get_running_loop().create_future())
            try:
                await asyncio.wait((begun,), timeout=AWAITED_S)
            finally:
                self._awaited.pop(token, None)
        return self._led.get(token)

    async def lend(self, led: Led, response: ResponseLog, admission: Admission | None) -> Result:
        """Have a follower from another replica take part in a flight. A row is written only if it has paid."""
        with led.enter(response, admission) as bill:
            try:
                response.start()
                return await led.flight.join(response, bill)
            finally:
                if bill.has_paid:
                    settle_lent(response, bill)

    async def _followed(self, lease: Lease, reader: Reader) -> Result | None:
        """Return the result of another replica's flight; None if it is lost, and so to be asked for here.

        Raises the error of its models, or `upstream_truncated`.
        """
        if self.follow_log is None:
            return None
        payer = reader.response.waiting[0].request
        wanted = Wanted(FORM, lease.token, payer.key_id, payer.user, payer.tag)
        reader.response.attach(reader)
        try:
            async with aclosing(self.follow_log(lease, msgspec.json.encode(wanted))) as lines:
                async for line in lines:
                    if (result := await reader.read(line)) is not None:
                        return result
            raise LeaderGoneError("it broke off")
        except LeaderGoneError as error:
            log.get().info("a flight is led here, since it is lost", address=lease.address, why=str(error))
            reader.lose()
            return None
        finally:
            reader.response.detach()

    @contextmanager
    def _leading(self, lease: Lease, led: Led) -> Iterator[None]:
        """Let others follow a flight while it runs, and for a moment after its end."""
        token = lease.token
        self._led[token] = led
        self.leases.keep(lease)
        if (awaited := self._awaited.pop(token, None)) is not None and not awaited.done():
            awaited.set_result(None)
        has_ended = False
        try:
            yield
            has_ended = True
        except Exception:  # of its models, or of Millrace; a flight that is cancelled is nobody's any more
            has_ended = True
            raise
        finally:
            self.leases.release(lease)
            if has_ended:
                self._keep(token, led)
            elif self._led.get(token) is led:
                del self._led[token]

    def _keep(self, token: str, led: Led) -> None:
        response = led.flight.response
        size = response.size + response.request.memory_bytes
        self._ended.append(_Ended(token, led, self._clock() + KEPT_S, size))
        self._bytes += size
        self._expire()
        asyncio.get_running_loop().call_later(KEPT_S, self._expire)

    def _expire(self) -> None:
        while self._ended and (self._ended[0].until <= self._clock() or self._bytes > KEPT_BYTES):
            ended = self._ended.popleft()
            self._bytes -= ended.size
            if self._led.get(ended.token) is ended.flight:
                del self._led[ended.token]
