"""One HTTP/1.1 connection to a provider: writes a request, and pushes the body of its response to whoever reads it.

httptools parses (llhttp). Nothing is awaited between the bytes of a read and the words that they bring.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import cast

import httptools
from multidict import CIMultiDict

from millrace.upstreams.exchange import READ_BYTES, ResponseError, Take

MAX_HEAD = 128 * 1024  # bytes of all headers
# Those that are kept, of dozens: they say how the body ends and is packed, and whether to ask again.
_KEPT = frozenset({b"content-length", b"transfer-encoding", b"content-encoding"})
_KEPT |= {b"retry-after", b"retry-after-ms", b"x-should-retry"}


class Exchange:
    """A request that was sent, and its response as it comes."""

    __slots__ = (
        "_connection",
        "_decoder",
        "_early",
        "_fault",
        "_head_bytes",
        "_is_informational",
        "_is_over",
        "_is_reusable",
        "_is_wanted",
        "_parser",
        "_take",
        "_waiter",
        "headers",
        "status",
    )

    def __init__(self, connection: "Connection") -> None:
        self.status = 0  # until the head has come
        self.headers: CIMultiDict[str] = CIMultiDict()  # those that somebody reads
        self._is_over = False  # the body has come to its end, or there is a fault
        self._fault: Exception | None = None
        # What is waited for: first the head, then that the reader has had enough, then the end of the body.
        self._waiter: asyncio.Future[None] | None = None
        self._connection = connection
        # It refers back to this: it goes once the exchange is over, and does not wait for the collector.
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._head_bytes = 0
        self._is_informational = False  # a 1xx, which comes before the response
        self._is_reusable = False  # what the parser says at the end; the connection can carry another request
        self._decoder: zlib._Decompress | None = None
        self._early: list[bytes] = []  # of the body, before anybody reads it
        self._is_wanted = True  # the body
        self._take: Take | None = None

    def begun(self) -> asyncio.Future[None]:
        """Return what is done once the head has come, or fails with `ResponseError`. To be asked for at once."""
        return self._waiting()

    async def push(self, take: Take) -> None:
        """Push the body to a reader, until it has had enough or the body ends.

        Raises `ResponseError`, or what the reader raises.
        """
        early, self._early = self._early, []
        for data in early:
            if take(data):
                self._is_wanted = False
                return
        if not self._is_over:
            self._take = take
            await self._waiting()
        elif self._fault is not None:
            raise self._fault

    async def finish(self, within_s: float) -> None:
        """Read the rest of the body, and nobody gets it, so that the connection can carry another request."""
        self._early.clear()
        self._stop(None)
        if not self._is_over:
            self._connection.resume()
            with suppress(ResponseError, TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._waiting()

    def _waiting(self) -> asyncio.Future[None]:
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def pause(self) -> None:
        """Read no more, so that the provider must wait. Once the body has ended, the connection may be another's."""
        if not self._is_over:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        if not self._is_over:
            self._connection.resume()

    def close(self) -> None:
        """Close the connection, unless the response is complete: then it is free for another request."""
        if not self._is_over or self._fault is not None:
            self._connection.abort()

    def feed(self, data: bytes) -> None:
        """Take what has come from the socket."""
        if not self.status:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD + len(data):
                self.fail(ResponseError("its headers are too long", is_readable=False))
                return
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._is_reusable = False
            if not self._is_over:
                self.fail(ResponseError(str(error), is_readable=False))
        if self._is_over:
            self._connection.release(is_reusable=self._is_reusable)

    def lost(self) -> None:
        """Note the end of the connection. It ends a body that has no other end."""
        if self._is_over:
            return
        has_end = "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()
        if self.status and not has_end:
            self._end()
        else:
            self.fail(ResponseError("the connection was closed"))

    def on_message_begin(self) -> None:
        """Note a second response to one request; called by the parser. Nobody asked for it."""
        if self._is_over:
            self._is_reusable = False

    def fail(self, error: Exception) -> None:
        """End the exchange; whoever waits for it gets the error."""
        self._parser = self._take = None
        if not self._is_over:
            self._is_over, self._fault = True, error
        self._wake(error)
        self._connection.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; called by the parser. Trailers are left alone."""
        if not self.status and name.lower() in _KEPT:
            self.headers.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """Note the status; called by the parser."""
        if self._parser is None:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:  # noqa: PLR2004 - RFC 9110, 15.2
            self._is_informational = True
            self.headers.clear()
            return
        self.status = status
        if self.headers.get("content-encoding", "identity").lower() in ("gzip", "x-gzip", "deflate"):
            self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._wake()

    def on_body(self, data: bytes) -> None:
        """Push a piece of the body; called by the parser."""
        try:
            if self._take is not None and self._decoder is None:  # as nearly always
                if self._take(data):
                    self._stop(None)
            elif not self._is_over:
                self._push(data)
        except zlib.error:
            self.fail(ResponseError("its content encoding cannot be read", is_readable=False))
        except BaseException as error:  # also a panic in a library; whoever awaits the reader gets it
            self._stop(error)

    def _push(self, data: bytes) -> None:
        for piece in self._inflated(data) if self._decoder is not None else (data,):
            if not self._is_wanted:
                return
            if self._take is None:
                self._early.append(piece)
            elif self._take(piece):
                self._stop(None)

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        """Yield what a piece of a compressed body inflates to, never much at once."""
        while data:
            assert self._decoder is not None, "it is compressed"
            yield self._decoder.decompress(data, READ_BYTES)
            data = self._decoder.unconsumed_tail
            if self._decoder.eof and (data := self._decoder.unused_data):
                self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def on_message_complete(self) -> None:
        """Note the end of the body; called by the parser."""
        if self._is_informational:
            self._is_informational = False
            return
        if self._parser is None:
            return
        self._is_reusable = self._parser.should_keep_alive()  # known only within this call
        if self._decoder is not None and self._is_wanted and not self._decoder.eof:
            self.fail(ResponseError("its compressed body is not whole"))
        else:
            self._end()

    def _stop(self, error: BaseException | None) -> None:
        """Push no more."""
        self._take, self._is_wanted = None, False
        self._wake(error)

    def _end(self) -> None:
        self._parser = None
        self._is_over = True
        self._stop(None)

    def _wake(self, error: BaseException | None = None) -> None:
        """Wake whoever waits."""
        if self._waiter is None or self._waiter.done():
            return
        if error is None:
            self._waiter.set_result(None)
        else:
            self._waiter.set_exception(error)
            self._waiter.exception()  # who has waited may be cancelled by now


class Connection(asyncio.Protocol):
    """One connection, which carries one exchange at a time. `on_free` is called when it can carry another one."""

    __slots__ = ("_exchange", "_is_paused", "_on_free", "_on_lost", "is_lost", "transport", "uses")

    def __init__(self, on_free: Callable[["Connection"], None], on_lost: Callable[["Connection"], None]) -> None:
        self.is_lost = False
        self.uses = 0
        self._on_free = on_free
        self._on_lost = on_lost
        self._exchange: Exchange | None = None
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, head: bytes, body: bytes) -> Exchange:
        """Send a request. Raises `ResponseError` if the connection is closed."""
        assert self._exchange is None, "it carries one exchange at a time"
        if self.is_lost or self.transport.is_closing():
            raise ResponseError("the connection was closed")
        exchange = self._exchange = Exchange(self)
        self.uses += 1
        if len(body) > len(head):
            self.transport.writelines((head, body))
        else:
            self.transport.write(head + body)
        return exchange

    def data_received(self, data: bytes) -> None:
        """Hand on what has come. What nobody asked for ends the connection."""
        if self._exchange is None:
            self.abort()
        else:
            self._exchange.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self.is_lost = True
        self._on_lost(self)
        if (exchange := self._exchange) is not None:
            self._exchange = None
            exchange.lost()

    def release(self, *, is_reusable: bool) -> None:
        """Be free for another exchange, if the response allows it and the request was sent to its end."""
        self._exchange = None
        self.resume()
        if is_reusable and not self.is_lost and not self.transport.is_closing() and not self._unsent:
            self._on_free(self)
        else:
            self.abort()

    @property
    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close at once. Idempotent."""
        self.transport.abort()

    def pause(self) -> None:
        """Read no more. Idempotent."""
        if not self._is_paused and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on. Idempotent."""
        if self._is_paused:
            self._is_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
