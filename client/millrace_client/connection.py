"""One WebSocket with many lanes. Events reach their stream by lane, errors by the `event_id` of the request."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from millrace.errors import MillraceError
from millrace.wire import requests, responses as wire
from millrace.wire.documents import Refused
from millrace_client.stream import Event, Stream, error_of, lost_error

AT_ONCE = 16  # requests without a lane in flight at once; more wait in the client, as the server could refuse them
OWN_LANES = tuple(f"py-{number}" for number in range(AT_ONCE, 0, -1))  # for requests that name no lane
MAX_MESSAGE = 64 * 2**20  # bytes of one event, which repeats the request's tools and, at the end, the whole answer
TICKET = "millrace.ticket."


class ConnectionListener(Protocol):
    """Receives the events of a connection that concern more than one stream."""

    def lane_freed(self) -> None:
        """One of the client's own lanes is free again."""
        ...

    def connection_draining(self, connection: Connection, delay_s: float) -> None:
        """The server takes no new requests on this connection; open another one after `delay_s` seconds."""
        ...

    def request_rejected(self, connection: Connection, stream: Stream, error: MillraceError) -> None:
        """A request was rejected because the server is draining, or a response cannot be resumed."""
        ...

    def connection_closed(self, connection: Connection, streams: list[Stream]) -> None:
        """The connection has closed; `streams` have not ended."""
        ...


class Connection:
    """An open connection. Its listener decides what happens to streams when it closes."""

    def __init__(self, socket: ClientConnection, listener: ConnectionListener) -> None:
        self.hello: wire.Hello | None = None
        self._socket = socket
        self._listener = listener
        self._lanes: dict[str | None, deque[Stream]] = {}  # the running stream of a lane first
        self._free_lanes = [*OWN_LANES]
        self._resuming: list[Stream] = []  # their lane is not known before `millrace.resumed`
        self._cancel_at_start: set[Stream] = set()
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def close_code(self) -> int | None:
        """The close code of the WebSocket; None while it is open."""
        return self._socket.close_code

    @property
    def is_full(self) -> bool:
        """Whether a request that names no lane has to wait."""
        return not self._free_lanes

    def carries(self, stream: Stream) -> bool:
        """Whether a stream was sent on this connection and has not ended."""
        return stream in self._resuming or stream in self._lanes.get(stream.lane, ())

    async def start(self) -> None:
        """Receive `millrace.hello` if it was negotiated, then start reading and writing."""
        if self._socket.subprotocol is not None:
            first = wire.decode(await self._socket.recv())
            self.hello = first if isinstance(first, wire.Hello) else None
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]  # in this order

    async def close(self) -> None:
        """Close the WebSocket and stop both tasks."""
        await self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ask(self, stream: Stream) -> None:
        """Send a request."""
        lane = self._free_lanes.pop() if stream.asked_lane is None else stream.asked_lane
        stream.lane, stream.epoch = lane, self.hello.epoch if self.hello else None
        self._lanes.setdefault(lane, deque()).append(stream)
        self._outgoing.put_nowait(requests.write_create(stream.fields, stream_id=lane))

    def resume(self, stream: Stream) -> None:
        """Request the remaining events of a stream that has a response id."""
        assert stream.id is not None, "only a stream that has started can be resumed"
        assert stream.epoch is not None, "only a negotiated connection has an epoch"
        self._resuming.append(stream)
        request = requests.Resume(stream.id, stream.seen, stream.epoch)
        self._outgoing.put_nowait(requests.write_resume(request, event_id=stream.event_id))

    def cancel(self, stream: Stream) -> None:
        """Cancel a stream of this connection.

        A stream without a response id can be cancelled by lane only, and that cancels every request queued in the lane
        (PROTOCOL.md, Client to server). If it shares its lane, or may share it with one that is being resumed, it is
        cancelled once it starts.
        """
        if stream.id is not None:
            self._outgoing.put_nowait(requests.write_cancel(response_id=stream.id))
        elif len(self._lanes[stream.lane]) == 1 and not self._resuming:
            self._outgoing.put_nowait(requests.write_cancel(stream_id=stream.lane))
        else:
            self._cancel_at_start.add(stream)

    async def ping(self) -> float:
        """Return the round-trip time to the server in seconds."""
        loop = asyncio.get_running_loop()
        number, start = next(self._numbers), time.perf_counter()
        self._pings[number] = loop.create_future()
        self._outgoing.put_nowait(requests.write_ping(number))
        try:
            await self._pings[number]
        finally:
            del self._pings[number]
        return time.perf_counter() - start

    async def _write(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._socket.send(await self._outgoing.get(), text=True)

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                event = wire.decode(message)
                if event is not None:
                    self._dispatch(event)
        except ConnectionClosed:
            pass
        finally:
            self._tasks[1].cancel()  # nothing can be written any more
            for pong in self._pings.values():
                if not pong.done():
                    pong.set_exception(lost_error())
            unfinished = [*itertools.chain(*self._lanes.values()), *self._resuming]
            self._lanes, self._resuming = {}, []
            self._listener.connection_closed(self, unfinished)

    def _dispatch(self, event: Event) -> None:
        match event:
            case wire.Draining():
                self._listener.connection_draining(self, event.reconnect_after_ms / 1000)
            case wire.Pong():
                if (pong := self._pings.get(event.t)) is not None and not pong.done():
                    pong.set_result(None)
            case wire.Resumed():
                self._start_resumed(event)
            case wire.Error():
                self._reject(event)
            case wire.Hello():
                self.hello = event
            case _:
                self._deliver(event)

    def _start_resumed(self, resumed: wire.Resumed) -> None:
        """Put a resumed stream first in its lane.

        From `millrace.resumed` on, the events of the lane belong to it (PROTOCOL.md, Resume). Requests sent to the
        lane in the meantime run after it.
        """
        stream = next((stream for stream in self._resuming if stream.id == resumed.response_id), None)
        if stream is None:
            return
        self._resuming.remove(stream)
        stream.lane = resumed.stream_id if isinstance(resumed.stream_id, str) else None
        self._lanes.setdefault(stream.lane, deque()).appendleft(stream)
        if stream.lane in self._free_lanes:
            self._free_lanes.remove(stream.lane)

    def _deliver(self, event: Event) -> None:
        lane = getattr(event, "stream_id", None)
        streams = self._lanes.get(lane if isinstance(lane, str) else None)
        if not streams:
            return
        stream = streams[0]
        stream.take(event)
        if stream.ended:
            self._forget(stream)
        elif isinstance(event, wire.Created) and stream in self._cancel_at_start:
            self._cancel_at_start.discard(stream)
            self.cancel(stream)

    def _reject(self, event: wire.Error) -> None:
        streams = itertools.chain(self._resuming, *self._lanes.values())
        stream = next((stream for stream in streams if stream.event_id == event.event_id), None)
        if stream is None:
            return
        is_resuming = stream in self._resuming
        self._forget(stream)
        if is_resuming or event.error.code == "server_draining":
            self._listener.request_rejected(self, stream, error_of(event.error))
        else:
            stream.take(event)

    def _forget(self, stream: Stream) -> None:
        self._cancel_at_start.discard(stream)
        if stream in self._resuming:
            self._resuming.remove(stream)
            return
        lane = stream.lane
        self._lanes[lane].remove(stream)
        if self._lanes[lane]:
            return
        del self._lanes[lane]
        if lane in OWN_LANES:
            self._free_lanes.append(str(lane))
            self._listener.lane_freed()


async def open_connection(
    url: str,
    listener: ConnectionListener,
    *,
    api_key: str | None,
    ticket: str | None,
    origin: str | None,
    negotiate: bool,
    **connecting: Any,
) -> Connection:
    """Connect. Raises `MillraceError` if the server refuses before the upgrade. `connecting` is for `connect`."""
    subprotocols = [*([wire.SUBPROTOCOL] if negotiate else []), *([TICKET + ticket] if ticket else [])]
    options = connecting | ({"additional_headers": {"Authorization": f"Bearer {api_key}"}} if api_key else {})
    try:
        socket = await connect(
            url,
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            origin=Origin(origin) if origin else None,
            compression=None,
            max_size=MAX_MESSAGE,
            **options,
        )
    except InvalidStatus as error:
        raise _handshake_error(error) from error
    connection = Connection(socket, listener)
    try:
        await connection.start()
    except BaseException:
        await socket.close()
        raise
    return connection


def _handshake_error(error: InvalidStatus) -> Exception:
    """Return the `MillraceError` in the body; `error` itself if the peer is not a Millrace server."""
    try:
        return error_of(msgspec.json.decode(error.response.body or b"", type=Refused).error)
    except msgspec.DecodeError:
        return error
