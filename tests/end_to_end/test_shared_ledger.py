"""Two servers with one PostgreSQL: each shows what both have done."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.replicas import replicas
from tests.support.shared_servers import SharedServer, postgres_server, with_tables

PATIENCE_S = 30


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
