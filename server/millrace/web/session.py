"""One WebSocket in the Responses mode: what its frames mean. The connection itself is in `socket_session`."""

import random
import secrets
from collections.abc import Mapping
from types import MappingProxyType

from millrace import __version__
from millrace.dialects.event_log import EventLog, FrameCodec
from millrace.dialects.responses import EventCodec, in_responses
from millrace.errors import MillraceError
from millrace.memory import Hold
from millrace.ports.replicas import PLACE
from millrace.principal import Principal
from millrace.runs.intake import draining, repeat_of
from millrace.runs.run import Run
from millrace.web.jobs import Job
from millrace.web.liveness import Closing
from millrace.web.outbox import FrameWriter
from millrace.web.process import Process
from millrace.web.socket_session import Frame, SocketSession
from millrace.wire import limits, requests, responses
from millrace.wire.sessions import session_of
from millrace.wire.trace_context import trace_of


class Session(SocketSession):
    """One accepted connection, from its first frame to its last."""

    __slots__ = ("_dialect", "_headers", "_negotiated")

    def __init__(
        self,
        process: Process,
        writer: FrameWriter,
        principal: Principal,
        *,
        negotiated: bool,
        headers: Mapping[str, str] = MappingProxyType({}),  # of the upgrade; some name a session or a trace
    ) -> None:
        super().__init__(process, writer, principal, self._show)
        self._headers = headers
        self._negotiated = negotiated
        self._dialect = in_responses(negotiated=negotiated)

    def _show(self, run: Run, stream_id: str | None, _event_id: str | None) -> tuple[EventLog, FrameCodec]:
        projection = run.projection(self._dialect)
        return projection.event_log, EventCodec(projection, stream_id)

    def _greet(self) -> None:
        if self._negotiated:
            self._outbox.put(self._hello())

    def _announce(self, closing: Closing) -> None:
        """Tell the client that it should connect again (PROTOCOL.md, Draining)."""
        super()._announce(closing)
        if self._negotiated:
            message = responses.Draining(
                deadline_ms=max(0, round((closing.by - closing.since) * 1000)),
                reconnect_after_ms=round(1000 * random.uniform(0, closing.spread_s)),
            )
            self._outbox.put(responses.encode(message))

    def _opened(self, data: str | bytes, frame: Frame) -> None:
        frame.envelope = envelope = requests.open_frame(data)
        requests.check_ids(envelope)
        if envelope.type == "response.create":
            frame.create = requests.read_create(envelope.fields, self._process.funnel.checks.names)
            frame.repeat = repeat_of(frame.create, envelope.fields, self._principal)
            frame.session = session_of(envelope.fields, self._headers)
            frame.trace = trace_of(envelope.fields, self._headers)
            frame.envelope = envelope.without_fields()  # what is long is not kept twice

    def _beginning(self, data: bytes) -> requests.Envelope:
        return requests.open_beginning(data)

    def _do(self, frame: Frame, held: Hold) -> None:
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

    def _create(self, frame: Frame, held: Hold) -> None:
        if self._liveness.closing is not None:
            raise draining()
        assert frame.envelope is not None, "it could be read"
        assert frame.create is not None, "it is one"
        request = self._process.intake.read(
            frame.create,
            self._principal,
            held,
            negotiated=self._negotiated,
            session=frame.session,
            trace=frame.trace,
        )
        self._ask(request, frame.repeat, held, frame.envelope, lambda _: None)

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
        elsewhere = self._process.elsewhere
        if elsewhere and (where := elsewhere.where(resume.epoch[:PLACE])):
            raise MillraceError("resume_expired", f"{where}; or ask again", param="epoch")
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

    def _tell_refusal(self, error: MillraceError, stream_id: str | None, event_id: str | None) -> None:
        self._outbox.put(responses.error_event(error, stream_id, event_id))

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
