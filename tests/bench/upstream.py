"""`python -m tests.bench.upstream`: a provider that speaks at a given pace, in a process of its own.

It prints its port. `PUT /pace` with the fields of `Pace` sets the pace of all later answers.
"""

import asyncio
import json
import sys
from functools import cache
from itertools import cycle, islice
from typing import cast

import uvloop

from tests.bench.pace import WORDS, Pace

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_BODY = b"HTTP/1.1 204 No Content\r\n\r\n"


def event(**fields: object) -> bytes:
    """Return one event, as a provider sends it."""
    chunk = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "bench", **fields}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def chunked(data: bytes) -> bytes:
    """Return data as one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def tokens_of(letters: int) -> list[bytes]:
    """Return an event of each word, with so many letters more."""
    words = [word + "x" * letters for word in WORDS]
    return [event(choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}]) for word in words]


CHUNKS = [chunked(token) for token in tokens_of(0)]
STOP = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])


@cache
def burst(tokens: int, letters: int) -> bytes:
    """Return a whole body."""
    return chunked(b"".join(islice(cycle(tokens_of(letters)), tokens))) + end(tokens)


def end(tokens: int) -> bytes:
    """Return what follows the last token."""
    usage = {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}
    return chunked(STOP + event(choices=[], usage=usage) + b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Provider(asyncio.Protocol):
    """One connection, kept alive."""

    pace = Pace(1)
    answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()
        self.received = b""
        self.timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, blank, body = self.received.partition(b"\r\n\r\n")
        if not blank or len(body) < self.length(head):
            return
        self.received = b""
        if head.startswith(b"PUT"):
            Provider.pace = Pace(**json.loads(body))
            self.transport.write(NO_BODY)
            return
        Provider.answers += 1
        self.begin(self.pace)

    @staticmethod
    def length(head: bytes) -> int:
        """Return the length of the body that a head announces."""
        _, found, rest = head.lower().partition(b"content-length:")
        return int(rest.split(b"\r\n", 1)[0]) if found else 0

    def begin(self, pace: Pace) -> None:
        self.answer, self.said = pace, 0
        self.first_at = self.loop.time() + pace.ttft_s
        if pace.ttft_s:
            self.transport.write(HEAD)
            self.timer = self.loop.call_at(self.first_at, self.speak)
        elif pace.rate:
            self.transport.write(HEAD)
            self.speak()
        else:
            self.transport.write(HEAD + burst(pace.tokens, pace.letters))

    def speak(self) -> None:
        """Send the next token, and note when the one after it is due; times do not add up."""
        if self.transport.is_closing():
            return
        if not self.answer.rate:
            self.transport.write(burst(self.answer.tokens, self.answer.letters))
            return
        token = CHUNKS[self.said % len(CHUNKS)]
        self.said += 1
        if self.said == self.answer.tokens:
            self.transport.write(token + end(self.said))
            return
        self.transport.write(token)
        self.timer = self.loop.call_at(self.first_at + self.said / self.answer.rate, self.speak)


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
