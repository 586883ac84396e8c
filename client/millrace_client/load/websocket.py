"""Millrace under load: WebSockets with lanes, each frame timed as it is read from the socket."""

import asyncio
import itertools
from collections import deque
from decimal import Decimal
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.typing import Data

from millrace.errors import MillraceError
from millrace.wire import responses as wire
from millrace_client.client import endpoint, request_fields
from millrace_client.connection import Connection, open_connection
from millrace_client.load.arrivals import Clock
from millrace_client.load.prompts import Row
from millrace_client.load.sample import LOST, REFUSED, UNREACHABLE, Answer, Sample, Timeline
from millrace_client.stream import ConnectionLostError, Event, Stream, error_of, lost_error

MAX_HANDSHAKES = 64  # at the same time
NANODOLLAR = Decimal("1e-9")
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


def dollars(number: float) -> Decimal:
    """Return a JSON number of the wire as dollars, exact to 1e-9."""
    return Decimal(repr(number)).quantize(NANODOLLAR)


class TimedSocket(ClientConnection):
    """A WebSocket that knows when each message was read from the socket.

    Messages are parsed in the callback of the event loop that reads them, and their readers run later, one after the
    other: what is timed there grows with how many connections are read in one turn of the loop.
    """

    clock: Clock

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.read_at = 0.0  # of the message that was received last
        self._read: deque[float] = deque()  # of those not yet received

    def process_event(self, event: Any) -> None:
        """Note the time of a message's last frame."""
        if isinstance(event, Frame) and event.fin and event.opcode in _DATA:
            self._read.append(self.clock())
        super().process_event(event)

    async def recv(self, decode: bool | None = None) -> Data:  # type: ignore[override]  # noqa: FBT001
        """Receive the next message, and tell when it was read."""
        message = await super().recv(decode)
        self.read_at = self._read.popleft()
        return message


class TimedStream(Stream):
    """A request whose events are timed as they come, without a task that waits for each of them."""

    def __init__(self, *arguments: Any, timeline: Timeline, socket: TimedSocket) -> None:
        super().__init__(*arguments)
        self.done = asyncio.get_running_loop().create_future()
        self._timeline = timeline
        self._socket = socket

    def take(self, event: Event) -> None:
        """Time an event; called by the connection."""
        match event:
            case wire.TextDelta():
                self._timeline.delta(self._socket.read_at, event.sequence_number)
            case wire.Revise():
                self._timeline.revise(event.keep_through)
            case wire.Created() | wire.InProgress():
                self.id = event.response.id
            case wire.Completed() | wire.Failed() | wire.Incomplete():
                self.response = event.response
                self._end(None)
            case wire.Error():
                self.fail(error_of(event.error))

    def fail(self, error: Exception) -> None:
        """End without a terminal event."""
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self.done.done():
            return
        self.ended = True
        self.done.set_result((self._socket.read_at, error))


class Link:
    """One connection to the server: opened on demand, and again after it was lost or the server has begun to drain."""

    def __init__(self, url: str, api_key: str | None, clock: Clock) -> None:
        self.losses = 0
        self.running: set[TimedStream] = set()
        self._url = url
        self._api_key = api_key
        self._clock = clock
        self._connection: Connection | None = None
        self._socket: TimedSocket | None = None
        self._draining: set[Connection] = set()
        self._opening = asyncio.Lock()
        self._not_before = 0.0  # a draining server is not asked again at once
        self._numbers = itertools.count(1)

    async def open(self) -> tuple[Connection, TimedSocket]:
        """Return the connection and its socket; connect if there is none."""
        async with self._opening:
            if self._connection is None:
                await asyncio.sleep(max(0.0, self._not_before - self._clock()))
                self._connection = await open_connection(
                    self._url,
                    self,
                    api_key=self._api_key,
                    ticket=None,
                    origin=None,
                    negotiate=True,
                    max_queue=None,
                    create_connection=self._make_socket,
                )
            assert self._socket is not None, "a connection has a socket"
            return self._connection, self._socket

    async def close(self) -> None:
        """Close the connections."""
        connections = [*self._draining, *([self._connection] if self._connection else [])]
        self._connection = None
        self._draining = set()
        await asyncio.gather(*(connection.close() for connection in connections))

    async def ask(self, lane: str, row: Row, timeline: Timeline) -> tuple[float, wire.ResponseBody]:
        """Send a request and return when it ended and its response.

        Raises `MillraceError` if it is refused and `ConnectionLostError`.
        """
        options = {"strategy": row.strategy, "delivery": row.delivery, "cache": row.cache}
        fields = {"input": row.input, "model": row.model, **request_fields(options)}
        while True:
            connection, socket = await self.open()
            name = f"ev_{next(self._numbers)}"
            fields["event_id"] = name
            stream = TimedStream(name, lane, connection.cancel, fields, timeline=timeline, socket=socket)
            self.running.add(stream)
            timeline.send(self._clock())
            connection.ask(stream)
            timer = None
            if row.cancel_after_ms is not None:
                timer = asyncio.get_running_loop().call_later(row.cancel_after_ms / 1000, stream.cancel)
            try:
                ended, error = await stream.done
            finally:
                self.running.discard(stream)
                if timer is not None:
                    timer.cancel()
            if isinstance(error, MillraceError) and error.code == "server_draining" and connection in self._draining:
                continue
            if error is not None:
                raise error
            assert stream.response is not None, "a stream that ends without an error has a terminal"
            return ended, stream.response

    def lane_freed(self) -> None:
        """Nothing waits for a lane: each lane of the load test sends one request at a time."""

    def connection_draining(self, connection: Connection, delay_s: float) -> None:
        """Send no more on this connection; the next request opens another one."""
        self._draining.add(connection)
        if connection is self._connection:
            self._connection = None
            self._not_before = self._clock() + delay_s

    def request_rejected(self, connection: Connection, stream: Stream, error: MillraceError) -> None:
        """End a request that the server did not take."""
        stream.fail(error)

    def connection_closed(self, connection: Connection, streams: list[Stream]) -> None:
        """End the requests of a connection that has closed; the next request opens another one."""
        self._draining.discard(connection)
        if connection is self._connection:
            self._connection = None
            self.losses += 1
        for stream in streams:
            stream.fail(lost_error())

    def _make_socket(self, *arguments: Any, **options: Any) -> TimedSocket:
        self._socket = TimedSocket(*arguments, **options)
        self._socket.clock = self._clock
        return self._socket


class Millrace:
    """A Millrace server as the target of a load test. Its lanes are spread over the connections."""

    name = "Millrace"

    def __init__(self, url: str, api_key: str | None, *, connections: int, clock: Clock) -> None:
        self._links = [Link(endpoint(url), api_key, clock) for _ in range(connections)]
        self._clock = clock

    @property
    def losses(self) -> int:
        """The number of connections that broke."""
        return sum(link.losses for link in self._links)

    async def open(self) -> None:
        """Open the connections."""
        handshakes = asyncio.Semaphore(MAX_HANDSHAKES)

        async def connect(link: Link) -> None:
            async with handshakes:
                await link.open()

        for error in await asyncio.gather(*map(connect, self._links), return_exceptions=True):
            if error is not None:
                await self.close()
                raise error

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(link.close() for link in self._links))

    async def ask(self, lane: int, row: Row, due: float) -> Sample:
        """Send a request in one of the lanes and wait for its end."""
        number, link = divmod(lane, len(self._links))
        timeline, clock = Timeline(due), self._clock
        status, code = LOST, "connection_lost"
        try:
            ended, response = await self._links[link].ask(f"load-{number}", row, timeline)
        except ConnectionLostError:
            pass
        except MillraceError as error:
            status, code = REFUSED, error.code
        except (OSError, WebSocketException):
            code = UNREACHABLE
        else:
            return _sample(row, timeline, ended - due, response)
        return Sample(row=row, status=status, code=code, timeline=timeline, total=clock() - due, answer=None)

    def cancel(self) -> None:
        """Cancel all requests that run; each still ends with its bill."""
        for link in self._links:
            for stream in link.running:
                stream.cancel()


def _sample(row: Row, timeline: Timeline, total: float, response: wire.ResponseBody) -> Sample:
    code = response.error.code if response.error else None
    if code is None and response.incomplete_details:
        code = response.incomplete_details.reason
    usage, metadata = response.usage, response.metadata
    answer = Answer(
        tokens=usage.output_tokens if usage else 0,
        reasoning=usage.output_tokens_details.reasoning_tokens if usage else 0,
        route=metadata.get("millrace.route", "?"),
        cache=metadata.get("millrace.cache", "?"),
        cost=dollars(usage.cost_usd) if usage else None,
        saved=dollars(usage.saved_usd) if usage else Decimal(0),
    )
    return Sample(row=row, status=response.status, code=code, timeline=timeline, total=total, answer=answer)
