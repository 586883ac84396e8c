"""`millrace serve --workers 2`: two processes on one port and one data_dir. What either has, the other knows of."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.stores.database import FILE
from tests.support.processes import ServerProcess, server_process, spawn
from tests.support.waiting import until

ENOUGH_S = 60.0
LONG = {"model": "small", "input": "go on [tokens=10000] [rate=100]", "stream": True, "max_output_tokens": 10_000}
LINE = {"custom_id": "1", "method": "POST", "url": "/v1/responses", "body": {"model": "small", "input": "in a batch"}}

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there are no workers on Windows")


class Worker:
    """One of the workers, over a connection that it has accepted."""

    def __init__(self, session: aiohttp.ClientSession, url: str, health: dict[str, Any]) -> None:
        self.epoch: str = health["epoch"]
        self.session, self.url = session, url

    async def get(self, path: str) -> dict[str, Any]:
        async with self.session.get(f"{self.url}{path}") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def post(self, path: str, body: object) -> dict[str, Any]:
        async with self.session.post(f"{self.url}{path}", json=body) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def ask(self, question: str) -> dict[str, Any]:
        return await self.post("/v1/responses", {"model": "small", "input": question})

    @asynccontextmanager
    async def streaming(self) -> AsyncIterator[tuple[aiohttp.ClientResponse, str]]:
        """Ask for a long answer; yield it, and its id."""
        async with self.session.post(f"{self.url}/v1/responses", json=LONG) as answer:
            line = b""
            while not line.startswith(b"data: "):
                line = await answer.content.readline()
            yield answer, json.loads(line.removeprefix(b"data: "))["response"]["id"]


@asynccontextmanager
async def workers_of(running: ServerProcess) -> AsyncIterator[list[Worker]]:
    """Connect again and again, until each worker has accepted a connection."""
    async with AsyncExitStack() as parts:
        found: dict[str, Worker] = {}
        async with asyncio.timeout(ENOUGH_S):
            while len(found) < 2:
                connector = aiohttp.TCPConnector(limit=2)
                session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(ENOUGH_S))
                await parts.enter_async_context(session)
                async with session.get(f"{running.url}/healthz") as answer:
                    health = await answer.json()
                found.setdefault(health["epoch"], Worker(session, running.url, health))
        yield [*found.values()]


async def healthy(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/healthz") as answer:
        found: dict[str, Any] = await answer.json()
        return found


def statuses(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / FILE)) as file:
        return sorted(status for (status,) in file.execute("SELECT status FROM entries"))


async def test_what_one_worker_has_the_other_knows_of(tmp_path: Path) -> None:
    """An answer is cached for both, found and cancelled at both, and counted once; batches run at one of them."""
    async with server_process(tmp_path, 1.0, workers=2) as running, workers_of(running) as (one, other):

        async def are_all_there() -> bool:
            return bool((await one.get("/healthz"))["workers"] == {"alive": 2, "of": 2})

        await until_true(are_all_there)
        asked = await one.ask("What is a millrace?")
        assert asked["id"].startswith(f"resp_{one.epoch[:8]}")
        assert (await other.get(f"/v1/responses/{asked['id']}"))["id"] == asked["id"]

        async def is_repeated() -> bool:
            return bool((await other.ask("What is a millrace?"))["usage"]["cost_usd"] == 0)

        await asyncio.sleep(0.3)  # they look four times a second
        await until_true(is_repeated)
        async with one.streaming() as (stream, response_id):
            cancelled = await other.post(f"/v1/responses/{response_id}/cancel", {})
            assert cancelled["status"] in {"cancelled", "incomplete"}
            assert b"incomplete" in await stream.content.read()
        for worker in (one, other):
            form = aiohttp.FormData({"purpose": "batch"})
            form.add_field("file", json.dumps(LINE) + "\n", filename="lines.jsonl")
            async with worker.session.post(f"{worker.url}/v1/files", data=form) as answer:
                file_id = (await answer.json())["id"]
            batch = {"input_file_id": file_id, "endpoint": "/v1/responses", "completion_window": "24h"}
            batch_id = (await worker.post("/v1/batches", batch))["id"]

            async def is_done(worker: Worker = worker, batch_id: str = batch_id) -> bool:
                return bool((await worker.get(f"/v1/batches/{batch_id}"))["status"] == "completed")

            await until_true(is_done)
        counted = []
        for worker in (one, other):
            async with worker.session.get(f"{worker.url}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            counted.append(sum(float(line.split()[-1]) for line in lines if line.startswith("millrace_requests_total")))
            assert "millrace_workers 2.0" in lines
        assert counted == [len(statuses(tmp_path))] * 2


async def test_a_worker_that_is_killed_takes_only_its_own_streams_along(tmp_path: Path) -> None:
    """Its rows are closed as killed, what it counted is still counted, and another one takes its place."""
    async with server_process(tmp_path, 1.0, workers=2) as running, workers_of(running) as (one, other):
        async with other.streaming() as (stream, _):
            async with one.streaming() as (lost, _):
                await until(lambda: statuses(tmp_path) == ["open", "open"], ENOUGH_S)
                pid = await asyncio.to_thread(pid_of, running, one.epoch)
                os.kill(pid, signal.SIGKILL)
                with pytest.raises(aiohttp.ClientPayloadError):
                    await lost.content.read()
            await until(lambda: statuses(tmp_path) == ["killed", "open"], ENOUGH_S)
            for _ in range(100):
                assert await stream.content.readline()

        async def is_replaced() -> bool:
            return bool((await healthy(running.url))["workers"] == {"alive": 2, "of": 2})

        await until_true(is_replaced)
        running.stop()
        assert await running.exited() == -signal.SIGTERM
    assert "open" not in statuses(tmp_path)


async def test_workers_are_replaced_in_turn_and_end_with_their_supervisor(tmp_path: Path) -> None:
    """On SIGUSR1 there is always one that serves. Without their supervisor they drain."""
    async with server_process(tmp_path, 1.0, workers=2) as running:
        async with workers_of(running) as workers:
            old = {worker.epoch for worker in workers}
        running.stop(signal.SIGUSR1)
        seen: set[str] = set()

        async def are_replaced() -> bool:
            found = [(await healthy(running.url))["epoch"] for _ in range(8)]
            seen.update(found)
            return not old & {*found} and len(seen - old) == 2

        await until_true(are_replaced)
        running.stop(signal.SIGKILL)
        await until(lambda: not [*tmp_path.glob("process-*.lock")], ENOUGH_S)


async def test_a_data_dir_in_memory_cannot_be_shared(tmp_path: Path) -> None:
    config = tmp_path / "millrace.toml"
    model = (
        'base_url = "http://127.0.0.1:1/v1"\nmodel = "m"\nupstream = "openai"\nprice = { input = "1", output = "1" }\n'
    )
    config.write_text(f'[server]\ndata_dir = ":memory:"\n[models.small]\n{model}[models.large]\n{model}')
    arguments = ("serve", "--config", str(config), "--workers", "2")
    with spawn("server", *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        _, printed = await asyncio.to_thread(process.communicate, timeout=ENOUGH_S)
    assert process.returncode == 2
    assert "server.data_dir: ':memory:' cannot be shared by workers; name a folder" in printed


def pid_of(running: ServerProcess, epoch: str) -> int:
    """Return the pid of the worker that has locked the file of an epoch."""
    inode = (running.folder / f"process-{epoch}.lock").stat().st_ino
    for line in Path("/proc/locks").read_text("ascii").splitlines():
        _, kind, _, _, pid, place, *_ = line.split()
        if kind == "FLOCK" and place.endswith(f":{inode}"):
            return int(pid)
    raise LookupError(epoch)


async def until_true(condition: Any) -> None:
    async with asyncio.timeout(ENOUGH_S):
        while not await condition():  # noqa: ASYNC110 - another process cannot tell us
            await asyncio.sleep(0.05)
