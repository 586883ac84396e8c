"""uvicorn's HTTP/1 protocol with timeouts for requests that do not arrive (slowloris).

Handed to uvicorn as `http=`. The head of a request must arrive within a time of the connection, or of the last answer
being read. The body must arrive within the time that the longest one may take; endpoints that read theirs are stricter
(`arrivals.py`). Single bytes do not restart the timer. What takes long to parse, such as chunks of single bytes, is
parsed in pieces, between which others have their turns. An application finds the connection in its scope under
`EXTENSION`.
"""

import asyncio
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from millrace.web.flood import ReadingShare
from millrace.web.websocket import EXTENSION, tune, unheard_s, unsent
from millrace.wire import limits

LONGER_S = 5.0  # than endpoints wait for a body: a body that no endpoint reads
PIECE, PLAIN_PIECE = 4096, 65_536  # bytes that are parsed at once
HALF_OPEN = 4096  # connections without a whole head, beyond those that may be open

_NOTHING = memoryview(b"")


class TimedHttp(H11Protocol):
    """One connection until it is upgraded. The times and `max_connections` are set by `timed`."""

    head_timeout_s = 10.0
    body_timeout_s = 300.0
    max_connections = 10_000 + HALF_OPEN  # of the process, of all kinds; above it new ones are dropped

    _timer: asyncio.TimerHandle | None = None
    _awaited: object = None  # what the timer waits for: a state of the peer, as h11 names it
    _unread = 0  # bytes, when the timer was set
    _unparsed = _NOTHING  # what has come, while its turn has not
    _is_paused = False  # nothing is read meanwhile
    _parsing: asyncio.Handle | None = None  # parses on, soon

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the peer has not taken."""
        return unsent(self.transport)

    @property
    def unheard_s(self) -> float:
        """Seconds for which the peer's system has not acknowledged what was sent."""
        return unheard_s(self.transport)

    @property
    def is_gone(self) -> bool:
        """Whether the client of the request that is being answered has gone."""
        return self.transport.is_closing() or self.cycle.disconnected

    def abort(self) -> None:
        """Close the connection at once; what was not sent is lost."""
        self.transport.abort()

    def expect_longer(self, bytes_: int) -> None:
        """Give the body that comes now the time that so many bytes may take."""
        if self._awaited is h11.SEND_BODY and self._timer is not None:
            self._timer.cancel()
            longest_s = self.body_timeout_s + bytes_ / limits.LEAST_RATE
            self._timer = self.loop.call_later(longest_s, self.transport.abort)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer, or drop the connection where there are too many."""
        super().connection_made(transport)
        self._share = ReadingShare()
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        tune(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Parse what has come, or its beginning: others have their turns before the rest."""
        self._unparsed = memoryview(bytes(self._unparsed) + data)
        if self._parsing is None:
            self._parse()
        else:
            self._pause()  # uvicorn has resumed it

    def _parse(self) -> None:
        """Parse piece by piece. A body takes no more of the loop than a connection's share."""
        self._parsing, wait = None, 0.0
        while self._unparsed and not (wait or self._has_request or self.transport.is_closing()):
            is_body = self.conn.their_state is h11.SEND_BODY
            size = PLAIN_PIECE if is_body and len(self._unparsed) > PIECE and not self._has_chunks else PIECE
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            if is_body:
                self._share.begin()
            super().data_received(cast("bytes", piece))
            wait = self._share.end() if is_body else 0.0
        if not self._unparsed or self.transport.is_closing():
            self._unparsed = _NOTHING
            self._resume()
            return
        self._pause()
        if not self._has_request:
            self._parsing = self.loop.call_later(wait, self._parse)

    @property
    def _has_request(self) -> bool:
        """Whether a whole request is here and its answer is not, which comes before what follows."""
        return self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)

    @property
    def _has_chunks(self) -> bool:
        """Whether the body comes in chunks: any other costs next to nothing to parse."""
        return any(name == b"transfer-encoding" for name, _ in self.headers)

    def _pause(self) -> None:
        if not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        """Read on, unless uvicorn has a reason not to."""
        if self._is_paused:
            self._is_paused = False
            if not self.flow.read_paused and not self.transport.is_closing():
                self.transport.resume_reading()

    def handle_events(self) -> None:
        """Handle what has arrived, then set the timer for what has not."""
        super().handle_events()
        if self.scope is not None:
            cast("dict[str, Any]", self.scope).setdefault("extensions", {})[EXTENSION] = self
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read. An application that is still reading it, or answering, has lost its client."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Set the timer for the next head."""
        super().on_response_complete()
        self._watch()
        if self._unparsed and self._parsing is None:
            self._parsing = self.loop.call_soon(self._parse)

    def eof_received(self) -> None:
        """Note that the client has closed its side: it has gone, also if it has not taken what was sent.

        What waits for it would hold up the end of the connection, and with it the end of what is being answered.
        """
        super().eof_received()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers, and drop what refers back here, or only the garbage collector would find this connection.

        uvicorn's own timer, for the next request, would keep one that was reset.
        """
        self._stop()
        self._unparsed = _NOTHING
        if self._parsing is not None:
            self._parsing.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.scope = self.cycle = cast("Any", None)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to the WebSocket protocol, whose pings notice a dead peer."""
        self._stop()
        self._awaited = h11.SWITCHED_PROTOCOL
        self._resume()
        super().handle_websocket_upgrade(event)
        self.scope = cast("Any", None)  # it refers back here, and this is not needed while the WebSocket is open
        frames = self.conn.trailing_data[0] + bytes(self._unparsed)  # of a client that does not wait for the answer
        self._unparsed = _NOTHING
        if frames:
            cast("asyncio.Protocol", self.transport.get_protocol()).data_received(frames)

    def _watch(self) -> None:
        """Start the timer for what the peer owes now. It is not restarted for the same thing."""
        if self._awaited is h11.SWITCHED_PROTOCOL or self.transport.is_closing():
            return
        state: object = self.conn.their_state
        if state is self._awaited:
            return
        self._stop()
        self._awaited = state
        if state is h11.IDLE:
            self._await_head()
        elif state is h11.SEND_BODY:
            self._timer = self.loop.call_later(self.body_timeout_s, self.transport.abort)

    def _await_head(self) -> None:
        self._unread = self.unsent
        self._timer = self.loop.call_later(self.head_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        """Drop the connection, unless the peer is still reading the last answer: it had no reason to ask again."""
        if 0 < self.unsent < self._unread:
            self._await_head()
        else:
            self.transport.abort()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def timed(head_timeout_s: float, stuck_s: float, max_message_bytes: int, max_connections: int) -> type[TimedHttp]:
    """Return the protocol for these settings."""
    attributes: dict[str, Any] = {
        "head_timeout_s": head_timeout_s,
        "body_timeout_s": stuck_s + max_message_bytes / limits.LEAST_RATE + LONGER_S,
        "max_connections": max_connections + HALF_OPEN,
    }
    return type("TimedHttp", (TimedHttp,), attributes)
