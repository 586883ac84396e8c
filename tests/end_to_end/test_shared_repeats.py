"""A request with an idempotency key that comes again at another replica never runs twice while its first one lives."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.support.http_client import CHAT, RESPONSES, body_of
from tests.support.replicas import replicas
from tests.support.server import Running
from tests.support.shared_servers import SharedServer
from tests.support.waiting import until
from tests.support.wire_client import TERMINALS, wire_client

KEYED = {"idempotency_key": "k", "cache": "off"}
GOES_ON = "go on [tokens=40] [rate=60]"


async def asked(server: Running, path: str, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    async with aiohttp.ClientSession(server.url) as http, http.post(path, json=body) as answer:
        assert answer.status == status, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


@pytest.mark.parametrize("path", [RESPONSES, CHAT])
async def test_over_http_it_gets_the_same_response(redis: SharedServer, path: str) -> None:
    """While it runs and once it has ended, whole and as a stream. Another body is refused, another key is another's."""
    body = body_of(path, GOES_ON, millrace=KEYED)
    async with replicas(2, {"redis": redis.url, "name": f"http{path}"}) as (one, two):
        first = asyncio.create_task(asked(one, path, body))
        await until(lambda: one.calls == 1)
        while_it_runs = await asked(two, path, body)
        assert while_it_runs == await first == await asked(two, path, body)
        async with aiohttp.ClientSession(two.url) as http, http.post(path, json=body | {"stream": True}) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            assert while_it_runs["id"].encode() in await answer.read()
        other = await asked(two, path, body_of(path, "something else", millrace=KEYED), 409)
        assert other["error"]["code"] == "idempotency_mismatch"
        assert one.calls == 1
        await asked(two, path, body_of(path, GOES_ON, millrace=KEYED | {"idempotency_key": "l"}))
        assert one.calls == 2


async def test_over_a_socket_it_is_told_where_it_is(redis: SharedServer) -> None:
    async with (
        replicas(2, {"redis": redis.url, "name": "socket"}) as (one, two),
        wire_client(one.ws_url) as first,
        wire_client(two.ws_url) as second,
        aiohttp.ClientSession(two.url) as http,
    ):
        await first.create(GOES_ON, millrace=KEYED)
        response_id = (await first.until("response.created"))[-1]["response"]["id"]
        (refused,) = await second.ask(GOES_ON, millrace=KEYED)
        assert refused["error"]["code"] == "resume_expired"
        assert f"GET /v1/responses/{response_id}" in refused["error"]["message"]
        async with http.get(f"/v1/responses/{response_id}?stream=true") as answer:
            assert b"response.completed" in await answer.read()
        await first.until(*TERMINALS)
        assert one.calls == 1


async def test_what_a_replica_has_taken_that_is_gone_runs_again(redis: SharedServer) -> None:
    shared = {"redis": redis.url, "name": "gone"}
    body = body_of(RESPONSES, "go on", millrace=KEYED)
    async with replicas(1, shared) as (two,):
        async with replicas(1, shared) as (one,):
            first = await asked(one, RESPONSES, body)
        again = await asked(two, RESPONSES, body)
        assert again["id"] != first["id"]
        assert two.calls == 1


async def test_without_redis_each_replica_knows_its_own(redis: SharedServer) -> None:
    body = body_of(RESPONSES, "go on", millrace=KEYED)
    async with replicas(2, {"redis": redis.url, "name": "away"}) as (one, two):
        await asyncio.to_thread(redis.kill)
        try:
            assert await asked(one, RESPONSES, body) == await asked(one, RESPONSES, body)
            await asked(two, RESPONSES, body)
            assert one.calls == 2
        finally:
            await asyncio.to_thread(redis.start)
