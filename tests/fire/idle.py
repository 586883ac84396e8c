"""Thousands of connections that do nothing but answer pings, and what each of them costs the server.

    python -m tests.fire.idle --connections 5000

Memory is what the kernel counts of the server's process (resident), divided by the connections. `fresh` connections
have asked nothing yet. `used` ones have had an answer each; what the server keeps of it to be resumed is left out.
`again` are as many new ones, after all were closed: what they cost more is what closed ones have left behind.
"""

import asyncio
import json
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.bench.processes import rss
from tests.fire.programs import Place, placed
from tests.support.scraped import scraped
from tests.support.waiting import until

MOST_KIB = 40.0
AT_ONCE = 50  # handshakes
WARM = 100  # connections that come first and go
PATIENCE_S = 120.0
QUESTION = "What is a millrace?"
PATHS = {"responses": "/v1/responses", "responses, plain": "/v1/responses", "chats": "/v1/chat/ws"}
_PING, _PONG, _TEXT, _CLOSE = 9, 10, 1, 8


class Idle(asyncio.Protocol):
    """One connection: it answers pings, and looks for the end of an answer."""

    def __init__(self, kind: str, host: str) -> None:
        self.is_open = asyncio.get_running_loop().create_future()
        self.answered = asyncio.get_running_loop().create_future()
        self.closed: int | None = None  # the code
        self._kind, self._host = kind, host
        self._transport: asyncio.WriteTransport
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's own are of no such class
        offered = "Sec-WebSocket-Protocol: millrace.v1\r\n" if self._kind == "responses" else ""
        self._transport.write(
            f"GET {PATHS[self._kind]} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offered}\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Take what comes, frame by frame."""
        self._data += data
        if not self.is_open.done():
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head:
                self.is_open.set_exception(ConnectionError(f"refused: {head.decode()} {rest.decode()}"))
                self._transport.close()
                return
            self._data = rest
            self.is_open.set_result(None)
        while (frame := self._next()) is not None:
            self._take(*frame)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the server has closed."""
        self.closed = self.closed or 1006
        for waits in (self.is_open, self.answered):
            if not waits.done():
                waits.set_exception(ConnectionError(f"closed with {self.closed}"))
                waits.exception()  # nobody may be waiting for it

    def ask(self) -> None:
        """Send a question."""
        if self._kind == "chats":
            message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": QUESTION}]}
            asked: dict[str, Any] = {
                "type": "send", "requestId": "r", "id": f"chat {id(self)}", "trigger": "submit-message",
                "messages": [message], "headers": {}, "body": {},
            }  # fmt: skip
        else:
            asked = {"type": "response.create", "model": "auto", "input": QUESTION}
        self._send(_TEXT, json.dumps(asked).encode())

    def close(self) -> None:
        """Say goodbye."""
        self._send(_CLOSE, struct.pack("!H", 1000))

    def _send(self, opcode: int, payload: bytes) -> None:
        length = len(payload)
        size = bytes([0x80 | length]) if length < 126 else b"\xfe" + struct.pack("!H", length)
        self._transport.write(bytes([0x80 | opcode]) + size + bytes(4) + payload)

    def _next(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        length, start = data[1] & 0x7F, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start])
        if len(data) < start + length:
            return None
        self._data = data[start + length :]
        return data[0] & 0x0F, data[start : start + length]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._send(_PONG, payload)
        elif opcode == _CLOSE:
            self.closed = int.from_bytes(payload[:2])
            self._transport.close()
        elif opcode == _TEXT and not self.answered.done():
            event = json.loads(payload)
            if event["type"] in ("response.completed", "end"):
                self.answered.set_result(None)


@dataclass(slots=True)
class Costs:
    """What connections of a kind cost, in KiB each, and what they left."""

    kind: str
    fresh: float = 0.0
    used: float = 0.0
    again: float = 0.0
    files_left: int = 0
    tasks_left: int = 0
    faults: list[str] = field(default_factory=list)


async def cost_of(kind: str, count: int, place: Place, say: Callable[[str, int], None]) -> Costs:
    """Open many connections, use them, close them, and open as many again."""
    costs, pid = Costs(kind), place.server.pid
    async with aiohttp.ClientSession(place.server.url) as http:
        await _closed(await _opened(kind, WARM, place, say, asks=True))
        await _resting(http)
        before, files, tasks = rss(pid), _files(pid), await _tasks(http)
        connections = await _opened(kind, count, place, say)
        costs.fresh = (rss(pid) - before) / count
        kept = await _kept(http)
        for at in range(0, count, AT_ONCE):
            await _answers(connections[at : at + AT_ONCE])
            say("used", AT_ONCE)
        costs.used = (rss(pid) - before - (await _kept(http) - kept) / 1024) / count
        lost = [each.closed for each in connections if each.closed]
        costs.faults += [f"{len(lost)} connections were closed, the first with {lost[0]}"] if lost else []
        await _closed(connections)
        await _resting(http)
        costs.files_left, costs.tasks_left = _files(pid) - files, await _tasks(http) - tasks
        rested = rss(pid)
        connections = await _opened(kind, count, place, say)
        costs.again = (rss(pid) - before - (await _kept(http) - kept) / 1024) / count
        costs.again = max(costs.again, (rss(pid) - rested) / count)
        await _closed(connections)
    return costs


async def _opened(
    kind: str, count: int, place: Place, say: Callable[[str, int], None], *, asks: bool = False
) -> list[Idle]:
    loop, connections = asyncio.get_running_loop(), list[Idle]()
    async with asyncio.timeout(PATIENCE_S):
        while len(connections) < count:
            several = min(AT_ONCE, count - len(connections))
            make = (lambda: Idle(kind, f"127.0.0.1:{place.server.port}"),)
            made = await asyncio.gather(
                *(loop.create_connection(*make, "127.0.0.1", place.server.port) for _ in range(several))
            )
            new = [connection for _, connection in made]
            await asyncio.gather(*(connection.is_open for connection in new))
            if asks:
                await _answers(new)
            connections += new
            say("open", several)
    return connections


async def _answers(connections: list[Idle]) -> None:
    for connection in connections:
        connection.ask()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(connection.answered for connection in connections))


async def _closed(connections: list[Idle]) -> None:
    for connection in connections:
        connection.close()
    await until(lambda: all(connection.closed is not None for connection in connections), PATIENCE_S)


async def _resting(http: aiohttp.ClientSession) -> None:
    """Wait until the server knows that all are gone."""
    async with asyncio.timeout(PATIENCE_S):
        while (await scraped(http)).value("millrace_open_connections"):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


async def _tasks(http: aiohttp.ClientSession) -> int:
    return int((await scraped(http)).value("millrace_tasks"))


async def _kept(http: aiohttp.ClientSession) -> float:
    """Return the bytes of responses that can still be resumed."""
    return (await scraped(http)).value("millrace_memory_bytes", account="ended responses")


def _files(pid: int) -> int:
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


async def idle(kinds: tuple[str, ...], count: int, say: Callable[[str, int], None]) -> list[Costs]:
    """Measure each kind at a server of its own."""
    found = []
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            async with placed(Path(folder), "[evidence]\njudged = false\n", speed=20) as place:
                found.append(await cost_of(kind, count, place, say))
    return found


def wrong(costs: Costs) -> list[str]:
    """Return what is not as it must be."""
    figures = {"fresh": costs.fresh, "used": costs.used, "again": costs.again}
    too_dear = [f"{costs.kind}, {name}: {kib:.1f} KiB" for name, kib in figures.items() if kib > MOST_KIB]
    left = {"file descriptors": costs.files_left, "tasks": costs.tasks_left}
    return [*costs.faults, *too_dear, *(f"{costs.kind}: {more} {name} left" for name, more in left.items() if more > 3)]


@click.command(help=__doc__)
@click.option("--connections", default=5000, show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice([*PATHS]), help="Only these. [default: all]")
def main(*, connections: int, kinds: tuple[str, ...]) -> None:
    """Print a table; exit with 1 if a connection costs too much, or leaves something."""
    kinds = kinds or tuple(PATHS)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("open", total=len(kinds) * (3 * connections + WARM))
        found = asyncio.run(
            idle(kinds, connections, lambda what, more: progress.update(bar, advance=more, description=what))
        )
    table = Table("KiB a connection", "fresh", "used", "again", "files left", "tasks left", title=f"{connections} idle")
    for costs in found:
        figures = (f"{costs.fresh:.1f}", f"{costs.used:.1f}", f"{costs.again:.1f}")
        table.add_row(costs.kind, *figures, str(costs.files_left), str(costs.tasks_left))
    console = Console(width=120)
    console.print(table)
    faults = [fault for costs in found for fault in wrong(costs)]
    for fault in faults:
        console.print(f"[red]{fault}[/]")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
