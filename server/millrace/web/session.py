"""One WebSocket: reads frames and acts on them. Its requests are in `jobs`, its end is decided in `liveness`.

Everything it writes goes through its outbox.
"""

import asyncio
import itertools
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from millrace import __version__, log
from millrace.dialects.responses import in_responses
from millrace.errors import EXITS, MillraceError, internal_error
from millrace.funnel.offload import in_thread
from millrace.memory import Hold
from millrace.principal import Principal
from millrace.runs.intake import draining, repeat_of
from millrace.runs.kept import Repeat
from millrace.runs.run import Run
from millrace.web.flood import FloodMeter
from millrace.web.jobs import Job, Jobs
from millrace.web.liveness import Closing, Liveness
from millrace.web.outbox import AsgiWriter, FrameWriter, Outbox
from millrace.web.process import Process
from millrace.web.slices import MAX_DROPPED, TooBig
from millrace.web.websocket import CLOSE_TIMEOUT_S, HELD, TOO_BIG, UTF8
from millrace.wire import limits, requests, responses
from millrace.wire.limits import CloseCode
from millrace.wire.reading import LONG, is_utf8
from millrace.wire.sessions import session_of

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


@dataclass(slots=True)
class _Frame:
    """What could be read of a frame, and what is wrong with it."""

    envelope: requests.Envelope | None = None
    create: requests.Create | None = None
    repeat: Repeat | None = None
    session: str = ""  # that it names
    error: BaseException | None = None


class Session:
    """One accepted connection, from its first frame to its last."""

    def __init__(
        self,
        process: Process,
        writer: FrameWriter,
        principal: Principal,
        *,
        negotiated: bool,
        headers: Mapping[str, str] = MappingProxyType({}),  # of the upgrade; some name a session
    ) -> None:
        self._process = process
        self._headers = headers
        self._principal = principal
        self._negotiated = negotiated
        self._dialect = in_responses(negotiated=negotiated)
        self._writer = writer
        writer.held = process.memory.hold(principal.tenant)
        self._outbox = Outbox(writer, process.turn)
        self._jobs = Jobs(process, self._outbox, self._dialect, self._refuse)
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

    async def run(self, receive: Receive) -> None:
        """Read until the peer is gone, or raise `Closed`; then stop listening to what still runs."""
        self._process.sessions.add(self)
        if self._negotiated:
            self._outbox.put(self._hello())
        reading = asyncio.get_running_loop().create_task(self._read(receive))
        try:
            await asyncio.wait((reading, self._close), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            elif (closed := self._close.result()) is not None:
                raise closed
        finally:
            self._process.sessions.discard(self)
            self._process.busy.discard(self)
            reading.cancel()
            await self._jobs.release()
            self._outbox.flush()

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

    def _announce(self, closing: Closing) -> None:
        """Tell the client that it should connect again (PROTOCOL.md, Draining)."""
        self._watch()
        if self._negotiated:
            message = responses.Draining(
                deadline_ms=max(0, round((closing.by - closing.since) * 1000)),
                reconnect_after_ms=round(1000 * random.uniform(0, closing.spread_s)),
            )
            self._outbox.put(responses.encode(message))

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
        envelope = requests.open_beginning(given.beginning)
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

    def _open(self, data: str | bytes) -> "_Frame":
        """Read one frame, whatever is wrong with it. Called in any thread."""
        frame = _Frame()
        try:
            if isinstance(data, bytes) and not is_utf8(data):
                raise Closed(CloseCode.NOT_UTF8, "not UTF-8")
            frame.envelope = envelope = requests.open_frame(data)
            requests.check_ids(envelope)
            if envelope.type == "response.create":
                frame.create = requests.read_create(envelope.fields, self._process.funnel.checks.names)
                frame.repeat = repeat_of(frame.create, envelope.fields, self._principal)
                frame.session = session_of(envelope.fields, self._headers)
                frame.envelope = envelope.without_fields()  # what is long is not kept twice
        except (MillraceError, Closed) as error:
            frame.error = error.with_traceback(None)  # it would keep the bytes until the next collection
        except EXITS:
            raise
        except BaseException as error:  # also a panic in a library
            frame.error = error
        return frame

    def _act(self, frame: "_Frame", held: Hold) -> None:
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

    def _answer_error(self, error: BaseException, envelope: requests.Envelope | None) -> None:
        match error:
            case Closed():
                raise error
            case MillraceError():
                self._refuse_frame(error, envelope)
                self._count_refused()
            case _:  # one request's fault must not end the other lanes
                log.get().error("frame crashed", exc_info=error)
                self._refuse_frame(internal_error(), envelope)

    def _do(self, frame: "_Frame", held: Hold) -> None:
        envelope = frame.envelope
        assert envelope is not None, "it could be read"
        match envelope.type:
            case "response.create":
                self._create(frame, held)
            case "response.cancel":
                self._jobs.cancel(requests.read_cancel(envelope), self._principal.tenant)
            case "response.steer":
                self._outbox.put(responses.steer_failed(envelope.fields, envelope.stream_id, envelope.event_id))
            case "millrace.resume":
                self._resume(envelope, requests.read_resume(envelope))
            case "millrace.ping":
                self._outbox.put(responses.encode(responses.Pong(t=requests.read_ping(envelope).t)))
            case unknown:
                message = f"type: {unknown[:80]!r} is not known; write one of {', '.join(requests.TYPES)}"
                raise MillraceError("unknown_event", message, param="type")

    def _create(self, frame: "_Frame", held: Hold) -> None:
        if self._liveness.closing is not None:
            raise draining()
        envelope, create, repeat = frame.envelope, frame.create, frame.repeat
        assert envelope is not None, "it could be read"
        assert create is not None, "it is one"
        request = self._process.intake.read(
            create, self._principal, held, negotiated=self._negotiated, session=frame.session
        )
        stream_id, event_id = envelope.stream_id, envelope.event_id  # `begin` must not keep the whole frame

        async def begin(held: Hold) -> tuple[Run, int]:
            closing = self._liveness.closing
            if closing is not None and self._process.clock() >= closing.by:
                raise draining()
            last = self._jobs.last_of(stream_id)
            return await self._process.intake.start(request, self._principal, held, repeat, last), 0

        self._add(Job(request.id, begin, event_id, held, request), stream_id)

    def _resume(self, envelope: requests.Envelope, resume: requests.Resume) -> None:
        run = self._resumable(resume)
        stream_id, start = envelope.stream_id or run.stream_id, resume.after + 1

        async def begin(_: Hold) -> tuple[Run, int]:
            if self._negotiated:
                self._outbox.put(responses.encode(self._resumed(run, start, stream_id)))
            return run, start

        nothing = self._process.memory.hold(self._principal.tenant)
        job = Job(resume.response_id, begin, envelope.event_id, nothing)
        self._add(job, stream_id)
        job.listen(run)

    def _resumable(self, resume: requests.Resume) -> Run:
        """Return the run to be resumed, where all that is asked for can be sent again exactly as it was."""
        run = self._process.runs.find(self._principal.tenant, resume.response_id)
        if resume.epoch != self._process.epoch or run is None:
            message = "the response is not kept here (any more); ask again, with the same idempotency_key"
            raise MillraceError("resume_expired", message, param="response_id")
        if not run.is_shown(self._dialect):
            raise MillraceError(
                "resume_gap", "connect with the same negotiation as the request did, with or without millrace.v1"
            )
        run.check_replay(self._dialect, resume.after, "after")
        return run

    def _resumed(self, run: Run, start: int, stream_id: str | None) -> responses.Resumed:
        return responses.Resumed(
            response_id=run.request.id,
            from_=start,
            through=len(run.projection(self._dialect).event_log.written) - 1,
            stream_id=responses.lane(stream_id),
        )

    def _add(self, job: Job, stream_id: str | None) -> None:
        self._jobs.add(job, stream_id)
        job.held = job.held.move()  # from the frame, which is done

    def _refuse_frame(self, error: MillraceError, envelope: requests.Envelope | None) -> None:
        """Refuse with the frame's ids, where it could be read that far."""
        if envelope is None:
            self._refuse(error)
        else:
            self._refuse(error, envelope.stream_id, envelope.event_id)

    def _refuse(self, error: MillraceError, stream_id: str | None = None, event_id: str | None = None) -> None:
        self._outbox.put(responses.error_event(error, stream_id, event_id))

    def _count_refused(self) -> None:
        """Close the connection if too many frames were refused in too short a time."""
        if self._refused.count(self._process.clock()):
            self.close(CloseCode.POLICY, "too many bad frames")

    def _hello(self) -> bytes:
        bounds = responses.ConnectionLimits(
            in_flight=limits.MAX_RUNNING,
            queued=limits.MAX_QUEUED,
            lanes=limits.MAX_LANES,
            max_message_bytes=self._process.max_message_bytes,
            max_age_s=self._process.max_age_s,
        )
        resume = responses.ResumeLimits(ttl_s=limits.KEPT_S, detached_s=limits.DETACHED_S, bytes=limits.REPLAY_BYTES)
        return responses.encode(
            responses.Hello(
                connection_id="conn_" + secrets.token_hex(8),
                epoch=self._process.epoch,
                version=__version__,
                limits=bounds,
                heartbeat_s=limits.HEARTBEAT_S,
                resume=resume,
            )
        )
