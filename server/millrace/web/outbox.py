"""The output of one WebSocket connection (PROTOCOL.md, A connection, Slow readers).

All frames of one turn of the event loop leave in one write. While the socket is full nothing is taken from the event
logs, so that text merges there. When the socket is writable again, the responses take turns, one frame each. When too
much waits, the connection is congested, and the models whose words only it listens to are not read on.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import Any, Protocol

from millrace import log
from millrace.dialects.event_log import EventLog, FrameCodec
from millrace.errors import EXITS, internal_error
from millrace.memory import Hold
from millrace.web.flood import ReadingShare
from millrace.wire import limits

AT_ONCE = 16  # text deltas that are written without a look at the room that each one leaves
ONE_FRAME = 1  # byte; `EventLog.frames` returns at least one frame, so with this it returns exactly one

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class FrameWriter(Protocol):
    """Writes to a connection, many frames at once. Calls `on_pause` when the socket is full, then `on_resume`."""

    on_pause: Callable[[], None] | None
    on_resume: Callable[[], None] | None
    on_lost: Callable[[], None] | None  # the peer is gone; nothing is called after it
    held: Hold | None  # for what has come of the peer's messages
    share: ReadingShare  # of the loop, for all that is read of the peer

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the peer has not taken."""
        ...

    @property
    def is_half_closed(self) -> bool:
        """Whether the peer has closed its side, even if what it sent before is not read yet."""
        ...

    def write_frames(self, payloads: list[bytes]) -> None:
        """Write text frames, now."""
        ...

    def is_late(self, now: float, patience_s: float) -> bool:
        """Whether a message of the peer comes too slowly. Asked again and again, with the time in seconds."""
        ...


class Feed:
    """One response shown on one connection, from an event's number on. A listener of its event log."""

    __slots__ = ("_at", "_codec", "_outbox", "_over", "event_log", "finished", "waiting_bytes")

    def __init__(
        self,
        event_log: EventLog,
        outbox: "Outbox",
        codec: FrameCodec,
        start: int = 0,
        over: asyncio.Future[None] | None = None,  # done when nothing happens to the response any more
    ) -> None:
        self.event_log = event_log
        # Done when its last frame has been written and `over` is done, or when that is done and no frame will come.
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting_bytes = 0  # not yet written, about
        self._outbox = outbox
        self._codec = codec
        self._at = start
        self._over = over
        if over is not None:
            over.add_done_callback(self._end)
        outbox.feeds.add(self)
        event_log.join(self)
        if event_log.is_begun or event_log.is_finished:
            self.notify(0)

    @property
    def ready(self) -> bool:
        """Whether its connection takes more in this turn of the loop."""
        return self._outbox.ready

    @property
    def congested(self) -> bool:
        """Whether too much waits on its connection."""
        return self._outbox.congested

    def show(self, deltas: list[str], number: int) -> bool:
        """Write text deltas now, the first as event `number`, if it has written all before and there is room."""
        outbox = self._outbox
        if number != self._at or not outbox.ready or len(deltas) > AT_ONCE:
            return False
        if len(deltas) == 1:  # as nearly always
            outbox.put(self._codec.delta(deltas[0], number))
        else:
            outbox.put_all([*map(self._codec.delta, deltas, count(number))])
        self._at = number + len(deltas)
        self.waiting_bytes = 0
        return True

    def notify(self, size: int) -> None:
        """Write what is new, or let it wait."""
        if not self._outbox.ready:
            self.waiting_bytes += size
            self._outbox.wait_for_room(self, size)
            return
        if self.write(self._outbox.free_bytes) and not self._outbox.ready:
            self._outbox.wait_for_room(self, 0)

    def write(self, free_bytes: int) -> bool:
        """Write the next frames, up to the one that passes so many bytes. Return whether there were any."""
        try:
            frames = self.event_log.frames(self._at, self._codec, free_bytes)
        except EXITS:
            raise
        except BaseException as error:  # a fault of this response is not one of its connection
            log.get().error("event not encoded", id=self.event_log.response.id, exc_info=error)
            self.fail()
            return False
        if frames:
            self._at += len(frames)
            size = self._outbox.put_all(frames)
            self.waiting_bytes = max(0, self.waiting_bytes - size)
        else:
            self.waiting_bytes = 0
        if self.event_log.ends_at(self._at) and not self.finished.done():
            if self.event_log.is_broken:
                self.fail()
            elif self._over is None or self._over.done():
                self.finished.set_result(None)
        return bool(frames)

    def fail(self) -> None:
        """Let who waits for the end raise `internal_error`; write nothing more."""
        if not self.finished.done():
            self.finished.set_exception(internal_error())
        self._outbox.forget(self)
        self.event_log.leave(self)

    def _end(self, _over: asyncio.Future[None]) -> None:
        """Finish if all has been written, or if there is nothing to write."""
        if not self.finished.done() and (self.event_log.ends_at(self._at) or not self.event_log.is_finished):
            self.finished.set_result(None)

    def close(self) -> None:
        """Stop listening. Idempotent."""
        if self._over is not None:
            self._over.remove_done_callback(self._end)
        self._outbox.forget(self)
        self.event_log.leave(self)
        if not self.finished.done():
            self.finished.cancel()
        elif not self.finished.cancelled():
            self.finished.exception()  # nobody may have waited for it


class Turn:
    """The connections that have something to write in this turn of the loop. One callback writes for all of them."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due: deque[Outbox] = deque()

    def add(self, outbox: "Outbox") -> None:
        """Have an outbox flushed at the end of this turn."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._end)
        self._due.append(outbox)

    def _end(self) -> None:
        due, self._due = self._due, deque()
        try:
            while due:
                due.popleft().flush()
        finally:
            for outbox in due:  # after one that raised
                self.add(outbox)


class Outbox:
    """Frames put here during one turn of the loop leave together at its end; `put` never waits."""

    __slots__ = (
        "_bytes",
        "_frames",
        "_turn",
        "_turns",
        "_waited_for",
        "_writer",
        "congested",
        "feeds",
        "is_writable",
        "on_crash",
        "on_full",
        "ready",
    )

    def __init__(self, writer: FrameWriter, turn: Turn | None = None) -> None:
        self.feeds: set[Feed] = set()
        self.congested = False
        self.ready = True  # more can be written: the socket is not full, nor is this turn's write
        self.is_writable = True  # the socket is not full
        self.on_crash: Callable[[BaseException], None] = _raise  # called when frames could not be written
        self.on_full: Callable[[], None] = _ignore  # called when the peer does not keep up any more
        self._writer = writer
        self._turn = turn or Turn()  # of all connections
        self._frames: list[bytes] = []
        self._bytes = 0
        self._waited_for: asyncio.Event | None = None  # for what `until_writable` waits; it holds most of a kilobyte
        self._turns: dict[Feed, None] = {}  # those with something to write, in the order of their turns
        writer.on_pause = self._pause
        writer.on_resume = self._resume

    @property
    def free_bytes(self) -> int:
        """Bytes that still fit into this turn's write."""
        return limits.SOCKET_BYTES - self._bytes

    @property
    def _has_room(self) -> bool:
        """Whether this turn's write is not full."""
        return self._bytes < limits.SOCKET_BYTES and len(self._frames) < limits.MAX_FRAMES

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the peer has not taken."""
        return self._writer.unsent

    @property
    def is_half_closed(self) -> bool:
        """Whether the peer has closed its side."""
        return self._writer.is_half_closed

    async def until_writable(self) -> None:
        """Wait while the socket is full."""
        if not self.is_writable:
            self._waited_for = self._waited_for or asyncio.Event()
            await self._waited_for.wait()

    def put(self, frame: bytes) -> None:
        """Send one frame, after all those before it."""
        if not self._frames:
            self._turn.add(self)
        self._frames.append(frame)
        self._bytes += len(frame)
        self.ready = self.ready and self._has_room

    def put_all(self, frames: list[bytes]) -> int:
        """Send frames, after all those before them; return their size."""
        if not self._frames:
            self._turn.add(self)
        size = sum(map(len, frames))
        self._frames += frames
        self._bytes += size
        self.ready = self.ready and self._has_room
        return size

    def flush(self) -> None:
        """Write the frames of this turn of the loop, then take those that did not fit into it."""
        frames, self._frames, self._bytes = self._frames, [], 0
        self.ready = self.is_writable
        try:
            if frames:
                self._writer.write_frames(frames)
        except EXITS:
            raise
        except BaseException as error:
            self.on_crash(error)
            return
        if self._turns:
            self._take_turns()

    def wait_for_room(self, feed: Feed, size: int) -> None:
        """Queue a response until the socket has room, with so many bytes more that wait."""
        self._turns.setdefault(feed)
        if size:
            self._update_congestion()

    def forget(self, feed: Feed) -> None:
        """Remove a response from the queue. Idempotent."""
        self.feeds.discard(feed)
        if feed in self._turns:
            del self._turns[feed]
            self._update_congestion()

    def _take_turns(self) -> None:
        while self._turns and self.ready:
            feed = next(iter(self._turns))
            del self._turns[feed]
            if feed.write(ONE_FRAME):
                self._turns[feed] = None
        self._update_congestion()

    def _update_congestion(self) -> None:
        """See whether too much waits. If that has changed, apply it to the model of each response shown here.

        The bound to become congested is twice the bound to remain so. With one bound a slow peer would pause and
        resume the model's socket with every frame that it takes.
        """
        waiting_bytes = sum(feed.waiting_bytes for feed in self._turns)
        bound = limits.WAITING_BYTES // 2 if self.congested else limits.WAITING_BYTES
        congested = not self.is_writable and waiting_bytes > bound
        if congested is not self.congested:
            self.congested = congested
            for feed in tuple(self.feeds):
                feed.event_log.response.apply_backpressure()

    def _pause(self) -> None:
        self.ready = False
        self.is_writable = False
        self.on_full()
        self._update_congestion()

    def _resume(self) -> None:
        self.is_writable = True
        if self._waited_for is not None:
            self._waited_for.set()
            self._waited_for = None
        self.ready = self._has_room
        self._take_turns()


def _raise(error: BaseException) -> None:
    raise error


def _ignore() -> None:
    pass


class AsgiWriter:
    """The fallback on plain ASGI, one frame a call: a task sends the frames and counts those that it has not sent."""

    def __init__(self, send: Send) -> None:
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.held: Hold | None = None
        self.share = ReadingShare()
        self.unsent = 0
        self.is_half_closed = False  # plain ASGI says it as a disconnect
        self._send = send
        self._waiting: deque[bytes] = deque()
        self._paused = False
        self._task: asyncio.Task[None] | None = None

    def write_frames(self, payloads: list[bytes]) -> None:
        """Queue frames for the task, and start it if it does not run."""
        self._waiting.extend(payloads)
        self.unsent += sum(map(len, payloads))
        if self.unsent > limits.SOCKET_BYTES and not self._paused and self.on_pause is not None:
            self._paused = True
            self.on_pause()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._drain())

    def is_late(self, _now: float, _patience_s: float) -> bool:
        """Whole messages come here; how slowly, only the server knows."""
        return False

    async def drained(self) -> None:
        """Wait until all frames are sent, or the peer is gone."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _drain(self) -> None:
        while self._waiting:
            frame = self._waiting.popleft()
            try:
                await self._send({"type": "websocket.send", "text": frame.decode()})
            except Exception:  # servers differ in how they say that the peer is gone
                self._waiting.clear()
                self.unsent = 0
                if self.on_lost is not None:
                    self.on_lost()
                return
            self.unsent -= len(frame)
        if self._paused and self.on_resume is not None:
            self._paused = False
            self.on_resume()
