"""uvicorn's WebSocket protocol, extended: frames are read in slices and leave in one write, a full socket is reported.

Handed to uvicorn as `ws=BatchingWebSocket`. An application finds the connection in its scope under `EXTENSION`. Where
it is absent (another server, another `--ws`) plain ASGI `send` does the same, with one write a frame. An HTTP
connection is found there too.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from millrace.errors import MillraceError
from millrace.memory import Hold
from millrace.web.flood import FloodMeter, ReadingShare
from millrace.web.slices import BEGINNING, MAX_DROPPED, Slices, TooBig
from millrace.wire import limits
from millrace.wire.limits import CloseCode
from millrace.wire.reading import LONG

if sys.platform == "linux":
    import fcntl
    import termios

    # A peer that says nothing and gets nothing is asked whether it is there: after, every (seconds), and so many times.
    KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 20), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4))

EXTENSION = "millrace.transport"
TCP_NOTSENT_LOWAT = 25  # an option of Linux: how much may wait unsent in the kernel
NOT_SENT = 16 * 1024  # bytes; more would hide a slow reader
CLOSE_WAIT = 8  # a TCP state, as Linux numbers them: the peer has sent its FIN
REPEATED, SINCE_ACK, INFO_BYTES = 2, 56, 60  # where Linux has them in TCP_INFO (times, ms); what is read of it

UTF8 = "millrace.utf8"  # of a message: the bytes of a long text, which whoever reads it decodes
TOO_BIG = "millrace.too_big"  # of a message: what is known of one that is too long
HELD = "millrace.held"  # of the same message: what its tenant holds for it; whoever reads it closes that
MAX_FRAGMENTS = 16_384  # of one message: empty ones cost next to nothing on the wire, and memory here
FRAGMENT_BYTES = 64  # that it takes beside what is in it, about
CLOSE_TIMEOUT_S = 1.0  # how long a peer may take to read the close frame and what was sent before it

# Of what uvicorn's class sets: with these in slots the rest of it has no table of its own (over 30 names have), which
# takes a kilobyte for each connection, and three reads of cold memory for each token.
_INHERITED = (
    "close_sent",
    "close_timer",
    "conn",
    "curr_msg_data_type",
    "disconnected",
    "frames",
    "handshake_complete",
    "handshake_initiated",
    "initial_response",
    "last_ping_rtt",
    "loop",
    "pending_ping_payload",
    "ping_sent_at",
    "ping_timer",
    "pong_timer",
    "queue",
    "read_paused",
    "transport",
    "writable",
)
_TEXT = 0x81  # FIN, opcode text; frames of a server are not masked (RFC 6455, 5.2)
_SHORT, _MEDIUM = 126, 65_536


class BatchingWebSocket(WebSocketsSansIOProtocol):
    """One connection. It calls `on_pause` when too much is unsent, then `on_resume` when the peer has taken it."""

    __slots__ = (
        *_INHERITED,
        "_came_at",
        "_controls",
        "_fragment_bytes",
        "_fragments",
        "_is_part",
        "_is_paused",
        "_looked_at",
        "_part_s",
        "_ponged",
        "_reading",
        "_slices",
        "_too_big",
        "_untaken_bytes",
        "held",
        "on_lost",
        "on_pause",
        "on_resume",
        "share",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self._ponged = 0  # bytes of pongs in this turn of the loop
        self._controls = FloodMeter()  # of pings and pongs
        self._slices = Slices(self.config.ws_max_size)
        self.share = ReadingShare()
        self._reading: asyncio.Handle | None = None  # reads on, soon
        self._is_paused = False  # reading from the socket, by whatever is not read yet
        self._fragments = self._fragment_bytes = 0  # of a message whose end has not come yet
        self._too_big: TooBig | None = None  # that message is, so it is dropped
        self._untaken_bytes = 0  # of long messages that the application has not taken yet
        self.held: Hold | None = None  # for all of that; the application gives it
        self._looked_at = 0.0
        self._is_part = False  # there are such bytes
        self._part_s: float | None = None  # since a look first saw the message that is not complete
        self._came_at = 0.0  # when the latest bytes came
        self.conn.max_fragment_size, self.conn.max_message_size = self.config.ws_max_size, None  # `handle_cont` looks
        self.conn.debug = False  # or at that level every header and frame is logged: keys, tickets and prompts

    def data_received(self, data: bytes) -> None:
        """Take what has come: the request as a whole, frames in slices, so that others have a turn between them."""
        if not self.handshake_initiated:
            super().data_received(data)
            if self.conn.handshake_exc is not None and not self.transport.is_closing():
                self._refuse()
            return
        self._came_at = self.loop.time()
        self._slices.add(data)
        if self._reading is None and not self.read_paused and self.handshake_complete:
            self._read()
        else:  # only now: most peers send a message and wait
            self._pause_reading()
            self._count()

    def _refuse(self) -> None:
        """Answer a head that cannot be read, which uvicorn leaves alone: with a body, or one that is too long."""
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        because = "Failed to open a WebSocket connection: its request has a body, or cannot be read.\n"
        answer = b"".join(self.conn.data_to_send())  # if websockets has one
        self.transport.write(answer or self.conn.reject(HTTPStatus.BAD_REQUEST, because).serialize())
        self.transport.close()
        self._abort_soon()

    def _read(self) -> None:
        """Parse a slice, and the others when the application has taken its messages and the loop its turn."""
        self._reading = None
        if self.read_paused:
            return
        self.share.begin()
        data = self._slices.take()
        self._too_big = self._too_big or self._slices.too_big
        if data:
            super().data_received(data)
        self._count()
        wait = self.share.end()
        if self.disconnected or self.transport.is_closing():
            self._slices.clear()
        elif wait or self._slices.has_frame:
            self._pause_reading()
            self._reading = self.loop.call_later(wait, self._read) if wait else self.loop.call_soon(self._read)
        elif not self.read_paused:
            self._resume_reading()

    async def receive(self) -> Any:
        """Return the next message of the peer. Once all are taken, the next slice is read."""
        message: Any = await self.queue.get()
        if UTF8 in message and self.held is not None:
            self._untaken_bytes -= len(message[UTF8])
            message[HELD] = self.held.move(len(message[UTF8]))
        if self.read_paused and self.queue.empty():
            self._read_on()
        return message

    def _read_on(self) -> None:
        self.read_paused = False
        if self._reading is None and (self._is_paused or self._slices):
            self._reading = self.loop.call_soon(self._read)

    def _pause_reading(self) -> None:
        if not self._is_paused and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def handle_connect(self, event: Request) -> None:
        """Put this connection into the application's scope."""
        tune(self.transport)
        super().handle_connect(event)
        if self.handshake_initiated and hasattr(self, "scope"):
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = self

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the peer has not taken."""
        return unsent(self.transport)

    @property
    def is_half_closed(self) -> bool:
        """Whether the peer has closed its side."""
        return is_half_closed(self.transport)

    async def send(self, message: Any) -> None:
        """Send a message of the application. A refusal instead of the upgrade ends the handshake, and is no fault.

        A close does not wait until the peer has read what was sent before it. It is dropped if the peer is gone or the
        protocol has closed already, which the application cannot know. Raises `ClientDisconnected` if nobody waits for
        the handshake any more.
        """
        is_late = not self.handshake_complete and self.transport.is_closing()
        if message["type"] == "websocket.close":
            self.writable.set()
            if self.close_sent or self.disconnected or is_late:
                return
            if self.read_paused:
                self._read_on()  # up to the peer's own close
        if is_late:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.accept":
            del self.request, self.response  # of the handshake, which is over; their headers take 3 kB
            self._read_on()  # what came with it
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # or every refusal is logged as an error

    def write_frames(self, payloads: list[bytes]) -> None:
        """Write text frames in one write. Does nothing once the connection is closing."""
        if not self.close_sent and not self.disconnected and not self.transport.is_closing():
            self.transport.write(frame(payloads[0]) if len(payloads) == 1 else b"".join(map(frame, payloads)))

    def is_late(self, now: float, patience_s: float) -> bool:
        """Whether the rest of a message comes too slowly. Time in which nothing is read from the peer does not count.

        Asked again and again: the time from one look to the next counts if the message is the same.
        """
        since, self._looked_at = self._looked_at, now
        if not self._is_part or self._is_unread:
            return False
        self._part_s = 0.0 if self._part_s is None else self._part_s + now - since
        come = self._part_bytes + (self._fragment_bytes if self._too_big is not None else 0)
        return self._part_s > patience_s + come / limits.LEAST_RATE

    @property
    def _part_bytes(self) -> int:
        """What has come of messages that are not complete, or not parsed yet."""
        kept = self._fragments * FRAGMENT_BYTES + (0 if self._too_big is not None else self._fragment_bytes)
        return len(self._slices) + len(self.conn.reader.buffer) + kept + self._slices.is_in_payload

    @property
    def _is_unread(self) -> bool:
        """Whether nothing of what comes from the peer is parsed now."""
        return self._is_paused or self.read_paused

    def _count(self) -> None:
        """Hold what has come and is not taken yet. What may be a short message always fits."""
        part = self._part_bytes
        if part == 0:
            self._part_s = None
        self._is_part = part > 0
        size = part + self._untaken_bytes
        if self.held is None or size == self.held.size or self.disconnected:
            return
        if size <= LONG or self.close_sent:
            self.held.count(size)
            return
        try:
            self.held.resize(size)
        except MillraceError as error:
            self._fail(CloseCode.SLOW_CONSUMER, error.message)

    def handle_ping(self) -> None:
        """Answer, as far as the socket has room; the latest answers come first in that.

        One read may bring thousands of pings, whose answers are all due with the first of them; the peer is content
        with the most recent ones (RFC 6455, 5.5.3). The bytes of this turn of the loop are counted here, because uvloop
        adds them to its buffer size only at the end of the turn.
        """
        if self._is_flooded():
            return
        due = self.conn.data_to_send()
        waiting = self.transport.get_write_buffer_size() + self._ponged
        first = len(due)
        while first and waiting < limits.SOCKET_BYTES:
            first -= 1
            waiting += len(due[first])
        if answers := b"".join(due[first:]):
            if not self._ponged:
                self.loop.call_soon(self._turn)
            self._ponged += len(answers)
            self.transport.write(answers)

    def handle_pong(self, event: Frame) -> None:
        """Take an answer to a ping of ours, or one that nobody asked for."""
        if not self._is_flooded():
            super().handle_pong(event)

    def _is_flooded(self) -> bool:
        """Count a ping or a pong, and close a peer that sends too many."""
        if self.close_sent:
            return True
        if self._controls.count(self.loop.time()):
            self._fail(CloseCode.POLICY, "too many pings")
            return True
        return False

    def _turn(self) -> None:
        self._ponged = 0

    def handle_text(self, event: Frame) -> None:
        """Take a message, or its first fragment."""
        self._fragments, self._fragment_bytes = (0, 0) if event.fin else (1, len(event.data))
        super().handle_text(event)
        event.data = b""  # the parser keeps its latest frame until the next one has come

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment of a message, up to `MAX_FRAGMENTS`. What makes it too long is dropped."""
        if self.close_sent:
            return
        self._fragments += 1
        size = self._fragment_bytes + len(event.data)
        longest = self.config.ws_max_size
        if self._fragments > MAX_FRAGMENTS or size > MAX_DROPPED * longest:
            self._fail(CloseCode.TOO_BIG, "too many fragments")
            return
        if size > longest and self._too_big is None:
            self._too_big = TooBig(b"".join(self.frames)[:BEGINNING], size)
        if self._too_big is not None:
            self.frames, event.data = [], b""
        self._fragment_bytes = size
        if event.fin:
            self._fragments = self._fragment_bytes = 0
        super().handle_cont(event)
        event.data = b""

    def send_receive_event_to_app(self) -> None:
        """Hand a message to the application, and parse no more before it is taken.

        Bad UTF-8 closes the connection (RFC 6455, 8.1); in a long text whoever decodes it finds that.
        """
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        self._part_s = None
        if self.close_sent:
            return
        too_big, self._too_big = self._too_big, None
        if self.curr_msg_data_type == "bytes":
            self.queue.put_nowait({"type": "websocket.receive", "bytes": data})
        elif too_big is not None:
            self.queue.put_nowait(cast("Any", {"type": "websocket.receive", TOO_BIG: too_big}))
        elif len(data) > LONG:
            self._untaken_bytes += len(data)
            self.queue.put_nowait(cast("Any", {"type": "websocket.receive", UTF8: data}))
        else:
            try:
                self.queue.put_nowait({"type": "websocket.receive", "text": data.decode()})
            except UnicodeDecodeError:
                self._fail(CloseCode.NOT_UTF8, "not UTF-8")
                return
        self.read_paused = True

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.frames = []
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def keepalive_timeout(self) -> None:
        """Give up a peer that answers no ping: report the disconnect, and do not wait for the peer to read.

        One whose bytes come, or are not read yet, is alive. Its pong is behind them.
        """
        patience_s = self.ping_timeout or 0.0
        if self._is_unread or (self._part_bytes and self.loop.time() - self._came_at < patience_s):
            self.pong_timer = self.loop.call_later(patience_s, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.FAULT})
        self._abort_soon()

    def shutdown(self) -> None:
        """Close, and drop the connection soon if the peer does not read."""
        super().shutdown()
        self._abort_soon()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application is done: drop the connection soon, read or not, and what refers back to it."""
        super().on_task_complete(task)
        self._abort_soon()
        self.scope = cast("Any", None)

    def _abort_soon(self) -> None:
        self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the peer is gone. A transport that is lost while it is paused never resumes."""
        super().connection_lost(exc)
        self.conn.parser.close()  # it refers back to the connection
        self._slices.clear()
        if self._reading is not None:
            self._reading.cancel()
        if self.held is not None:
            self.held.close()
        if self.on_lost is not None:
            self.on_lost()

    def eof_received(self) -> None:
        """Note that the peer is gone: an end of the stream without a close frame is no close (RFC 6455, 7.1.1)."""
        super().eof_received()
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        """Note that too much is unsent."""
        super().pause_writing()
        if self.on_pause is not None:
            self.on_pause()

    def resume_writing(self) -> None:
        """Note that the peer has taken enough."""
        super().resume_writing()
        if self.on_resume is not None:
            self.on_resume()


def tune(transport: asyncio.Transport) -> None:
    """Send without delay, and keep what waits in this process, where it is counted, and not in the kernel."""
    transport.set_write_buffer_limits(high=limits.SOCKET_BYTES)
    connection = transport.get_extra_info("socket")
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        # Not every loop sets it on a socket it was handed. Without it a second small write waits 40 ms for an ACK.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            connection.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOT_SENT)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEP_ALIVE:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)


def is_half_closed(transport: asyncio.Transport) -> bool:
    """Whether the peer has closed its side, even if what it sent before is not read yet. Known on Linux only."""
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or transport.is_closing() or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE_WAIT)


def unheard_s(transport: asyncio.Transport) -> float:
    """Return for how many seconds the peer's system has acknowledged nothing, if what was sent had to be repeated.

    It acknowledges for a peer that does not read, too. One that is gone without a word, or behind a dead network, does
    not, and the system would repeat for a quarter of an hour. Known on Linux only.
    """
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or transport.is_closing() or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return 0.0
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
    return int.from_bytes(info[SINCE_ACK:INFO_BYTES], sys.byteorder) / 1000 if info[REPEATED] else 0.0


def unsent(transport: asyncio.Transport) -> int:
    """Return how many bytes wait here and, if any do, in the kernel, whose buffer would hide a slow peer."""
    waiting = transport.get_write_buffer_size()
    if waiting and sys.platform == "linux" and not transport.is_closing():
        queue = fcntl.ioctl(transport.get_extra_info("socket"), termios.TIOCOUTQ, bytes(4))
        waiting += int.from_bytes(queue, sys.byteorder)
    return waiting


def frame(payload: bytes) -> bytes:
    """Return an unmasked, final text frame."""
    length = len(payload)
    return (_HEADERS[length] if length < len(_HEADERS) else header(length)) + payload


def header(length: int) -> bytes:
    """Return the header of an unmasked, final text frame."""
    if length < _SHORT:
        return bytes((_TEXT, length))
    if length < _MEDIUM:
        return bytes((_TEXT, 126)) + length.to_bytes(2)
    return bytes((_TEXT, 127)) + length.to_bytes(8)


_HEADERS = tuple(header(length) for length in range(1024))  # of nearly all frames: one is made for every token
