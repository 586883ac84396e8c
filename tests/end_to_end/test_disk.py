"""A disk that cannot be written is felt by no request, and no row of the ledger is lost."""

import asyncio
import resource
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace import assembly
from millrace.stores.database import FILE, READY_S
from tests.stores.test_writer import locked
from tests.support.http_client import RESPONSES
from tests.support.processes import server_process
from tests.support.server import Start
from tests.support.waiting import until, within
from tests.support.wire_client import check_response, wire_client

QUESTION = "What is a millrace?"
HELD_S = 4.0
MUCH_LESS_S = 2.0  # than the lock is held


def rows(folder: Path) -> list[tuple[str, str]]:
    """Return id and status of every row in the order in which they were written."""
    with closing(sqlite3.connect(folder / FILE)) as file:
        return file.execute("SELECT request_id, status FROM entries ORDER BY rowid").fetchall()


def smallest_file(folder: Path) -> int:
    """Return the bytes of the database or of its log, whichever is smaller."""
    return min(file.stat().st_size for file in folder.glob(f"{FILE}*") if not file.name.endswith("shm"))


async def test_while_another_process_locks_the_file_requests_go_on(start: Start, tmp_path: Path) -> None:
    """With and without the caches, hot or not; so do lookups by id. All rows come, in order."""

    def on_disk(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)

    asked: list[str] = []
    async with (
        start(on_disk) as running,
        wire_client(running.ws_url) as client,
        aiohttp.ClientSession(running.url) as http,
    ):
        asked.append(check_response(await client.ask(QUESTION))["id"])
        await until(lambda: len(rows(tmp_path)) == 1)
        with locked(tmp_path):
            begun = time.monotonic()
            for number in range(60):
                if number > 10 and time.monotonic() - begun > HELD_S:
                    break
                question, mode = (QUESTION, "on") if number % 3 == 0 else (f"Number {number}?", "off")
                cache = {"cache": mode if number % 3 != 1 else "on"}
                async with within(MUCH_LESS_S):
                    response = check_response(await client.ask(question, store=True, millrace=cache))
                asked.append(response["id"])
                async with http.get(f"{RESPONSES}/{response['id']}") as answer:
                    assert answer.status == 200
                async with http.get(f"{RESPONSES}/resp_nothing") as answer:
                    assert answer.status == 404
                async with http.delete(f"{RESPONSES}/{response['id']}") if number == 5 else http.get("/") as answer:
                    assert answer.status == (503 if number == 5 else 200)
                await asyncio.sleep(0.05)
            assert time.monotonic() - begun > HELD_S
            assert len(rows(tmp_path)) == 1
        async with http.delete(f"{RESPONSES}/{asked[6]}") as answer:
            assert answer.status == 200
    assert rows(tmp_path) == [(one, "completed") for one in asked]


async def test_a_start_does_not_wait_for_a_locked_file(start: Start, tmp_path: Path) -> None:
    """Its tables are there already, so it has nothing to write before it serves."""

    def on_disk(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)

    async with start(on_disk):
        pass
    with locked(tmp_path) as other:
        async with asyncio.timeout(READY_S / 2), start(on_disk) as running, wire_client(running.ws_url) as client:
            asked = check_response(await client.ask(QUESTION, model="small"))["id"]
            other.execute("ROLLBACK")
    assert rows(tmp_path) == [(asked, "completed")]


async def test_when_too_much_waits_new_requests_are_refused(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `overloaded`, before they begin. What runs is settled, and once there is room all goes on."""
    monkeypatch.setattr(assembly, "QUEUE_BYTES", 10_000)

    def on_disk(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)
        configuration["cache"] = {"exact": False, "semantic": False}

    asked = []
    async with (
        start(on_disk) as running,
        wire_client(running.ws_url) as client,
        wire_client(running.ws_url) as long,
        aiohttp.ClientSession(running.url) as http,
    ):
        with locked(tmp_path):
            await long.create("go on [tokens=20] [rate=20]", model="small")
            created = await long.next()
            for number in range(20):
                events = await client.ask(f"Number {number}?", model="small")
                if events[-1]["type"] == "error":
                    break
                asked.append(check_response(events)["id"])
            assert [event["type"] for event in events] == ["error"]
            assert (events[0]["status"], events[0]["error"]["code"]) == (503, "overloaded")
            assert events[0]["error"]["retry_after_ms"] == 1000
            async with http.post(RESPONSES, json={"input": QUESTION}) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert check_response([created, *await long.until("response.completed")])["status"] == "completed"
        await until(lambda: len(rows(tmp_path)) == len(asked) + 1)
        asked.append(check_response(await client.ask(QUESTION, model="small"))["id"])
    assert 1 < len(asked) < 10
    assert {*rows(tmp_path)} == {(one, "completed") for one in [*asked, created["response"]["id"]]}


async def test_a_disk_without_room_loses_nothing(tmp_path: Path) -> None:
    """No file may grow for a while, as on a full disk; then there is room again."""
    async with server_process(tmp_path, 1.0) as running, wire_client(running.ws_url) as client:
        asked = [check_response(await client.ask(QUESTION, model="small"))["id"]]
        await until(lambda: len(rows(tmp_path)) == 1)
        smallest = smallest_file(tmp_path)
        limits = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (smallest, limits[1]))
        for number in range(10):
            events = await client.ask(f"Number {number}? {'x' * 5000}", model="small")
            asked.append(check_response(events)["id"])
        assert len(rows(tmp_path)) < len(asked)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, limits)
        await until(lambda: len(rows(tmp_path)) == len(asked))
        assert running.process.poll() is None
    assert rows(tmp_path) == [(one, "completed") for one in asked]
