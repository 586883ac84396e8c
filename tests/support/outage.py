"""Deployments in processes of their own that are killed, stalled and refuse, and a load of requests on a server."""

import asyncio
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from millrace.errors import MillraceError
from millrace.wire.responses import Revise
from millrace_client import Client
from tests.support.http_client import events_of, lines_of
from tests.support.ports import free_port
from tests.support.processes import spawn
from tests.support.server import PRICES, serving

DEADLINE_S = 30.0
LATE_S = 5.0  # after its deadline, at which a request hangs
PATIENCE_S = 30.0
QUESTION = "Tell me about mill {}. [ttft=0.1] [rate=100] [tokens=30]"


class Deployment:
    """A simulated provider in a process of its own, always on the same port."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        null = subprocess.DEVNULL
        arguments = ("simulate", "--profile", "small", "--port", str(self.port))
        self._process = await asyncio.to_thread(spawn, "server", *arguments, stdout=null, stderr=null)
        async with asyncio.timeout(PATIENCE_S):
            while await self.started() < 0:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Have it accept connections, and answer nothing; what it streams stops."""
        assert self._process is not None, "it runs"
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None, "it runs"
        os.kill(self._process.pid, signal.SIGCONT)

    async def set_fault(self, fault: str) -> None:
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/fault", data=fault) as answer:
            assert answer.status == 200

    async def started(self) -> int:
        """Return how many calls it has got; -1 if it does not answer."""
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as http, http.get(f"{self.url}/stats") as answer:
                return int((await answer.json())["started"])
        except (aiohttp.ClientError, TimeoutError):
            return -1


@dataclass(slots=True)
class Counts:
    """What became of the requests of a load."""

    asked: int = 0
    answered: int = 0
    cut: int = 0  # plain clients that had seen words before their deployment broke off
    failed: int = 0
    late: int = 0  # past their deadline
    taken_back: int = 0  # negotiated ones whose words were taken back
    why: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0


class Load:
    """Requests at a steady rate, negotiated and plain in turn; they want the model of the pool alone."""

    def __init__(self, url: str, per_s: float) -> None:
        self._url = url
        self._per_s = per_s
        self._number = 0
        self.counts = Counts()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask while the block runs, then wait for all answers."""
        async with Client(self._url) as client, aiohttp.ClientSession(self._url) as http, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(self._ask_on(client, http, tasks))
            yield
            asking.cancel()

    async def _ask_on(self, client: Client, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        begun = time.monotonic()
        for number in range(1_000_000):
            await asyncio.sleep(begun + number / self._per_s - time.monotonic())
            tasks.create_task(self._one(client, http))

    async def _one(self, client: Client, http: aiohttp.ClientSession) -> None:
        self._number += 1
        self.counts.asked += 1
        text, begun = QUESTION.format(self._number), time.monotonic()
        try:
            async with asyncio.timeout(DEADLINE_S + LATE_S):
                await (self._negotiated(client, text) if self._number % 2 else self._plain(http, text))
        except TimeoutError:
            self.counts.late += 1
        except (MillraceError, aiohttp.ClientError) as error:
            self.counts.failed += 1
            self.counts.why[str(error)[:300]] += 1
        self.counts.longest_s = max(self.counts.longest_s, time.monotonic() - begun)

    async def _negotiated(self, client: Client, text: str) -> None:
        options: dict[str, Any] = {"strategy": "small", "cache": "off", "deadline_ms": int(DEADLINE_S * 1000)}
        async with client.stream(text, **options) as stream:
            async for event in stream:
                self.counts.taken_back += isinstance(event, Revise)
            await stream.reply()
        self.counts.answered += 1

    async def _plain(self, http: aiohttp.ClientSession, text: str) -> None:
        millrace = {"strategy": "small", "cache": "off", "deadline_ms": int(DEADLINE_S * 1000)}
        async with http.post("/v1/responses", json={"input": text, "stream": True, "millrace": millrace}) as answer:
            events = events_of(await lines_of(answer))
        if events and events[-1].get("type") == "response.completed":
            self.counts.answered += 1
        elif any(event.get("type") == "response.output_text.delta" for event in events):
            self.counts.cut += 1
        else:
            self.counts.failed += 1
            self.counts.why[str(events[-1:])[:300]] += 1


@dataclass(frozen=True, slots=True)
class Outage:
    """What happens to one deployment, and how it ends."""

    name: str
    begin: Callable[[Deployment], Any]
    end: Callable[[Deployment], Any]


async def _faulty(deployment: Deployment, fault: str = "") -> None:
    await deployment.set_fault(fault)


OUTAGES = (
    Outage("killed", lambda one: one.kill(), lambda one: one.start()),
    Outage("frozen", lambda one: one.freeze(), lambda one: one.thaw()),
    Outage("silent", lambda one: _faulty(one, "silent"), _faulty),
    Outage("stops in mid-stream", lambda one: _faulty(one, "stall"), _faulty),
    Outage("429", lambda one: _faulty(one, "429"), _faulty),
    Outage("500", lambda one: _faulty(one, "error"), _faulty),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one outage of one deployment did."""

    outage: str
    deployment: str
    counts: Counts
    asked_when_known: int  # calls that it got while it was known to be down, probes among them
    known_s: float  # how long that was
    recovered_s: float  # from its return to the first request that it was asked


class Stage:
    """A server before one model at several deployments."""

    def __init__(self, url: str, deployments: list[Deployment]) -> None:
        self.url = url
        self.deployments = deployments

    async def places(self) -> dict[str, dict[str, Any]]:
        """Return what the server says of each deployment, by its label."""
        async with aiohttp.ClientSession(self.url) as http, http.get("/readyz?verbose") as answer:
            (small,) = [model for model in (await answer.json())["models"] if model["name"] == "small"]
            return {place["label"]: place for place in small["deployments"]}

    async def measured(self, outage: Outage, deployment: Deployment, *, per_s: float, down_s: float) -> Measured:
        """Let a deployment fail under a load until that is known, and for so many seconds in all at least."""
        load = Load(self.url, per_s)
        async with load.running():
            await asyncio.sleep(1.0)
            await _done(outage.begin(deployment))
            down_at, known_at, before = time.monotonic(), None, 0
            while (down_for_s := time.monotonic() - down_at) < down_s or (known_at is None and down_for_s < PATIENCE_S):
                await asyncio.sleep(0.1)
                if known_at is None and (await self.places())[deployment.label]["breaker"] != "closed":
                    known_at, before = time.monotonic(), await deployment.started()
            known_s = time.monotonic() - known_at if known_at is not None else 0.0
            asked = await deployment.started() - before if known_at is not None and before >= 0 else 0
            await _done(outage.end(deployment))
            back_at = time.monotonic()
            async with asyncio.timeout(PATIENCE_S):
                while (await self.places())[deployment.label]["breaker"] != "closed":  # noqa: ASYNC110 - over HTTP
                    await asyncio.sleep(0.05)
            recovered_s = time.monotonic() - back_at
            await asyncio.sleep(1.0)
        return Measured(outage.name, deployment.label, load.counts, max(0, asked), known_s, recovered_s)


async def _done(made: Any) -> None:
    if made is not None:
        await made


@asynccontextmanager
async def stage(labels: tuple[str, ...] = ("eu", "us", "asia"), **model: Any) -> AsyncIterator[Stage]:
    """Run a server before a small model at deployments with these labels; `model` goes into its section."""
    deployments = [Deployment(label) for label in labels]
    async with AsyncExitStack() as running:
        for deployment in deployments:
            running.callback(deployment.kill)
        await asyncio.gather(*(deployment.start() for deployment in deployments))
        places = [{"base_url": f"{each.url}/v1", "region": each.label} for each in deployments]
        small = {"upstream": "openai", "model": "small-model", "price": dict(PRICES["small"]), "deployments": places}
        large = {"upstream": "openai", "model": "large-model", "price": dict(PRICES["large"])}
        configuration = {
            "server": {"port": 0, "data_dir": ":memory:"},
            "models": {"small": small | model, "large": large | {"base_url": places[0]["base_url"]}},
            "evidence": {"judged": False},
        }
        url = await running.enter_async_context(serving(configuration))
        yield Stage(url, deployments)
