"""Replicas with one Redis: what one has stored answers a paraphrase at another, until it is said to be wrong."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.replicas import replica, replicas
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S

ASKED, REWORDED = "How do I reset my password?", "how can I reset my password"
CACHE = {"exact": False}


async def ask(url: str, text: str, **millrace: Any) -> tuple[int, dict[str, Any]]:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], "millrace": millrace}
    async with aiohttp.ClientSession(url) as http, http.post("/v1/chat/completions", json=body) as answer:
        found: dict[str, Any] = await answer.json()
        return answer.status, found


async def known(url: str, text: str, *, is_known: bool = True) -> dict[str, Any]:
    """Ask the caches alone until they have an answer, or until they have none; return it, or the error."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            status, found = await ask(url, text, cache="only")
            if (status == 200) is is_known:
                return found
            await asyncio.sleep(0.02)


async def test_a_paraphrase_hits_on_the_other_and_a_veto_stops_it_everywhere(redis: SharedServer) -> None:
    async with replicas(3, {"redis": redis.url, "name": "veto"}, cache=CACHE) as (one, two, three):
        _, first = await ask(one.url, ASKED)
        again = await known(two.url, REWORDED)
        assert again["metadata"]["millrace.cache"] == "semantic"
        assert again["choices"] == first["choices"]
        await known(three.url, REWORDED)
        assert one.calls == 1
        async with aiohttp.ClientSession(two.url) as http:
            given = await http.post(
                f"/v1/responses/{again['id'].replace('chatcmpl-', 'resp_')}/feedback", json={"rating": "down"}
            )
            assert given.status == 200, await given.text()
        for url in (one.url, two.url, three.url):
            await known(url, REWORDED, is_known=False)


async def test_one_that_comes_later_has_what_the_others_have(redis: SharedServer, tmp_path: Path) -> None:
    """Also what Redis does not have any more."""
    shared = {"redis": redis.url, "name": "late"}
    async with replicas(1, shared, folder=tmp_path, cache=CACHE) as (one,):
        await ask(one.url, ASKED)
        await redis.restart()
        async with replica(one.small, one.large, shared, folder=tmp_path / "late", cache=CACHE) as late:
            await known(late.url, REWORDED)
            assert one.calls == 1
