"""What a WebSocket has received, in slices: one read may bring tens of thousands of tiny frames, or a part of one."""

FRAMES = 32  # of a slice; parsing as many takes some 0.3 ms
BYTES = 64 * 1024  # after which a slice of several frames ends

_MASK = 4  # bytes
_EXTENDED = {126: 2, 127: 8}  # bytes of a length that the second byte does not hold (RFC 6455, 5.2)


class Slices:
    """Bytes that have come and are not parsed yet. It finds where frames end, and checks nothing else."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._payload = 0  # bytes that are missing of the frame whose beginning was taken

    def __len__(self) -> int:
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        """Add what has come."""
        self._bytes += data

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
        return bool(self._bytes) and (self._payload > 0 or self._frame(0) is not None)

    def take(self) -> bytes:
        """Return the next slice, and remove it: what there is of a long payload, or some frames; empty for none yet."""
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
        while frames < FRAMES and end < BYTES and (length := self._frame(end)) is not None:
            frames += 1
            if end + length > len(self._bytes):
                self._payload = end + length - len(self._bytes)
                return len(self._bytes)
            end += length
        return end

    def _frame(self, at: int) -> int | None:
        """Return the length of the frame at an offset; None if its header is not complete."""
        if len(self._bytes) < at + 2:
            return None
        short = self._bytes[at + 1] & 0x7F
        extended = _EXTENDED.get(short, 0)
        header = 2 + extended + (_MASK if self._bytes[at + 1] & 0x80 else 0)
        if len(self._bytes) < at + header:
            return None
        return header + (int.from_bytes(self._bytes[at + 2 : at + 2 + extended]) if extended else short)
