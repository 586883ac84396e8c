"""Two servers with one Redis: each answers from what the other has stored, and goes on where Redis is away."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.support.replicas import replicas
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S

CACHE = {"semantic": False}


def cache_of(answer: dict[str, Any]) -> str:
    """Return which cache has answered."""
    named: str = answer["metadata"]["millrace.cache"]
    return named


async def ask(url: str, text: str) -> dict[str, Any]:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    async with aiohttp.ClientSession(url) as http, http.post("/v1/chat/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def asked_until(url: str, text: str, cache: str) -> dict[str, Any]:
    """Ask with a cache that may not know it yet, until it does. Nothing is stored by it."""
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], "millrace": {"cache": "only"}}
    async with aiohttp.ClientSession(url) as http, asyncio.timeout(PATIENCE_S):
        while True:
            async with http.post("/v1/chat/completions", json=body) as answer:
                found: dict[str, Any] = await answer.json()
            if answer.status == 200:
                assert cache_of(found) == cache
                return found
            await asyncio.sleep(0.02)


async def test_a_repeat_on_the_other_is_exact(redis: SharedServer) -> None:
    async with replicas(2, {"redis": redis.url, "name": "repeat"}, cache=CACHE) as (one, two):
        first = await ask(one.url, "What is a millrace?")
        again = await asked_until(two.url, "What is a millrace?", "exact")
        assert again["choices"] == first["choices"]
        assert one.calls == 1


async def test_services_of_other_names_share_nothing(redis: SharedServer) -> None:
    async with replicas(1, {"redis": redis.url, "name": "mine"}, cache=CACHE) as (one,):
        await ask(one.url, "What is a millrace?")
    async with replicas(1, {"redis": redis.url, "name": "yours"}, cache=CACHE) as (two,):
        await ask(two.url, "What is a millrace?")
        assert two.calls == 1


async def test_without_redis_each_goes_on_with_what_it_has(redis: SharedServer) -> None:
    async with replicas(1, {"redis": redis.url, "name": "gone"}, cache=CACHE) as (one,):
        await ask(one.url, "What is a millrace?")
        await asyncio.to_thread(redis.kill)
        try:
            assert cache_of(await ask(one.url, "What is a millrace?")) == "exact"
            await ask(one.url, "What is a mill wheel?")
            assert one.calls == 2
        finally:
            await asyncio.to_thread(redis.start)


async def deleted(url: str, entry_id: str) -> None:
    async with aiohttp.ClientSession(url) as http, http.delete(f"/v1/cache/entries/{entry_id}") as answer:
        assert answer.status == 200, await answer.text()


async def missed(url: str, text: str) -> None:
    """Wait until the caches do not know an answer any more."""
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], "millrace": {"cache": "only"}}
    async with aiohttp.ClientSession(url) as http, asyncio.timeout(PATIENCE_S):
        while True:
            async with http.post("/v1/chat/completions", json=body) as answer:
                if answer.status != 200:
                    return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("is_emptied", [False, True], ids=["", "Redis was emptied"])
async def test_what_is_deleted_on_one_is_served_by_none(redis: SharedServer, *, is_emptied: bool) -> None:
    shared = {"redis": redis.url, "name": f"deleted{is_emptied}"}
    async with replicas(2, shared, cache=CACHE) as (one, two):
        await ask(one.url, "What is a millrace?")
        found = await asked_until(two.url, "What is a millrace?", "exact")
        if is_emptied:
            await redis.restart()
            await ask(one.url, "Wake up.")
        await deleted(one.url, found["metadata"]["millrace.entry_id"])
        await missed(two.url, "What is a millrace?")
        await missed(one.url, "What is a millrace?")
