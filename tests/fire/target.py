"""A server to be fired at: in this loop, with its two models, on the disk, with bounds that a run soon reaches."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from millrace.simulator import LARGE, SMALL, Simulator
from millrace.simulator.profiles import Profile
from tests.fire.watch import BEAT_S, Watch, beating, open_files, resident, watching
from tests.support.server import Running, configuration_for, process_of, serving, without_delays
from tests.support.wire_client import WireClient, wire_client

MEBIBYTE = 2**20
LONGEST = 256 * 1024  # bytes of a message: what is too long is cheap to send
PING_S = 0.05
REST_S = 0.5  # until a server that has just started is at rest
SETTLED_S = 60.0  # for what runs to end, once nobody listens
KEPT_ALIVE = "RequestHandler.start"  # the task of a connection to a model
COMPARING = 2  # pipes of the process that compares questions, which starts once there are some to compare
MOST_DRIFT = 0.05
FILLING, AT_ONCE = 5000, 16  # questions after which all that is bounded is full


@dataclass(slots=True)
class Target:
    """A server, whoever looks on, and what there was before."""

    running: Running
    watch: Watch
    bystander: WireClient
    tasks: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    worst_ping_s: float = 0.0
    memory: list[int] = field(default_factory=list)  # resident, after each part of a run

    @property
    def process(self) -> Any:
        """The server's process."""
        return process_of(self.running)

    @property
    def drift(self) -> float:
        """By which share the memory has grown since the first part of a run."""
        return self.memory[-1] / self.memory[0] - 1

    async def fill(self) -> None:
        """Ask so much that what has a bound is full. What grows after that has none."""
        numbers = iter(range(FILLING))

        async def ask(http: aiohttp.ClientSession) -> None:
            for number in numbers:
                body = {"input": f"Tell me about mill number {number}, and how it is driven. [tokens=40]"}
                async with http.post("/v1/responses", json=body) as answer:
                    assert answer.status == 200, await answer.text()

        async with aiohttp.ClientSession(self.running.url) as http:
            await asyncio.gather(*(ask(http) for _ in range(AT_ONCE)))

    async def end_part(self) -> None:
        """End a part of a run: nothing is left of it."""
        await self.check_nothing_left()
        self.memory.append(resident())

    def check_drift(self) -> None:
        """Note a fault if the memory has grown by too much."""
        if self.drift > MOST_DRIFT:
            self.watch.fault(f"RSS grew by {self.drift:.1%}")

    async def check_nothing_left(self) -> None:
        """Wait until all that was asked has ended, and note as faults what is still there."""
        process = self.process
        left: dict[str, Callable[[], int]] = {
            "requests that run": lambda: len(process.runs.running),
            "calls at the models": lambda: self.running.small.stats.running + self.running.large.stats.running,
            "connections": lambda: len(self.running.connections) - 1,  # the bystander's
            "sessions": lambda: len(process.sessions) - 1,
            "requests on their way": lambda: len(process.arrivals),
            "streams": lambda: len(process.streams),
            "bytes held by requests": lambda: process.memory.requests.used,
            "reservations": lambda: sum(map(any, reserved(process))),
            "tasks": lambda: len([*(tasks() - self.tasks).elements()]),
            "file descriptors": lambda: len([*(files() - self.files).elements()]),
        }
        try:
            async with asyncio.timeout(SETTLED_S):
                while any(count() for count in left.values()):  # noqa: ASYNC110 - nothing tells of all of these
                    await asyncio.sleep(BEAT_S)
        except TimeoutError:
            for what, count in left.items():
                if count():
                    self.watch.fault(f"left: {count()} {what}")
            for name, times in ((tasks() - self.tasks) + (files() - self.files)).items():
                self.watch.fault(f"left: {times} x {name}")

    async def ping_on(self) -> None:
        """Be a bystander until cancelled: note how long its pings take."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self.bystander.send({"type": "millrace.ping", "t": 1})
            await self.bystander.until("millrace.pong")
            self.worst_ping_s = max(self.worst_ping_s, loop.time() - began)
            await asyncio.sleep(PING_S)


def tasks() -> Counter[str]:
    """Return which tasks there are; those of idle connections to the models, which are kept, are not among them."""
    names = Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]
    del names[KEPT_ALIVE]
    return names


def files() -> Counter[str]:
    """Return what file descriptors there are, without both ends of idle connections to the models."""
    found = open_files()
    found["socket"] -= 2 * sum(task.get_coro().__qualname__ == KEPT_ALIVE for task in asyncio.all_tasks())  # type: ignore[union-attr]
    return found


def reserved(process: Any) -> list[tuple[int, int, Any]]:
    """Return what each account of a limit has reserved."""
    return [
        (account.in_flight, account.reserved_tokens, account.reserved_cost)
        for account in process.intake._limiter.accounts
    ]


@asynccontextmanager
async def target(
    folder: Path,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    model: Callable[[Profile], Simulator] = Simulator,
) -> AsyncIterator[Target]:
    """Run a server with its data in a folder; `change` edits its configuration, `model` makes a model of it."""
    with watching() as watch:
        async with model(without_delays(SMALL)) as small, model(without_delays(LARGE)) as large:
            configuration = configuration_for(small.base_url, large.base_url)
            configuration["server"] |= {
                "data_dir": str(folder),
                "memory_bytes": 32 * MEBIBYTE,
                "max_message_bytes": LONGEST,
            }
            configuration["cache"] = {"memory_bytes": 4 * MEBIBYTE, "disk_bytes": 32 * MEBIBYTE}
            configuration["limits"] = {"user": {"dollars_per_day": "1000"}, "tenant": {"dollars_per_day": "10000"}}
            change(configuration)
            connections: set[Any] = set()
            async with serving(configuration, connections=connections) as url, wire_client(_ws(url)) as bystander:
                with beating(watch):
                    made = Target(Running(url, small, large, connections), watch, bystander)
                    async with _with_bystander(made):
                        yield made


@asynccontextmanager
async def _with_bystander(made: Target) -> AsyncIterator[None]:
    await _warmed(made)
    pinging = asyncio.create_task(made.ping_on())
    await asyncio.sleep(REST_S)
    made.tasks, made.files = tasks(), files()
    made.files["pipe"] += COMPARING
    try:
        yield
    finally:
        pinging.cancel()
        await asyncio.wait([pinging])
        if not pinging.cancelled():
            made.watch.fault(f"the bystander: {pinging.exception()!r}")


async def _warmed(made: Target) -> None:
    """Have what starts when it is needed first started, such as the process for schemas."""
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    await made.bystander.ask("Is anybody there?", text={"format": form})
    async with (
        aiohttp.ClientSession(made.running.url) as http,
        http.get("/v1/cache/entries?query=Is anybody there?") as answer,
    ):
        assert answer.status == 200, await answer.text()


def _ws(url: str) -> str:
    return url.replace("http", "ws", 1)
