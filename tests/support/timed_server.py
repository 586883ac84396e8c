"""A model server in a process of its own that sends by a script, and logs when it received and when it sent what.

It speaks Millrace's WebSocket with lanes, without the negotiated events, on one port, and chat completions as
server-sent events on another. Its log can be held against a client's times: the monotonic clock is the machine's.

    python -m tests.support.timed_server --seed 1    prints {"websocket": PORT, "http": PORT}, and its log after SIGTERM

An input with [pause] stops the whole process for 2 s before it is answered, as a collector or a swap would.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import click
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.paths import REPOSITORY

PAUSE_S = 2.0
TTFT_S = (0.040, 0.400)  # drawn evenly from
ITL_S = (0.004, 0.060)
TOKENS = (10, 40)
Send = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class Sent:
    """One request: when it was received, and when each token was sent, in seconds of the monotonic clock."""

    question: str
    received: float
    tokens: list[float] = field(default_factory=list)

    @property
    def ttft(self) -> float:
        return self.tokens[0] - self.received

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.tokens, self.tokens[1:], strict=False)]


class Script:
    """Decides when what is sent, and keeps the log."""

    def __init__(self, seed: int, tokens: tuple[int, int] = TOKENS) -> None:
        self.log: dict[str, list[Sent]] = {"websocket": [], "http": []}
        self._random = Random(seed)
        self._tokens = tokens

    async def answer(self, kind: str, question: str, send: Send) -> int:
        """Send the tokens of an answer; return how many."""
        sent = Sent(question, time.monotonic())
        self.log[kind].append(sent)
        if "[pause]" in question:
            time.sleep(PAUSE_S)  # noqa: ASYNC251 - all of the process stops
        count = self._random.randint(*self._tokens)
        await asyncio.sleep(self._random.uniform(*TTFT_S))
        for number in range(count):
            if number:
                await asyncio.sleep(self._random.uniform(*ITL_S))
            sent.tokens.append(time.monotonic())
            await send(f"word{number} ")
        return count


def _body(status: str, tokens: int | None) -> dict[str, Any]:
    usage: dict[str, Any] | None = None
    if tokens is not None:
        usage = {"input_tokens": 5, "output_tokens": tokens, "total_tokens": 5 + tokens, "cost_usd": 0.001}
        usage |= {"saved_usd": 0.0, "input_tokens_details": {"cached_tokens": 0}}
        usage |= {"output_tokens_details": {"reasoning_tokens": 0}}
    return {"id": "resp_1", "created_at": 1, "status": status, "model": "scripted", "metadata": {}, "usage": usage}


async def _lanes(script: Script, socket: ServerConnection) -> None:
    """Serve one WebSocket: each request in a task of its own."""
    running: set[asyncio.Task[None]] = set()

    async def serve_one(frame: dict[str, Any]) -> None:
        lane, numbers = frame.get("stream_id"), iter(range(10**6))

        async def event(name: str, **fields: Any) -> None:
            body = {"type": f"response.{name}", "sequence_number": next(numbers), "stream_id": lane} | fields
            with contextlib.suppress(ConnectionClosed):
                await socket.send(json.dumps(body))

        async def delta(text: str) -> None:
            await event("output_text.delta", item_id="msg_1", delta=text)

        await event("created", response=_body("in_progress", None))
        count = await script.answer("websocket", str(frame["input"]), delta)
        await event("completed", response=_body("completed", count))

    async for message in socket:
        frame = json.loads(message)
        if frame["type"] == "response.create":
            task = asyncio.create_task(serve_one(frame))
            running.add(task)
            task.add_done_callback(running.discard)


async def _completions(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one HTTP connection: the list of models, and chat completions."""

    async def chunk(data: str) -> None:
        piece = f"data: {data}\n\n".encode()
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()

    async def delta(text: str) -> None:
        await chunk(json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}))

    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].split()[0])
            body = await reader.readexactly(length)
            if head.startswith("get"):
                models = json.dumps({"data": [{"id": "scripted"}]}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(models), models))
                continue
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            count = await script.answer("http", json.loads(body)["messages"][-1]["content"], delta)
            await chunk(json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
            await chunk(json.dumps({"choices": [], "usage": {"completion_tokens": count}}))
            await chunk("[DONE]")
            writer.write(b"0\r\n\r\n")
    writer.close()


@click.command()
@click.option("--seed", default=1, show_default=True, help="Of the times and lengths.")
@click.option("--tokens", nargs=2, default=TOKENS, show_default=True, help="The least and the most of an answer.")
def main(seed: int, tokens: tuple[int, int]) -> None:
    """Serve until SIGTERM, then print the log."""
    asyncio.run(_serve(Script(seed, tokens)))


async def _serve(script: Script) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    http = await asyncio.start_server(lambda reader, writer: _completions(script, reader, writer), "127.0.0.1", 0)
    async with serve(lambda socket: _lanes(script, socket), "127.0.0.1", 0, compression=None) as lanes, http:
        ports = [next(iter(each.sockets)).getsockname()[1] for each in (lanes, http)]
        click.echo(json.dumps(dict(zip(("websocket", "http"), ports, strict=True))))
        await stop.wait()
        log = {
            kind: [[sent.question, sent.received, *sent.tokens] for sent in rows] for kind, rows in script.log.items()
        }
        click.echo(json.dumps(log))
        http.close()


@dataclass(slots=True)
class Timed:
    """A server that runs. Its log is there once it has stopped."""

    websocket: str
    http: str
    log: dict[str, list[Sent]] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def timed_server(*arguments: str) -> AsyncIterator[Timed]:
    """Run the server in a process of its own."""
    command = [sys.executable, "-m", "tests.support.timed_server", *arguments]
    process = await asyncio.create_subprocess_exec(*command, cwd=REPOSITORY, stdout=PIPE, limit=2**28)
    assert process.stdout is not None
    ports = json.loads(await process.stdout.readline())
    timed = Timed(f"ws://127.0.0.1:{ports['websocket']}", f"http://127.0.0.1:{ports['http']}/v1")
    try:
        yield timed
    finally:
        process.terminate()
        log = json.loads(await process.stdout.readline())
        timed.log = {kind: [Sent(row[0], row[1], row[2:]) for row in rows] for kind, rows in log.items()}
        await process.wait()


if __name__ == "__main__":
    main()
