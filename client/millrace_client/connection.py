"""One WebSocket: one reader, many lanes. Events find their stream by lane, refusals by the frame's `event_id`."""

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
from millrace_client.stream import Event, Stream, error_of, lost

AT_ONCE = 16  # requests without a lane of their own that are sent at once; the others wait here, not at the server
OWN_LANES = tuple(f"py-{number}" for number in range(AT_ONCE, 0, -1))  # for requests that named none
MAX_MESSAGE = 16 * 2**20  # bytes of one event; a terminal repeats the whole answer
TICKET = "millrace.ticket."


class Owner(Protocol):
    """Who has the connection, and hears what becomes of it."""

    def freed(self) -> None:
        """Hear that a lane has come free."""
        ...

    def draining(self, connection: Connection, pause_s: float) -> None:
        """Hear that the connection takes no new requests; another may be opened in so many seconds."""
        ...

    def unheard(self, connection: Connection, stream: Stream, error: MillraceError) -> None:
        """Hear that a request was not taken because the server drains, or a response cannot be resumed."""
        ...

    def over(self, connection: Connection, streams: list[Stream]) -> None:
        """Hear that the connection has ended, and which streams it has left unfinished."""
        ...


class Connection:
    """A connection that is open. Its owner decides what comes after it."""

    def __init__(self, socket: ClientConnection, owner: Owner) -> None:
        self.hello: wire.Hello | None = None
        self._socket = socket
        self._owner = owner
        self._lanes: dict[str | None, deque[Stream]] = {}
        self._free = [*OWN_LANES]
        self._resuming: list[Stream] = []  # until the server says which lane they are in
        self._doomed: set[Stream] = set()  # to be cancelled as soon as they begin
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def close_code(self) -> int | None:
        """Why it was closed; None while it is open."""
        return self._socket.close_code

    @property
    def is_full(self) -> bool:
        """Whether a request without a lane of its own has to wait."""
        return not self._free

    def carries(self, stream: Stream) -> bool:
        """Whether a stream has been sent here and has not ended."""
        return stream in self._resuming or stream in self._lanes.get(stream.lane, ())

    async def start(self) -> None:
        """Hear the server's first word, and begin to read and write."""
        if self._socket.subprotocol is not None:
            first = wire.decode(await self._socket.recv())
            self.hello = first if isinstance(first, wire.Hello) else None
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]

    async def close(self) -> None:
        """Say goodbye."""
        await self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ask(self, stream: Stream) -> None:
        """Send a request."""
        lane = self._free.pop() if stream.asked_lane is None else stream.asked_lane
        stream.lane, stream.epoch = lane, self.hello.epoch if self.hello else None
        self._lanes.setdefault(lane, deque()).append(stream)
        self._frames.put_nowait(requests.write_create(stream.fields, stream_id=lane))

    def resume(self, stream: Stream) -> None:
        """Ask for the rest of a stream that has an id."""
        assert stream.id is not None, "it has begun"
        assert stream.epoch is not None, "it was negotiated"
        self._resuming.append(stream)
        asked = requests.Resume(stream.id, stream.seen, stream.epoch)
        self._frames.put_nowait(requests.write_resume(asked, event_id=stream.event_id))

    def cancel(self, stream: Stream) -> None:
        """Ask the server to stop a stream that is carried here."""
        if stream.id is not None:
            self._frames.put_nowait(requests.write_cancel(response_id=stream.id))
        elif len(self._lanes[stream.lane]) == 1:
            self._frames.put_nowait(requests.write_cancel(stream_id=stream.lane))
        else:  # naming the lane would take its neighbours along
            self._doomed.add(stream)

    async def ping(self) -> float:
        """Return how long the server takes to answer, in seconds."""
        loop = asyncio.get_running_loop()
        number, began = next(self._numbers), time.perf_counter()
        self._pings[number] = loop.create_future()
        self._frames.put_nowait(requests.write_ping(number))
        try:
            await self._pings[number]
        finally:
            del self._pings[number]
        return time.perf_counter() - began

    async def _write(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._socket.send(await self._frames.get(), text=True)

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                event = wire.decode(message)
                if event is not None:
                    self._dispatch(event)
        except ConnectionClosed:
            pass
        finally:
            for waiting in self._pings.values():
                if not waiting.done():
                    waiting.set_exception(lost())
            left = [*itertools.chain(*self._lanes.values()), *self._resuming]
            self._lanes, self._resuming = {}, []
            self._owner.over(self, left)

    def _dispatch(self, event: Event) -> None:
        match event:
            case wire.Draining():
                self._owner.draining(self, event.reconnect_after_ms / 1000)
            case wire.Pong():
                if (waiting := self._pings.get(event.t)) is not None and not waiting.done():
                    waiting.set_result(None)
            case wire.Resumed():
                self._place(event)
            case wire.Error():
                self._refuse(event)
            case wire.Hello():
                self.hello = event
            case _:
                self._deliver(event)

    def _place(self, resumed: wire.Resumed) -> None:
        """From here on a lane is of the stream that is resumed; what was sent to the lane since then comes after it."""
        stream = next((stream for stream in self._resuming if stream.id == resumed.response_id), None)
        if stream is None:
            return
        self._resuming.remove(stream)
        stream.lane = resumed.stream_id if isinstance(resumed.stream_id, str) else None
        self._lanes.setdefault(stream.lane, deque()).appendleft(stream)
        if stream.lane in self._free:
            self._free.remove(stream.lane)

    def _deliver(self, event: Event) -> None:
        lane = getattr(event, "stream_id", None)
        ahead = self._lanes.get(lane if isinstance(lane, str) else None)
        if not ahead:
            return
        stream = ahead[0]
        stream.take(event)
        if stream.ended:
            self._forget(stream)
        elif isinstance(event, wire.Created) and stream in self._doomed:
            self._doomed.discard(stream)
            self.cancel(stream)

    def _refuse(self, refused: wire.Error) -> None:
        sent = itertools.chain(self._resuming, *self._lanes.values())
        stream = next((stream for stream in sent if stream.event_id == refused.event_id), None)
        if stream is None:
            return
        was_resumed = stream in self._resuming
        self._forget(stream)
        if was_resumed or refused.error.code == "server_draining":
            self._owner.unheard(self, stream, error_of(refused.error))
        else:
            stream.take(refused)

    def _forget(self, stream: Stream) -> None:
        self._doomed.discard(stream)
        if stream in self._resuming:
            self._resuming.remove(stream)
            return
        lane = stream.lane
        self._lanes[lane].remove(stream)
        if self._lanes[lane]:
            return
        del self._lanes[lane]
        if lane in OWN_LANES:
            self._free.append(str(lane))
            self._owner.freed()


async def opened(
    url: str, owner: Owner, *, api_key: str | None, ticket: str | None, origin: str | None, negotiate: bool
) -> Connection:
    """Connect. What the server refuses before the upgrade raises `MillraceError`."""
    names = [*([wire.SUBPROTOCOL] if negotiate else []), *([TICKET + ticket] if ticket else [])]
    options: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {api_key}"}} if api_key else {}
    try:
        socket = await connect(
            url,
            subprotocols=[Subprotocol(name) for name in names] or None,
            origin=Origin(origin) if origin else None,
            compression=None,
            max_size=MAX_MESSAGE,
            **options,
        )
    except InvalidStatus as error:
        raise _refusal(error) from error
    connection = Connection(socket, owner)
    try:
        await connection.start()
    except BaseException:
        await socket.close()
        raise
    return connection


def _refusal(error: InvalidStatus) -> Exception:
    """Return what a Millrace said; whatever else answers there keeps its own error."""
    try:
        return error_of(msgspec.json.decode(error.response.body or b"", type=Refused).error)
    except msgspec.DecodeError:
        return error
