"""Reads the events of a stream that differ from an earlier one in their text alone, without parsing them. No I/O.

Nearly all events of an answer do. What stands around the text is compared byte by byte, and the text is taken only if
it ends where it seems to: it has no quote, no escape and no line break.
"""

import msgspec

from millrace.upstreams import interning

MAX_MISSES = 16  # events in a row that fit no template; then all are different, and none is looked for any more


class Template:
    """What stands before and after the text of an event."""

    __slots__ = ("_misses", "_prefix", "_suffix", "size")

    def __init__(self) -> None:
        self._prefix = self._suffix = b""
        self.size = 0  # bytes of both; 0: there is none
        self._misses = 0

    def close(self) -> None:
        """Learn from no event: each must be looked into."""
        self._misses = MAX_MISSES

    @property
    def is_open(self) -> bool:
        """Whether it is worth learning from another event."""
        return self._misses < MAX_MISSES

    def text_of(self, chunk: bytes) -> str:
        """Return the text of what one read brings, if it is one event that fits; else nothing."""
        if (
            not self.size
            or len(chunk) <= self.size
            or not chunk.startswith(self._prefix)
            or not chunk.endswith(self._suffix)
        ):
            return ""
        raw = chunk[len(self._prefix) : -len(self._suffix)]
        if text := interning.written.get(raw) or interning.read(raw):
            self._misses = 0
        return text

    def learn(self, chunk: bytes, text: str) -> None:
        """Learn from an event that has this text and nothing else of interest; without a text, forget all.

        After an event that is not plain, the next one may mean something else.
        """
        if not text:
            self.size = 0
            return
        if self.size and chunk.startswith(self._prefix) and chunk.endswith(self._suffix):
            return  # it fits, but for a character
        self._misses += 1
        written = msgspec.json.encode(text)
        at = chunk.find(written)
        if at < 0 or chunk.find(written, at + 1) >= 0:  # not there as it would be written here, or twice
            self.size = 0
            return
        self._prefix, self._suffix = chunk[: at + 1], chunk[at + len(written) - 1 :]
        self.size = len(self._prefix) + len(self._suffix)
