"""Clients that a rule steers: one reads as it likes, leaves as it likes, and remembers what it was told."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from millrace.principal import Principal
from tests.stateful.expectations import Books, Event
from tests.support.wire_client import TERMINALS

HIGH_WATER = 1500  # bytes that may wait in a socket
PLAIN = {"error", "response.steer.failed"}  # events of the connection itself
OWN = {"millrace.hello", "millrace.pong", "millrace.resumed", "millrace.draining"}


class Faults(list[str]):
    """What clients found wrong. Noted, not raised: the server would take it for its own and go on."""

    def watch(self, take: Callable[[Any], None], told: Any) -> None:
        """Let a client take something."""
        try:
            take(told)
        except (AssertionError, KeyError, ValueError) as fault:
            self.append(f"{fault!r} at {told!r}")


@dataclass(eq=False)
class Asked:
    """A create or a resume that is to be told, or refused."""

    event_id: str
    lane: str | None
    mark: str = ""  # of a create: what its response repeats
    response_id: str = ""  # of a resume
    start: int = 0
    late: bool = False  # all there was had been seen already


class Listener:
    """One connection's side of the wire: lanes, what was asked in each, what is being told there."""

    def __init__(self, books: Books, tenant: str, others: Callable[[str], bool], *, negotiated: bool) -> None:
        self.negotiated = negotiated
        self.epoch = ""
        self.asked: dict[str | None, deque[Asked]] = {}
        self.telling: dict[str | None, tuple[str, int]] = {}  # by lane: which response, the next number
        self.ended: list[str] = []
        self.codes: list[str] = []
        self._books = books
        self._tenant = tenant
        self._others = others  # whether a text is of another tenant

    @property
    def owed(self) -> list[Asked | tuple[str, int]]:
        """What has been neither refused nor told to its end."""
        waiting = [asked for lane in self.asked.values() for asked in lane if not asked.late]
        return [*waiting, *self.telling.values()]

    def expect(self, asked: Asked) -> None:
        """Know what was asked."""
        self.asked.setdefault(asked.lane, deque()).append(asked)

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
            self._told(event)

    def _refused(self, event: Event) -> None:
        self.codes.append(event["error"]["code"])
        assert event["error"]["code"] != "internal_error", event
        for lane, waiting in self.asked.items():
            for asked in [asked for asked in waiting if asked.event_id == event.get("event_id")]:
                assert event.get("stream_id") == lane or asked.response_id, f"on another lane: {event}"
                waiting.remove(asked)

    def _told(self, event: Event) -> None:
        lane = event.get("stream_id")
        if lane not in self.telling:
            self.telling[lane] = self._begins(lane, event)
        response_id, due = self.telling[lane]
        assert event["sequence_number"] == due, f"{due} was due: {event}"
        self._books.take(response_id, event, self._tenant, negotiated=self.negotiated)
        self.telling[lane] = response_id, due + 1
        if event["type"] in TERMINALS:
            self.ended.append(response_id)
            del self.telling[lane]

    def _begins(self, lane: str | None, event: Event) -> tuple[str, int]:
        """Return which response is told now: of what was asked in this lane, the first."""
        waiting = self.asked.get(lane) or deque()
        while waiting and waiting[0].late and not self._has_more(waiting[0], event["sequence_number"]):
            waiting.popleft()
        assert waiting, f"nobody asked for this: {event}"
        asked = waiting.popleft()
        if asked.response_id:
            return asked.response_id, asked.start
        assert event["type"] == "response.created", f"no beginning: {event}"
        assert event["response"]["metadata"].get("mark") == asked.mark, f"another request's: {event}, {asked}"
        return event["response"]["id"], 0

    def _has_more(self, asked: Asked, number: int) -> bool:
        """Whether this may be what follows all that somebody has of a response."""
        telling = self._books.tellings.get((asked.response_id, self.negotiated))
        told = self._books.told(asked.response_id, negotiated=self.negotiated)
        return number == asked.start and (telling is None or telling.terminal is None or number < told)


class Peer:
    """A WebSocket peer: the writer that the session writes to, and the frames that it reads."""

    def __init__(self, principal: Principal, listener: Listener, faults: "Faults", clock: Callable[[], float]) -> None:
        self.paused_at: float | None = None
        self._clock = clock
        self.principal = principal
        self.listener = listener
        self._faults = faults
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.reading = True
        self.gone = False  # on its own account
        self.closed: int | None = None  # by the server
        self.session: Any = None
        self.task: asyncio.Task[None] | None = None
        self._socket: deque[bytes] = deque()
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    @property
    def negotiated(self) -> bool:
        return self.listener.negotiated

    @property
    def is_here(self) -> bool:
        return not self.gone and self.closed is None

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
        """Be gone; what the server writes from now on nobody gets."""
        self.gone = True
        self._socket.clear()
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1006 if abrupt else 1000})

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
            self._faults.watch(self.listener.take, self._socket.popleft())


class Caller:
    """A client of HTTP: one request, whose answer it reads as it likes."""

    def __init__(
        self, books: Books, principal: Principal, others: Callable[[str], bool], mark: str, faults: "Faults"
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
        self._books = books
        self._others = others
        self._streamed = False
        self.document: Event = {}  # the answer, where it is not streamed
        self.text = self.refusal = ""  # of a chat completion
        self.finish: str | None = None
        self._is_done = False

    @property
    def is_here(self) -> bool:
        return not self._left.is_set()

    def resumes(self, response_id: str, start: int) -> None:
        """Expect the events of a response from this one on."""
        self.response_id, self._start = response_id, start

    def leave(self) -> None:
        self._left.set()

    def read_or_rest(self) -> None:
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
        if not self.response_id:
            assert event["response"]["metadata"]["mark"] == self._mark, f"another request's: {event}"
            self.response_id = event["response"]["id"]
        assert event["sequence_number"] == self._start, f"{self._start} was due: {event}"
        self._start += 1
        self._books.take(self.response_id, event, self.principal.tenant, negotiated=False)

    def _take_whole(self, text: str) -> None:
        assert not self._others(text), f"another tenant's: {text}"
        self.document = json.loads(text)
        for choice in self.document.get("choices", ()):
            self._said(choice["message"])
            self.finish = choice["finish_reason"]

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
            self._said(choice["delta"])
            self.finish = choice["finish_reason"]

    def _said(self, words: Event) -> None:
        self.text += words.get("content") or ""
        self.refusal += words.get("refusal") or ""
