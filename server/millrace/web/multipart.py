"""Reads a form with a file as its bytes come (RFC 7578), so that a long file is never in memory whole."""

import re
from collections.abc import Iterator
from enum import Enum, auto

from msgspec import Struct

from millrace.errors import MillraceError

MAX_HEAD = 16 * 1024  # bytes of the head of a part
MAX_PARTS = 64
MAX_BOUNDARY = 70  # characters (RFC 2046, 5.1.1)

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
_FIELD = re.compile(r';\s*(name|filename)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_ESCAPED = re.compile(r"\\([\"\\])")  # in a quoted name
_DISPOSITION = re.compile(r"^content-disposition:(.*)$", re.IGNORECASE | re.MULTILINE)


class Part(Struct, frozen=True):
    """A part begins: the name of its field, and of its file if it is one."""

    name: str
    filename: str | None


class _State(Enum):
    PREAMBLE = auto()
    HEAD = auto()
    CONTENT = auto()
    END = auto()


class Form:
    """A form on its way. Raises `invalid_request` where it is none."""

    def __init__(self, content_type: str) -> None:
        found = _BOUNDARY.search(content_type)
        boundary = (found[1] or found[2]) if found else ""
        if not content_type.lower().startswith("multipart/form-data") or not 0 < len(boundary) <= MAX_BOUNDARY:
            raise _no_form("send the file as multipart/form-data, with a boundary")
        self._end_of_part = b"\r\n--" + boundary.encode("latin-1", "replace")
        self._buffer = bytearray(b"\r\n")  # which the first boundary need not follow
        self._state = _State.PREAMBLE
        self._parts = 0

    def feed(self, data: bytes) -> Iterator[Part | bytes]:
        """Yield each part that begins with these bytes, and bytes of its content."""
        self._buffer += data
        while True:
            if self._state is _State.HEAD:
                if (part := self._head()) is None:
                    return
                yield part
            elif self._state is _State.END:
                self._buffer.clear()  # an epilogue means nothing
                return
            else:
                is_content = self._state is _State.CONTENT
                content, is_at_end = self._content()
                if content and is_content:
                    yield content
                if not is_at_end:
                    return

    def end(self) -> None:
        """Check that the form is whole."""
        if self._state is not _State.END:
            raise _no_form("the form ends too early")

    def _head(self) -> Part | None:
        buffer = self._buffer
        if buffer.startswith(b"--"):
            self._state = _State.END
            return Part("", None)
        at = buffer.find(b"\r\n\r\n")
        if at < 0 or at > MAX_HEAD:
            if len(buffer) > MAX_HEAD:
                raise _no_form("the head of a part is too long")
            return None
        head = bytes(buffer[:at]).decode("utf-8", "replace").replace("\r", "")
        del buffer[: at + 4]
        disposition = _DISPOSITION.search(head)
        found = _FIELD.findall(disposition[1]) if disposition else ()
        fields = {name.lower(): _ESCAPED.sub(r"\1", quoted) or plain for name, quoted, plain in found}
        if not fields.get("name"):
            raise _no_form("a part has no name")
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _no_form(f"it has more than {MAX_PARTS} parts")
        self._state = _State.CONTENT
        return Part(fields["name"], fields.get("filename"))

    def _content(self) -> tuple[bytes, bool]:
        """Return bytes up to the next boundary, or up to where one might begin; and whether it was found."""
        buffer, end = self._buffer, self._end_of_part
        at = buffer.find(end)
        if at < 0:
            size = max(0, len(buffer) - len(end) + 1)
            content = bytes(buffer[:size])
            del buffer[:size]
            return content, False
        if len(buffer) < at + len(end) + 2:  # what follows says whether it is the last one
            content = bytes(buffer[:at])
            del buffer[:at]
            return content, False
        content = bytes(buffer[:at])
        del buffer[: at + len(end)]
        self._state = _State.HEAD
        return content, True


def _no_form(why: str) -> MillraceError:
    advice = "such as: curl -F purpose=batch -F file=@requests.jsonl"
    return MillraceError("invalid_request", f"the body is not the form of a file: {why}; {advice}")
