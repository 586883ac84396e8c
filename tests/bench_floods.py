"""`python -m tests.bench_floods`: how long one connection's flood makes another client wait.

Three processes: the server, the flood, and this one, which is the bystander and the model. The bystander sends pings,
with and without the flood in turn. Read the ratio, the median of pairs: on a shared machine the absolute figures move.
A flood that is closed as abuse connects again a little later. The kind "nothing" sends no byte: what its process alone
does to the machine.
"""

import asyncio
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.support.paths import REPOSITORY
from tests.support.processes import server_process
from tests.support.raw_http import UPGRADE
from tests.support.wire_client import WireClient, round_trips, wire_client

MEBIBYTE = 2**20
EVERY_S = 0.005  # the bystander's pings
STEP_S = 0.01  # of the flood's pace
AGAIN_S = 0.1  # until it connects again
FIN, CONTINUED, TEXT, PING, PONG = 0x80, 0, 1, 9, 10


def frame(opcode: int, payload: bytes = b"", bits: int = FIN) -> bytes:
    """Return a masked frame; the mask is zero, which is a mask too."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    else:
        length = b"\xfe" + size.to_bytes(2) if size < 65_536 else b"\xff" + size.to_bytes(8)
    return bytes((bits | opcode,)) + length + bytes(4) + payload


def fragments(piece: bytes) -> bytes:
    """Return a valid message in a thousand fragments."""
    begin, end = frame(TEXT, b'{"type":', bits=0), frame(CONTINUED, b'"millrace.ping"}')
    return begin + frame(CONTINUED, piece, bits=0) * 1000 + end


def create(**fields: object) -> bytes:
    """Return a request that calls no model."""
    body = {"type": "response.create", "input": "flood", "millrace": {"cache": "only"}, **fields}
    return frame(TEXT, json.dumps(body).encode())


def schema(number: int) -> bytes:
    """Return a request of some 60 KiB, with a schema that is seen for the first time."""
    properties = {f"k{at}": {"type": "string", "pattern": f"^a{{900}}b{at}x{number}$"} for at in range(1000)}
    form = {"type": "json_schema", "name": "s", "schema": {"type": "object", "properties": properties}}
    return create(text={"format": form})


def pieces(kind: str) -> Iterator[bytes]:
    """Yield what a flood sends, without end."""
    ever: dict[str, bytes] = {
        "nothing": b"",
        "ping": frame(PING) * 1000,
        "pong": frame(PONG) * 1000,
        "empty text": frame(TEXT) * 1000,
        "refused": frame(TEXT, b'{"type":"no"}') * 500,
        "small": frame(TEXT, b'{"type":"millrace.ping"}') * 200,
        "empty fragments": fragments(b""),
        "fragments of a byte": fragments(b" "),
        "large text": create(input="word " * (MEBIBYTE // 5)),
        "large array": create(junk=[0] * 200_000),
        "20 MiB": create(input="word " * (4 * MEBIBYTE - 1000)),
    }
    if kind == "schemas":
        return map(schema, itertools.count())
    return itertools.repeat(ever[kind])


KINDS = (
    "nothing",
    "ping",
    "pong",
    "empty text",
    "refused",
    "small",
    "empty fragments",
    "fragments of a byte",
    "schemas",
)
LARGE = ("large text", "large array", "20 MiB")


def flood(kind: str, address: str, rate: float) -> None:
    """Send at a rate, in bytes a second, from one connection at a time, until the process is ended."""
    os.nice(19)  # it stands for another machine: what it takes of this one is not to be measured
    host, port = address.split(":")
    sending = pieces(kind)
    while True:
        time.sleep(AGAIN_S)
        with suppress(OSError), socket.create_connection((host, int(port))) as connection:
            connection.sendall(UPGRADE.format(host=address).encode())
            connection.recv(4096)
            connection.settimeout(0.05)
            sys.stdout.write("connected\n")
            sys.stdout.flush()
            began, sent, waiting = time.monotonic(), 0, memoryview(b"")
            while True:
                waiting = waiting or memoryview(next(sending))
                if waiting and sent < rate * (time.monotonic() - began):
                    with suppress(TimeoutError):
                        sent += (now := connection.send(waiting[: 64 * 1024]))
                        waiting = waiting[now:]
                else:
                    time.sleep(STEP_S)
                with suppress(BlockingIOError):
                    while data := connection.recv(MEBIBYTE, socket.MSG_DONTWAIT):
                        pass
                    if not data:
                        break


async def milliseconds(client: WireClient, seconds: float) -> list[float]:
    """Return how long the bystander's pongs take."""
    return [1000 * one for one in await round_trips(client, seconds, every_s=EVERY_S)]


def p99(values: list[float]) -> float:
    """Return the value that one of a hundred exceeds."""
    return sorted(values)[int(len(values) * 0.99)]


async def bench(kinds: tuple[str, ...], pairs: int, seconds: float, rate: float) -> Table:
    """Measure each kind of flood in pairs, without and with it."""
    columns = ("flood", "p50, ms", "p99 without, ms", "p99, ms", "ratio of p99s", "worst, ms")
    table = Table(
        *columns, title=f"a bystander's ping; {rate / 1e6:g} MB/s from one connection; medians of {pairs} pairs"
    )
    with tempfile.TemporaryDirectory() as folder:
        async with server_process(Path(folder), 0) as running, wire_client(running.ws_url, negotiated=True) as client:
            await round_trips(client, 0.5)
            address = running.url.removeprefix("http://")
            for kind in track(kinds, "flooding", console=Console(stderr=True)):
                rows = [await pair(client, kind, address, seconds, rate) for _ in range(pairs)]
                medians = [p99(quiet) for quiet, _ in rows], [p99(loud) for _, loud in rows]
                table.add_row(
                    kind,
                    f"{statistics.median(statistics.median(loud) for _, loud in rows):.2f}",
                    *(f"{statistics.median(each):.2f}" for each in medians),
                    f"{statistics.median(after / before for before, after in zip(*medians, strict=True)):.2f}",
                    f"{max(max(loud) for _, loud in rows):.0f}",
                )
    return table


async def pair(
    client: WireClient, kind: str, address: str, seconds: float, rate: float
) -> tuple[list[float], list[float]]:
    """Return the latencies without the flood and with it."""
    quiet = await milliseconds(client, seconds)
    command = [sys.executable, "-m", "tests.bench_floods", "--flood", kind, "--address", address, "--rate", str(rate)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220 - once a pair
        try:
            assert process.stdout is not None, "it is piped"
            await asyncio.to_thread(process.stdout.readline)  # its own start takes a second of CPU time
            loud = await milliseconds(client, seconds)
        finally:
            process.kill()
    await round_trips(client, 0.3)  # what it has left behind is done
    return quiet, loud


@click.command()
@click.option("--pairs", default=5, show_default=True, help="Runs without and with each flood.")
@click.option("--seconds", default=3.0, show_default=True, help="Length of each run.")
@click.option("--rate", default=1e6, show_default=True, help="Bytes a second that the flood sends.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice([*KINDS, *LARGE]), help="Only these. [default: all]")
@click.option("--flood", "flooding", hidden=True, help="Be the flood.")
@click.option("--address", hidden=True)
def main(
    pairs: int, seconds: float, rate: float, kinds: tuple[str, ...], flooding: str | None, address: str | None
) -> None:
    """Measure how much floods of all kinds delay others."""
    if flooding is not None:
        flood(flooding, address or "", rate)
    uvloop.install()
    Console(width=120).print(asyncio.run(bench(kinds or (*KINDS, *LARGE), pairs, seconds, rate)))


if __name__ == "__main__":
    main()
