"""One WebSocket of the AI SDK's `WebSocketChatTransport`: what its frames mean (PROTOCOL.md, Chats)."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import cast

from starlette.websockets import WebSocket

from millrace.dialects.event_log import EventLog, FrameCodec
from millrace.dialects.ui_messages import in_ui_messages
from millrace.errors import MillraceError
from millrace.memory import Hold
from millrace.principal import Principal
from millrace.runs.intake import draining, repeat_of
from millrace.runs.run import Run
from millrace.web.endpoints import converse
from millrace.web.jobs import Job
from millrace.web.outbox import AsgiWriter, FrameWriter
from millrace.web.process import Process
from millrace.web.socket_session import Frame, SocketSession
from millrace.web.trace_headers import trace_headers
from millrace.web.websocket import EXTENSION
from millrace.wire import responses, ui_chunks, ui_messages
from millrace.wire.limits import CloseCode
from millrace.wire.requests import Envelope
from millrace.wire.sessions import naming, session_of
from millrace.wire.trace_context import trace_of
from millrace.wire.ui_steps import Earlier, earlier_of

MAX_REASON = 120  # bytes of the reason of a close, which has room for 123 (RFC 6455, 5.5)


class ChatSession(SocketSession):
    """One accepted connection, from its first frame to its last. A chat is a lane."""

    __slots__ = ("_codecs", "_earlier", "_headers")

    def __init__(
        self,
        process: Process,
        writer: FrameWriter,
        principal: Principal,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),  # of the upgrade; some name a session or a trace
    ) -> None:
        super().__init__(process, writer, principal, self._show)
        self._headers = headers
        self._codecs: dict[str, ui_chunks.ChunkCodec] = {}  # by request, of those that are shown
        self._earlier: dict[str, Earlier] = {}  # by request that waits: the steps that its answer goes on with

    def _show(self, run: Run, _chat: str | None, request_id: str | None) -> tuple[EventLog, FrameCodec]:
        assert request_id is not None, "every frame has one"
        earlier = self._earlier.pop(request_id, None)
        codec = self._codecs.setdefault(request_id, ui_chunks.ChunkCodec(request_id))
        return run.projection(in_ui_messages(earlier)).event_log, codec

    def _end(self, job: Job) -> None:
        assert job.event_id is not None, "every frame has one"
        self._codecs.pop(job.event_id, None)
        self._outbox.put(ui_chunks.ended(job.event_id))

    def _greet(self) -> None:
        """The client speaks first."""

    def _opened(self, data: str | bytes, frame: Frame) -> None:
        frame.envelope = envelope = ui_messages.open_frame(data)
        ui_messages.check_ids(envelope)
        if envelope.type == "send":
            send, frame.create = ui_messages.read_send(envelope, self._process.funnel.checks.names)
            meant = {"messages": envelope.fields["messages"], "body": send.body}
            frame.repeat = repeat_of(frame.create, meant, self._principal)
            body, headers = ui_messages.names_of(send, self._headers)
            frame.session = session_of(body, headers) or send.id
            frame.trace = trace_of(body, headers)
            frame.earlier = earlier_of(send)
            frame.envelope = envelope.without_fields()  # what is long is not kept twice

    def _beginning(self, data: bytes) -> Envelope:
        return ui_messages.open_beginning(data)

    def _do(self, frame: Frame, held: Hold) -> None:
        envelope = frame.envelope
        assert envelope is not None, "it could be read"
        assert envelope.event_id is not None, "every frame has one"
        match envelope.type:
            case "send":
                self._send(frame, envelope, envelope.event_id, held)
            case "resume":
                self._resume(ui_messages.read_resume(envelope))
            case "abort":
                self._jobs.cancel_asked(envelope.event_id)

    def _send(self, frame: Frame, envelope: Envelope, request_id: str, held: Hold) -> None:
        if self._liveness.closing is not None:
            raise draining()
        assert frame.create is not None, "it is one"
        assert envelope.stream_id is not None, "it has been read"
        request = self._process.intake.read(
            frame.create, self._principal, held, negotiated=True, session=frame.session, trace=frame.trace
        )
        note = partial(self._process.chats.note, self._principal, envelope.stream_id)
        self._ask(request, frame.repeat, held, envelope, note)
        if frame.earlier is not None:
            self._earlier[request_id] = frame.earlier

    def _resume(self, resume: ui_messages.ResumeFrame) -> None:
        """Show the chat's latest answer again, unless there is none: it was cancelled, has failed, or is not kept."""
        run, dialect = self._process.chats.latest(self._principal, resume.id), in_ui_messages()
        ended = None if run is None else run.response.ended
        if run is None or (ended is not None and not ended.accepted) or not run.is_shown(dialect):
            self._outbox.put(ui_chunks.nothing_active(resume.request_id))
            return
        after = -1 if resume.last_sequence is None else resume.last_sequence
        run.check_replay(dialect, after, "lastSequence")

        async def begin(_: Hold) -> tuple[Run, int]:
            self._outbox.put(ui_chunks.resumed(resume.request_id))
            if resume.last_sequence is None and (earlier := run.projection(dialect).earlier) is not None:
                return run, self._show_earlier(run.projection(dialect).start, earlier, resume.request_id)
            return run, after + 1

        job = Job(run.request.id, begin, resume.request_id, self._process.memory.hold(self._principal.tenant))
        self._add(job, resume.request_id)  # not behind the answer that it shows again
        job.listen(run)

    def _show_earlier(self, start: ui_chunks.StartChunk, earlier: Earlier, request_id: str) -> int:
        """Write the first chunk and the steps before the response; return the number of the response's next one."""
        codec = self._codecs[request_id] = ui_chunks.ChunkCodec(request_id, shift=len(earlier.chunks))
        chunks = (responses.encode(start), *earlier.chunks)
        self._outbox.put_all([codec.encoded(chunk, number) for number, chunk in enumerate(chunks)])
        return 1

    def _tell_refusal(self, error: MillraceError, stream_id: str | None, event_id: str | None) -> None:
        """Refuse a request. Where nobody knows whose it is, the connection closes: the SDK takes no frame without."""
        if event_id is None:
            reason = error.message.encode()[:MAX_REASON].decode(errors="ignore")
            self.close(CloseCode.POLICY, reason)
            return
        self._earlier.pop(event_id, None)
        codec = self._codecs.pop(event_id, None)
        if codec is not None and codec.is_begun:
            self._outbox.put(ui_chunks.broken(event_id, error))
        else:
            self._outbox.put_all(ui_chunks.refused(event_id, error))


async def websocket_chat(websocket: WebSocket) -> None:
    """`GET /v1/chat/ws` with an upgrade."""
    offered = responses.SUBPROTOCOL in websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=responses.SUBPROTOCOL if offered else None)
    writer = cast("FrameWriter", websocket.scope["extensions"].get(EXTENSION) or AsgiWriter(websocket.send))
    state = websocket.state
    session = ChatSession(
        state.process, writer, state.principal, headers=naming(websocket.headers) | trace_headers(websocket.headers)
    )
    await converse(websocket, writer, session)
