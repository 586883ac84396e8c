"""Stored responses of several replicas: found at all of them, and once deleted at none."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from millrace.errors import MillraceError
from millrace.stores.archive import SqliteArchive
from millrace.stores.database import SqliteDatabase
from millrace.stores.postgres.archive import SharedArchive
from millrace.stores.postgres.database import PostgresDatabase
from tests.support.clock import ManualClock
from tests.support.kept import response
from tests.support.replicas import replicas
from tests.support.shared_servers import SharedServer, with_tables
from tests.support.waiting import PATIENCE_S

TTL_S = 3600.0


class Replica(NamedTuple):
    """One replica's archive, and its own part of it."""

    archive: SharedArchive
    own: SqliteArchive
    database: SqliteDatabase

    async def sent(self) -> None:
        """Have all it stores sent."""
        await self.database.ready()
        while await self.archive.send():
            pass


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pair(server: SharedServer, service: str, tmp_path: Path, clock: ManualClock) -> Iterator[tuple[Replica, Replica]]:
    remote = PostgresDatabase(server.url, service)
    made = []
    for name in ("one", "two"):
        database = SqliteDatabase(str(tmp_path / name))
        own = SqliteArchive(database, ttl_s=TTL_S, disk_bytes=10**6, wall=clock)
        made.append(
            Replica(SharedArchive(own, database, remote, ttl_s=TTL_S, max_bytes=10**6, wall=clock), own, database)
        )
    yield made[0], made[1]
    remote.close()
    for each in made:
        each.database.close()


async def test_what_one_stores_all_find_by_its_tenant_until_it_expires(
    pair: tuple[Replica, Replica], clock: ManualClock
) -> None:
    one, two = pair
    one.archive.store(response(5))
    assert await one.archive.find("acme", "resp_5") == response(5)
    await one.sent()
    assert await two.archive.find("acme", "resp_5") == response(5)
    assert await two.archive.find("another", "resp_5") is None
    clock.now += TTL_S + 1
    assert await two.archive.find("acme", "resp_5") is None


@pytest.mark.parametrize("is_sent", [True, False])
async def test_what_is_deleted_is_served_by_none(pair: tuple[Replica, Replica], *, is_sent: bool) -> None:
    one, two = pair
    await two.database.ready()
    one.archive.store(response(5))
    if is_sent:
        await one.sent()
        assert not await two.archive.delete("another", "resp_5")
        assert await two.archive.delete("acme", "resp_5")
        assert not await two.archive.delete("acme", "resp_5")
    else:
        assert not await two.archive.delete("acme", "resp_5")  # it does not know of it yet
        assert await one.archive.delete("acme", "resp_5")
        one.own.store(response(5))  # as if its row had been read to be sent before
    await one.sent()
    for each in pair:
        assert await each.archive.find("acme", "resp_5") is None
    await one.archive.heed()
    assert await one.own.find("acme", "resp_5") is None
    assert not await one.archive.delete("acme", "resp_5")


async def test_what_was_stored_before_there_was_postgresql_is_sent(
    server: SharedServer, service: str, tmp_path: Path, clock: ManualClock
) -> None:
    database = SqliteDatabase(str(tmp_path))
    own = SqliteArchive(database, ttl_s=TTL_S, disk_bytes=10**6, wall=clock)
    for number in range(45):
        own.store(response(number))
    await database.ready()
    remote = PostgresDatabase(server.url, service)
    archive = SharedArchive(own, database, remote, ttl_s=TTL_S, max_bytes=10**6, wall=clock)
    await Replica(archive, own, database).sent()
    count = await remote.read(lambda c: c.execute("SELECT count(*) FROM responses").fetchone(), within_s=PATIENCE_S)
    assert count == (45,)
    await asyncio.to_thread(remote.close)
    database.close()


async def test_over_http_it_is_found_and_deleted_at_another(server: SharedServer, tmp_path: Path) -> None:
    shared = {"postgres": server.url, "name": with_tables(server, "http")}
    async with replicas(2, shared, folder=tmp_path) as (here, there), aiohttp.ClientSession() as client:

        async def status(method: str, url: str) -> int:
            async with client.request(method, url) as answer:
                return answer.status

        asked = {"model": "auto", "input": "Hi", "store": True}
        async with client.post(f"{here.url}/v1/responses", json=asked) as answer:
            path = f"/v1/responses/{(await answer.json())['id']}"
        async with asyncio.timeout(PATIENCE_S):
            while await status("GET", there.url + path) != 200:  # noqa: ASYNC110 - as a client sees it
                await asyncio.sleep(0.05)
            assert await status("DELETE", there.url + path) == 200
            for url in (there.url, here.url):
                while await status("GET", url + path) != 404:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)


async def test_while_postgresql_is_away_each_serves_its_own(
    server: SharedServer, pair: tuple[Replica, Replica]
) -> None:
    one, two = pair
    one.archive.store(response(1))
    await one.sent()
    await asyncio.to_thread(server.kill)
    try:
        one.archive.store(response(2))
        await one.database.ready()
        for number in (1, 2):
            assert await one.archive.find("acme", f"resp_{number}") == response(number)
        for refused in (two.archive.find("acme", "resp_1"), one.archive.delete("acme", "resp_1")):
            with pytest.raises(MillraceError, match="PostgreSQL does not answer") as caught:
                await refused
            assert caught.value.code == "overloaded"
        running = asyncio.create_task(one.archive.run())
    finally:
        await asyncio.to_thread(server.start)
    async with asyncio.timeout(PATIENCE_S):
        found = None
        while found is None:  # it catches up by itself
            await asyncio.sleep(0.05)
            try:
                found = await two.archive.find("acme", "resp_2")
            except MillraceError:
                continue
    running.cancel()
    assert found == response(2)
