"""One run: two simulated models and a server, each a process of its own, and the requests of the workload."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from millrace.errors import MillraceError
from millrace.wire.responses import ArgumentsDelta, Revise, TextDelta
from millrace_client import Client
from millrace_client.stream import ConnectionLostError
from tests.savings.levers import Setup, setups
from tests.savings.mix import Mix
from tests.savings.workload import ARGUMENTS, TOOLS, Ask, Turn, Workload
from tests.support.paths import REPOSITORY
from tests.support.processes import ENVIRONMENT

PATIENCE_S = 60.0
MODELS = ("small", "large")
CONNECTIONS = 8  # WebSockets, of negotiated clients: they see text that may be taken back
WARM_UP = ("How do I oil a hinge?", "What is the way to oil a hinge?", "How do I oil a chain?")
WARM_S, UNCOUNTED = 0.5, "uncounted"
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a client saw of one request. Times are in usual seconds: those of models at their own speed."""

    ask: Ask
    status: str
    ttft_s: float  # to the first word that is not taken back
    total_s: float
    cost: float  # dollars, as the server told its client
    source: str
    cache: str
    is_right: bool
    is_wrong_hit: bool  # a cache gave the answer to another question


@dataclass(frozen=True, slots=True)
class Ran:
    """What is left of a run."""

    setup: Setup
    answered: list[Answered]
    folder: Path  # with the ledger
    stats: dict[str, dict[str, Any]]  # what each simulated model says that it did


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What `millrace calibrate` has found: a share of large calls, and a data_dir whose router has learned."""

    large_share: float
    data_dir: Path


def calibrate(mix: Mix, folder: Path) -> Calibrated | None:
    """Do as docs/routing.md says before a promise, on questions that are not asked again; None: none is made."""
    if not mix.router.keep_quality:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config, pairs, data_dir = folder / "millrace.toml", folder / "pairs.jsonl", folder / "data"
    pairs.write_text(Workload(mix, half=0).judged(), "utf-8")
    config.write_text(setups()[0].settings(mix, dict.fromkeys(MODELS, "http://127.0.0.1:9/v1"), data_dir), "utf-8")
    command = ("calibrate", str(pairs), "--config", str(config))
    found = json.loads(_said(*command, "--keep-quality", str(mix.router.keep_quality), "--json"))
    large_share = round(found["chosen"]["share"]["value"], 4)
    _said(*command, "--large-share", str(large_share), "--write")
    return Calibrated(large_share, data_dir)


def _said(*command: str) -> str:
    """Run a command of Millrace; return what it prints. Raises `RuntimeError` with what went wrong."""
    program = [sys.executable, str(REPOSITORY / "server"), *command]
    done = subprocess.run(program, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")
    return done.stdout


async def run(
    setup: Setup,
    mix: Mix,
    workload: Workload,
    folder: Path,
    calibrated: Calibrated | None = None,
    on_done: Callable[[], object] = lambda: None,
) -> Ran:
    """Do one run, in a folder of its own."""
    book = folder / "answers.jsonl"
    large_share = _prepare(folder, setup, calibrated)
    book.write_text(workload.book(), "utf-8")
    speaking = ("--answers", str(book), "--speed", str(mix.speed), "--stalls", str(mix.stalls.share))
    async with _started(folder, *(("simulate", "--profile", name, "--port", "0", *speaking) for name in MODELS)) as two:
        config = folder / "millrace.toml"
        urls = dict(zip(MODELS, (f"{url}/v1" for url in two), strict=True))
        config.write_text(setup.settings(mix, urls, folder / "data", large_share), "utf-8")
        async with _started(folder, ("serve", "--config", str(config))) as (url,):
            answered = await Load(url, setup, mix, on_done).all(workload.asks)
        return Ran(setup, answered, folder, {name: await _stats(url) for name, url in zip(MODELS, two, strict=True)})


def _prepare(folder: Path, setup: Setup, calibrated: Calibrated | None) -> float | None:
    """Make the folder of a run; return the share of large calls that is promised, if one is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if not setup.routes or calibrated is None:
        return None
    shutil.copytree(calibrated.data_dir, folder / "data")
    return calibrated.large_share


@asynccontextmanager
async def _started(folder: Path, *commands: tuple[str, ...]) -> AsyncIterator[list[str]]:
    """Run commands of Millrace; yield the address that each prints. At the end they are told to stop, and do."""
    started: list[Program] = []
    try:
        started += [Program(folder / f"{number} {command[0]}.log", command) for number, command in enumerate(commands)]
        yield [await program.address() for program in started]
        for program in started:
            program.process.send_signal(signal.SIGTERM)
        for program in started:
            await asyncio.to_thread(program.process.wait, PATIENCE_S)
    finally:
        for program in started:
            program.process.kill()


class Program:
    """A command of Millrace that runs, and what it says, in a file: a pipe that nobody reads would stop it."""

    def __init__(self, said: Path, command: tuple[str, ...]) -> None:
        self._said = said
        program = [sys.executable, str(REPOSITORY / "server"), *command]
        with said.open("wb") as output:
            self.process = subprocess.Popen(program, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)

    async def address(self) -> str:
        """Return the address that it prints. Raises `RuntimeError` if it ends."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := _ADDRESS.search(self.said)):
                if self.process.poll() is not None:
                    raise RuntimeError(f"it ended: {self.said[-2000:]}")
                await asyncio.sleep(0.05)
        return found[0]

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self._said.read_text("utf-8", "replace")


async def _stats(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/stats") as answer:
        found: dict[str, Any] = await answer.json()
        return found


class Load:
    """The clients of a run: requests come at a steady rate; those of one session wait for each other."""

    def __init__(self, url: str, setup: Setup, mix: Mix, on_done: Callable[[], object]) -> None:
        self._clients = [Client(url.replace("http", "ws", 1)) for _ in range(CONNECTIONS)]
        self._setup = setup
        self._mix = mix
        self._on_done = on_done
        self._ended: dict[str, asyncio.Event] = {}  # of the last request of a session

    async def all(self, asks: list[Ask]) -> list[Answered]:
        """Send all; return what came of them, in order."""
        every_s = 1 / (self._mix.per_second * self._mix.speed)
        tasks = []
        async with AsyncExitStack() as stack:
            for client in self._clients:
                await stack.enter_async_context(client)
            await self._warm_up()
            async with asyncio.TaskGroup() as group:
                start = time.monotonic()
                for number, ask in enumerate(asks):
                    await asyncio.sleep(start + number * every_s - time.monotonic())
                    before, ended = None, asyncio.Event()
                    if ask.turn is not None:
                        before = self._ended.get(ask.turn.session.name)
                        self._ended[ask.turn.session.name] = ended
                    tasks.append(group.create_task(self._in_turn(ask, before, ended)))
            return [task.result() for task in tasks]

    async def _warm_up(self) -> None:
        """Ask some questions that nobody counts, so that the processes that compare questions have begun."""
        for text in WARM_UP:
            await self._clients[0].ask(text, **self._setup.options(self._mix) | {"tag": UNCOUNTED})
            await asyncio.sleep(WARM_S)

    async def _in_turn(self, ask: Ask, before: asyncio.Event | None, ended: asyncio.Event) -> Answered:
        try:
            if before is not None:
                await before.wait()
            return await self._one(ask)
        finally:
            ended.set()
            self._on_done()

    async def _one(self, ask: Ask) -> Answered:
        fields: dict[str, Any] = {"input": ask.text, **self._setup.options(self._mix, ask)}
        if ask.turn is not None:
            fields |= turn_fields(ask.turn)
        begun, first, response = time.monotonic(), None, None
        with suppress(MillraceError, ConnectionLostError):
            async with self._clients[ask.number % CONNECTIONS].stream(**fields) as stream:
                async for event in stream:
                    if isinstance(event, Revise):
                        first = None
                    elif first is None and isinstance(event, (TextDelta, ArgumentsDelta)):
                        first = time.monotonic()
            response = stream.response
        ended = time.monotonic()
        document: dict[str, Any] = {} if response is None else json.loads(msgspec.json.encode(response))
        if ask.turn is not None and document:
            _go_on(ask.turn, document)
        return self._answered(ask, document, begun, first or ended, ended)

    def _answered(self, ask: Ask, response: dict[str, Any], begun: float, first: float, ended: float) -> Answered:
        metadata = response.get("metadata") or {}
        cache = metadata.get("millrace.cache", "miss")
        return Answered(
            ask=ask,
            status=response.get("status", "failed"),
            ttft_s=(first - begun) * self._mix.speed,
            total_s=(ended - begun) * self._mix.speed,
            cost=response["usage"]["cost_usd"] if response.get("usage") else 0.0,
            source=metadata.get("millrace.route", ""),
            cache=cache,
            is_right=response.get("status") == "completed" and _is_right(ask, response),
            is_wrong_hit=cache in ("exact", "semantic") and not ask.asked.is_its_own(text_of(response)),
        )


def turn_fields(turn: Turn) -> dict[str, Any]:
    """Return the fields of a request in a session: its history, or the response that it continues."""
    session = turn.session
    items = [dict(item) for item in turn.items]
    for item in items:
        if item.get("type") == "function_call_output":
            calls = [each["call_id"] for each in session.history if each.get("type") == "function_call"]
            item["call_id"] = calls[-1] if calls else "call_none"
    fields: dict[str, Any] = {"instructions": turn.system, "tools": TOOLS, "prompt_cache_key": session.name}
    session.history += items
    if session.is_chained and session.last_id is not None:
        return fields | {"input": items, "previous_response_id": session.last_id}
    return fields | {"input": list(session.history)}


def _go_on(turn: Turn, response: dict[str, Any]) -> None:
    turn.session.history += response["output"]
    turn.session.last_id = response["id"]


def text_of(response: dict[str, Any]) -> str:
    """Return the text of an answer."""
    messages = (item for item in response.get("output", ()) if item["type"] == "message")
    return "".join(part.get("text", "") for item in messages for part in item["content"])


def _is_right(ask: Ask, response: dict[str, Any]) -> bool:
    """Whether an answer is what the large model says, by the simulated models' own truth."""
    if ask.turn is None or not ask.turn.wants_call:
        return ask.asked.is_right(text_of(response))
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    return [(call["name"], json.loads(call["arguments"])) for call in calls] == [
        (ask.turn.tool, ARGUMENTS[ask.turn.tool])
    ]
