"""What a WebSocket has received, in slices: one read may bring tens of thousands of tiny frames, or a part of one.

A frame of text that is too long is replaced by an empty one, and dropped as it comes, so that its end is found and the
connection can go on.
"""

import sys

from msgspec import Struct

FRAMES = 32  # of a slice; parsing as many takes some 0.3 ms
BYTES = 64 * 1024  # after which a slice of several frames ends

BEGINNING = 4096  # bytes that are kept of a frame that is too long: whose it is may stand there
MAX_DROPPED = 4  # times the longest message: as much of a longer one is dropped, before it ends the connection

_TEXT = (0, 1)  # opcodes: a text, and what continues a message
_MASK = 4  # bytes
_EXTENDED = {126: 2, 127: 8}  # bytes of a length that the second byte does not hold (RFC 6455, 5.2)


class TooBig(Struct, frozen=True):
    """A message that is too long: how it begins, and the bytes of it that are announced or have come."""

    beginning: bytes
    size: int


class Slices:
    """Bytes that have come and are not parsed yet. It finds where frames end, and checks nothing but their length."""

    __slots__ = ("_bytes", "_dropped", "_longest", "_payload", "too_big")

    def __init__(self, longest: int = sys.maxsize) -> None:
        self.too_big: TooBig | None = None  # the frame that the last slice has an empty one for
        self._longest = longest  # payload of a frame of text, in bytes
        self._bytes = bytearray()
        self._payload = 0  # bytes that are missing of the frame whose beginning was taken
        self._dropped = 0  # bytes that are missing of the frame that was too long

    def __len__(self) -> int:
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        """Add what has come."""
        self._bytes += data
        self._drop()

    def clear(self) -> None:
        """Drop all."""
        self._bytes.clear()

    @property
    def is_in_payload(self) -> bool:
        """Whether the rest of a frame is missing whose beginning was taken."""
        return self._payload > 0

    @property
    def has_frame(self) -> bool:
        """Whether there is something to take."""
        if self._payload > 0:
            return bool(self._bytes)
        frame = self._frame(0)
        return frame is not None and not (self._is_too_long(0, frame[1]) and self._lacks_beginning(*frame))

    def take(self) -> bytes:
        """Return the next slice, and remove it: what there is of a long payload, or some frames; empty for none yet."""
        self.too_big = None
        if not self._payload and (frame := self._frame(0)) is not None and self._is_too_long(0, frame[1]):
            return b"" if self._lacks_beginning(*frame) else self._emptied(*frame)
        end = self._end()
        if end == len(self._bytes):
            taken, self._bytes = bytes(self._bytes), bytearray()
            return taken
        taken = bytes(memoryview(self._bytes)[:end])
        del self._bytes[:end]
        return taken

    def _end(self) -> int:
        """Return where the next slice ends."""
        if self._payload:
            end = min(self._payload, len(self._bytes))
            self._payload -= end
            return end
        end = frames = 0
        while frames < FRAMES and end < BYTES and (frame := self._frame(end)) is not None:
            length = sum(frame)
            if self._is_too_long(end, frame[1]):
                break
            frames += 1
            if end + length > len(self._bytes):
                self._payload = end + length - len(self._bytes)
                return len(self._bytes)
            end += length
        return end

    def _is_too_long(self, at: int, payload: int) -> bool:
        return payload > self._longest and self._bytes[at] & 0x0F in _TEXT

    def _lacks_beginning(self, header: int, payload: int) -> bool:
        """Whether to wait for more of a frame; not if the connection ends with it."""
        return payload <= MAX_DROPPED * self._longest and len(self._bytes) < header + min(payload, BEGINNING)

    def _emptied(self, header: int, payload: int) -> bytes:
        """Return an empty frame in place of the first one, and drop that."""
        first, second = self._bytes[0], self._bytes[1] & 0x80
        mask = bytes(self._bytes[header - _MASK : header]) if second else bytes(_MASK)
        beginning = bytes(self._bytes[header : header + BEGINNING])
        repeated = (mask * (BEGINNING // _MASK))[: len(beginning)]
        unmasked = int.from_bytes(beginning) ^ int.from_bytes(repeated)
        self.too_big = TooBig(unmasked.to_bytes(len(beginning)), payload)
        self._dropped = header + payload
        self._drop()
        return bytes((first, second)) + (mask if second else b"")

    def _drop(self) -> None:
        if self._dropped:
            end = min(self._dropped, len(self._bytes))
            del self._bytes[:end]
            self._dropped -= end

    def _frame(self, at: int) -> tuple[int, int] | None:
        """Return the lengths of the header and of the payload of the frame at an offset; None if that is not known."""
        if len(self._bytes) < at + 2:
            return None
        short = self._bytes[at + 1] & 0x7F
        extended = _EXTENDED.get(short, 0)
        header = 2 + extended + (_MASK if self._bytes[at + 1] & 0x80 else 0)
        if len(self._bytes) < at + header:
            return None
        return header, int.from_bytes(self._bytes[at + 2 : at + 2 + extended]) if extended else short
