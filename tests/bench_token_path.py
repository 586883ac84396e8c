"""`make bench`: what Millrace costs per token, and what it adds to the first one. Medians of interleaved runs.

Two processes: the server alone, and this one, which is both the model and the clients (hand-made, so that they are
cheap). "direct" runs the same clients straight against the model; "millrace" goes through the server. Read the ratios
and the spread: on a shared machine the absolute figures move by a quarter from run to run.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import click
import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.support.paths import REPOSITORY

WORD = " millrace"
TICKS = os.sysconf("SC_CLK_TCK")
CHUNK = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": WORD}}]}).encode() + b"\n\n"
END = (
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":9}}\n\ndata: [DONE]\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Load:
    """How many streams at once, of how many tokens, how fast (tokens/s each; 0: in one burst)."""

    name: str
    streams: int
    tokens: int
    rate: float


LOADS = (Load("paced", 200, 60, 20.0), Load("burst", 32, 400, 0.0), Load("one", 1, 40, 50.0))


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Model(asyncio.Protocol):
    """A model that speaks at a fixed pace; the pace is the prompt: `TOKENS RATE`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        _, blank, body = self.received.partition(b"\r\n\r\n")
        if not blank or not body.endswith(b"}"):
            return
        self.received = b""
        tokens, rate = json.loads(body)["messages"][-1]["content"].split()[:2]
        self.left, self.pause = int(tokens), 1 / float(rate) if float(rate) else 0.0
        self.transport.write(HEAD)
        if self.pause:
            self.speak()
        else:
            self.transport.write(chunked(CHUNK * self.left) + chunked(END) + b"0\r\n\r\n")

    def speak(self) -> None:
        if self.transport.is_closing():
            return
        self.left -= 1
        self.transport.write(chunked(CHUNK))
        if self.left:
            asyncio.get_running_loop().call_later(self.pause, self.speak)
        else:
            self.transport.write(chunked(END) + b"0\r\n\r\n")


@dataclass
class Client(asyncio.Protocol):
    """One stream: writes its opening, counts the marks of tokens, is done at the mark of the end."""

    opening: bytes
    request: bytes  # sent after the answer to the opening; empty where there is none
    token: bytes
    end: bytes
    done: asyncio.Future[None]
    tokens: int = 0
    first: float | None = None
    tail: bytes = b""
    asked: float = field(default_factory=time.perf_counter)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.opening)

    def data_received(self, data: bytes) -> None:
        if self.request:
            self.transport.write(self.request)
            self.request, self.asked = b"", time.perf_counter()
            return
        seen = self.tail + data
        found = seen.count(self.token)
        if found and self.first is None:
            self.first = time.perf_counter()
        self.tokens += found
        cut = seen.rfind(self.token) + len(self.token) if found else 0
        self.tail = seen[max(cut, len(seen) - 40) :]
        if self.end in seen and not self.done.done():
            self.done.set_result(None)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("closed before the end"))


def text_frame(payload: bytes) -> bytes:
    """A masked text frame; the mask is zero, which is a mask too."""
    length = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
    return b"\x81" + length + bytes(4) + payload


def openings(load: Load, number: int) -> dict[str, tuple[bytes, bytes, bytes, bytes]]:
    """Opening, request, mark of a token and of the end, for each way."""
    prompt = f"{load.tokens} {load.rate:g} {number} {time.time_ns()}"
    body = json.dumps({"messages": [{"role": "user", "content": prompt}]}).encode()
    post = b"POST /v1/chat/completions HTTP/1.1\r\nHost: m\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    upgrade = (
        b"GET /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    create = json.dumps({"type": "response.create", "model": "small", "input": prompt}).encode()
    return {
        "direct": (post, b"", b'"content"', b"[DONE]"),
        "millrace": (upgrade, text_frame(create), b"output_text.delta", b'"response.completed"'),
    }


async def run(way: str, load: Load, port: int) -> tuple[float, int]:
    """Run a load once; return the median time to the first token (ms) and the tokens seen."""
    loop = asyncio.get_running_loop()
    clients = []
    for number in range(load.streams):
        client = Client(*openings(load, number)[way], loop.create_future())
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
        clients.append(client)
        await asyncio.sleep(0.002)
    async with asyncio.timeout(120):
        await asyncio.gather(*(client.done for client in clients))
    firsts = [(client.first - client.asked) * 1000 for client in clients if client.first]
    return statistics.median(firsts), sum(client.tokens for client in clients)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def configuration(port: int, model_port: int) -> str:
    models = "\n".join(
        f'[models.{tier}]\nupstream = "openai"\nbase_url = "http://127.0.0.1:{model_port}/v1"\nmodel = "{tier}-bench"\n'
        f'price = {{ input = "1", output = "1" }}\n'
        for tier in ("small", "large")
    )
    return f'[server]\nport = {port}\ndata_dir = ":memory:"\n{models}'


async def bench(repeats: int) -> Table:
    loop = asyncio.get_running_loop()
    model = await loop.create_server(Model, "127.0.0.1", 0)
    model_port = model.sockets[0].getsockname()[1]
    spare = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = spare.sockets[0].getsockname()[1]
    spare.close()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "bench.toml"
        config.write_text(configuration(port, model_port))
        command = [sys.executable, str(REPOSITORY / "server"), "serve", "--config", str(config)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:  # noqa: ASYNC220 - once, at the start
            try:
                await listening(port)
                return await measure(repeats, {"direct": model_port, "millrace": port}, server.pid)
            finally:
                server.terminate()
                model.close()


async def listening(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def measure(repeats: int, ports: dict[str, int], pid: int) -> Table:
    for way, port in ports.items():  # warm up
        await run(way, Load("warm", 8, 40, 0.0), port)
    firsts: dict[tuple[str, str], list[float]] = {}
    costs: dict[str, list[float]] = {}
    rounds = [(load, way) for _ in range(repeats) for load in LOADS for way in ports]
    for load, way in track(rounds, "running", console=Console(stderr=True)):
        before = cpu_seconds(pid)
        first, tokens = await run(way, load, ports[way])
        firsts.setdefault((load.name, way), []).append(first)
        if way == "millrace":
            assert load.streams <= tokens <= load.streams * load.tokens
            costs.setdefault(load.name, []).append((cpu_seconds(pid) - before) * 1e6 / (load.streams * load.tokens))
    columns = ("load", "streams", "tokens", "tokens/s", "direct", "millrace", "added", "CPU µs/token")
    table = Table(*columns, title="first token in ms, median [min-max]; CPU of the server")
    for load in LOADS:
        direct, through = (firsts[load.name, way] for way in ports)
        table.add_row(
            load.name,
            f"{load.streams}",
            f"{load.tokens}",
            f"{load.rate:g}" if load.rate else "at once",
            spread(direct),
            spread(through),
            f"{statistics.median(through) - statistics.median(direct):.2f}",
            spread(costs[load.name]) if load.streams > 1 else "-",
        )
    return table


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


@click.command()
@click.option("--repeats", default=5, show_default=True, help="Interleaved runs of each load.")
def main(repeats: int) -> None:
    """Measure the token path."""
    uvloop.install()
    Console(width=120).print(asyncio.run(bench(repeats)))


if __name__ == "__main__":
    main()
