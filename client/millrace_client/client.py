"""The connection: one reader, many lanes. Events find their stream by lane, refusals by the frame's `event_id`."""

import asyncio
import itertools
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from millrace.wire import requests
from millrace.wire import responses as wire
from millrace_client.stream import ConnectionLostError, Event, Reply, Stream

DEFAULT_URL = "ws://127.0.0.1:8000"
PATH = "/v1/responses"
AT_ONCE = 16  # requests without a lane of their own that are sent at once; the others wait here, not at the server
MAX_MESSAGE = 16 * 2**20  # bytes of one event; a terminal repeats the whole answer


class Client:
    """A connection to a Millrace server. `url` is its address: ws://, wss://, http:// or https://."""

    def __init__(self, url: str = DEFAULT_URL, *, api_key: str | None = None, negotiate: bool = True) -> None:
        self.url = endpoint(url)
        self.hello: wire.Hello | None = None
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else None
        self._subprotocols = [Subprotocol(wire.SUBPROTOCOL)] if negotiate else None
        self._numbers = itertools.count(1)
        self._lanes: dict[str, deque[Stream]] = {}
        self._free = [f"py-{number}" for number in range(AT_ONCE, 0, -1)]  # lanes of requests that named none
        self._waiting: deque[tuple[Stream, dict[str, Any]]] = deque()  # for one of those
        self._doomed: set[Stream] = set()  # to be cancelled as soon as they begin
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._lost = False
        self._connection: ClientConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._connection = await connect(
            self.url,
            subprotocols=self._subprotocols,
            additional_headers=self._headers,
            compression=None,
            max_size=MAX_MESSAGE,
        )
        self._tasks = [
            asyncio.create_task(self._read(self._connection)),
            asyncio.create_task(self._write(self._connection)),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None, "entered"
        await self._connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stream(
        self,
        input: str | list[dict[str, Any]],  # noqa: A002 - the wire's own name
        *,
        model: str = "auto",
        lane: str | None = None,
        strategy: str | None = None,
        delivery: str | None = None,
        cache: str | None = None,
        **body: Any,
    ) -> Stream:
        """Ask, and return the stream of events. Requests of one `lane` run one after the other; else side by side.

        `body` takes any further field of the Responses API (`instructions`, `temperature`, `text`, `metadata`, ...).
        """
        assert self._connection is not None, "use `async with Client(...)`"
        stream = Stream(f"ev_{next(self._numbers)}", lane, self._cancel)
        options = {"strategy": strategy, "delivery": delivery, "cache": cache}
        chosen = {name: value for name, value in options.items() if value is not None}
        fields = {"input": input, "model": model, "event_id": stream.event_id, **body}
        if chosen:
            fields["millrace"] = chosen
        if self._lost:
            stream.fail(_lost())
        elif lane is None:
            self._waiting.append((stream, fields))
            self._send_waiting()
        else:
            self._send(stream, lane, fields)
        return stream

    async def ask(self, input: str | list[dict[str, Any]], **options: Any) -> Reply:  # noqa: A002
        """Ask, wait, and return the whole answer; a failed one raises `MillraceError`. Options as for `stream`."""
        async with self.stream(input, **options) as stream:
            return await stream.reply()

    def _send_waiting(self) -> None:
        while self._waiting and self._free:
            stream, fields = self._waiting.popleft()
            self._send(stream, self._free.pop(), fields)

    def _send(self, stream: Stream, lane: str, fields: dict[str, Any]) -> None:
        stream.lane = lane
        self._lanes.setdefault(lane, deque()).append(stream)
        self._frames.put_nowait(requests.write_create(fields, stream_id=lane))

    def _cancel(self, stream: Stream) -> None:
        if stream.id is not None:
            self._frames.put_nowait(requests.write_cancel(response_id=stream.id))
        elif stream.lane is None:  # it has not been sent
            self._waiting = deque(waiting for waiting in self._waiting if waiting[0] is not stream)
            stream.take(_cancelled())
        elif len(self._lanes[stream.lane]) == 1:
            self._frames.put_nowait(requests.write_cancel(stream_id=stream.lane))
        else:  # naming the lane would take its neighbours along
            self._doomed.add(stream)

    async def _write(self, connection: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await connection.send(await self._frames.get(), text=True)

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for message in connection:
                event = wire.decode(message)
                if event is not None:
                    self._dispatch(event)
        except ConnectionClosed:
            pass
        finally:
            self._lost = True
            for stream in [*itertools.chain(*self._lanes.values()), *(stream for stream, _ in self._waiting)]:
                stream.fail(_lost())

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, wire.Hello):
            self.hello = event
            return
        stream = self._refused(event) if isinstance(event, wire.Error) else self._first(event.stream_id)
        if stream is None:
            return
        stream.take(event)
        if stream.ended:
            self._forget(stream)
        elif isinstance(event, wire.Created) and stream in self._doomed:
            self._cancel(stream)

    def _first(self, lane: object) -> Stream | None:
        return self._lanes[lane][0] if isinstance(lane, str) and lane in self._lanes else None

    def _refused(self, error: wire.Error) -> Stream | None:
        sent = itertools.chain(*self._lanes.values())
        return next((stream for stream in sent if stream.event_id == error.event_id), None)

    def _forget(self, stream: Stream) -> None:
        assert stream.lane is not None, "it has been sent"
        lane = stream.lane
        self._doomed.discard(stream)
        self._lanes[lane].remove(stream)
        if not self._lanes[lane]:
            del self._lanes[lane]
        if stream.asked_lane is None:
            self._free.append(lane)
            self._send_waiting()


def _lost() -> ConnectionLostError:
    return ConnectionLostError("the connection to Millrace ended before the answer did")


def _cancelled() -> wire.Incomplete:
    """Return the terminal of a request that was cancelled before it was sent."""
    return wire.Incomplete(
        sequence_number=0,
        response=wire.ResponseBody(
            id="",
            created_at=0,
            status="cancelled",
            model="",
            metadata={},
            incomplete_details=wire.IncompleteDetails("cancelled"),
        ),
    )


def endpoint(url: str) -> str:
    """Return the WebSocket address behind what people write: any of four schemes, with or without a path."""
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path.rstrip("/")
    if not path.endswith(PATH):
        path = f"{path.removesuffix('/v1')}{PATH}"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))
