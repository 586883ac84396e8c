"""A real HTTP server with an OpenAI-compatible /v1/embeddings, which answers as it is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from millrace.simulator import embeddings

DIMENSIONS = 64
MODEL = "an-embedding-model"


@dataclass(slots=True)
class EmbeddingsServer:
    """What it was asked, and how it answers from now on."""

    url: str = ""
    asked: list[list[str]] = field(default_factory=list)  # the texts of each request
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    status: int = 200
    open: asyncio.Event = field(default_factory=asyncio.Event)  # answers wait until it is set
    change: Callable[[dict[str, Any]], Any] = lambda answer: answer  # what becomes of an answer
    dimensions: int = DIMENSIONS

    @property
    def texts(self) -> list[str]:
        return [text for texts in self.asked for text in texts]

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.asked.append(body["input"])
        self.keys.append(request.headers.get("Authorization", ""))
        await self.open.wait()
        if self.status != 200:
            return web.json_response({"error": {"message": "no"}}, status=self.status)
        made, _ = embeddings.answer(body | {"dimensions": self.dimensions}, MODEL)
        return web.json_response(self.change(json.loads(made)))


@asynccontextmanager
async def embeddings_server() -> AsyncIterator[EmbeddingsServer]:
    server = EmbeddingsServer()
    server.open.set()
    application = web.Application()
    application.router.add_post("/v1/embeddings", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        server.open.set()
        await runner.cleanup()
