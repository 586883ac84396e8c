"""A ticket that one replica issues is good once, at any of them; while Redis is away, at the one that has issued it."""

import asyncio

import aiohttp
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.support.replicas import replicas
from tests.support.server import Running
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S

ORIGIN = "http://localhost:3000"


async def issued(server: Running) -> str:
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.post("/v1/tickets", json={"origin": ORIGIN}) as answer,
    ):
        assert answer.status == 201
        ticket: str = (await answer.json())["ticket"]
        return ticket


async def is_admitted(server: Running, ticket: str, origin: str = ORIGIN) -> bool:
    protocols = [Subprotocol("millrace.v1"), Subprotocol(f"millrace.ticket.{ticket}")]
    try:
        async with connect(
            f"{server.ws_url}/v1/responses", subprotocols=protocols, origin=Origin(origin), open_timeout=PATIENCE_S
        ):
            return True
    except InvalidStatus:
        return False


async def test_a_ticket_is_good_once_at_any_replica(redis: SharedServer) -> None:
    """Whoever of many comes first, wherever; and not for pages of another origin."""
    async with replicas(2, {"redis": redis.url, "name": "once"}) as (one, two):
        ticket = await issued(one)
        assert await is_admitted(two, ticket)
        assert not await is_admitted(one, ticket)
        assert not await is_admitted(two, ticket)
        ticket = await issued(one)
        assert sorted(await asyncio.gather(*(is_admitted(each, ticket) for each in (one, two, one, two)))) == [
            False,
            False,
            False,
            True,
        ]
        ticket = await issued(one)
        assert not await is_admitted(two, ticket, "http://localhost:4000")
        assert not await is_admitted(one, ticket)  # others have seen it


async def test_without_redis_a_ticket_is_good_where_it_was_issued(
    redis: SharedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one from before. What was used meanwhile is not good once Redis is back, as far as it has lost nothing."""
    async with (
        replicas(2, {"redis": redis.url, "name": "away"}) as (one, two),
        Redis.from_url(redis.url) as client,
    ):
        before, unused = await issued(one), await issued(one)
        redis.hang()
        monkeypatch.undo()  # so it is away soon
        try:
            meanwhile, later = await issued(one), await issued(one)
            assert await is_admitted(one, before)
            assert await is_admitted(one, meanwhile)
            assert not await is_admitted(one, before)
            assert not await is_admitted(two, later)
        finally:
            redis.go_on()
        async with asyncio.timeout(PATIENCE_S):
            while len(await client.keys("away:ticket1:*")) != 1:  # noqa: ASYNC110 - until it is told what was used
                await asyncio.sleep(0.05)
            while len(await client.keys("away:ticket1:*")) == 1:  # until the other one has found it, too
                await issued(two)
        assert not await is_admitted(two, before)
        assert await is_admitted(two, unused)
        assert await is_admitted(one, later)
