"""The clients of the benchmark: hand-made, so that they cost little beside the server."""

import asyncio
import json
import time
from array import array
from collections.abc import Callable
from typing import cast

from tests.bench.pace import MARK
from tests.support.raw_http import UPGRADE

TOKEN = MARK.encode()
ENDED = b'"response.completed"'
SAID = b'"response.output_text.done"'  # after it the words come again, as a whole
KEPT = max(len(TOKEN), len(ENDED), len(SAID)) - 1  # bytes of a read that may be the beginning of a mark
UPGRADED = b"101 Switching Protocols"


def text_frame(payload: bytes) -> bytes:
    """Return a masked text frame; the mask is zero, which is a mask too."""
    length = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
    return b"\x81" + length + bytes(4) + payload


PING = b"\x89\x80" + bytes(4)


class Window:
    """What is counted: tokens and gaps between two times."""

    def __init__(self, begin: float, end: float) -> None:
        self.begin = begin
        self.end = end
        self.tokens = 0
        self.gaps = array("d")


class Stream(asyncio.Protocol):
    """A WebSocket that asks one question at a time."""

    def __init__(self, *, negotiated: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.is_open: asyncio.Future[None] = loop.create_future()
        self.on_end: Callable[[Stream], None] = lambda _: None
        self.window: Window | None = None
        self._path = "/v1/responses?millrace=1" if negotiated else "/v1/responses"
        self.tokens = 0
        self.asked_at = self.first_at = self.last_at = 0.0
        self.pongs: list[float] = []
        self._pinged_at = 0.0
        self._tail = b""
        self._is_said = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(UPGRADE.format(host="127.0.0.1").replace("/v1/responses", self._path).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_open.done():
            self.is_open.set_exception(exc or ConnectionError("closed before it was open"))

    def ask(self, question: str, **fields: object) -> None:
        """Send a request; `on_end` is called at its end."""
        create = {"type": "response.create", "input": question, **fields}
        self._tail, self._is_said, self.tokens, self.first_at = b"", False, 0, 0.0
        self.asked_at = time.perf_counter()
        self.transport.write(text_frame(json.dumps(create).encode()))

    def ping(self) -> None:
        """Measure a round trip, on a connection that asks nothing."""
        self._pinged_at = time.perf_counter()
        self.transport.write(PING)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._pinged_at:
            self.pongs.append(now - self._pinged_at)
            self._pinged_at = 0.0
            return
        if not self.is_open.done():
            if UPGRADED not in data:
                self.is_open.set_exception(ConnectionError(data[:200].decode(errors="replace")))
            else:
                self.is_open.set_result(None)
            return
        seen = self._tail + data
        if not self._is_said:
            said = seen.find(SAID)
            if found := seen.count(TOKEN) if said < 0 else seen.count(TOKEN, 0, said):
                self._count(found, now)
            self._is_said = said >= 0
        if ENDED in seen:
            self._tail = b""
            self.on_end(self)
            return
        cut = max(len(seen) - KEPT, 0 if self._is_said else seen.rfind(TOKEN) + len(TOKEN))
        self._tail = seen[cut:]

    def _count(self, found: int, now: float) -> None:
        window = self.window
        if not self.tokens:
            self.first_at = now
        elif window is not None and window.begin <= now < window.end:
            window.gaps.append(now - self.last_at)
            window.gaps.extend(0.0 for _ in range(found - 1))
        if window is not None and window.begin <= now < window.end:
            window.tokens += found
        self.tokens += found
        self.last_at = now


async def opened(port: int, count: int, *, negotiated: bool) -> list[Stream]:
    """Return so many open connections."""
    streams: list[Stream] = []
    for begin in range(0, count, 50):
        batch = [Stream(negotiated=negotiated) for _ in range(begin, min(begin + 50, count))]
        loop = asyncio.get_running_loop()
        for stream in batch:
            await loop.create_connection(lambda one=stream: one, "127.0.0.1", port)  # type: ignore[misc]
        await asyncio.gather(*(stream.is_open for stream in batch))
        streams += batch
    return streams
