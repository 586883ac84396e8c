"""Bytes that a stranger may send: whole exchanges, changed at random, and what is no HTTP at all."""

import base64
import gzip
import json
import random
from collections.abc import Iterator

from websockets.frames import Frame, Opcode

KEY = base64.b64encode(bytes(16))


def _post(path: str, body: bytes, *headers: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def _chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def _get(target: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def _socket(*frames: Frame, path: str = "/v1/responses", headers: tuple[str, ...] = ()) -> bytes:
    head = _get(path, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", *headers)
    head = head[:-2] + b"Sec-WebSocket-Key: %b\r\n\r\n" % KEY
    return head + b"".join(frame.serialize(mask=True) for frame in frames)


def _form(*parts: bytes) -> bytes:
    body = b"".join(b"--edge\r\nContent-Disposition: form-data; %b\r\n" % part for part in parts) + b"--edge--\r\n"
    return _get("/v1/files", "Content-Type: multipart/form-data; boundary=edge", f"Content-Length: {len(body)}",
                method="POST") + body  # fmt: skip


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
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2,
    b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    _socket(_text(type="response.create", input="Hi [tokens=5]", model="small"), Frame(Opcode.CLOSE, b"\x03\xe8")),
    _socket(_text(type="millrace.ping", t=1), Frame(Opcode.PING, b"x"), Frame(Opcode.PONG, b"")),
    _socket(Frame(Opcode.TEXT, b"\xff\xfe"), _text(type="millrace.ping", t=1)),
    _socket(Frame(Opcode.BINARY, b"\x00")),
    _socket(Frame(Opcode.TEXT, b'{"type":', fin=False), Frame(Opcode.CONT, b'"x"}')),
    _socket(Frame(Opcode.CONT, b"no beginning")),
]
_ZIPPED = gzip.compress(_ASKED, mtime=0)
_UI = {"id": "c", "role": "user", "parts": [{"type": "text", "text": "Hi [tokens=5]"}]}
_SENT = _text(type="send", requestId="r", id="c", messages=[_UI], body={"model": "small"})
MORE_SEEDS = [
    _post("/v1/responses", _ZIPPED, f"Content-Length: {len(_ZIPPED)}", "Content-Encoding: gzip"),
    _post(
        "/v1/chat/completions", _chunked(_CHAT[:9], _CHAT[9:])[:-2] + b"X-Trailer: 1\r\n\r\n", _TE, "Trailer: X-Trailer"
    ),
    _post("/v1/batches", b'{"input_file_id": "file-1"}', "Content-Length: 27"),
    _post("/v1/cache/why", b'{"a": "x", "b": "y"}', "Content-Length: 20"),
    _post("/v1/tickets", b"{}", "Content-Length: 2", "Origin: http://127.0.0.1"),
    _post("/v1/reload", b"", "Content-Length: 0"),
    _form(b'name="purpose"\r\n\r\nbatch\r\n', b'name="file"; filename="a.jsonl"\r\n\r\n{"custom_id": "1"}\n\r\n'),
    _get("/v1/ledger?limit=5&order=asc&after=resp_0", "Authorization: Bearer mr_0123456789ab_x", "Accept: */*"),
    _get("/v1/dashboard/figures?since=1h&step=minute&model=small", "x-api-key: mr_x"),
    _get("/v1/responses/resp_0?stream=true&starting_after=3", "traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
    _get("/v1/cache/entries?query=Hi&limit=3") + _get("/metrics") + _get("/docs/") + _get("/readyz?verbose"),
    _get("/v1/responses/resp_0", method="DELETE") + _get("/v1/files/file-0/content", "Connection: keep-alive, Upgrade"),
    _get("/v1/responses", "Origin: https://app.example", "Access-Control-Request-Method: POST", method="OPTIONS"),
    _get("/", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    _socket(_SENT, _text(type="abort", requestId="r"), _text(type="resume", requestId="q", id="c"), path="/v1/chat/ws"),
    _socket(_text(type="dashboard.watch", since="1h"), Frame(Opcode.PING, b""), path="/v1/dashboard/live?since=1h"),
    _socket(
        _text(type="response.create", input="Hi [tokens=5] [rate=50]", model="small", stream_id="a"),
        _text(type="response.cancel", stream_id="a"),
        _text(type="millrace.resume", response_id="resp_0", epoch="e", after=-1),
        headers=("Sec-WebSocket-Protocol: millrace.v1", "Sec-WebSocket-Extensions: permessage-deflate"),
    ),
    _socket(
        Frame(Opcode.TEXT, b'{"type":"millrace.ping","t":"' + "h\u00e9 \u6c34".encode()[:-1], fin=False),
        Frame(Opcode.PING, b"between"),
        Frame(Opcode.CONT, b"\xb4", fin=False),
        Frame(Opcode.CONT, b'"}'),
        _text(type="millrace.ping", t="x" * 300),
    ),
]
_HEADERS = (
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: +3",
    b"Content-Length: 3, 3",
    b"Content-Length : 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: identity",
    b"Connection: close",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Expect: 200-maybe",
    b"Host: elsewhere.example",
    b" folded: line",
    b"X:" + b"y" * 70_000,
    b"Content-Encoding: gzip",
    b"Sec-WebSocket-Version: 99",
    b"Origin: https://evil.example",
    b": no name",
)
_EDGES = (
    b"\x80\xff",
    b"\x81\xfe\xff\xff",
    b"\x88\x80",
    b"\x89\xfd",
    b"\x0a\x80",
    b"\xf1\x80",
    b"\xed\xa0\x80",
    b"\xc0\x80",
)
STRANGE = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    bytes.fromhex("16030100c8010000c40303") + bytes(range(200)),  # a TLS ClientHello
    b"\x05\x01\x00",  # SOCKS
    b"\x00" * 64,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    _post("/v1/responses", b"zz\r\nhi\r\n0\r\n\r\n", _TE),
    _post("/v1/responses", b"-1\r\nhi\r\n0\r\n\r\n", _TE),
    _post("/v1/responses", b"5\r\nhi\r\n0\r\n\r\n", _TE),
    _post("/v1/responses", _chunked(_ASKED)[:-4] + b"zz\r\n\r\n", _TE),
    _post("/v1/responses", _ASKED, _LENGTH, _TE),
    _post("/v1/responses", _ASKED, "Content-Length: 99999999999999999999"),
    _post("/v1/responses", _ASKED, "Content-Length: -1"),
    _post("/v1/responses", _ASKED[:10], _LENGTH),
    b"GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
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
    rng, seeds = random.Random(seed), SEEDS + MORE_SEEDS + STRANGE
    for _ in range(count):
        yield mutated(rng, rng.choice(seeds))


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return bytes that are changed in one to sixteen places; in half of all cases only behind the first head."""
    changed = bytearray(data)
    head = data.find(b"\r\n\r\n") + 4
    first = head if 4 <= head < len(data) and rng.random() < 0.5 else 0
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(min(first, len(changed)), len(changed) + 1)
        match rng.randrange(9):
            case 7 if not first and (line := changed.find(b"\r\n", at)) >= 0:
                changed[line:line] = b"\r\n" + rng.choice(_HEADERS)
            case 8:
                changed[at:at] = rng.choice(_EDGES)
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
