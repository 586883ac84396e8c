"""Models of one kind: one that fails as it is told, and one that never does."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from tests.fire.streams import SOUND, Position, Stream, error_of, stream_of
from tests.support.listening import listening
from tests.support.provider import body
from tests.support.proxy import Link, Proxy, reset

FAULTY, SOUND_ONE = "faulty", "sound"
HTML = b"<html><body><h1>502 Bad Gateway</h1>\n\n<p>cloud</p></body></html>\n"
GARBAGE = (b"data: {not json\n\n", b'data: {"choices": [{"delta": \xff\xfe}]}\n\n', b"data: ]\n\ndata: \xc3(\n\n")
DRIPS, DRIP_S = 400, 0.0005  # bytes that come one by one; the pause after every sixteenth


class Kind(StrEnum):
    """What happens there."""

    RESET = "RST"
    END = "FIN"
    STALL = "stall"
    LIMITED = "429"
    BROKEN = "500"
    OVERLOADED = "529"
    MALFORMED = "malformed SSE"
    DRIP = "slow drip"
    WRONG_TYPE = "wrong content type"
    DOUBLED = "doubled terminal"


class Line(StrEnum):
    """What happens between the server and a model."""

    LATENCY_UP = "latency, to the model"
    LATENCY_DOWN = "latency, to the server"
    BANDWIDTH_UP = "bandwidth, to the model"
    BANDWIDTH_DOWN = "bandwidth, to the server"
    SLICES_UP = "slices of 1 byte, to the model"
    SLICES_DOWN = "slices of 1 byte, to the server"
    HOLE_UP = "black hole, to the model"
    HOLE_DOWN = "black hole, to the server"
    RESET_UP = "reset, of the model"
    RESET_DOWN = "reset, of the server"
    END_UP = "half-close, to the model"
    END_DOWN = "half-close, to the server"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, where, and by which chances."""

    kind: Kind | Line
    position: Position
    seed: int


@dataclass(slots=True)
class Models:
    """A server of both models, and what it was asked."""

    api: str
    url: str = ""
    line: str = ""  # where the one that fails is reached
    fault: Fault | None = None  # of the calls that come now; None: all are answered
    asked: list[str] = field(default_factory=list)  # which one, call by call; probes do not count
    open: set[asyncio.StreamWriter] = field(default_factory=set)  # with a call that is not answered to its end
    connections: set[asyncio.StreamWriter] = field(default_factory=set)

    def base_url(self, name: str) -> str:
        """Return what stands in a configuration."""
        return f"{self.url if name == SOUND_ONE else self.line}/{name}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection, until it is closed."""
        self.connections.add(writer)
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length:")[2].split()[0])
                asked = await reader.readexactly(length)
                name = head.split("/")[1]
                is_probe = b"Answer with one word: ready" in asked
                if not is_probe:
                    self.asked.append(name)
                fault = self.fault if name == FAULTY and not is_probe else None
                self.open.add(writer)
                if await self._answer(writer, fault):
                    self.open.discard(writer)
                else:
                    await reader.read()  # until the other end closes
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.open.discard(writer)
            self.connections.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, fault: Fault | None) -> bool:
        """Answer one call; return whether the answer has an end, so that another call may come."""
        if fault is None:
            await _write(writer, _head(), body(stream_of(self.api, SOUND).body), body())
            return True
        chance, stream = random.Random(fault.seed), stream_of(self.api)
        if fault.position is Position.LINE:
            await _write(writer, _head(), body(stream.body), body())
            return True
        if fault.position is Position.HEAD:
            return await self._fail_at_once(writer, fault.kind, stream, chance)
        at, _ = stream.place(fault.position, chance)
        before, after = stream.body[:at], stream.body[at:]
        gap = b"" if before.endswith(b"\n\n") else b"\n\n"
        kind_of_body = chance.choice(("text/html", "application/json", "application/octet-stream"))
        label = kind_of_body if fault.kind is Kind.WRONG_TYPE else "text/event-stream"
        await _write(writer, _head(label), *_in_pieces(before, chance))
        match fault.kind:
            case Kind.RESET:
                reset(writer)
            case Kind.END:
                if is_clean(fault):
                    writer.write(body())
                writer.close()
            case Kind.DRIP:
                slow, rest = _bytes(after[:DRIPS]), after[DRIPS:]
                await _drip(writer, [*map(body, slow), *([body(rest)] if rest else []), body()])
                return True
            case Kind.MALFORMED:
                await _write(writer, body(gap + chance.choice(GARBAGE) + after))
            case Kind.WRONG_TYPE:
                await _write(writer, body(HTML), body())
                return True
            case Kind.DOUBLED:
                await _write(writer, body(gap + stream.terminal + after))
            case Kind.LIMITED | Kind.BROKEN | Kind.OVERLOADED:
                await _write(writer, body(gap + error_of(self.api, int(fault.kind))[1]))
        return False

    async def _fail_at_once(
        self, writer: asyncio.StreamWriter, kind: Kind | Line, stream: Stream, chance: random.Random
    ) -> bool:
        whole = _head() + body(stream.body) + body()
        match kind:
            case Kind.RESET:
                reset(writer)
            case Kind.END:
                writer.close()
            case Kind.MALFORMED:
                await _write(writer, chance.choice((b"HTP/1.1 2OO\r\n\r\n", b"\x00\xff\xfe garbage\r\n\r\n")))
            case Kind.DRIP:
                await _drip(writer, [*_bytes(whole[:DRIPS]), whole[DRIPS:]])
                return True
            case Kind.WRONG_TYPE:
                await _write(writer, _head("text/html"), body(HTML), body())
                return True
            case Kind.DOUBLED:
                await _write(writer, whole + whole)
            case Kind.LIMITED | Kind.BROKEN | Kind.OVERLOADED:
                said = json.dumps(error_of(self.api, int(kind))[0]).encode()
                head = (
                    f"HTTP/1.1 {int(kind)} No\r\nContent-Type: application/json\r\nContent-Length: {len(said)}\r\n\r\n"
                )
                await _write(writer, head.encode() + said)
                return True
        return False


def is_clean(fault: Fault) -> bool:
    """Whether a body that ends too early has the proper end of a body."""
    return fault.kind is Kind.END and fault.seed % 2 == 1


@asynccontextmanager
async def models(api: str) -> AsyncIterator[Models]:
    """Run both models on a free port."""
    running = Models(api)
    async with listening(running.serve) as url:
        running.url = url
        yield running


def _head(label: str = "text/event-stream") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {label}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


def _in_pieces(data: bytes, chance: random.Random) -> list[bytes]:
    """Return a part of a body as chunks that end anywhere."""
    most = chance.choice((7, 40, 4096))
    found = []
    while data:
        size = chance.randint(1, most)
        found.append(body(data[:size]))
        data = data[size:]
    return found


def _bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


async def _write(writer: asyncio.StreamWriter, *pieces: bytes) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)


async def _drip(writer: asyncio.StreamWriter, pieces: list[bytes]) -> None:
    for at, piece in enumerate(pieces):
        if writer.is_closing():
            return
        writer.write(piece)
        await asyncio.sleep(DRIP_S if at % 16 == 0 else 0)
    with suppress(OSError):
        await writer.drain()


def strike(fault: Fault, proxy: Proxy) -> None:
    """Have the line between the server and its model fail, before the last word has passed."""
    chance, stream = random.Random(fault.seed), stream_of("openai")
    up, down = proxy.to_server, proxy.to_client
    at = chance.randint(1, sum(map(len, stream.events[: stream.last])))
    strikes: dict[str, Callable[[], None]] = {
        Line.LATENCY_UP: partial(setattr, up, "latency_s", 0.03),
        Line.LATENCY_DOWN: partial(setattr, down, "latency_s", 0.03),
        Line.BANDWIDTH_UP: partial(setattr, up, "bytes_per_s", 20_000),
        Line.BANDWIDTH_DOWN: partial(setattr, down, "bytes_per_s", 20_000),
        Line.SLICES_UP: partial(setattr, up, "slice_bytes", 1),
        Line.SLICES_DOWN: partial(setattr, down, "slice_bytes", 1),
        Line.HOLE_UP: up.hold,
        Line.HOLE_DOWN: partial(down.strike, at, lambda _: down.hold()),
        Line.RESET_UP: partial(down.strike, at, Link.reset_server),
        Line.RESET_DOWN: partial(down.strike, at, Link.reset_client),
        Line.END_UP: partial(down.strike, at, Link.end_to_server, loses=False),
        Line.END_DOWN: partial(down.strike, at, Link.end_to_client),
    }
    strikes[fault.kind]()
