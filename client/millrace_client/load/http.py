"""One HTTP/1.1 connection whose bytes are timed as they are read from the socket."""

import asyncio
import ssl
from typing import cast
from urllib.parse import SplitResult

import httptools

from millrace_client.load.arrivals import Clock


class HttpLostError(ConnectionError):
    """The connection closed before the response was complete."""


class Reader:
    """Reads one response. `body` gets each piece with the time at which it was read from the socket."""

    def __init__(self) -> None:
        self.status = 0  # until the head has come

    def body(self, piece: bytes, now: float) -> None:
        """Take a piece of the body."""
        raise NotImplementedError


class HttpConnection(asyncio.Protocol):
    """Sends a request, reads its response, and can do so again."""

    def __init__(self, clock: Clock) -> None:
        self.is_reusable = True
        self.was_used = False
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._reader: Reader | None = None
        self._done: asyncio.Future[None] | None = None
        self._now = 0.0  # when the bytes that are being parsed were read

    async def send(self, request: bytes, reader: Reader) -> None:
        """Send a request and return when its response has been read. Raises `HttpLostError`."""
        if self._transport is None or not self.is_reusable:
            raise HttpLostError("the connection is closed")
        self._done = asyncio.get_running_loop().create_future()
        self._reader, self._parser = reader, httptools.HttpResponseParser(self)
        self._transport.write(request)
        try:
            await self._done
        except BaseException:
            self.abort()
            raise
        finally:
            self.was_used = True
            self._reader = self._parser = None

    def abort(self) -> None:
        """Close the connection at once; what is being read is lost."""
        self.is_reusable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what was read; called by the event loop."""
        self._now = self._clock()
        if self._parser is None:
            self.abort()  # bytes that nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._finish(HttpLostError(f"the response is not HTTP: {error}"))
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """End what is being read; called by the event loop."""
        self.is_reusable = False
        self._finish(HttpLostError("the connection was lost" if error is None else str(error)))

    def on_headers_complete(self) -> None:
        """Note the status; called by the parser."""
        if self._parser is not None and self._reader is not None:
            self._reader.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        """Pass a piece of the body on; called by the parser."""
        if self._reader is not None:
            self._reader.body(piece, self._now)

    def on_message_complete(self) -> None:
        """End the response; called by the parser."""
        if self._parser is not None:
            self.is_reusable = self.is_reusable and self._parser.should_keep_alive()
        self._finish(None)

    def _finish(self, error: HttpLostError | None) -> None:
        if self._done is None or self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)


class HttpPool:
    """Connections to one server: the one that was used last is used next, and more are opened as needed."""

    def __init__(self, url: SplitResult, clock: Clock) -> None:
        self.url = url
        self._clock = clock
        self._idle: list[HttpConnection] = []
        self._tls = ssl.create_default_context() if url.scheme == "https" else None

    async def open(self, count: int) -> None:
        """Open connections for later. Raises `OSError`."""
        opened = await asyncio.gather(*(self._connect() for _ in range(count)), return_exceptions=True)
        self._idle += [one for one in opened if isinstance(one, HttpConnection)]
        for one in opened:
            if isinstance(one, BaseException):
                self.close()
                raise one

    def close(self) -> None:
        """Close the connections that are idle."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def take(self) -> HttpConnection:
        """Return a connection that is open. Raises `OSError`."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable:
                return connection
        return await self._connect()

    def give_back(self, connection: HttpConnection) -> None:
        """Keep a connection for another request if it can carry one."""
        if connection.is_reusable:
            self._idle.append(connection)
        else:
            connection.abort()

    async def _connect(self) -> HttpConnection:
        port = self.url.port or (443 if self._tls else 80)
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: HttpConnection(self._clock), self.url.hostname or "", port, ssl=self._tls
        )
        return connection
