"""What `/healthz?verbose` and `/readyz?verbose` show, and to whom."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.access import keys
from millrace.assembly import key_store
from millrace.funnel.ttft import LEAST
from millrace.principal import Role
from millrace.stores.database import FILE
from tests.support.frames import validate_answer
from tests.support.http_client import RESPONSES, body_of
from tests.support.server import Running, Start, process_of
from tests.support.waiting import until


async def test_it_shows_what_is_kept_in_memory_by_account(millrace: Running) -> None:
    """Open on loopback as long as there is no key; every account has a bound, and they add up."""
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{millrace.url}/healthz?verbose") as answer:
            assert answer.status == 200
            health = await answer.json()
        async with http.get(f"{millrace.url}/healthz?verbose=false") as answer:
            assert "memory" not in await answer.json()
    validate_answer("get", "/healthz", 200, health)
    accounts = health["memory"]["accounts"]
    assert {"requests", "ended responses"} <= {account["name"] for account in accounts}
    assert health["memory"]["used"] == sum(account["used"] for account in accounts)
    assert all(0 <= account["used"] <= account["allowed"] <= health["memory"]["allowed"] for account in accounts)


@pytest.mark.parametrize(("role", "status"), [(None, 401), (Role.USE, 403), (Role.ADMIN, 200)])
async def test_once_there_is_a_key_it_is_for_admins_alone(
    start: Start, tmp_path: object, role: Role | None, status: int
) -> None:
    """And health itself for everybody."""
    key, text = keys.make(tenant="acme", role=role or Role.USE, created_at=1.0)
    async with key_store(str(tmp_path)) as store:
        await store.add(key)
    headers = {"Authorization": f"Bearer {text}"} if role else {}
    async with (
        start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as running,
        aiohttp.ClientSession(headers=headers) as http,
    ):
        for path, more in (("healthz", "memory"), ("healthz", "disk"), ("readyz", "models")):
            async with http.get(f"{running.url}/{path}?verbose=1") as answer:
                assert (answer.status, f'"{more}":' in await answer.text()) == (status, status == 200)
            async with http.get(f"{running.url}/{path}") as answer:
                assert (answer.status, more in await answer.text()) == (200, False)


async def test_it_shows_how_each_model_fares_and_stays_ready(millrace: Running) -> None:
    """A failing model is no reason to take the process out of service: the other one answers."""
    async with aiohttp.ClientSession(millrace.url) as http:

        async def ready() -> Any:
            async with http.get("/readyz?verbose") as answer:
                assert answer.status == 200
                said = await answer.json()
            validate_answer("get", "/readyz", 200, said)
            assert said["status"] == "ready"
            return said["models"]

        small, large = await ready()
        assert (small["tier"], small["model"], small["status"]) == ("small", "small-model", "unknown")
        assert (small["failing_since"], small["last_cause"], small["causes"]) == (None, None, {})
        for prompt in ("Hello. [fault.small=error]", "Hello again. [fault.small=hangup@0]"):
            async with http.post("/v1/responses", json={"input": prompt, "model": "auto"}) as answer:
                assert answer.status == 200
        small, large = await ready()
        assert (small["status"], large["status"], large["failing_since"]) == ("failing", "ok", None)
        assert abs(small["failing_since"] - time.time()) < 60
        assert small["failing_since"] <= small["last_failure_at"] <= large["last_answer_at"]
        assert (small["failures_last_minute"], small["failures_last_5_minutes"]) == (2, 2)
        assert small["causes"]["answered HTTP 500"] == 1
        async with http.get("/readyz") as answer:
            assert await answer.json() == {"status": "ready"}


async def test_it_shows_how_soon_each_model_begins_and_what_became_of_hedges(start: Start) -> None:
    """Once enough calls are known; over real HTTP, whoever is asked."""
    async with start() as running, aiohttp.ClientSession(running.url) as http:

        async def ready() -> Any:
            async with http.get("/readyz?verbose") as answer:
                return await answer.json()

        said = await ready()
        assert [model["ttft_p95_ms"] for model in said["models"]] == [None, None]
        assert said["hedges"] == {"made": 0, "won": 0, "refused": 0, "off": 0, "is_off": False}
        for number in range(LEAST):
            question = {"input": f"x {number} [ttft=0.02]", "model": "large"}
            async with http.post("/v1/responses", json=question) as answer:
                assert answer.status == 200
        small, large = (await ready())["models"]
        assert small["ttft_p50_ms"] is None
        assert 20 <= large["ttft_p50_ms"] <= large["ttft_p95_ms"]


async def test_it_shows_what_waits_for_the_disk(start: Start, tmp_path: Path) -> None:
    """How many rows, their bytes, and the age of the oldest, while another process holds the file."""
    folder = str(tmp_path)
    async with (
        start(lambda configuration: configuration["server"].update(data_dir=folder)) as running,
        aiohttp.ClientSession() as http,
    ):

        async def disk() -> dict[str, float]:
            async with http.get(f"{running.url}/healthz?verbose") as answer:
                found: dict[str, float] = (await answer.json())["disk"]
                return found

        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with http.post(f"{running.url}{RESPONSES}", json=body_of(RESPONSES, "hello")) as answer:
                assert answer.status == 200
            before = await disk()
            await asyncio.sleep(0.05)
            after = await disk()
            assert after["waiting"] >= 2
            assert after["waiting_bytes"] > 500
            assert after["oldest_s"] >= before["oldest_s"] + 0.04
            other.execute("ROLLBACK")
        await until(lambda: process_of(running).backlog.queued == 0)
        assert await disk() == {"waiting": 0, "waiting_bytes": 0, "oldest_s": 0, "dropped": 0}
