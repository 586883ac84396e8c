"""Clients that a rule controls: when one reads, when it leaves, and a check of all it receives."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from millrace.memory import Hold
from millrace.principal import Principal
from millrace.web.flood import ReadingShare
from tests.stateful.expectations import Event, Received
from tests.support.wire_client import TERMINALS

HIGH_WATER = 1500  # bytes that may wait in a socket
PLAIN = {"error", "response.steer.failed"}  # events of the connection itself
OWN = {"millrace.hello", "millrace.pong", "millrace.resumed", "millrace.draining"}


class Faults(list[str]):
    """What clients found wrong. Noted, not raised: the server would catch it as a fault of its own."""

    def watch(self, take: Callable[[Any], None], message: Any) -> None:
        """Let a client take a message; note what it finds wrong."""
        try:
            take(message)
        except (AssertionError, KeyError, ValueError) as fault:
            self.append(f"{fault!r} at {message!r}")


@dataclass(eq=False)
class PendingRequest:
    """A create or a resume that is to be answered, or refused."""

    event_id: str
    lane: str | None
    mark: str = ""  # of a create: its response has it in `metadata`
    response_id: str = ""  # of a resume
    start: int = 0
    late: bool = False  # all there was had been seen already


class ConnectionChecker:
    """Checks the events of one connection: which requests wait in each lane, and which response is sent there."""

    def __init__(self, received: Received, tenant: str, others: Callable[[str], bool], *, negotiated: bool) -> None:
        self.negotiated = negotiated
        self.epoch = ""
        self.pending: dict[str | None, deque[PendingRequest]] = {}
        self.current: dict[str | None, tuple[str, int]] = {}  # by lane: which response, the next number
        self.ended: list[str] = []
        self.codes: list[str] = []
        self._all = received
        self._tenant = tenant
        self._others = others  # whether a text is of another tenant

    @property
    def outstanding(self) -> list[PendingRequest | tuple[str, int]]:
        """What has neither been refused nor received its terminal."""
        waiting = [request for lane in self.pending.values() for request in lane if not request.late]
        return [*waiting, *self.current.values()]

    def expect(self, request: PendingRequest) -> None:
        """Expect the answer to a request."""
        self.pending.setdefault(request.lane, deque()).append(request)

    def take(self, frame: str | bytes) -> None:
        """Take one frame."""
        text = frame if isinstance(frame, str) else frame.decode()
        assert not self._others(text), f"another tenant's: {text}"
        event: Event = json.loads(text)
        kind = event["type"]
        if kind in OWN:
            assert self.negotiated, f"not negotiated: {event}"
            assert "sequence_number" not in event, event
            self.epoch = event.get("epoch", self.epoch)
        elif kind in PLAIN:
            assert "sequence_number" not in event, event
            self._refused(event)
        else:
            self._received(event)

    def _refused(self, event: Event) -> None:
        self.codes.append(event["error"]["code"])
        assert event["error"]["code"] != "internal_error", event
        for lane, waiting in self.pending.items():
            for request in [request for request in waiting if request.event_id == event.get("event_id")]:
                assert event.get("stream_id") == lane or request.response_id, f"on another lane: {event}"
                waiting.remove(request)

    def _received(self, event: Event) -> None:
        lane = event.get("stream_id")
        if lane not in self.current:
            self.current[lane] = self._begins(lane, event)
        response_id, due = self.current[lane]
        assert event["sequence_number"] == due, f"{due} was due: {event}"
        self._all.take(response_id, event, self._tenant, negotiated=self.negotiated)
        self.current[lane] = response_id, due + 1
        if event["type"] in TERMINALS:
            self.ended.append(response_id)
            del self.current[lane]

    def _begins(self, lane: str | None, event: Event) -> tuple[str, int]:
        """Return which response begins here: the first that waits in this lane."""
        waiting = self.pending.get(lane) or deque()
        while waiting and waiting[0].late and not self._has_more(waiting[0], event["sequence_number"]):
            waiting.popleft()
        assert waiting, f"nobody requested this: {event}"
        request = waiting.popleft()
        if request.response_id:
            return request.response_id, request.start
        assert event["type"] == "response.created", f"no beginning: {event}"
        assert event["response"]["metadata"].get("mark") == request.mark, f"another request's: {event}, {request}"
        return event["response"]["id"], 0

    def _has_more(self, request: PendingRequest, number: int) -> bool:
        """Whether this event may follow all that was received of a response."""
        history = self._all.histories.get((request.response_id, self.negotiated))
        count = self._all.count(request.response_id, negotiated=self.negotiated)
        return number == request.start and (history is None or history.terminal is None or number < count)


class WebSocketClient:
    """A WebSocket peer: the writer that the session writes to, and the frames that it reads."""

    def __init__(
        self, principal: Principal, checker: ConnectionChecker, faults: "Faults", clock: Callable[[], float]
    ) -> None:
        self.paused_at: float | None = None
        self._clock = clock
        self.principal = principal
        self.checker = checker
        self._faults = faults
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.held: Hold | None = None
        self.share = ReadingShare()
        self.reading = True
        self.gone = False  # on its own account
        self.closed: int | None = None  # by the server
        self.session: Any = None
        self.task: asyncio.Task[None] | None = None
        self._socket: deque[bytes] = deque()
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    @property
    def negotiated(self) -> bool:
        return self.checker.negotiated

    @property
    def is_here(self) -> bool:
        return not self.gone and self.closed is None

    @property
    def is_half_closed(self) -> bool:
        return False

    @property
    def unsent(self) -> int:
        return sum(map(len, self._socket))

    async def receive(self) -> dict[str, Any]:
        return await self._inbox.get()

    def send(self, frame: Event) -> None:
        """Send a frame to the server."""
        if self.is_here:
            self._inbox.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    def leave(self, *, abrupt: bool) -> None:
        """Disconnect; what the server writes from now on is lost."""
        self.gone = True
        self._socket.clear()
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1006 if abrupt else 1000})

    def is_late(self, _now: float, _patience_s: float) -> bool:
        return False

    def write_frames(self, payloads: list[bytes]) -> None:
        if self.gone:
            return
        self._socket.extend(payloads)
        if self.reading:
            self._read(len(self._socket))
        elif self.unsent > HIGH_WATER and self.paused_at is None and self.on_pause is not None:
            self.paused_at = self._clock()
            self.on_pause()

    def read(self, frames: int | None = None) -> None:
        """Read so many frames; None: all, from now on."""
        if self.gone:
            return
        self.reading = frames is None
        self._read(len(self._socket) if frames is None else frames)
        if self.paused_at is not None and frames != 0:
            self.paused_at = self._clock()  # some of it has left
        if self.paused_at is not None and self.unsent <= HIGH_WATER // 4 and self.on_resume is not None:
            self.paused_at = None
            self.on_resume()

    def _read(self, frames: int) -> None:
        for _ in range(min(frames, len(self._socket))):
            self._faults.watch(self.checker.take, self._socket.popleft())


class HttpClient:
    """An HTTP client: one request, and its answer, read when a rule says so."""

    def __init__(
        self, received: Received, principal: Principal, others: Callable[[str], bool], mark: str, faults: "Faults"
    ) -> None:
        self._faults = faults
        self.principal = principal
        self.task: asyncio.Task[None] | None = None
        self.answer: Any = None  # while it is being sent
        self.status: int | None = None
        self.is_whole = self.was_slow = False
        self.response_id = ""
        self.reading = asyncio.Event()
        self.reading.set()
        self._left = asyncio.Event()
        self._start = 0
        self._mark = mark
        self._all = received
        self._others = others
        self._streamed = False
        self.document: Event = {}  # the answer, where it is not streamed
        self.text = self.refusal = ""  # of a chat completion; of a message both are its text
        self.finish: str | None = None
        self._has_begun = self._is_done = False

    @property
    def is_here(self) -> bool:
        return not self._left.is_set()

    def resumes(self, response_id: str, start: int) -> None:
        """Expect the events of a response from this one on."""
        self.response_id, self._start = response_id, start

    def leave(self) -> None:
        self._left.set()

    def toggle_reading(self) -> None:
        """Stop reading, or go on."""
        if self.reading.is_set():
            self.reading.clear()
            self.was_slow = True
        else:
            self.reading.set()

    async def receive_end(self) -> dict[str, Any]:
        """Wait for the client to go: what comes after the body."""
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reading.wait()
        if not self.is_here:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._streamed = dict(message["headers"])[b"content-type"].startswith(b"text/event-stream")
            return
        body = bytes(message.get("body", b"")).decode()
        if not self._streamed and body:
            self._faults.watch(self._take_whole, body)
        for piece in body.split("\n\n") if self._streamed else ():
            if piece.startswith("data: "):
                self._faults.watch(self._take_chunk, piece.removeprefix("data: "))
            elif piece and not piece.startswith(":"):
                self._faults.watch(self._take, piece.partition("\ndata: ")[2])
        self.is_whole = not message.get("more_body", False)

    def _take(self, text: str) -> None:
        assert not self._others(text), f"another tenant's: {text}"
        event: Event = json.loads(text)
        if "sequence_number" not in event:
            self._take_of_message(event)
            return
        if not self.response_id:
            assert event["response"]["metadata"]["mark"] == self._mark, f"another request's: {event}"
            self.response_id = event["response"]["id"]
        assert event["sequence_number"] == self._start, f"{self._start} was due: {event}"
        self._start += 1
        self._all.take(self.response_id, event, self.principal.tenant, negotiated=False)

    def _take_whole(self, text: str) -> None:
        assert not self._others(text), f"another tenant's: {text}"
        self.document = json.loads(text)
        if self.document.get("type") == "message":
            self.text = "".join(block.get("text", "") for block in self.document["content"])
            self.finish = self.document["stop_reason"]
        for choice in self.document.get("choices", ()):
            self._add_content(choice["message"])
            self.finish = choice["finish_reason"]

    def _take_of_message(self, event: Event) -> None:
        """Take an event of the Messages API: one message, from its start to its stop, or to an error."""
        assert not self._is_done, f"after the end: {event}"
        match event["type"]:
            case "message_start":
                assert not self._has_begun, f"it has begun already: {event}"
                self._has_begun = True
            case "content_block_delta":
                self.text += event["delta"].get("text", "")
            case "message_delta":
                self.finish = event["delta"]["stop_reason"]
            case "message_stop" | "error" as kind:
                assert (self.finish is None) == (kind == "error"), f"no end before the end: {event}"
                self._is_done = True
        assert self._has_begun or event["type"] in ("ping", "error"), f"it has not begun: {event}"

    def _take_chunk(self, text: str) -> None:
        assert not self._others(text), f"another tenant's: {text}"
        assert not self._is_done, f"after the end: {text}"
        if text == "[DONE]":
            self._is_done = True
            assert self.finish is not None, "no end before the end"
            return
        chunk: Event = json.loads(text)
        self._is_done = "error" in chunk
        assert self.finish is None or not chunk.get("choices"), f"after its finish: {chunk}"
        for choice in chunk.get("choices", ()):
            self._add_content(choice["delta"])
            self.finish = choice["finish_reason"]

    def _add_content(self, words: Event) -> None:
        self.text += words.get("content") or ""
        self.refusal += words.get("refusal") or ""
