"""A server with one key, and what a page or a program may ask of it by hand."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Role
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S

APP, OTHER = "https://app.example", "https://other.example"
HEAD = (
    "GET /v1/responses HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer over HTTP."""

    status: int
    headers: str
    body: bytes

    @property
    def code(self) -> Any:
        return json.loads(self.body)["error"]["code"]


@dataclass(frozen=True, slots=True)
class KeyedServer:
    """A server with one key."""

    running: Running
    key: str

    async def ask(self, head: str, *lines: str, body: str = "") -> Answer:
        """Send a request by hand; return its answer."""
        host, port = self.running.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        length = [f"Content-Length: {len(body)}"] if body else []
        sent = "\r\n".join([head.rstrip(), f"Host: {host}:{port}", *length, *lines, "", body])
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(sent.encode())
                came = (await reader.readuntil(b"\r\n\r\n")).decode()
                found = [line for line in came.split("\r\n") if line.lower().startswith("content-length:")]
                answer = await reader.readexactly(int(found[0].split(":")[1])) if found else b""
        finally:
            writer.transport.abort()
        return Answer(int(came.split(" ")[1]), came, answer)

    @property
    def bearer(self) -> str:
        return f"Authorization: Bearer {self.key}"

    async def ticket(self, origin: str = APP) -> str:
        answer = await self.ask("POST /v1/tickets HTTP/1.1", self.bearer, body=json.dumps({"origin": origin}))
        assert answer.status == 201
        ticket: str = json.loads(answer.body)["ticket"]
        return ticket

    async def with_ticket(self, ticket: str, *origins: str) -> Answer:
        """Try to connect with a ticket from a page."""
        offered = f"Sec-WebSocket-Protocol: millrace.v1, millrace.ticket.{ticket}"
        return await self.ask(HEAD, offered, *(f"Origin: {origin}" for origin in origins))


@asynccontextmanager
async def keyed_server(start: Start, folder: Path, *origins: str) -> AsyncIterator[KeyedServer]:
    key, text = keys.make(tenant="acme", role=Role.USE, created_at=1.0)
    async with key_store(str(folder)) as store:
        await store.add(key)

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"] |= {"data_dir": str(folder), "origins": [APP, OTHER, *origins]}

    async with start(change) as running:
        yield KeyedServer(running, text)
