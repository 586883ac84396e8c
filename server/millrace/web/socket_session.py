"""One WebSocket, whatever is spoken on it: reads frames, keeps the pace, decides with `liveness` when it ends.

Everything it writes goes through its outbox. What the frames mean is for `session` (the Responses mode) and
`chat_session` (the AI SDK's chat transport).
"""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from msgspec import Struct
from starlette.websockets import WebSocket, WebSocketDisconnect

from millrace import log
from millrace.errors import EXITS, MillraceError, internal_error
from millrace.funnel.offload import in_thread
from millrace.memory import Hold
from millrace.principal import Principal
from millrace.runs.intake import draining
from millrace.runs.kept import Repeat
from millrace.runs.run import Run
from millrace.types import Request, Trace
from millrace.web.flood import FloodMeter
from millrace.web.jobs import Job, Jobs, Show
from millrace.web.liveness import Closing, Liveness
from millrace.web.outbox import AsgiWriter, FrameWriter, Outbox
from millrace.web.process import Process
from millrace.web.slices import MAX_DROPPED, TooBig
from millrace.web.websocket import CLOSE_TIMEOUT_S, HELD, TOO_BIG, UTF8
from millrace.wire.limits import CloseCode
from millrace.wire.reading import LONG, is_utf8
from millrace.wire.requests import Create, Envelope
from millrace.wire.ui_steps import Earlier

MAX_FRAMES_WHILE_PAUSED = 32  # frames that are read from a peer that does not read
FAULT = internal_error().message  # why a session that crashed is closed
FRAMES_PER_TURN = 64  # frames that are read before other connections get a turn

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Closed(Exception):  # noqa: N818 - an end, not an error
    """The connection is to be closed; `code` is the close code."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


async def close(websocket: WebSocket, writer: FrameWriter, code: int, reason: str) -> None:
    """Close after all that was written before. A peer that is gone, or takes nothing, cannot be told."""
    with suppress(WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            if isinstance(writer, AsgiWriter):
                await writer.drained()
            await websocket.close(code, reason)


class Frame(Struct):
    """What could be read of a frame, and what is wrong with it."""

    envelope: Envelope | None = None
    create: Create | None = None
    repeat: Repeat | None = None
    session: str = ""  # that it names
    trace: Trace | None = None  # that it belongs to
    earlier: Earlier | None = None  # steps of the message that the answer goes on with
    error: BaseException | None = None


class SocketSession(ABC):
    """One accepted connection, from its first frame to its last."""

    __slots__ = (
        "_close",
        "_has_lanes",
        "_jobs",
        "_liveness",
        "_outbox",
        "_principal",
        "_process",
        "_read_while_paused",
        "_refused",
        "_writer",
    )

    def __init__(self, process: Process, writer: FrameWriter, principal: Principal, show: Show) -> None:
        """`show` says how a run is shown here."""
        self._process = process
        self._principal = principal
        self._writer = writer
        writer.held = process.memory.hold(principal.tenant)
        self._outbox = Outbox(writer, process.turn)
        self._jobs = Jobs(process, self._outbox, show, self._refuse, self._end)
        self._liveness = Liveness(
            process, self._outbox, self._jobs, principal, close=self.close, announce=self._announce
        )
        self._read_while_paused = 0  # frames
        self._has_lanes = False  # a frame has named one
        self._refused = FloodMeter()
        self._close: asyncio.Future[Closed | None] = asyncio.get_running_loop().create_future()
        writer.on_lost = self._peer_lost
        self._outbox.on_crash = self._crashed
        self._outbox.on_full = self._on_full

    @abstractmethod
    def _greet(self) -> None:
        """Write what is said first."""

    @abstractmethod
    def _opened(self, data: str | bytes, frame: Frame) -> None:
        """Read a frame into `frame`, as far as it goes; raise what is wrong with it. Called in any thread."""

    @abstractmethod
    def _beginning(self, data: bytes) -> Envelope:
        """Return what the beginning of a frame says whose rest was dropped. Raises nothing."""

    @abstractmethod
    def _do(self, frame: Frame, held: Hold) -> None:
        """Do what a frame says that could be read."""

    def _refuse(self, error: MillraceError, stream_id: str | None = None, event_id: str | None = None) -> None:
        """Refuse a request on its lane; or a frame, with as much of its ids as is known."""
        self._process.metrics.figures.refused(error.code)
        self._tell_refusal(error, stream_id, event_id)

    @abstractmethod
    def _tell_refusal(self, error: MillraceError, stream_id: str | None, event_id: str | None) -> None:
        """Write that something was refused."""

    def _end(self, job: Job) -> None:  # noqa: B027 - most have nothing to say
        """Write what follows the last event of a request."""

    def _announce(self, closing: Closing) -> None:
        """Be swept until the connection is closed. One that can say so tells its client."""
        self._watch()

    async def run(self, receive: Receive) -> None:
        """Read until the peer is gone, or raise `Closed`; then stop listening to what still runs."""
        self._process.sessions.add(self)
        self._greet()
        reading = asyncio.get_running_loop().create_task(self._read(receive))
        reading.add_done_callback(self._read_to_end)
        try:
            closed = await self._close
            if reading.done():
                reading.result()
            elif closed is not None:
                raise closed
        finally:
            self._process.sessions.discard(self)
            self._process.busy.discard(self)
            reading.cancel()
            await self._jobs.release()
            self._outbox.flush()
            self._let_go()

    def _let_go(self) -> None:
        """Drop what refers back to this session.

        Else all of the connection is kept until the garbage collector comes, which looks at what is old only once in
        some thousands of connections.
        """
        self._writer.on_pause = self._writer.on_resume = self._writer.on_lost = None
        del self._jobs, self._liveness, self._outbox

    def close(self, code: CloseCode, reason: str) -> None:
        """End the connection soon. Only the first call counts."""
        if not self._close.done():
            self._close.set_result(Closed(code, reason))

    def _watch(self) -> None:
        """Be swept at every beat, until there is no reason for it any more."""
        self._process.busy.add(self)

    def _on_full(self) -> None:
        """Count from now how long the peer takes nothing."""
        self._liveness.start_counting()
        self._watch()

    def _peer_lost(self) -> None:
        """End the session of a peer that is gone, even if frames of it wait to be read (What always holds, 7)."""
        if not self._close.done():
            self._close.set_result(None)

    def _read_to_end(self, _reading: asyncio.Task[None]) -> None:
        """End the session of a peer that says no more, or of which nothing more can be read; `run` sees why."""
        self._peer_lost()

    def _crashed(self, error: BaseException) -> None:
        """End the session, since what it had to write is lost."""
        log.get().error("session crashed", exc_info=error)
        self.close(CloseCode.FAULT, FAULT)

    def start_closing(self, by: float, spread_s: float = 0.0) -> None:
        """Take no new requests, and say so; what runs may go on until then. Only the first call counts."""
        self._liveness.start_closing(by, spread_s)

    def sweep(self, now: float) -> None:
        """Do what is due. Called by the sweeper."""
        if self._liveness.is_idle:
            self._process.busy.discard(self)
        if not self._outbox.is_writable and self._outbox.is_half_closed:
            self._peer_lost()  # while it is paused nobody reads the end of its stream
        if self._writer.is_late(now, self._process.stuck_s):
            self.close(CloseCode.POLICY, "a message came too slowly")
        self._liveness.sweep(now)

    async def _read(self, receive: Receive) -> None:
        for count in itertools.count(1):
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message[UTF8] if UTF8 in message else message.get("text")
            held = message.get(HELD) or self._process.memory.hold(self._principal.tenant)
            try:
                if TOO_BIG in message:
                    self._refuse_too_big(message[TOO_BIG])
                else:
                    await self._take(data, held)
            finally:
                held.close()
            del data, message  # it may be large, and the next one may be long in coming
            await self._wait_while_paused()
            if count % FRAMES_PER_TURN == 0:
                await asyncio.sleep(0)

    async def _wait_while_paused(self) -> None:
        """Read on while the peer keeps up. One that does not may still send a few frames: it may want to cancel."""
        if self._outbox.is_writable:
            self._read_while_paused = 0
            return
        self._read_while_paused += 1
        if self._read_while_paused > MAX_FRAMES_WHILE_PAUSED:
            await self._outbox.until_writable()

    def _refuse_too_big(self, given: TooBig) -> None:
        """Refuse a frame that is too long, and close if nobody could know whose it was, or too much of it is to come.

        Without a `stream_id` and an `event_id` at its beginning it is a request of the only lane, if there is no other.
        """
        longest = self._process.max_message_bytes
        message = f"the frame is longer than {longest} bytes"
        envelope = self._beginning(given.beginning)
        self._refuse_frame(MillraceError("message_too_big", message), envelope)
        self._count_refused()
        is_known = envelope.stream_id is not None or envelope.event_id is not None or not self._has_lanes
        if not is_known or given.size > MAX_DROPPED * longest:
            raise Closed(CloseCode.TOO_BIG, message)

    async def _take(self, data: str | bytes | None, held: Hold) -> None:
        """Act on one frame. A long one is read off the loop, and the frames behind it wait.

        What is `held` for the frame goes over to its request, if it is one.
        """
        if data is None:
            raise Closed(CloseCode.NOT_TEXT, "text frames only")
        if len(data) > LONG:
            frame = await in_thread(self._principal.tenant, len(data), partial(self._open, data))
        else:
            self._writer.share.begin()
            frame = self._open(data)
        self._act(frame, held)
        if len(data) <= LONG and (wait := self._writer.share.end()):
            await asyncio.sleep(wait)

    def _open(self, data: str | bytes) -> Frame:
        """Read one frame, whatever is wrong with it. Called in any thread."""
        frame = Frame()
        try:
            if isinstance(data, bytes) and not is_utf8(data):
                raise Closed(CloseCode.NOT_UTF8, "not UTF-8")
            self._opened(data, frame)
        except (MillraceError, Closed) as error:
            frame.error = error.with_traceback(None)  # it would keep the bytes until the next collection
        except EXITS:
            raise
        except BaseException as error:  # also a panic in a library
            frame.error = error
        return frame

    def _act(self, frame: Frame, held: Hold) -> None:
        """Do what a frame says. Whatever is wrong with it is answered on its lane, and the connection goes on."""
        self._has_lanes |= frame.envelope is not None and frame.envelope.stream_id is not None
        if frame.error is None:
            try:
                self._do(frame, held)
            except EXITS:
                raise
            except BaseException as error:
                self._answer_error(error, frame.envelope)
        else:
            self._answer_error(frame.error, frame.envelope)

    def _answer_error(self, error: BaseException, envelope: Envelope | None) -> None:
        match error:
            case Closed():
                raise error
            case MillraceError():
                self._refuse_frame(error, envelope)
                self._count_refused()
            case _:  # one request's fault must not end the other lanes
                log.get().error("frame crashed", exc_info=error)
                self._refuse_frame(internal_error(), envelope)

    def _ask(
        self, request: Request, repeat: Repeat | None, held: Hold, envelope: Envelope, begun: Callable[[Run], None]
    ) -> None:
        """Let a request wait for its turn in its lane; `begun` is called with its run."""
        stream_id, event_id = envelope.stream_id, envelope.event_id  # `begin` must not keep the whole frame

        async def begin(held: Hold) -> tuple[Run, int]:
            closing = self._liveness.closing
            if closing is not None and self._process.clock() >= closing.by:
                raise draining()
            last = self._jobs.last_of(stream_id)
            run = await self._process.intake.start(request, self._principal, held, repeat, last)
            begun(run)
            return run, 0

        self._add(Job(request.id, begin, event_id, held, request), stream_id)

    def _add(self, job: Job, stream_id: str | None) -> None:
        self._jobs.add(job, stream_id)
        job.held = job.held.move()  # from the frame, which is done

    def _refuse_frame(self, error: MillraceError, envelope: Envelope | None) -> None:
        """Refuse with the frame's ids, where it could be read that far."""
        if envelope is None:
            self._refuse(error)
        else:
            self._refuse(error, envelope.stream_id, envelope.event_id)

    def _count_refused(self) -> None:
        """Close the connection if too many frames were refused in too short a time."""
        if self._refused.count(self._process.clock()):
            self.close(CloseCode.POLICY, "too many bad frames")
