"""A server of chat completions that follows a script, chunk by chunk."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.support.scripted_http import serving

Fields = dict[str, Any]
Turn = Callable[[Fields], list[Fields]]  # the body of a request -> the chunks of the answer

USAGE: Fields = {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60}


class ChatServer:
    """One server. It remembers what it was asked."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.url = ""
        self.asked: list[Fields] = []
        self.refused: list[str] = []  # it refuses nothing
        self.pause_before = -1  # the number of the chunk that waits for `go_on`
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()  # all chunks before it are written
        self.left_at: float | None = None  # when a client was seen to have closed in mid-answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        body = await request.json()
        self.asked.append(body)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for number, chunk in enumerate(self.turn(body)):
                if number == self.pause_before:
                    self.begun.set()
                    await self.go_on.wait()
                await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            await response.write(b"data: [DONE]\n\n")
        except (ConnectionError, asyncio.CancelledError):
            self.left_at = asyncio.get_running_loop().time()
            raise
        return response


def chunk(finish: str | None = None, usage: Fields | None = None, **delta: Any) -> Fields:
    """Return a chunk with these fields in its delta."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice]} | ({"usage": usage} if usage else {})


@asynccontextmanager
async def completing(turn: Turn) -> AsyncIterator[ChatServer]:
    """Run a server on a free port; its URL is that of a configuration."""
    server = ChatServer(turn)
    async with serving(server, {"/v1/chat/completions": server.answer}):
        yield server
