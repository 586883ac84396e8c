"""A server to be fired at: in this loop, with its two models, on the disk, with bounds that a run soon reaches."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fire.watch import BEAT_S, Watch, beating, open_files, resident, watching
from tests.support.server import Running, process_of, started
from tests.support.wire_client import WireClient, wire_client

MEBIBYTE = 2**20
LONGEST = 256 * 1024  # bytes of a message: what is too long is cheap to send
PING_S = 0.05
SETTLED_S = 20.0  # for what runs to end, once nobody listens
KEPT_ALIVE = "RequestHandler.start"  # the task of a connection to a model
CHILDREN = 4  # pipes of the two processes that start once they are needed: for schemas, and for questions
MOST_DRIFT = 0.05


@dataclass(slots=True)
class Stage:
    """A server, whoever looks on, and what there was before."""

    running: Running
    watch: Watch
    bystander: WireClient
    tasks: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    worst_ping_s: float = 0.0
    warm_bytes: int = 0  # resident memory after the first part of a run

    @property
    def process(self) -> Any:
        """The server's process."""
        return process_of(self.running)

    def warm(self) -> None:
        """Note the memory that is taken now; more at the end is drift."""
        self.warm_bytes = resident()

    def check_drift(self) -> float:
        """Return by which share the memory has grown since it was warm, and note a fault if that is too much."""
        now = resident()
        if now > (1 + MOST_DRIFT) * self.warm_bytes:
            self.watch.fault(f"RSS grew from {self.warm_bytes / MEBIBYTE:.0f} to {now / MEBIBYTE:.0f} MiB")
        return now / self.warm_bytes - 1

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
            "tasks": lambda: (tasks() - self.tasks).total(),
            "file descriptors": lambda: (files() - self.files).total(),
        }
        try:
            async with asyncio.timeout(SETTLED_S):
                while any(count() for count in left.values()):
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
async def stage(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> AsyncIterator[Stage]:
    """Run a server with its data in a folder; `change` edits its configuration."""

    def changed(configuration: dict[str, Any]) -> None:
        configuration["server"] |= {
            "data_dir": str(folder),
            "memory_bytes": 32 * MEBIBYTE,
            "max_message_bytes": LONGEST,
        }
        configuration["cache"] = {"memory_bytes": 4 * MEBIBYTE, "disk_bytes": 32 * MEBIBYTE}
        configuration["limits"] = {"user": {"dollars_per_day": "1000"}, "tenant": {"dollars_per_day": "10000"}}
        change(configuration)

    with watching() as watch:
        async with started(changed) as running, wire_client(running.ws_url) as bystander:
            with beating(watch):
                made = Stage(running, watch, bystander)
                await bystander.ask("Is anybody there?")
                pinging = asyncio.create_task(made.ping_on())
                await asyncio.sleep(0.5)
                made.tasks, made.files = tasks(), files()
                made.files["pipe"] += CHILDREN
                try:
                    yield made
                finally:
                    pinging.cancel()
                    await asyncio.wait([pinging])
                    if not pinging.cancelled():
                        watch.fault(f"the bystander: {pinging.exception()!r}")
