"""An OpenAI-compatible server under load: chat completions as server-sent events, without Millrace before it."""

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Struct

from millrace_client.load.arrivals import Clock
from millrace_client.load.http import HttpConnection, HttpLostError, HttpPool, Reader
from millrace_client.load.prompts import CANCELLED, COMPLETED, FAILED, Row
from millrace_client.load.sample import CAPPED, INCOMPLETE, LOST, REFUSED, UNREACHABLE, Answer, Sample, Timeline
from millrace_client.load.websocket import dollars

OK = 200
MOST_OPENED = 64  # connections before the first request
_LONGEST_CODE = 60  # characters
_MOST_ERROR = 64 * 1024  # bytes of a refusal that are read


class NotComparable(Exception):  # noqa: N818 - a fault of the user, not of the program
    """The bare server cannot be asked; says why and what to do."""


class _Delta(Struct):
    content: str | None = None


class _Choice(Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Details(Struct):
    reasoning_tokens: int | None = 0


class _Usage(Struct):
    completion_tokens: int = 0
    completion_tokens_details: _Details | None = None
    cost_usd: float | None = None


class _Fault(Struct):
    code: str | int | None = None
    type: str | None = None


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Fault | str | None = None


_chunk = msgspec.json.Decoder(_Chunk)


class Completion(Reader):
    """Reads one streamed chat completion."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self.ended: float | None = None  # when `[DONE]` was read
        self.finish: str | None = None
        self.usage: _Usage | None = None
        self.fault: str | None = None
        self.timeline = timeline
        self._rest = b""

    def body(self, piece: bytes, now: float) -> None:
        """Take a piece of the body, and time the text in it."""
        text = self._rest + piece
        if self.status != OK:
            self._rest = text[:_MOST_ERROR]
            return
        *lines, self._rest = text.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), now)

    def _event(self, data: bytes, now: float) -> None:
        if data == b"[DONE]":
            self.ended = now
            return
        try:
            chunk = _chunk.decode(data)
        except msgspec.DecodeError:
            self.fault = "bad_chunk"
            return
        if chunk.error is not None:
            self.fault = _name(chunk.error) or "error"
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices:
            if choice.delta.content:
                self.timeline.delta(now)
            self.finish = choice.finish_reason or self.finish

    def refusal(self) -> str:
        """Return the code of a response that is not 200."""
        with suppress(msgspec.DecodeError):
            fault = msgspec.json.decode(self._rest, type=_Chunk).error
            if fault is not None and (name := _name(fault)):
                return name
        return f"http_{self.status}"

    def ending(self) -> tuple[str, str | None]:
        """Return the status and the code of a response that was 200."""
        if self.fault is not None:
            return FAILED, self.fault
        if self.finish is None:
            return FAILED, "truncated"
        if self.finish == "length":
            return INCOMPLETE, CAPPED
        return (INCOMPLETE, self.finish) if self.finish == "content_filter" else (COMPLETED, None)

    def answer(self) -> Answer:
        """Return what was counted."""
        usage = self.usage or _Usage()
        details = usage.completion_tokens_details or _Details()
        return Answer(
            tokens=usage.completion_tokens,
            reasoning=details.reasoning_tokens or 0,
            route="upstream",
            cache="",
            cost=None if usage.cost_usd is None else dollars(usage.cost_usd),
        )


class _Document(Reader):
    """Reads a whole body."""

    def __init__(self) -> None:
        super().__init__()
        self.text = b""

    def body(self, piece: bytes, now: float) -> None:
        self.text += piece


class Bare:
    """An OpenAI-compatible server as the target of a load test. Each lane has a connection while it waits."""

    name = "the bare upstream"

    def __init__(self, url: str, api_key: str | None, model: str | None, *, lanes: int, clock: Clock) -> None:
        self.losses = 0
        self.model = model
        self._api_key = api_key
        self._lanes = lanes
        self._clock = clock
        self._pool = HttpPool(base(url), clock)
        self._running: set[HttpConnection] = set()
        self._cancelled: set[HttpConnection] = set()

    async def open(self) -> None:
        """Connect, and ask for the model if none is named. Raises `NotComparable`."""
        where = self._pool.url.geturl()
        try:
            await self._pool.open(min(self._lanes, MOST_OPENED))
            if self.model is None:
                self.model = await self._only_model()
        except HttpLostError as error:
            raise NotComparable(
                f"{where} does not say which models it has ({error}); name one: --compare-model"
            ) from error
        except OSError as error:
            raise NotComparable(f"nothing answers at {where}: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._running:
            connection.abort()
        self._pool.close()

    async def ask(self, lane: int, row: Row, due: float) -> Sample:
        """Send a request and read its stream to the end."""
        timeline = Timeline(due)
        reader = Completion(timeline)
        status: str = LOST
        code: str | None = UNREACHABLE
        with suppress(OSError):
            connection = await self._pool.take()
            was_used = connection.was_used
            status, code = await self._send(connection, row, reader)
            if status == LOST and was_used and not reader.status:  # it had been closed while it was idle
                reader = Completion(timeline)
                status, code = await self._send(await self._pool.take(), row, reader)
        self.losses += status == LOST and code != UNREACHABLE
        ended = reader.ended if status in {COMPLETED, INCOMPLETE} and reader.ended is not None else self._clock()
        return Sample(
            row=row,
            status=status,
            code=code,
            timeline=timeline,
            total=ended - due,
            answer=reader.answer() if status in {COMPLETED, INCOMPLETE} else None,
            knows_codes=False,
        )

    def cancel(self) -> None:
        """Close the sockets of all requests that run."""
        for connection in [*self._running]:
            self._cancel(connection)

    async def _send(self, connection: HttpConnection, row: Row, reader: Completion) -> tuple[str, str | None]:
        """Send a request; return its status and code."""
        timer = None
        if row.cancel_after_ms is not None:
            timer = asyncio.get_running_loop().call_later(row.cancel_after_ms / 1000, self._cancel, connection)
        self._running.add(connection)
        reader.timeline.send(self._clock())
        try:
            await connection.send(self._request(row), reader)
        except HttpLostError:
            if connection in self._cancelled:
                return CANCELLED, CANCELLED
            return (LOST, "connection_lost") if reader.finish is None else reader.ending()
        finally:
            if timer is not None:
                timer.cancel()
            self._running.discard(connection)
            self._cancelled.discard(connection)
            self._pool.give_back(connection)
        return reader.ending() if reader.status == OK else (REFUSED, reader.refusal())

    def _cancel(self, connection: HttpConnection) -> None:
        self._cancelled.add(connection)
        connection.abort()

    def _request(self, row: Row) -> bytes:
        body = {
            "model": self.model,
            "messages": messages(row),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return self._head("POST", "/chat/completions", json.dumps(body).encode())

    def _head(self, method: str, path: str, body: bytes = b"") -> bytes:
        url = self._pool.url
        lines = [f"{method} {url.path}{path} HTTP/1.1", f"Host: {url.netloc.rpartition('@')[2]}"]
        lines += [f"Authorization: Bearer {self._api_key}"] if self._api_key else []
        lines += ["Accept: text/event-stream, application/json", "Content-Type: application/json"]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

    async def _only_model(self) -> str:
        reader = _Document()
        connection = await self._pool.take()
        try:
            await connection.send(self._head("GET", "/models"), reader)
        finally:
            self._pool.give_back(connection)
        where = f"{self._pool.url.geturl()}/models"
        if reader.status in {401, 403}:
            raise NotComparable(f"{where} wants a key: --compare-api-key")
        try:
            names = [model["id"] for model in json.loads(reader.text)["data"]]
        except (ValueError, TypeError, KeyError):
            names = []
        if reader.status != OK or not names:
            raise NotComparable(f"{where} names no model (HTTP {reader.status}); name one: --compare-model")
        if len(names) > 1:
            raise NotComparable(f"{where} has {len(names)} models; choose one: --compare-model {names[0]}")
        return str(names[0])


def base(url: str) -> SplitResult:
    """Return the address below which `/chat/completions` is. Raises `ValueError`."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// address")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    _ = parts.port  # raises if it is no number
    return SplitResult(parts.scheme, parts.netloc, path or "/v1", "", "")


def messages(row: Row) -> list[dict[str, Any]]:
    """Return a row's input as messages of a chat completion. Raises `ValueError` if it is more than text."""
    if isinstance(row.input, str):
        return [{"role": "user", "content": row.input}]
    return [{"role": item.get("role"), "content": _content(item)} for item in row.input]


def _content(item: dict[str, Any]) -> str | list[dict[str, Any]]:
    content = item.get("content")
    if item.get("type", "message") != "message" or not isinstance(item.get("role"), str):
        raise ValueError("only messages of text can be sent to the bare upstream")
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or any("text" not in str(part.get("type")) for part in content):
        raise ValueError("only messages of text can be sent to the bare upstream")
    return [{"type": "text", "text": part["text"]} for part in content]


def _name(fault: _Fault | str) -> str | None:
    if isinstance(fault, str):
        return "error"
    return str(fault.code or fault.type or "")[:_LONGEST_CODE] or None
