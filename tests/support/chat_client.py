"""A client of `/v1/chat/ws` without the SDK: sends frames, and checks every answer against the published contract."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.support import frames
from tests.support.waiting import PATIENCE_S

Frame = dict[str, Any]
Chunk = dict[str, Any]


def said(role: str, text: str, message_id: str = "") -> dict[str, Any]:
    """Return a UI message of one text."""
    return {"id": message_id or f"{role}-1", "role": role, "parts": [{"type": "text", "text": text}]}


def shown(chunks: list[Chunk]) -> str:
    """Return the text that the SDK makes of chunks, with every reset applied."""
    text = ""
    for chunk in chunks:
        match chunk["type"]:
            case "reset-step":
                text = ""
            case "text-delta":
                text += chunk["delta"]
    return text


def data_of(chunks: list[Chunk], name: str) -> list[Any]:
    """Return the data of the transient parts of a name, in order."""
    found = [chunk for chunk in chunks if chunk["type"] == f"data-millrace-{name}"]
    assert all(chunk["transient"] is True for chunk in found)
    return [chunk["data"] for chunk in found]


class ChatClient:
    """One connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._count = 0

    async def frame(self, frame: Any) -> None:
        await self.connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def send(self, chat: str, messages: Any, /, **fields: Any) -> str:
        """Ask; return the id of the request. A text is one message of the user."""
        self._count += 1
        asked = f"req-{self._count}"
        messages = [said("user", messages)] if isinstance(messages, str) else messages
        envelope = {"type": "send", "requestId": asked, "id": chat, "trigger": "submit-message", "messages": messages}
        await self.frame({**envelope, "headers": {}, "body": {}, **fields})
        return asked

    async def resume(self, chat: str, **fields: Any) -> str:
        self._count += 1
        asked = f"req-{self._count}"
        await self.frame({"type": "resume", "requestId": asked, "id": chat, "headers": {}, "body": {}, **fields})
        return asked

    async def abort(self, asked: str) -> None:
        await self.frame({"type": "abort", "requestId": asked})

    async def next(self) -> Frame:
        async with asyncio.timeout(PATIENCE_S):
            raw = await self.connection.recv()
        frame: Frame = json.loads(raw)
        frames.validate_chat(frame)
        return frame

    async def until(self, asked: str, *types: str) -> list[Frame]:
        """Return the frames up to the first of a request with one of these types, of a frame or of its chunk."""
        frames = []
        while True:
            frames.append(frame := await self.next())
            kind = frame["chunk"]["type"] if frame["type"] == "chunk" else frame["type"]
            if frame["requestId"] == asked and kind in types:
                return frames

    async def chunks(self, asked: str) -> list[Chunk]:
        """Return all chunks of a request, whose numbers have no gap."""
        return chunks_of(await self.until(asked, "end"), asked)

    async def ask(self, chat: str, messages: Any, /, **fields: Any) -> list[Chunk]:
        return await self.chunks(await self.send(chat, messages, **fields))


def chunks_of(frames: list[Frame], asked: str, first: int = 0) -> list[Chunk]:
    """Return the chunks of a request among frames, whose numbers have no gap."""
    mine = [frame for frame in frames if frame["requestId"] == asked and frame["type"] == "chunk"]
    assert [frame["sequence"] for frame in mine] == [*range(first, first + len(mine))]
    return [frame["chunk"] for frame in mine]


@asynccontextmanager
async def chat_client(url: str, **options: Any) -> AsyncIterator[ChatClient]:
    async with connect(f"{url}/v1/chat/ws", compression=None, open_timeout=PATIENCE_S, **options) as connection:
        yield ChatClient(connection)
