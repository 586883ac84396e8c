"""`POST /replicas/flights/{place}`: another replica follows a flight that this process leads.

It names the flight by its token, which only replicas know, since they find it in Redis. So it needs no key.
"""

import asyncio
from contextlib import suppress

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from millrace.errors import MillraceError
from millrace.funnel.flight_lines import FORM, Wanted, Writer
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.shared_flights import Led, SharedFlights
from millrace.ports import Admission
from millrace.runs.ids import response_id
from millrace.web.process import Process, process_of
from millrace.web.sse import until_gone
from millrace.web.websocket import EXTENSION

MAX_BODY, MAX_DIGITS = 4096, 4  # bytes, and how they are written
BEAT_S = 1.0  # between two lines

_decode = msgspec.json.Decoder(Wanted).decode


async def follow(request: Request) -> Response:
    """Show a flight to a replica, line by line, or say that it is not led here."""
    process, place = process_of(request), request.path_params["place"]
    elsewhere, flights = process.elsewhere, process.flights
    length = request.headers.get("content-length", "")
    is_short = length.isdigit() and len(length) <= MAX_DIGITS and int(length) <= MAX_BODY
    if elsewhere is None or flights is None or not is_short:
        return Response(status_code=404)
    if place == elsewhere.place:
        return await _followed(process, flights, await request.body()) or Response(status_code=404)
    address = None if elsewhere.siblings is None else await elsewhere.siblings.find(place)
    if address is None:
        return Response(status_code=404)
    return await elsewhere.answer(address, request.url.path, request.scope, request.receive)


async def _followed(process: Process, flights: SharedFlights, body: bytes) -> "FollowedFlight | None":
    """Return what shows the flight that is asked for; None if it is not led here, or is not the tenant's."""
    try:
        wanted = _decode(body)
    except msgspec.DecodeError:
        return None
    principal = process.gate.keyring.principal(wanted.key_id)
    if wanted.form != FORM or principal is None:
        return None
    led = await flights.find(wanted.token)
    if led is None or principal.tenant != led.flight.response.request.tenant:
        return None
    try:
        admission = await process.intake.lent(principal, wanted.user, wanted.tag)
    except MillraceError:  # what was spent cannot be read now
        return None
    return FollowedFlight(process, flights, led, wanted, admission)


class FollowedFlight(Response):
    """The lines of a flight's log, until its end or until its follower has gone."""

    media_type = "application/jsonl"

    def __init__(
        self, process: Process, flights: SharedFlights, led: Led, wanted: Wanted, admission: Admission | None
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["Content-Length"]
        self._process = process
        self._flights = flights
        self._led = led
        self._admission = admission
        self._is_due = asyncio.Event()
        self._writer = Writer(self._is_due.set)
        self._looked_at = process.clock()
        payer = replace(
            led.flight.response.request,
            id=response_id(process.elsewhere.place if process.elsewhere else ""),
            key_id=wanted.key_id,
            user=wanted.user,
            tag=wanted.tag,
            batch="",
            deadline_at=None,
            trace=None,
        )
        self._response = ResponseLog(payer, process.clock)
        self._response.subscribe(self._writer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the follower has gone."""
        loop, connection = asyncio.get_running_loop(), scope.get("extensions", {}).get(EXTENSION)
        taking_part = loop.create_task(self._take_part())
        try:
            await until_gone(loop.create_task(self._send_all(send, taking_part)), receive)
        except TimeoutError:  # it takes nothing
            if connection is not None:
                connection.abort()
        finally:
            taking_part.cancel()
            await asyncio.wait((taking_part,))

    async def _take_part(self) -> None:
        """Follow the flight; the last line says how it has ended, as far as that is the follower's end too."""
        try:
            self._writer.end(await self._flights.lend(self._led, self._response, self._admission))
        except asyncio.CancelledError:  # the follower has gone, or the flight is cancelled
            self._writer.end(None)
        except MillraceError as error:
            self._writer.end(error)

    async def _send_all(self, send: Send, taking_part: "asyncio.Task[None]") -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        is_over = False
        while not (is_over or self._writer.is_broken):
            is_over = taking_part.done()
            async with asyncio.timeout(self._process.stuck_s):
                await send({"type": "http.response.body", "body": self._writer.take() or b"\n", "more_body": True})
            self._response.apply_backpressure()
            if not is_over:
                await self._until_due()
                if not self._can_pay():
                    taking_part.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_due(self) -> None:
        """Wait until there are lines, for a second."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT_S):
                await self._is_due.wait()
        self._is_due.clear()

    def _can_pay(self) -> bool:
        """See once a second whether the follower has to pay, and that it can."""
        now = self._process.clock()
        if now - self._looked_at < BEAT_S:
            return True
        self._looked_at = now
        return self._process.funnel.covers(self._response)
