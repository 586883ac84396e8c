"""What goes out on one connection, in the order of the facts. What one read brought leaves in one write."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

HIGH_WATER = 256 * 1024  # bytes that may wait where the socket cannot be seen

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class FrameWriter(Protocol):
    """A connection that takes many frames at once, and says when it cannot keep up."""

    on_pause: Callable[[], None] | None
    on_resume: Callable[[], None] | None

    def write_frames(self, payloads: list[bytes]) -> None:
        """Write text frames, now."""
        ...


class Outbox:
    """Frames put here during one turn of the loop leave together at its end; `put` never waits."""

    def __init__(self, writer: FrameWriter, on_pause: Callable[[], None], on_resume: Callable[[], None]) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._frames: list[bytes] = []
        writer.on_pause = on_pause
        writer.on_resume = on_resume

    def put(self, frame: bytes) -> None:
        """Send one frame, after all those before it."""
        if not self._frames:
            self._loop.call_soon(self.flush)
        self._frames.append(frame)

    def flush(self) -> None:
        """Write what waits."""
        frames, self._frames = self._frames, []
        if frames:
            self._writer.write_frames(frames)


class AsgiWriter:
    """The fallback on plain ASGI: one task sends frame after frame, and counts what it has not sent yet."""

    def __init__(self, send: Send) -> None:
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self._send = send
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._paused = False
        self._task: asyncio.Task[None] | None = None

    def write_frames(self, payloads: list[bytes]) -> None:
        """Queue frames for the task."""
        self._waiting.extend(payloads)
        self._bytes += sum(map(len, payloads))
        if self._bytes > HIGH_WATER and not self._paused and self.on_pause is not None:
            self._paused = True
            self.on_pause()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        while self._waiting:
            frame = self._waiting.popleft()
            try:
                await self._send({"type": "websocket.send", "text": frame.decode()})
            except Exception:  # servers differ in how they say that the peer is gone
                self._waiting.clear()
                return
            self._bytes -= len(frame)
        if self._paused and self.on_resume is not None:
            self._paused = False
            self.on_resume()
