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
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._connection = await connect(
            self.url,
            subprotocols=self._subprotocols,
            additional_headers=self._headers,
            compression=None,
            max_size=MAX_MESSAGE,
        )
        self._reader = asyncio.create_task(self._read(self._connection))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None
        assert self._reader is not None
        await self._connection.close()
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader

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
        number = next(self._numbers)
        stream = Stream(f"ev_{number}", lane or f"py-{number}", self._cancel)
        options = {"strategy": strategy, "delivery": delivery, "cache": cache}
        chosen = {name: value for name, value in options.items() if value is not None}
        fields = {"input": input, "model": model, "event_id": stream.event_id, **body}
        if chosen:
            fields["millrace"] = chosen
        self._lanes.setdefault(stream.stream_id, deque()).append(stream)
        self._send_soon(stream, requests.write_create(fields, stream_id=stream.stream_id))
        return stream

    async def ask(self, input: str | list[dict[str, Any]], **options: Any) -> Reply:  # noqa: A002
        """Ask, wait, and return the whole answer; a failed one raises `MillraceError`. Options as for `stream`."""
        async with self.stream(input, **options) as stream:
            return await stream.reply()

    async def _cancel(self, stream: Stream) -> None:
        assert self._connection is not None
        named: dict[str, str] = {"response_id": stream.id} if stream.id else {"stream_id": stream.stream_id}
        with suppress(ConnectionClosed):
            await self._connection.send(requests.write_cancel(**named), text=True)

    def _send_soon(self, stream: Stream, frame: bytes) -> None:
        assert self._connection is not None, "use `async with Client(...)`"
        task = asyncio.get_running_loop().create_task(self._connection.send(frame, text=True))
        task.add_done_callback(lambda task: self._lost(stream) if task.exception() else None)

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for message in connection:
                event = wire.decode(message)
                if event is not None:
                    self._dispatch(event)
        except ConnectionClosed:
            pass
        finally:
            for stream in [stream for lane in self._lanes.values() for stream in lane]:
                self._lost(stream)

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, wire.Hello):
            self.hello = event
            return
        lane = self._lanes.get(event.stream_id) if isinstance(event.stream_id, str) else None
        if not lane:
            return
        stream = lane[0]
        if isinstance(event, wire.Error):
            stream = next((waiting for waiting in lane if waiting.event_id == event.event_id), stream)
        stream.take(event)
        if stream.ended:
            self._forget(stream)

    def _lost(self, stream: Stream) -> None:
        stream.fail(ConnectionLostError("the connection to Millrace ended before the answer did"))
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        lane = self._lanes.get(stream.stream_id)
        if lane and stream in lane:
            lane.remove(stream)
        if not lane:
            self._lanes.pop(stream.stream_id, None)


def endpoint(url: str) -> str:
    """Return the WebSocket address behind what people write: any of four schemes, with or without a path."""
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path.rstrip("/")
    if not path.endswith(PATH):
        path = f"{path.removesuffix('/v1')}{PATH}"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))
