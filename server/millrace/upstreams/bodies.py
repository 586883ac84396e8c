"""Splits a provider's body into events by what it is, not by what its label says. No I/O.

It may be server-sent events, one document, or a document a line.
"""

from typing import Protocol

from millrace.errors import UpstreamError
from millrace.json_text import is_json
from millrace.upstreams.sse import MAX_EVENT, EventStream

DONE = b"[DONE]"  # what ends a stream of chat completions; a whole document is ended by it too
_BOM = b"\xef\xbb\xbf"
MAX_WORDS = 4096  # bytes of a text in place of an answer that are kept
_EVENTS = (b"data:", b"event:", b":")  # how a stream of events begins


class _Splitter(Protocol):
    @property
    def is_between(self) -> bool: ...
    def feed(self, chunk: bytes) -> list[bytes]: ...
    def end(self) -> list[bytes]: ...


class BodyReader:
    """Takes the chunks of one body. Both methods raise `UpstreamError` for a page, or for too long an event."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._head = b""  # white space, until the body shows what it is
        self._splitter: _Splitter | None = None
        self._first = b""  # what came first of a body that may be a text

    @property
    def document(self) -> bytes:
        """The body, if it is a document; how it begins, if it may be a text; else nothing."""
        return bytes(self._splitter.body) if isinstance(self._splitter, _Document) else self._first

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of every event that a chunk completes."""
        if self._splitter is not None:
            return self._splitter.feed(chunk)
        self._head += chunk
        begin = self._head.removeprefix(_BOM).lstrip()
        if not begin or _BOM.startswith(self._head):
            return []
        if begin.startswith(b"<"):
            message = f"{self._model} answered with a page, not with an answer"
            raise UpstreamError("upstream_error", message, billable=False)  # of a proxy, or a log-in
        head, self._head = self._head, b""
        self._splitter = _Document(self._model) if begin.startswith((b"{", b"[")) else _Events()
        self._first = b"" if begin.startswith(_EVENTS) else begin[:MAX_WORDS]
        return self._splitter.feed(head)

    @property
    def is_between(self) -> bool:
        """Whether all that has come are whole server-sent events."""
        return self._splitter is not None and self._splitter.is_between

    def end(self) -> list[bytes]:
        """Return the data of what is left at the end of the body; it may be half an event."""
        return self._splitter.end() if self._splitter is not None else []


class _Events(EventStream):
    """Server-sent events."""

    __slots__ = ()

    def end(self) -> list[bytes]:
        rest = self.feed(b"\n\n")
        return [DONE if data and DONE.startswith(data) else data for data in rest]


class _Document:
    """One document, which ends the answer by itself; or a document a line."""

    is_between = False

    def __init__(self, model: str) -> None:
        self._model = model
        self.body = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        self.body += chunk
        if len(self.body) > MAX_EVENT:
            raise UpstreamError("upstream_error", f"{self._model} sent a document of more than {MAX_EVENT >> 20} MiB")
        return []

    def end(self) -> list[bytes]:
        body = bytes(self.body).removeprefix(_BOM).strip()
        lines = [stripped for line in body.splitlines() if (stripped := line.strip().removeprefix(b"data:").strip())]
        if len(lines) == 1 or is_json(body):
            return [body, DONE]
        return lines
