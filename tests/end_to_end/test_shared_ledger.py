"""Two servers with one PostgreSQL: each shows what both have done."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.stores import spool
from tests.support.replicas import replicas
from tests.support.shared_servers import SharedServer, postgres_server, with_tables
from tests.support.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def postgres() -> Iterator[SharedServer]:
    with postgres_server() as server:
        yield server


async def ask(url: str, text: str) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    async with aiohttp.ClientSession(url) as http, http.post("/v1/chat/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()


async def requests_of(url: str, expected: int) -> list[str]:
    """Return the ids in the ledger, once there are so many. While PostgreSQL is away, it cannot be read."""
    async with aiohttp.ClientSession(url) as http, asyncio.timeout(PATIENCE_S):
        while True:
            async with http.get("/v1/ledger") as answer:
                found = [row["id"] for row in (await answer.json()).get("data", ())]
            if len(found) >= expected:
                return found
            await asyncio.sleep(0.1)


async def test_each_replica_shows_the_requests_of_both(postgres: SharedServer, tmp_path: Path) -> None:
    with_tables(postgres, "both")
    async with replicas(2, {"postgres": postgres.url, "name": "both"}, folder=tmp_path) as (one, two):
        await ask(one.url, "What is a millrace?")
        await ask(two.url, "What is a mill wheel?")
        await ask(two.url, "What is a mill wheel?")
        found = await requests_of(one.url, 3)
        assert sorted(await requests_of(two.url, 3)) == sorted(found)


async def test_what_ends_while_postgresql_is_away_arrives_later(postgres: SharedServer, tmp_path: Path) -> None:
    with_tables(postgres, "away")
    async with replicas(1, {"postgres": postgres.url, "name": "away"}, folder=tmp_path) as (server,):
        await asyncio.to_thread(postgres.kill)
        try:
            await ask(server.url, "What is a millrace?")
        finally:
            await asyncio.to_thread(postgres.start)
        assert len(await requests_of(server.url, 1)) == 1


async def told_of(url: str, waiting: int, postgres: str) -> dict[str, Any]:
    """Return what a replica says of what is shared, once so many rows wait and PostgreSQL answers so."""
    async with aiohttp.ClientSession(url) as http, asyncio.timeout(PATIENCE_S):
        while True:
            async with http.get("/healthz?verbose") as answer:
                shared: dict[str, Any] = (await answer.json())["shared"]
            if (shared["ledger"]["rows"], shared["postgres"]) == (waiting, postgres):
                return shared
            await asyncio.sleep(0.1)


async def test_what_waits_is_shown_and_beyond_its_bound_no_requests_are_taken(
    postgres: SharedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /healthz and /metrics. Once PostgreSQL is back they are taken again, and none of the rows was lost."""
    monkeypatch.setattr(spool, "ROW_BYTES", 2**20)
    shared = {"postgres": postgres.url, "name": with_tables(postgres, "waits"), "spool_bytes": 2**20}
    async with (
        replicas(1, shared, folder=tmp_path) as (server,),
        aiohttp.ClientSession(server.url) as http,
    ):
        await told_of(server.url, 0, "ok")
        await asyncio.to_thread(postgres.kill)
        try:
            await ask(server.url, "What is a millrace?")
            found = await told_of(server.url, 1, "away")
            assert (found["ledger"]["bytes"], found["ledger"]["max_bytes"]) == (2**20, 2**20)
            assert "redis" not in found
            async with http.post("/v1/responses", json={"input": "And a wheel?"}) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (503, "overloaded")
            async with http.get("/metrics") as answer:
                metrics = (await answer.text()).splitlines()
        finally:
            await asyncio.to_thread(postgres.start)
        shown = {line.removesuffix(".0") for line in metrics if line.startswith(("millrace_shared", "millrace_ledger"))}
        waits = {f"millrace_ledger_waiting_{name} 1" for name in ("rows", "ratio")}
        assert {'millrace_shared_store_up{store="postgres"} 0', *waits} <= shown
        await told_of(server.url, 0, "ok")
        await ask(server.url, "And a wheel?")
        assert len(await requests_of(server.url, 2)) == 2


async def test_a_replica_that_has_never_seen_the_keys_lets_nobody_in(postgres: SharedServer, tmp_path: Path) -> None:
    """There may be some, and then nobody without one may ask."""
    with_tables(postgres, "unseen")
    await asyncio.to_thread(postgres.kill)
    try:
        async with (
            replicas(1, {"postgres": postgres.url, "name": "unseen"}, folder=tmp_path) as (server,),
            aiohttp.ClientSession(server.url) as http,
            http.post("/v1/responses", json={"input": "Hi"}) as answer,
        ):
            assert answer.status == 401
    finally:
        await asyncio.to_thread(postgres.start)
