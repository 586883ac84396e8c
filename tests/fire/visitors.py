"""Visitors who note what they see of each answer, and when: how it begins, what it says, and how it ends."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.support.http_client import MESSAGES, RESPONSES, body_of

PATIENCE_S = 30.0  # for one answer; nothing takes as long
PAUSE_S = 0.05  # until somebody who found no server tries again
TERMINALS = ("response.completed", "response.failed", "response.incomplete", "message_stop", "error")
LOST = (aiohttp.ClientError, ConnectionClosed, OSError, EOFError)


class Way(StrEnum):
    """How a visitor asks."""

    SOCKET = "socket"
    SSE = "SSE"
    MESSAGES = "messages"
    DOCUMENT = "document"


@dataclass(slots=True)
class Asked:
    """One request as its client saw it. Times are of the machine's monotonic clock."""

    tag: str
    question: str
    way: Way
    sent_at: float
    begun_at: float | None = None  # its first event came
    ended_at: float | None = None  # its last event came, or its connection was lost
    end: str = "no end"  # a status, `failed`, `lost` or `not sent`
    text: str = ""

    def note(self, event: dict[str, Any]) -> bool:
        """Take an event; return whether it was the last."""
        now = time.monotonic()
        self.begun_at = self.begun_at or now
        kind: str = event["type"]
        if kind == "response.output_text.delta":
            self.text += event["delta"]
        elif kind == "content_block_delta":
            self.text += event["delta"].get("text", "")
        if kind in TERMINALS:
            status = {"error": "failed", "message_stop": "completed"}
            self.end, self.ended_at = status.get(kind, kind.removeprefix("response.")), now
        return kind in TERMINALS

    def lose(self) -> None:
        """Note that the connection is gone."""
        self.end, self.ended_at = "lost", time.monotonic()


@dataclass(slots=True)
class Visitors:
    """Some visitors, each of whom asks again when answered. `question` says what, from a number."""

    url: str
    question: Callable[[int], str]
    chance: Random
    asked: list[Asked] = field(default_factory=list)
    is_over: bool = False

    async def visit(self, way: Way) -> None:
        """Be one of them until it is over."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        while not self.is_over:
            with suppress(OSError, WebSocketException, aiohttp.ClientError):
                if way is Way.SOCKET:
                    async with connect(
                        f"{self.url.replace('http', 'ws', 1)}{RESPONSES}", compression=None, open_timeout=PATIENCE_S
                    ) as socket:
                        while not self.is_over:
                            await self._ask(way, self._over_socket, socket)
                else:
                    async with aiohttp.ClientSession(self.url, timeout=timeout) as http:
                        while not self.is_over:
                            await self._ask(way, self._over_http, http)
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, way: Way, over: Callable[[Asked, Any], Any], connection: Any) -> None:
        number = len(self.asked)
        asked = Asked(f"ask-{number}", self.question(number), way, time.monotonic())
        self.asked.append(asked)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await over(asked, connection)
        except aiohttp.ClientConnectorError:
            asked.end = "not sent"  # nobody was there
            raise
        except TimeoutError:
            pass
        except LOST:
            asked.lose()
            raise

    async def _over_socket(self, asked: Asked, socket: Any) -> None:
        body = {"type": "response.create", **self._body(asked, RESPONSES)}
        await socket.send(json.dumps(body))
        while not asked.note(json.loads(await socket.recv())):
            pass

    async def _over_http(self, asked: Asked, http: aiohttp.ClientSession) -> None:
        path = MESSAGES if asked.way is Way.MESSAGES else RESPONSES
        body = self._body(asked, path) | {"stream": asked.way is not Way.DOCUMENT}
        async with http.post(path, json=body) as answer:
            if asked.way is Way.DOCUMENT or answer.status != 200:
                document = await answer.json()
                asked.end = document.get("status", "failed")
                asked.ended_at = asked.begun_at = time.monotonic()
                parts = [part for item in document.get("output", ()) for part in item.get("content", ())]
                asked.text = "".join(part.get("text", "") for part in parts)
                return
            async for event in _events(answer):
                if asked.note(event):
                    return
        raise EOFError("the answer broke off")

    def _body(self, asked: Asked, path: str) -> dict[str, Any]:
        return body_of(path, asked.question, millrace={"tag": asked.tag})


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.content:
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])
