"""A response that one replica has, asked for at another: answered there, or refused with where to go."""

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from millrace.ports.replicas import PLACE
from tests.support.replicas import replicas
from tests.support.server import Running, process_of
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import wire_client

LONG = "talk [rate=200] [tokens=5000]"


async def get(url: str, path: str, status: int = 200) -> dict[str, Any]:
    async with aiohttp.ClientSession(url) as http, http.get(path) as answer:
        assert answer.status == status, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def stored(server: Running, text: str) -> str:
    body = {"input": text, "store": True}
    async with aiohttp.ClientSession(server.url) as http, http.post("/v1/responses", json=body) as answer:
        response_id: str = (await answer.json())["id"]
        return response_id


async def test_what_one_has_is_shown_and_deleted_by_the_other(redis: SharedServer) -> None:
    async with replicas(2, {"redis": redis.url, "name": "shown"}) as (one, two):
        response_id = await stored(one, "What is a millrace?")
        path = f"/v1/responses/{response_id}"
        assert await get(two.url, path) == await get(one.url, path)
        assert await get(two.url, f"{path}/input_items") == await get(one.url, f"{path}/input_items")
        async with aiohttp.ClientSession(two.url) as http:
            async with http.get(path, params={"stream": "true"}) as answer:
                assert answer.headers["Content-Type"].startswith("text/event-stream")
                assert b"response.completed" in await answer.read()
            async with http.delete(path) as answer:
                assert answer.status == 200
        assert (await get(one.url, path, 404))["error"]["code"] == "response_not_found"


async def test_a_stream_is_followed_and_cancelled_at_the_other(redis: SharedServer) -> None:
    async with (
        replicas(2, {"redis": redis.url, "name": "followed"}) as (one, two),
        wire_client(one.ws_url, negotiated=True) as client,
        aiohttp.ClientSession(two.url) as http,
    ):
        await client.create(LONG)
        response_id = (await client.until("response.created"))[-1]["response"]["id"]
        path = f"/v1/responses/{response_id}"
        async with http.get(path, params={"stream": "true"}) as stream:
            assert stream.status == 200
            assert (await stream.content.readline()).startswith(b"event: response.")
            async with http.post(f"{path}/cancel") as answer:
                assert answer.status == 200, await answer.text()
                assert (await answer.json())["status"] == "cancelled"
            async with asyncio.timeout(PATIENCE_S):
                assert b"cancelled" in await stream.read()


async def test_a_resume_is_told_where_to_go(redis: SharedServer) -> None:
    async with replicas(2, {"redis": redis.url, "name": "resumed"}) as (one, two):
        async with wire_client(one.ws_url, negotiated=True) as client:
            events = await client.ask("What is a millrace?")
        epoch, response_id = (await get(one.url, "/healthz"))["epoch"], events[-1]["response"]["id"]
        async with wire_client(two.ws_url, negotiated=True) as client:
            resume = {"type": "millrace.resume", "response_id": response_id, "epoch": epoch, "after": -1}
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    await client.send(json.dumps(resume))
                    error = (await client.until("error"))[-1]
                    if one.url in error["error"]["message"]:  # it has heard of the other
                        break
                    await asyncio.sleep(0.1)
        assert error["error"]["code"] == "resume_expired"


async def test_one_that_has_gone_is_not_waited_for(redis: SharedServer) -> None:
    async with replicas(1, {"redis": redis.url, "name": "gone"}) as (two,):
        async with replicas(1, {"redis": redis.url, "name": "gone"}) as (one,):
            response_id = await stored(one, "What is a millrace?")
            await get(two.url, f"/v1/responses/{response_id}")
        refused = await get(two.url, f"/v1/responses/{response_id}", 503)
        assert refused["error"]["code"] == "overloaded"
        assert (await get(two.url, "/v1/responses/resp_" + "0" * 32, 404))["error"]["code"] == "response_not_found"


async def test_one_that_says_nothing_is_not_waited_for(redis: SharedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace.web.elsewhere.HEAD_S", 0.2)
    with socket.socket() as silent:  # nobody accepts its connections
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with (
            replicas(1, {"redis": redis.url, "name": "silent"}) as (one,),
            Redis.from_url(redis.url) as client,
            asyncio.timeout(PATIENCE_S),
        ):
            (now, _) = await client.time()
            await client.hset("silent:replicas1", "feedface", json.dumps({"address": address, "at": now}))
            message = ""
            while "does not answer" not in message:  # Redis may be late on a busy machine
                refused = await get(one.url, "/v1/responses/resp_feedface" + "0" * 24, 503)
                message = refused["error"]["message"]


async def test_without_redis_what_is_not_here_may_be_elsewhere(redis: SharedServer) -> None:
    """What is here is shown; nobody knows that the rest is not there."""
    async with replicas(1, {"redis": redis.url, "name": "unsure"}) as (one,):
        response_id = await stored(one, "What is a millrace?")
        await asyncio.to_thread(redis.kill)
        try:
            refused = await get(one.url, "/v1/responses/resp_" + "0" * 32, 503)
            await get(one.url, f"/v1/responses/{response_id}")
        finally:
            await asyncio.to_thread(redis.start)
        assert refused["error"]["code"] == "overloaded"
        assert refused["error"]["retry_after_ms"] == 1000


async def test_each_says_whether_it_finds_redis_away(redis: SharedServer) -> None:
    """So one can tell whether the others may be granted what it does not hear of."""
    async with (
        replicas(2, {"redis": redis.url, "name": "without"}) as (one, two),
        aiohttp.ClientSession(one.url) as http,
        http.get("/healthz") as _,
    ):
        elsewhere = process_of(one).elsewhere
        assert elsewhere is not None
        place = (await get(two.url, "/healthz"))["epoch"][:PLACE]
        async with asyncio.timeout(PATIENCE_S):
            while not elsewhere.where(place):  # it has not heard of the other
                with suppress(AssertionError):  # it may not know just now
                    await get(one.url, "/v1/responses/resp_" + "0" * 32, 404)
        assert not await elsewhere.are_all_without_redis()
        await asyncio.to_thread(redis.kill)
        try:
            await get(two.url, "/v1/responses/resp_" + "0" * 32, 503)
            assert (await get(two.url, "/healthz"))["redis"] == "away"
            assert await elsewhere.are_all_without_redis()
        finally:
            await asyncio.to_thread(redis.start)
