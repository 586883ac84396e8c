"""Bytes -> the data of server-sent events (WHATWG HTML, section 9.2). No I/O."""

from millrace.errors import UpstreamError

_BOM = b"\xef\xbb\xbf"
MAX_EVENT = 4 * 2**20  # bytes; a provider that sends more in one event is broken


class ErrorEvent(bytes):
    """The data of an event that the provider named `error`."""

    __slots__ = ()


class EventStream:
    """Splits a body into the `data` of its events.

    Takes any line ending, comments, several data lines per event and a BOM. Of the other fields only the name `error`
    is heeded.
    """

    __slots__ = ("_data", "_is_error", "_rest", "_size", "_started")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0  # bytes of the event that is not complete yet
        self._started = False
        self._is_error = False

    @property
    def is_between(self) -> bool:
        """Whether all that has come are whole events."""
        return self._started and not (self._rest or self._data or self._is_error)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of every event that this chunk completes.

        Raises `upstream_error` for an event of more than `MAX_EVENT` bytes.
        """
        if (
            chunk.startswith(b"data: ")
            and chunk.find(b"\n") == len(chunk) - 2
            and self._started
            and not (self._rest or self._data or self._is_error)
            and chunk.endswith(b"\n\n")
            and b"\r" not in chunk
        ):
            return [chunk[6:-2]]  # one event, as nearly all providers send one token
        if chunk.startswith(b"event: ") and (data := self._alone(chunk)) is not None:
            return [data]
        text = self._rest + chunk if self._rest else chunk
        if not self._started:
            if len(text) < len(_BOM) and _BOM.startswith(text):
                self._rest = text
                return []
            self._started = True
            text = text.removeprefix(_BOM)
        if b"\r" in text:
            text = self._normalized(text)
        elif not (self._data or self._is_error) and (events := _whole_events(text)) is not None:
            self._rest = b""
            return events
        *lines, self._rest = text.split(b"\n")
        events = [part for line in lines if (data := self._line(line)) is not None for part in _apart(data)]
        self._check_size(self._size + len(self._rest))
        return events

    def _alone(self, chunk: bytes) -> bytes | None:
        """Return the data of a chunk that is one event with a name, as others send one token; None if it is not."""
        name, _, data = chunk.partition(b"\ndata: ")
        is_one = data.endswith(b"\n\n") and data.find(b"\n") == len(data) - 2 and b"\n" not in name
        is_between = self._started and not (self._rest or self._data or self._is_error)
        is_one = is_one and is_between and b"\r" not in chunk and name[6:].strip() != b"error"
        return data[:-2] if is_one else None

    @staticmethod
    def _check_size(size: int) -> None:
        if size > MAX_EVENT:
            raise UpstreamError("upstream_error", "the model sent an event of more than 4 MiB")

    @staticmethod
    def _normalized(text: bytes) -> bytes:
        """Turn CRLF and CR into LF. A CR at the end is kept, because the next chunk may make it a CRLF."""
        last = b"\r" if text.endswith(b"\r") else b""
        return text.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n") + last

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            data, self._data, self._size = self._data, [], 0
            is_error, self._is_error = self._is_error, False
            if not data:
                return None
            return ErrorEvent(b"\n".join(data)) if is_error else b"\n".join(data)
        if line.startswith(b"data:"):
            self._size += len(line)
            self._check_size(self._size)
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"event:"):
            self._is_error = line[6:].strip() == b"error"
        return None


def _apart(data: bytes) -> list[bytes]:
    """Return the events of one whose lines are documents: some servers leave out the empty lines between.

    In one document of several lines none that ends with `}` comes before one that begins with `{`.
    """
    if b"}\n{" not in data and b"}\n[DONE]" not in data:
        return [data]
    lines = data.split(b"\n")
    are_whole = all((line.startswith(b"{") and line.endswith(b"}")) or line.startswith(b"[DONE]") for line in lines)
    return lines if are_whole else [data]


def _whole_events(text: bytes) -> list[bytes] | None:
    """Return the data of a text of whole events with a line of data each, as most reads bring; None if it is not."""
    if not (text.startswith(b"data: ") and text.endswith(b"\n\n")):
        return None
    events = text[6:-2].split(b"\n\ndata: ")
    for data in events:
        if b"\n" in data or len(data) > MAX_EVENT:
            return None
    return events
