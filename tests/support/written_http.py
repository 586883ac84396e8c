"""A server that answers each HTTP request with bytes written by hand, also such as no library would send."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

CLOSE = b"<close>"  # closes the connection


@dataclass(slots=True)
class Written:
    """A server that runs, and what it was asked."""

    url: str = ""
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0


def events(*data: str, close: bool = False) -> bytes:
    """Return a whole response of server-sent events; with `close`, the end of the connection is its end."""
    body = "".join(f"data: {each}\n\n" for each in data).encode()
    length = b"Connection: close" if close else b"Content-Length: %d" % len(body)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%s\r\n\r\n%s" % (length, body)


def document(status: str, body: str) -> bytes:
    """Return a whole response that is no stream."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}".encode()


@contextlib.asynccontextmanager
async def written_http(*answers: Sequence[bytes]) -> AsyncIterator[Written]:
    """Run a server that gives one answer a request, in pieces, the last one for ever; each piece is one write."""
    written, left = Written(), list(answers)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        written.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length:")[2].split()[0])
                written.heads.append(head)
                written.bodies.append(await reader.readexactly(length))
                pieces = left.pop(0) if len(left) > 1 else left[0]
                for piece in pieces:
                    if piece == CLOSE:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.002)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        written.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield written
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # sockets close in the next turn
