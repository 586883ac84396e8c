"""HTTP/1.1 as servers really speak it, over both clients: what comes before, beside and after a response."""

import asyncio
import shutil
import ssl
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from millrace.errors import UpstreamError
from millrace.types import Message, Prompt
from millrace.upstreams import pushing
from millrace.upstreams.attempt import HttpUpstream
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.connections import Connections
from millrace.upstreams.endpoint import UpstreamEndpoint
from tests.support.provider import CALL, DONE, END, HEAD, PATIENCE, Script, body, event, says, scripted_provider, stay
from tests.support.waiting import until

EVENTS = event("Hel") + event("lo") + event(finish="stop") + DONE
ANSWER = HEAD + body(EVENTS) + END
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def packed(bits: int) -> bytes:
    """Return the events, compressed."""
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(EVENTS) + packer.flush()


GZIP, DEFLATE = packed(zlib.MAX_WBITS | 16), packed(zlib.MAX_WBITS)
SHAPES = {
    "chunked": ANSWER,
    "with a length": PLAIN + b"Content-Length: %d\r\n\r\n" % len(EVENTS) + EVENTS,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ANSWER,
    "twice informed": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ANSWER,
    "trailers": HEAD + body(EVENTS) + b"0\r\nX-Checksum: 7\r\n\r\n",
    "chunk extensions": HEAD + b'%x;name="value"\r\n%s\r\n' % (len(EVENTS), EVENTS) + END,
    "gzip": PLAIN + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(GZIP) + GZIP,
    "deflate": PLAIN + b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(DEFLATE) + DEFLATE,
    "a header twice": HEAD.replace(b"\r\n\r\n", b"\r\nVary: a\r\nVary: b\r\n\r\n") + body(EVENTS) + END,
}


async def words(upstream: HttpUpstream) -> str:
    """Ask; return the answer."""
    attempt = upstream.open(CALL)
    await attempt.done
    await attempt.task
    return "".join(attempt.parts)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("is_cut", [False, True])
async def test_every_shape_is_read_and_the_connection_is_used_again(shape: str, *, is_cut: bool) -> None:
    """In one piece, or byte by byte."""
    pieces = [bytes((byte,)) for byte in SHAPES[shape]] if is_cut else [SHAPES[shape]]
    async with scripted_provider(says(*pieces, then=stay)) as provider:
        for _ in range(3):
            assert await words(provider.upstream) == "Hello"
        assert len(provider.lines) == 1


async def test_a_body_may_end_with_its_connection() -> None:
    """Without a length and without chunks nothing else ends it; then it cannot be used again."""
    async with scripted_provider(says(PLAIN + b"Connection: close\r\n\r\n" + EVENTS)) as provider:
        assert await words(provider.upstream) == "Hello"
        assert await words(provider.upstream) == "Hello"
        assert len(provider.lines) == 2


@pytest.mark.parametrize(
    ("sent", "code", "told"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "upstream_error", "cannot be read"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "upstream_", "m "),
        (b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 300_000, "upstream_error", "cannot be read"),
        (HEAD + b"zz\r\n", "upstream_", "m "),
        (HEAD + body(event("Hel")), "upstream_truncated", "broke in mid-answer"),
        (PLAIN + b"Content-Length: 9999\r\n\r\n" + EVENTS[:50], "upstream_truncated", "broke in mid-answer"),
    ],
)
async def test_what_is_no_answer_is_none(sent: bytes, code: str, told: str) -> None:
    """Another protocol, headers without end, a bad chunk, half a body."""
    async with scripted_provider(says(sent)) as provider:
        attempt = provider.upstream.open(CALL)
        with pytest.raises(UpstreamError, match=told) as raised:
            await attempt.done
        assert raised.value.code.startswith(code)


LENGTH = PLAIN + b"Content-Length: %d\r\n\r\n" % len(EVENTS)
UNFINISHED = EVENTS.removesuffix(DONE)  # a finish reason, and no terminal
ENDED: dict[str, list[bytes]] = {  # a head, an answer with its end, and junk
    "chunked": [HEAD, body(EVENTS) + END, b"junk\r\n\r\n"],
    "after early hints": [b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD, body(EVENTS) + END, b"junk\r\n\r\n"],
    "with a length": [LENGTH, EVENTS, b"junk\r\n\r\n"],
    "without a terminal": [HEAD, body(UNFINISHED) + END, b"junk\r\n\r\n"],
    "a bad chunk after the terminal": [HEAD, body(EVENTS), b"zz\r\n"],
    "a line too much after the last chunk": [HEAD, body(EVENTS) + END, b"\r\n"],
    "another last chunk": [HEAD, body(EVENTS) + END, END],
}


@pytest.mark.parametrize("shape", ENDED)
@pytest.mark.parametrize("reads", [1, 2, 3, 4])
async def test_junk_after_an_answer_loses_none_of_it(shape: str, reads: int) -> None:
    """Whether it comes in one piece with the answer, or with its end, or alone. The connection is not used again."""
    head, answer, junk = ENDED[shape]
    pieces = {
        1: [head + answer + junk],
        2: [head, answer + junk],
        3: [head + answer[:20], answer[20:] + junk],
        4: [head + answer, junk],
    }
    async with scripted_provider(says(*pieces[reads], then=stay)) as provider:
        for _ in range(3):
            assert await words(provider.upstream) == "Hello"


async def test_junk_that_comes_in_a_pause_loses_nothing_before_it() -> None:
    """What had come is held back while the reader pauses."""
    is_paused = asyncio.Event()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + body(event("H")))
        await is_paused.wait()
        writer.write(body(EVENTS) + b"zz\r\n")
        await writer.drain()

    async with scripted_provider(script) as provider:
        attempt = provider.upstream.open(CALL)
        attempt.sink = lambda _: attempt.pause()
        await until(lambda: attempt._is_paused)
        is_paused.set()
        attempt.sink = lambda _: None
        await asyncio.sleep(0.1)  # for the junk to come; if it has not, there is nothing to lose
        attempt.resume()
        await attempt.done
        assert "".join(attempt.parts) == "HHello"


@pytest.mark.parametrize("pieces", [[ANSWER + ANSWER], [ANSWER[:150], ANSWER[150:] + ANSWER]])
async def test_two_responses_to_one_request_free_no_connection(pieces: list[bytes]) -> None:
    """Whoever got the connection next would read the second one."""
    async with scripted_provider(says(*pieces, then=stay)) as provider:
        answers = await asyncio.gather(*(words(provider.upstream) for _ in range(4)))
        answers += [await words(provider.upstream) for _ in range(3)]
        assert answers == ["Hello"] * 7
        assert len(provider.lines) == 7


async def test_a_pause_after_the_end_is_nobodys() -> None:
    """The connection may carry another answer by then."""
    async with scripted_provider(says(ANSWER, then=stay)) as provider:
        attempt = provider.upstream.open(CALL)
        await attempt.done
        await attempt.task
        attempt.pause()
        assert [await words(provider.upstream) for _ in range(3)] == ["Hello"] * 3


async def test_a_refusal_before_the_request_was_read_ends_the_connection() -> None:
    """Else the rest of the request would stand before the next one."""
    refused = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\n\r\n{}"
    long = replace(CALL, prompt=Prompt(messages=(Message(role="user", parts=("word " * 4_000_000,)),)))
    asked: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(refused if b"Content-Length: 2" in head else ANSWER)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint = UpstreamEndpoint(
        base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", api_key=None, **PATIENCE
    )
    async with Connections() as connections:
        upstream = HttpUpstream(CHAT, connections, endpoint, lambda: 0.0)
        attempt = upstream.open(long)
        with pytest.raises(UpstreamError, match="413"):
            await attempt.done
        await attempt.task
        assert await words(upstream) == "Hello"
    assert len(asked) == 2
    for writer in asked:
        writer.close()
    server.close()


async def test_what_is_compressed_inflates_piece_by_piece() -> None:
    """A bomb is given up where the reader has had enough, not where it ends."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    bomb = packer.compress(b"data: " + b"x" * 100_000_000) + packer.flush()
    head = PLAIN + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    taken: list[int] = []
    async with scripted_provider(says(head + bomb, then=stay)) as provider:
        attempt = provider.upstream.open(CALL)
        feed = attempt._body.feed

        def counted(chunk: bytes) -> list[bytes]:
            taken.append(len(chunk))
            return feed(chunk)

        attempt._body.feed = counted  # type: ignore[method-assign]
        with pytest.raises(UpstreamError):
            await attempt.done
    assert max(taken) <= 2**20
    assert sum(taken) < 50_000_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate for localhost and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; it makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(make, check=True, capture_output=True)
    return cert, key


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_tls(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, *, is_trusted: bool) -> None:
    """Kept alive over TLS too; a certificate that nobody vouches for is refused, and says so."""
    cert, key = certificate
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    pushing._context.cache_clear()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    lines: list[asyncio.StreamWriter] = []
    script: Script = says(ANSWER, then=stay)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
                await script(writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            writer.close()

    server = await asyncio.start_server(serve, "localhost", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    endpoint = UpstreamEndpoint(base_url=f"https://localhost:{port}/v1", api_key=None, **PATIENCE)
    try:
        async with Connections() as connections:
            upstream = HttpUpstream(CHAT, connections, endpoint, lambda: 0.0)
            if is_trusted and not _uses_aiohttp():  # whose own context was made when it was imported
                assert [await words(upstream) for _ in range(2)] == ["Hello", "Hello"]
                assert len(lines) == 1
            elif not is_trusted:
                with pytest.raises(UpstreamError, match="certificate is not valid"):
                    await words(upstream)
    finally:
        pushing._context.cache_clear()
        server.close()


def _uses_aiohttp() -> bool:
    defaults = Connections.__init__.__kwdefaults__
    return bool(defaults and defaults["pulls"])
