"""A server of chat completions that follows a script, chunk by chunk."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.support.scripted_http import ScriptedServer, serving

Fields = dict[str, Any]
Turn = Callable[[Fields], list[Fields]]  # the body of a request -> the chunks of the answer

USAGE: Fields = {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60}


class ChatServer(ScriptedServer):
    """One server. It remembers what it was asked."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        body = await self.body_of(request)
        self.asked.append(body)
        self.heads.append(request.headers)
        return await self.stream(request, self._events(body))

    def _events(self, body: Fields) -> Iterator[bytes]:
        for one in self.turn(body):
            yield b"data: " + json.dumps(one).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"


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
