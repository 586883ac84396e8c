"""Frames as a client sends them, made by hand."""

import struct

TEXT, BINARY, CONTINUED, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
FIN, RSV1 = 0x80, 0x40


def frame(opcode: int, payload: bytes = b"", bits: int = FIN) -> bytes:
    """Return a frame, masked with zeros, which is a mask too."""
    length = len(payload)
    if length < 126:
        return bytes((bits | opcode, 0x80 | length)) + bytes(4) + payload
    if length < 65_536:
        return bytes((bits | opcode, 0x80 | 126)) + struct.pack("!H", length) + bytes(4) + payload
    return bytes((bits | opcode, 0x80 | 127)) + struct.pack("!Q", length) + bytes(4) + payload
