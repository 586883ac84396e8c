"""uvicorn's WebSocket protocol with one door more: many text frames in one write.

Handed to uvicorn as `ws=JoinedWebSocket`; an application finds it in its scope under `EXTENSION`, and where it is
absent (another server, another `--ws`) plain ASGI `send` does the same, one write a frame.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

EXTENSION = "millrace.transport"
HIGH_WATER = 256 * 1024  # bytes that may wait in the socket before its models are read no further

FAREWELL_S = 1.0  # how long a peer has to take the close frame and what was before it

_TEXT = 0x81  # FIN, opcode text; frames of a server are not masked (RFC 6455, 5.2)
_SHORT, _MEDIUM = 126, 65_536


class JoinedWebSocket(WebSocketsSansIOProtocol):
    """One connection. `on_pause` and `on_resume` tell of a peer that reads slower than it is written to."""

    on_pause: Callable[[], None] | None = None
    on_resume: Callable[[], None] | None = None

    def handle_connect(self, event: Request) -> None:
        """Put this transport into the application's scope."""
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        connection = self.transport.get_extra_info("socket")
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            # Not every loop sets it on a socket it was handed; without it a second small write waits 40 ms for an ACK.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle_connect(event)
        if self.handshake_initiated and hasattr(self, "scope"):
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = self

    def write_frames(self, payloads: list[bytes]) -> None:
        """Write text frames at once and in one piece; a no-op once the connection closes."""
        if not self.close_sent and not self.disconnected and not self.transport.is_closing():
            self.transport.write(b"".join([part for payload in payloads for part in (header(len(payload)), payload)]))

    def keepalive_timeout(self) -> None:
        """Give up a peer that answers no ping: tell the application, and do not wait for it to read."""
        super().keepalive_timeout()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1011})
        self._abort_soon()

    def shutdown(self) -> None:
        """Close, without waiting for ever for a peer that does not read."""
        super().shutdown()
        self._abort_soon()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application is done; whatever the peer has not read by then it will not get."""
        super().on_task_complete(task)
        self._abort_soon()

    def _abort_soon(self) -> None:
        self.loop.call_later(FAREWELL_S, self.transport.abort)

    def pause_writing(self) -> None:
        """Take the news that too much waits in the socket."""
        super().pause_writing()
        if self.on_pause is not None:
            self.on_pause()

    def resume_writing(self) -> None:
        """Take the news that the socket has room again."""
        super().resume_writing()
        if self.on_resume is not None:
            self.on_resume()


def header(length: int) -> bytes:
    """Return the header of an unmasked, final text frame."""
    if length < _SHORT:
        return bytes((_TEXT, length))
    if length < _MEDIUM:
        return bytes((_TEXT, 126)) + length.to_bytes(2)
    return bytes((_TEXT, 127)) + length.to_bytes(8)
