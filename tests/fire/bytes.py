"""Bytes that know nothing: good exchanges with bytes changed, dropped, doubled and added, at a server over TCP.

    python -m tests.fire.bytes [--mutations 1000000] [--seed N]

Three of ten mutations are of all that a connection sends, from its request line to its last WebSocket frame, each on a
connection of its own, which then leaves by RST, by half a close, or after it has read something. The others are of JSON
within good frames and bodies, many on a connection. Nothing may crash or hang, a half-closed connection is closed at
once, nothing is left, and the memory does not grow.
"""

import asyncio
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import click
from rich.console import Console

from millrace import app
from millrace.wire import asyncapi
from tests.fire.grammar import Frames, Ids
from tests.fire.report import folder, progress, said
from tests.fire.talking import CHAT, DASHBOARD, REPORT_S, RESPONSES
from tests.fire.target import Target, target
from tests.fire.watch import HANG_S, HangError
from tests.support.bytes_on_the_wire import PING, PONG, TEXT, frame
from tests.support.mutants import MORE_SEEDS, SEEDS, STRANGE, mutated
from tests.support.raw_http import UPGRADE

WIRE = 0.3  # of the mutations
AT_ONCE = 32  # connections
PARTS = 5  # of a run; after the first one memory is not to grow
LEAST = 50_000  # mutations, below which memory says nothing
PAUSE_S = 0.02  # for which an answer is waited for that may not come
NOT_UTF8 = 0.02
BATCH = 10  # frames, after which it is looked whether they were read
TEXTS = 2000  # JSON that is mutated
TOGETHER = 100  # frames of a connection
BODIES = ("/v1/responses", "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens", "/v1/cache/why")
SEARCH = b"/v1/cache/entries?query"  # of all that is stored, on the disk
RST = struct.pack("ii", 1, 0)
CLOSE, FAULT, GONE = 8, 1011, 1006


async def run(
    mutations: int, seed: int, data: Path, tick: Callable[[int], object] = lambda _: None, *, parts: int = PARTS
) -> tuple[Target, Counter[str]]:
    """Send so many; return the target, and what was seen."""
    seen: Counter[str] = Counter()
    pools = _pools(Random(seed))
    async with target(data) as fired:
        if mutations >= LEAST:
            await fired.fill()
        for part in range(parts):
            count = mutations // parts
            wires, texts = iter(range(round(count * WIRE))), iter(range(round(count * (1 - WIRE))))
            randoms = [Random(f"{seed} {part} {at}") for at in range(AT_ONCE)]
            half = AT_ONCE // 2
            await asyncio.gather(
                *(_wire(fired, each, wires, seen, tick) for each in randoms[:half]),
                *(_texts(fired, each, texts, pools, seen, tick) for each in randoms[half:]),
            )
            await fired.end_part()
        if mutations >= LEAST:
            fired.check_drift()
    return fired, seen


async def _wire(
    fired: Target, random: Random, numbers: Iterator[int], seen: Counter[str], tick: Callable[[int], object]
) -> None:
    """Send mutated exchanges, each on a connection of its own."""
    seeds = SEEDS + MORE_SEEDS + STRANGE
    for _ in numbers:
        data = mutated(random, random.choice(seeds))
        connection = await _connected(fired)
        with connection, suppress(ConnectionError):  # the server was first
            await asyncio.get_running_loop().sock_sendall(connection, data)
            await _leave(fired, connection, random.randrange(4), data, seen)
        tick(1)


async def _leave(fired: Target, connection: socket.socket, way: int, data: bytes, seen: Counter[str]) -> None:
    """Leave by RST, or by half a close, which the server answers with its own, at once or after a word of it."""
    came = b""
    if way in (2, 3):
        with suppress(TimeoutError):
            came = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 65_536), PAUSE_S)
        seen["answered " + came[9:12].decode("ascii", "replace") if came.startswith(b"HTTP/") else "no answer yet"] += 1
    if way in (0, 2):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        seen["left by RST"] += 1
        return
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    try:
        patience_s = REPORT_S if SEARCH in data else HANG_S
        came += await fired.watch.within(_to_the_end(connection), patience_s)
        seen["half-closed, and closed"] += 1
    except HangError:
        fired.watch.fault(f"not closed after half a close: {data[:200]!r} ... {data[-60:]!r}")
    if b" 500 " in came[:16] or b"internal_error" in came:
        fired.watch.fault(f"500 for {data[:300]!r}")


async def _to_the_end(connection: socket.socket) -> bytes:
    came = b""
    while piece := await asyncio.get_running_loop().sock_recv(connection, 65_536):
        came += piece
    return came


async def _texts(
    fired: Target,
    random: Random,
    numbers: Iterator[int],
    pools: dict[str, list[bytes]],
    seen: Counter[str],
    tick: Callable[[int], object],
) -> None:
    """Send mutated JSON in good frames and bodies."""
    done = False
    while not done:
        kind = random.choice((RESPONSES, RESPONSES, CHAT, DASHBOARD, "bodies"))
        texts = [
            mutated_text(random, random.choice(pools[kind])) for _, _n in zip(range(TOGETHER), numbers, strict=False)
        ]
        done = len(texts) < TOGETHER
        while texts:
            try:
                sent = await (
                    _bodies(fired, random, texts, seen) if kind == "bodies" else _frames(fired, kind, texts, seen)
                )
            except (HangError, OSError) as error:
                fired.watch.fault(f"{kind}: {error!r} after {texts[:2]!r}")
                break
            tick(sent)
            del texts[:sent]


def _pools(random: Random) -> dict[str, list[bytes]]:
    """Return JSON texts to be mutated, as the contract has them."""
    made = Frames(asyncapi.document("0"), random, Ids())
    pools = {
        address: [
            text
            for _ in range(TEXTS)
            if (one := made.next(address, "e")).is_sound and len(text := one.text.encode()) < 4000
        ]
        for address in (RESPONSES, CHAT, DASHBOARD)
    }
    pools["bodies"] = pools[RESPONSES]
    return pools


def mutated_text(random: Random, text: bytes) -> bytes:
    """Return a text with bytes changed. Few are not UTF-8 any more, since that ends a connection."""
    changed = mutated(random, text)
    return changed if random.random() < NOT_UTF8 else changed.decode("utf-8", "ignore").encode()


async def _frames(fired: Target, address: str, texts: list[bytes], seen: Counter[str]) -> int:
    """Send texts over a new WebSocket until it closes; return how many have been read."""
    loop = asyncio.get_running_loop()
    with await _connected(fired) as connection:
        host = fired.running.url.removeprefix("http://")
        await loop.sock_sendall(connection, UPGRADE.format(host=host).replace("/v1/responses", address).encode())
        reader = _Reader(connection)
        head = await fired.watch.within(reader.until(b"\r\n\r\n"))
        if b" 101 " not in head:
            seen["busy"] += 1
            await asyncio.sleep(PAUSE_S)
            return 0
        sent = code = 0
        while sent < len(texts) and not code:
            batch = texts[sent : sent + BATCH]
            sent += len(batch)
            is_last = sent == len(texts)
            end = frame(CLOSE, b"\x03\xe8") if is_last else frame(PING, b"read?")
            with suppress(ConnectionError):
                await loop.sock_sendall(connection, b"".join(frame(TEXT, text) for text in batch) + end)
            code = await fired.watch.within(reader.frames(fired, seen), 5.0)
            if code in (FAULT, GONE):
                fired.watch.fault(f"{address}: closed {code} after {batch!r}")
        seen[f"{address} closed {code}"] += 1
        return sent


async def _bodies(fired: Target, random: Random, texts: list[bytes], seen: Counter[str]) -> int:
    """Post texts over one connection; return how many were answered."""
    loop = asyncio.get_running_loop()
    with await _connected(fired) as connection:
        reader = _Reader(connection)
        for sent, text in enumerate(texts, 1):
            path = random.choice(BODIES)
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(text)}\r\n\r\n"
            await loop.sock_sendall(connection, head.encode() + text)
            head_of_answer = await fired.watch.within(reader.until(b"\r\n\r\n"), 5.0)
            status = head_of_answer[9:12].decode()
            seen[f"POST {path} {status}"] += 1
            if status == "500":
                fired.watch.fault(f"POST {path}: 500 for {text!r}")
            lower = head_of_answer.lower()
            if b"content-length:" not in lower:
                return sent  # streamed: leave it
            await fired.watch.within(reader.take(int(lower.split(b"content-length:")[1].split(b"\r\n")[0])))
    return len(texts)


class _Reader:
    """Reads a socket: what an HTTP client and a WebSocket client need, and no more."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._data = bytearray()

    async def until(self, mark: bytes) -> bytes:
        while (at := self._data.find(mark)) < 0:
            await self._more()
        return await self.take(at + len(mark))

    async def take(self, count: int) -> bytes:
        while len(self._data) < count:
            await self._more()
        taken = bytes(self._data[:count])
        del self._data[:count]
        return taken

    async def frames(self, fired: Target, seen: Counter[str]) -> int:
        """Read frames up to a pong or a close; return the code of a close, `GONE` if there is none, 0 after a pong."""
        while True:
            try:
                first, length = await self.take(2)
                if length > 125:
                    length = int.from_bytes(await self.take(2 if length == 126 else 8))
                payload = await self.take(length)
            except ConnectionError:
                return GONE
            if first & 15 == PONG:
                return 0
            if first & 15 == CLOSE:
                return int.from_bytes(payload[:2])
            if b'"internal_error"' in payload:
                fired.watch.fault(f"internal_error: {payload[:300]!r}")
            seen["frames of the server"] += 1

    async def _more(self) -> None:
        piece = await asyncio.get_running_loop().sock_recv(self._connection, 65_536)
        if not piece:
            raise ConnectionResetError("the end")
        self._data += piece


async def _connected(fired: Target) -> socket.socket:
    host, port = fired.running.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    return connection


@click.command(help=__doc__)
@click.option("--mutations", default=1_000_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
def main(mutations: int, seed: int) -> None:
    """See above."""
    with (
        folder() as data,
        progress(Console(file=sys.stderr), mutations) as tick,
        asyncio.Runner(loop_factory=app.new_loop) as runner,
    ):
        fired, seen = runner.run(run(mutations, seed, data, tick))
    raise SystemExit(said(fired, seen, f"{mutations:,} mutations, seed {seed}"))


if __name__ == "__main__":
    main()
