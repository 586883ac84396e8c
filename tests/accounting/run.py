"""One phase: a server in a process of its own, many requests, a drain while some still run, and then the audit."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from millrace.simulator import LARGE, SMALL
from millrace.stores.database import FILE
from tests.accounting.audit import AROUND_S, Around, Audit, audit, mispriced, read
from tests.accounting.clients import UNSENT, Clients
from tests.accounting.kinds import DRAINED, Ask, Asks
from tests.accounting.recorder import RecordingSimulator
from tests.savings.stage import Program

AT_ONCE = 64  # requests
DRAINING = 24  # requests that run when the server is told to stop
DRAIN_S = 1.0
PRICES = {"small": (150, 75, 600), "large": (2500, 1250, 10_000)}  # nanodollars of a token, as in `SETTINGS`
SETTINGS = """
[server]
port = 0
data_dir = "{folder}/data"
drain_s = {drain_s}
[models.small]
upstream = "openai"
base_url = "{small}"
model = "small-model"
price = {{ input = "0.15", cached_input = "0.075", output = "0.60" }}
[models.large]
upstream = "openai"
base_url = "{large}"
model = "large-model"
price = {{ input = "2.50", cached_input = "1.25", output = "10.00" }}
[cache]
semantic = false
[funnel]
hedge_share = 0
[checks]
repair = false
[evidence]
judged = false
"""


async def phase(
    folder: Path, count: int, seed: int, on_done: Callable[[int], object] = lambda _: None, around_s: float = AROUND_S
) -> Audit:
    """Send so many requests and more to a server in a new folder; return what became of them."""
    profiles = (replace(each, ttft_s=0.0, tokens_per_s=0.0) for each in (SMALL, LARGE))
    small, large = map(RecordingSimulator, profiles)
    late_by: list[tuple[float, float]] = []
    async with small, large:
        config = folder / "millrace.toml"
        text = SETTINGS.format(folder=folder, drain_s=DRAIN_S, small=small.base_url, large=large.base_url)
        await asyncio.to_thread(config.write_text, text, "utf-8")
        program = await asyncio.to_thread(Program, folder / "server.log", ("serve", "--config", str(config)))
        try:
            async with Clients(await program.address()) as clients:
                pinging = asyncio.create_task(clients.ping_on(late_by))
                asked, ends = await _all(clients, count, seed, on_done)
                late = [ask for _ in range(DRAINING) for ask in asked.of(DRAINED)]
                tasks = [asyncio.create_task(clients.ask(ask)) for ask in late]
                while small.stats.running < DRAINING:  # noqa: ASYNC110 - the simulator cannot tell
                    await asyncio.sleep(0.01)
                program.process.send_signal(signal.SIGTERM)
                await asyncio.wait(tasks)
                pinging.cancel()
                await asyncio.gather(pinging, return_exceptions=True)  # the server may have closed its connection
            code = await asyncio.to_thread(program.process.wait, 60)
        finally:
            program.process.kill()
    rows = await asyncio.to_thread(read, folder / "data" / FILE)
    # One that was left at once may have left before its request had come in.
    unsent = frozenset(ask.number for ask, end in ends if end in ("left", UNSENT))
    recorded = {"small": small.recorded, "large": large.recorded}
    around = Around(around_s, late_by)
    found = audit([*(ask for ask, _ in ends), *late], unsent, rows, recorded, around)
    found.deviations += mispriced(rows, PRICES)
    found.deviations += [
        f"{ask.tag} ({ask.kind.name}): {end}" for ask, end in ends if end in ("no end", "connection lost")
    ]
    if code not in (0, -signal.SIGTERM):
        found.deviations.append(f"the server ended with {code}: {program.said[-500:]}")
    return found


async def _all(
    clients: Clients, count: int, seed: int, on_done: Callable[[int], object]
) -> tuple[Asks, list[tuple[Ask, str]]]:
    """Send all, some at a time; return what was asked and how each ended for its client."""
    asks, ends, places = Asks(seed), list[tuple[Ask, str]](), asyncio.Semaphore(AT_ONCE)

    async def one(ask: Ask) -> None:
        try:
            end = await clients.ask(ask)
            ends.append((ask, end))
            if ask.kind.name == "completed by small" and end == "completed":
                asks.learn(ask)
            on_done(1)
        finally:
            places.release()

    async with asyncio.TaskGroup() as group:
        made = 0
        while made < count:
            for ask in asks.next():
                await places.acquire()
                group.create_task(one(ask))
                made += 1
    return asks, ends
