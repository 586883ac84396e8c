"""A model that talks on and on, or says one answer, and knows when each of its callers has gone."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.fire.streams import stream_of
from tests.support.chat_server import chunk
from tests.support.listening import listening
from tests.support.provider import HEAD, body

ENDLESS, FLOOD = "endless", "flood"  # words of a prompt: a delta now and then; as many as are taken
WORDS = [b"data: " + json.dumps(chunk(content=words)).encode() + b"\n\n" for words in ("So it ", "goes on. " * 200)]
EVERY_S = 0.05  # from one delta to the next


@dataclass(slots=True)
class Talker:
    """The server, and what it knows of each caller, by the first word of its prompt."""

    url: str = ""
    sent: dict[str, int] = field(default_factory=dict)  # bytes
    left_at: dict[str, float] = field(default_factory=dict)  # by the clock of the loop
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection."""
        name = ""
        with suppress(asyncio.IncompleteReadError, OSError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length:")[2].split()[0])
                asked = json.loads(await reader.readexactly(length))["messages"][-1]["content"]
                name = asked.split()[0]
                self.sent[name] = 0
                self.open += 1
                if ENDLESS in asked or FLOOD in asked:
                    await self._talk(name, writer, reader, flood=FLOOD in asked)
                else:
                    writer.write(HEAD + body(stream_of("openai").body) + body())
                    await writer.drain()
                    self.open -= 1
        writer.close()

    async def _talk(
        self, name: str, writer: asyncio.StreamWriter, reader: asyncio.StreamReader, *, flood: bool
    ) -> None:
        writer.write(HEAD)
        gone = asyncio.create_task(reader.read(1))
        talking = asyncio.create_task(self._go_on(name, writer, flood=flood))
        await asyncio.wait((gone, talking), return_when=asyncio.FIRST_COMPLETED)
        self.left_at[name] = asyncio.get_running_loop().time()
        self.open -= 1
        for task in (gone, talking):
            task.cancel()
        await asyncio.gather(gone, talking, return_exceptions=True)
        writer.transport.abort()

    async def _go_on(self, name: str, writer: asyncio.StreamWriter, *, flood: bool) -> None:
        said = body(WORDS[flood])
        while not writer.is_closing():
            writer.write(said)
            await writer.drain()
            self.sent[name] += len(said)
            await asyncio.sleep(0 if flood else EVERY_S)


@asynccontextmanager
async def talker() -> AsyncIterator[Talker]:
    """Run one on a free port."""
    running = Talker()
    async with listening(running.serve) as url:
        running.url = f"{url}/v1"
        yield running
