"""Bytes that a stranger may send: whole exchanges, changed at random, and what is no HTTP at all."""

import base64
import json
import random
from collections.abc import Iterator

from websockets.frames import Frame, Opcode

KEY = base64.b64encode(bytes(16))


def _post(path: str, body: bytes, *headers: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: h", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def _chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def _socket(*frames: Frame) -> bytes:
    head = b"GET /v1/responses HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % KEY
    return head + b"".join(frame.serialize(mask=True) for frame in frames)


def _text(**fields: object) -> Frame:
    return Frame(Opcode.TEXT, json.dumps(fields).encode())


_ASKED = json.dumps({"model": "small", "input": "Hi [tokens=5]", "stream": True}).encode()
_CHAT = json.dumps({"messages": [{"role": "user", "content": "Hi [tokens=5]"}], "stream": True}).encode()
_SAID = json.dumps({"max_tokens": 9, "messages": [{"role": "user", "content": "Hi [tokens=5]"}]}).encode()
_LENGTH = f"Content-Length: {len(_ASKED)}"
_TE = "Transfer-Encoding: chunked"

SEEDS = [
    _post("/v1/responses", _ASKED, _LENGTH),
    _post("/v1/responses", _chunked(_ASKED[:20], _ASKED[20:]), _TE),
    _post("/v1/responses", _ASKED, _LENGTH, "Expect: 100-continue"),
    _post("/v1/chat/completions", _CHAT, f"Content-Length: {len(_CHAT)}"),
    _post("/v1/messages", _SAID, f"Content-Length: {len(_SAID)}", "anthropic-version: 2023-06-01"),
    _post("/v1/messages/count_tokens", _SAID, f"Content-Length: {len(_SAID)}"),
    _post("/v1/responses", _ASKED, _LENGTH) * 3,
    _post("/v1/responses", _ASKED, _LENGTH) + b"garbage after the body\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n" * 2,
    b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
    _socket(_text(type="response.create", input="Hi [tokens=5]", model="small"), Frame(Opcode.CLOSE, b"\x03\xe8")),
    _socket(_text(type="millrace.ping", t=1), Frame(Opcode.PING, b"x"), Frame(Opcode.PONG, b"")),
    _socket(Frame(Opcode.TEXT, b"\xff\xfe"), _text(type="millrace.ping", t=1)),
    _socket(Frame(Opcode.BINARY, b"\x00")),
    _socket(Frame(Opcode.TEXT, b'{"type":', fin=False), Frame(Opcode.CONT, b'"x"}')),
    _socket(Frame(Opcode.CONT, b"no beginning")),
]
STRANGE = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    bytes.fromhex("16030100c8010000c40303") + bytes(range(200)),  # a TLS ClientHello
    b"\x05\x01\x00",  # SOCKS
    b"\x00" * 64,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    _post("/v1/responses", b"zz\r\nhi\r\n0\r\n\r\n", _TE),
    _post("/v1/responses", b"-1\r\nhi\r\n0\r\n\r\n", _TE),
    _post("/v1/responses", b"5\r\nhi\r\n0\r\n\r\n", _TE),
    _post("/v1/responses", _chunked(_ASKED)[:-4] + b"zz\r\n\r\n", _TE),
    _post("/v1/responses", _ASKED, _LENGTH, _TE),
    _post("/v1/responses", _ASKED, "Content-Length: 99999999999999999999"),
    _post("/v1/responses", _ASKED, "Content-Length: -1"),
    _post("/v1/responses", _ASKED[:10], _LENGTH),
    b"GET /v1/responses HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    _socket().replace(b": 13", b": 12"),
    _socket().replace(KEY, b"short"),
    _socket() + bytes([0xC1, 0x80, 1, 2, 3, 4]),  # a reserved bit
    _socket() + bytes([0x83, 0x80, 1, 2, 3, 4]),  # an unknown opcode
    _socket() + bytes([0x81, 0x01, 0x41]),  # not masked
    _socket() + bytes([0x81, 0xFF]) + b"\xff" * 8,  # 2^64 bytes
    _socket() + bytes([0x89, 0xFE, 0x01, 0x00]) + bytes(260),  # a long ping
    _socket() + bytes([0x88, 0x81, 0, 0, 0, 0, 3]),  # a close with half a code
    _socket() + bytes([0x88, 0x82, 0, 0, 0, 0, 0, 1]),  # a close with a bad code
    _socket().replace(b"GET", b"PUT"),
]


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """Yield what is strange as it is, then so many exchanges changed at random."""
    yield from STRANGE
    rng = random.Random(seed)
    for _ in range(count):
        yield _mutated(rng, rng.choice(SEEDS + STRANGE))


def _mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(7):
            case 0 if at < len(changed):
                changed[at] = rng.randrange(256)
            case 1 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                del changed[at : at + rng.randrange(1, 9)]
            case 3:
                changed[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                changed[at:at] = rng.choice((b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"\x00", b":", b" ", b"\xff"))
            case 5:
                start = rng.randrange(len(changed) + 1)
                changed[at:at] = changed[start : start + rng.randrange(1, 64)]
            case _:
                del changed[at + 1 :]
    return bytes(changed)
