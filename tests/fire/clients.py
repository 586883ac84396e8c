"""Twelve faults between a client and the server, over the WebSocket, Responses (SSE) and Messages.

    python -m tests.fire.clients --seed 1 --repeat 50

Six faults, each in both directions: latency, little bandwidth, slices of one byte, a black hole, a reset, a half-close.
Through the first three every answer must come whole, once. After a reset or a FIN the model's socket must be closed
within 250 ms, at whatever moment it came (before the first word, in mid-answer), and also where the client had stopped
to read and its socket was full. After a black hole it must be closed within 45 s, unless what is lost matters to nobody
(the client's bytes, over HTTP). Each request has one row in the ledger, and nothing is held in the end. Both readers.

In the proxy's black hole no byte is taken, with all sockets open. A thirteenth fault is that of a dead network: what
the server sends is not acknowledged any more (Linux).
"""

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from millrace import log
from millrace.web.process import Process
from millrace.web.server import new_loop
from tests.fire import peer, talk
from tests.fire.peer import Peer
from tests.fire.pulse import TRIES, beating
from tests.fire.stage import Row, idle, rows
from tests.fire.streams import TEXT
from tests.fire.talker import ENDLESS, FLOOD, Talker, talker
from tests.support.proxy import Proxy, proxy_to
from tests.support.server import configuration_for, serving
from tests.support.waiting import PATIENCE_S, until

DOORS = ("websocket", "responses", "messages")
WHOLE = "whole"  # Responses without a stream: nothing is sent to the client before the end
STILL_S = 0.05  # for which the process may stand still while a time is measured
RELEASED_S = 0.25  # PROTOCOL.md, What always holds, 7
HOLE_S = 45.0
ALMOST_ALL = 10**9  # tokens: no answer reaches it


class Fault(StrEnum):
    """What happens to the bytes of one direction."""

    LATENCY_UP = "latency, to the server"
    LATENCY_DOWN = "latency, to the client"
    BANDWIDTH_UP = "bandwidth, to the server"
    BANDWIDTH_DOWN = "bandwidth, to the client"
    SLICES_UP = "slices of 1 byte, to the server"
    SLICES_DOWN = "slices of 1 byte, to the client"
    HOLE_UP = "black hole, to the server"
    HOLE_DOWN = "black hole, to the client"
    RESET_UP = "reset, of the server"
    RESET_DOWN = "reset, of the client"
    END_UP = "half-close, to the server"
    END_DOWN = "half-close, to the client"
    LOST = "lost packets, to the client"


SLOW = (*Fault,)[:6]
HOLES = (Fault.HOLE_UP, Fault.HOLE_DOWN, Fault.LOST)
FULL = (Fault.RESET_UP, Fault.END_UP)  # also where the client's socket is full


@dataclass(frozen=True, slots=True)
class Case:
    """One fault at one door."""

    fault: Fault
    door: str
    is_full: bool = False

    def __str__(self) -> str:
        return f"{self.fault}{', its socket full' if self.is_full else ''}, {self.door}"

    @property
    def within_s(self) -> float:
        """Within which the model's socket must be closed."""
        return HOLE_S if self.fault in HOLES else RELEASED_S

    @property
    def lets_answer(self) -> bool:
        """Whether the answer comes all the same."""
        return self.fault in SLOW or (self.fault is Fault.HOLE_UP and self.door != "websocket")


CASES = [
    *(Case(fault, door) for fault in Fault for door in DOORS),
    *(Case(fault, door, is_full=True) for fault in FULL for door in DOORS),
    Case(Fault.LOST, WHOLE),
]


@dataclass(slots=True)
class Found:
    """What became of all runs of one case."""

    runs: int = 0
    again: int = 0  # more of them, because the process had stood still
    released_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Server:
    """A server with one reader, its model, and what its clients were told or did."""

    url: str
    talker: Talker
    process: Process
    cases: dict[str, tuple[Case, talk.Told | None]] = field(default_factory=dict)  # by the tag of a request


async def run_of(case: Case, server: Server, name: str, chance: random.Random, turn: AsyncExitStack) -> float | None:
    """Run a case once; return after how long its model was left, if it was. Raises what is wrong.

    What is silent for long gives its turn away.
    """
    options = {"strategy": "small", "cache": "off", "tag": name}
    async with proxy_to(server.url) as proxy:
        if case.lets_answer:
            server.cases[name] = case, None
            told = await _asked(case, proxy, server, name, talk.body_of(case.door, f"{name} tells", options))
            server.cases[name] = case, told
            assert (told.status, told.text) == ("completed", TEXT), f"told {told}"
            return None
        words = FLOOD if case.is_full or case.fault is Fault.HOLE_DOWN else ENDLESS
        asked = talk.body_of(case.door, f"{name} {words}", options)
        asked |= {"max_tokens": ALMOST_ALL} if case.door == "messages" else {"max_output_tokens": ALMOST_ALL}
        server.cases[name] = case, None
        client = await peer.ask(proxy.url, case.door, asked)
        try:
            await until(lambda: name in server.talker.sent)
            if case.is_full:
                await _fill(client, proxy, server, name, chance.choice((0, 40, 200)) if case.door == "websocket" else 0)
            else:
                deltas = 0 if case.door == WHOLE else chance.choice((0, 0, 1, 5, 20))  # 0: before the first, or about
                await until(lambda: client.deltas >= deltas)
            struck_at = asyncio.get_running_loop().time()
            _strike(case.fault, proxy)
            if case.fault in HOLES:
                await turn.aclose()
            await until(lambda: name in server.talker.left_at, case.within_s + PATIENCE_S)
            if case.fault in (Fault.RESET_DOWN, Fault.END_DOWN):
                assert client.has_ended.is_set(), "its client does not know"
        finally:
            await client.close()
    released_s = server.talker.left_at[name] - struck_at
    assert released_s <= case.within_s, f"its model was left after {released_s:.2f} s"
    return released_s


async def _asked(case: Case, proxy: Proxy, server: Server, name: str, body: dict[str, Any]) -> talk.Told:
    for fault, way in zip(SLOW, (proxy.to_server, proxy.to_client) * 3, strict=True):
        if case.fault is fault:
            way.latency_s = 0.06 if "latency" in fault else 0.0
            way.bytes_per_s = 20_000 if "bandwidth" in fault else 0.0
            way.slice_bytes = 1 if "slices" in fault else way.slice_bytes
    if case.fault is not Fault.HOLE_UP:
        return await talk.ask(proxy.url, case.door, body)
    told = asyncio.create_task(talk.ask(proxy.url, case.door, body))
    await until(lambda: name in server.talker.sent)
    proxy.to_server.hold()  # from the end of the request on
    return await told


async def _fill(client: Peer, proxy: Proxy, server: Server, name: str, pings: int) -> None:
    """Have the client read no more, until its model is not read any more either."""
    client.stop_reading()
    proxy.to_client.hold()
    sent = -1
    while sent != server.talker.sent[name]:
        sent = server.talker.sent[name]
        await asyncio.sleep(0.5)
    client.ping(pings)
    await asyncio.sleep(0.2)


def _strike(fault: Fault, proxy: Proxy) -> None:
    (link,) = proxy.links
    strikes: dict[Fault, Callable[[], None]] = {
        Fault.HOLE_UP: proxy.to_server.hold,
        Fault.HOLE_DOWN: proxy.to_client.hold,
        Fault.RESET_UP: link.reset_server,
        Fault.RESET_DOWN: link.reset_client,
        Fault.LOST: link.lose_server,
        Fault.END_UP: link.end_to_server,
        Fault.END_DOWN: link.end_to_client,
    }
    strikes[fault]()
    if fault is Fault.LOST:
        proxy.to_server.hold()


@asynccontextmanager
async def _server(folder: Path, client: str, **server: Any) -> AsyncIterator[Server]:
    async with talker() as model:
        settings = configuration_for(model.url, model.url, data_dir=str(folder), upstream_client=client, **server)
        for each in settings["models"].values():
            each |= {"context_window": 2 * ALMOST_ALL, "max_output_tokens": ALMOST_ALL}
        settings |= {"limits": {"tenant": {"in_flight": 1000, "dollars_per_day": "1000000"}}}
        settings |= {"cache": {"exact": False, "semantic": False}}
        connections: set[Any] = set()
        async with serving(settings, connections=connections) as url, aiohttp.ClientSession(url) as http:
            async with http.get("/healthz"):
                process = next(iter(connections)).app_state["process"]
            yield Server(url, model, process)


def _check_rows(server: Server, folder: Path, found: dict[Case, Found], left: list[str]) -> None:
    ledger: dict[str, list[Row]] = {}
    for of_one in rows(folder).values():
        for row in of_one:
            ledger.setdefault(row.tag, []).append(row)
    for tag, (case, told) in server.cases.items():
        ours = ledger.pop(tag, [])
        found[case].wrong += faults_of_row(case, told, ours[0]) if len(ours) == 1 else [f"{len(ours)} rows"]
    left += [f"{len(ours)} rows of nobody's request" for ours in ledger.values()]


def faults_of_row(case: Case, told: talk.Told | None, row: Row) -> list[str]:
    """Return what is wrong with the ledger's row of a request."""
    found = []
    if row.cost != sum(call.cost_nanodollars for call in row.calls):
        found.append("its calls do not add up")
    if told is not None:
        if (row.status, told.cost and round(told.cost * 1e9)) != (told.status, row.cost):
            found.append(f"told {told}, the ledger has {row}")
    elif not case.lets_answer:
        given_up = case.fault in HOLES and row.code == "slow_consumer"
        if row.status != "cancelled" and not given_up:
            found.append(f"the ledger has {row.status}, {row.code}")
        if not all(call.estimated for call in row.calls):
            found.append("an estimate is not marked")
    return found


async def measure(
    cases: list[Case], repeat: int, seed: int, at_once: int, on_run: Callable[[], None] = lambda: None, **server: Any
) -> tuple[dict[Case, Found], list[str]]:
    """Run each case so many times, `at_once` side by side; return what was found, and what is wrong in the end.

    `server` goes into [server] of the configuration.
    """
    found = {case: Found() for case in cases}
    begun, left = len(asyncio.all_tasks()), []
    async with AsyncExitStack() as folders_, AsyncExitStack() as stack:
        servers, folders = [], []
        for client in ("httptools", "aiohttp"):
            folders.append(Path(folders_.enter_context(tempfile.TemporaryDirectory())))
            servers.append(await stack.enter_async_context(_server(folders[-1], client, **server)))
        place, time = asyncio.Semaphore(at_once), asyncio.get_running_loop().time
        pulse = await stack.enter_async_context(beating(STILL_S))

        async def run(case: Case, number: int) -> None:
            wrong = ""
            for again in range(TRIES):
                began, wrong = time(), ""
                try:
                    async with AsyncExitStack() as turn:
                        await turn.enter_async_context(place)
                        name = f"run-{number}-{again}"
                        chance = random.Random(f"{seed} {case} {number} {again}")
                        released_s = await run_of(case, servers[number % 2], name, chance, turn)
                        if released_s is not None:
                            found[case].released_s.append(released_s)
                except Exception as error:
                    wrong = f"{type(error).__name__}: {str(error)[:300]}"
                if not wrong or pulse.stopped_at < began:
                    break
                found[case].again += 1
            found[case].wrong += [wrong] if wrong else []
            found[case].runs += 1
            on_run()

        numbers = iter(range(len(cases) * repeat))
        last = sorted(cases, key=lambda case: case.fault not in HOLES)  # black holes take longest
        runs = [run(case, next(numbers)) for case in last for _ in range(repeat)]
        await asyncio.gather(*runs)
        for each in servers:
            try:
                await idle(each.process, lambda: each.talker.open > 0, 30)  # noqa: B023 - it is called at once
            except AssertionError as error:
                left.append(str(error))
        await stack.aclose()
        for each, folder in zip(servers, folders, strict=True):
            _check_rows(each, folder, found, left)
    if (tasks := len(asyncio.all_tasks()) - begun) > 0:
        left.append(f"{tasks} tasks")
    return found, left


@click.command(help=__doc__)
@click.option("--seed", default=1, show_default=True)
@click.option("--repeat", default=50, show_default=True, help="Runs of each fault at each door.")
@click.option("--at-once", default=8, show_default=True, help="Runs side by side, without those in a black hole.")
@click.option("--only", default="", help="Cases whose name contains this.")
def main(seed: int, repeat: int, at_once: int, only: str) -> None:
    """Run, and print a table."""
    log.configure(level="critical")
    cases = [case for case in CASES if only in str(case)]
    console, began = Console(width=140), time.monotonic()
    with Progress(console=Console(stderr=True)) as progress, asyncio.Runner(loop_factory=new_loop) as runner:
        task = progress.add_task("runs", total=len(cases) * repeat)
        found, left = runner.run(measure(cases, repeat, seed, at_once, lambda: progress.advance(task)))
    columns = ("fault", "door", "runs", "wrong", "model left: median", "worst")
    table = Table(*columns, title=f"{len(cases)} cases x {repeat}, seed {seed}")
    for case in cases:
        one = found[case]
        times = sorted(one.released_s)
        shown = (f"{times[len(times) // 2]:.3f} s", f"{times[-1]:.3f} s") if times else ("", "")
        name = f"{case.fault}{', socket full' if case.is_full else ''}"
        table.add_row(name, case.door, str(one.runs), str(len(one.wrong)), *shown)
    console.print(table)
    for case, one in found.items():
        for what, count in Counter(one.wrong).most_common(5):
            console.print(f"{case}: {count}x {what}", markup=False)
    for what in left:
        console.print(f"left in the end: {what}", markup=False)
    wrong = sum(len(one.wrong) for one in found.values())
    runs = sum(one.runs for one in found.values())
    again = sum(one.again for one in found.values())
    console.print(
        f"{runs} runs in {time.monotonic() - began:.0f} s, {wrong} wrong, {again} more as all had stood still"
    )
    sys.exit(1 if wrong or left else 0)


if __name__ == "__main__":
    main()
