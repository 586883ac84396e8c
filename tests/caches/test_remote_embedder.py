"""An embedder behind an OpenAI-compatible API: batches, what is not sent, what fails, and the cache with it."""

import asyncio
import base64
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest

from millrace.caches.embedders import remote
from millrace.caches.embedders.remote import MOST_CALLS, MOST_TEXTS, EmbeddingError, RemoteEmbedder
from millrace.memory import MemoryBudget
from millrace.upstreams.connections import Connections
from millrace.upstreams.embeddings import EmbeddingsEndpoint, OpenAIEmbeddings
from tests.support.cache_commands import asked
from tests.support.embeddings_server import DIMENSIONS, MODEL, EmbeddingsServer, embeddings_server
from tests.support.logs import captured_logs
from tests.support.server import Start
from tests.support.waiting import PATIENCE_S, until

ASKED, SAME = "How do I reset my router?", "How can I reset my router?"
KEY = "sk-not-to-be-logged"


@asynccontextmanager
async def embedding(call_s: float = 10.0, **options: Any) -> AsyncIterator[tuple[EmbeddingsServer, RemoteEmbedder]]:
    memory = MemoryBudget(2**30)
    async with embeddings_server() as server, Connections() as connections:
        endpoint = EmbeddingsEndpoint(
            base_url=server.url, model=MODEL, api_key=KEY, connect_timeout_s=5.0, timeout_s=call_s
        )
        given: dict[str, Any] = {"dimensions": DIMENSIONS} | options
        embedder = RemoteEmbedder(
            OpenAIEmbeddings(connections, endpoint, time.time),
            lambda: memory.hold(""),
            base_url=server.url,
            model=MODEL,
            **given,
        )
        try:
            yield server, embedder
        finally:
            await embedder.close()


async def test_what_is_wanted_together_goes_in_one_request() -> None:
    """Each text once, also one that is wanted again; vectors have unit length."""
    async with embedding() as (server, embedder):
        await asyncio.gather(*(embedder.prepare(f"text {number % 10}") for number in range(30)))
        assert [sorted(texts) for texts in server.asked] == [[f"text {number}" for number in range(10)]]
        await embedder.prepare("text 3")
        assert len(server.asked) == 1
        assert np.linalg.norm(embedder.embed("text 3")) == pytest.approx(1)
        assert server.bodies[0] == {"model": MODEL, "input": server.asked[0]}
        assert set(server.keys) == {f"Bearer {KEY}"}
        with pytest.raises(EmbeddingError):
            embedder.embed("text 11")


async def test_many_texts_go_in_several_requests_of_which_few_run_at_once() -> None:
    async with embedding() as (server, embedder):
        server.open.clear()
        count = MOST_TEXTS * (MOST_CALLS + 2)
        wanted = [asyncio.create_task(embedder.prepare(f"text {number}")) for number in range(count)]
        await until(lambda: len(server.asked) == MOST_CALLS)
        await asyncio.sleep(0.05)
        assert [len(texts) for texts in server.asked] == [MOST_TEXTS] * MOST_CALLS
        server.open.set()
        await asyncio.gather(*wanted)
        assert sorted(server.texts) == sorted(f"text {number}" for number in range(count))


async def test_what_nobody_waits_for_any_more_is_not_sent() -> None:
    """Neither within the moment that texts are gathered, nor while others are answered."""
    async with embedding() as (server, embedder):
        gone = asyncio.create_task(embedder.prepare("gone"))
        await asyncio.sleep(0)
        gone.cancel()
        await embedder.prepare("wanted")
        server.open.clear()
        busy = [asyncio.create_task(embedder.prepare(f"busy {at}")) for at in range(MOST_CALLS * MOST_TEXTS)]
        await until(lambda: len(server.asked) == 1 + MOST_CALLS)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await embedder.prepare("too late")
        server.open.set()
        await asyncio.gather(*busy)
        await embedder.prepare("last")
        assert {"gone", "too late"}.isdisjoint(server.texts)
        assert {"wanted", "last"} <= {*server.texts}


async def test_an_answer_that_comes_late_is_there_for_the_store() -> None:
    async with embedding() as (server, embedder):
        server.open.clear()
        late = asyncio.create_task(embedder.prepare("a question"))
        await until(lambda: server.texts == ["a question"])
        late.cancel()
        await asyncio.wait([late])
        server.open.set()
        await until(lambda: "a question" in embedder._kept)
        await embedder.prepare("a question")
        assert len(server.asked) == 1


def large(answer: dict[str, Any]) -> dict[str, Any]:
    for datum in answer["data"]:
        datum["embedding"] = [1e39 * number for number in datum["embedding"]]
    return answer


def packed(answer: dict[str, Any]) -> dict[str, Any]:
    for datum in answer["data"]:
        numbers = datum["embedding"]
        datum["embedding"] = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    return answer


@pytest.mark.parametrize(
    "change",
    [packed, lambda answer: answer | {"data": answer["data"][::-1]}, large],
    ids=["base64", "another order", "large numbers"],
)
async def test_providers_answer_in_their_own_ways(change: Any) -> None:
    async with embedding() as (server, embedder):
        await embedder.prepare("a mill")
        expected = embedder.embed("a mill")
        embedder._kept.clear()
        server.change = change
        await asyncio.gather(*map(embedder.prepare, ("a race", "a mill", "a wheel")))
        assert np.allclose(embedder.embed("a mill"), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 500}, "HTTP 500"),
        ({"status": 401}, "HTTP 401"),
        ({"dimensions": 32}, "vectors have 32 numbers, not 64; correct"),
        ({"change": lambda answer: answer | {"data": answer["data"][1:]}}, "0 vectors came for 1 texts"),
        ({"change": lambda _: {"data": [{"embedding": [0.0] * 64}]}}, "without a direction"),
        ({"change": lambda _: {"data": [{"embedding": [1e200] * 64}]}}, "without a direction"),
        ({"change": lambda _: {"data": "none"}}, "no embeddings"),
    ],
    ids=["500", "401", "dimensions", "too few", "zero", "huge", "another shape"],
)
async def test_a_failure_is_said_once_and_rests_for_a_while(
    fault: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the key nor a question is in the log."""
    async with embedding() as (server, embedder):
        for name, value in fault.items():
            setattr(server, name, value)
        with captured_logs() as logs:
            for _ in range(3):
                with pytest.raises(EmbeddingError):
                    await embedder.prepare("a secret question")
        asked_before = len(server.asked)
        lines = logs.from_millrace.getvalue()
        assert said in lines
        assert lines.count("questions cannot be embedded") == 1
        assert "secret question" not in lines
        assert KEY not in lines
        assert asked_before <= 2  # a fault that may pass is tried once more
        monkeypatch.setattr(remote, "RETRY_S", 0)
        server.status, server.dimensions, server.change = 200, DIMENSIONS, lambda answer: answer
        await embedder.prepare("a secret question")


async def test_the_model_is_asked_for_a_length_only_if_it_should_be() -> None:
    async with embedding(shortened=True) as (server, embedder):
        await embedder.prepare("a mill")
        assert server.bodies[0]["dimensions"] == DIMENSIONS
        assert embedder.name == f"{MODEL}/{DIMENSIONS} at {server.url}"


async def test_the_vectors_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "KEPT_BYTES", 4 * DIMENSIONS * 20)
    async with embedding() as (_, embedder):
        for number in range(25):
            await embedder.prepare(f"text {number}")
        assert len(embedder._kept) == 20
        assert "text 24" in embedder._kept


# The whole server with it.


async def stored(http: aiohttp.ClientSession) -> None:
    """Wait until an answer can be found."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with http.get("/v1/cache/stats") as answer:
                if (await answer.json())["semantic"]["entries"]:
                    return


@asynccontextmanager
async def embedded_by(start: Start, timeout_s: float = 20.0) -> AsyncIterator[tuple[EmbeddingsServer, Any]]:
    async with embeddings_server() as server:

        def change(configuration: dict[str, Any]) -> None:
            embedder = {"base_url": server.url, "model": MODEL, "dimensions": DIMENSIONS, "timeout_s": timeout_s}
            configuration["cache"] = {"embedder": embedder}

        async with start(change) as running, aiohttp.ClientSession(running.url) as http:
            yield server, http


async def test_it_finds_what_is_asked_in_other_words(start: Start) -> None:
    """An empty scope is not searched, so that its first question is embedded only to be stored."""
    async with embedded_by(start) as (server, http):
        assert (await asked(http, ASKED))["millrace.cache"] == "miss"
        await until(lambda: server.texts == [ASKED])
        await stored(http)
        hit = await asked(http, SAME)
        assert (hit["millrace.cache"], hit["millrace.entry_id"][:4]) == ("semantic", "sem_")
        assert server.texts == [ASKED, SAME]
        await asked(http, "What is on my calendar today?")
        assert server.texts == [ASKED, SAME]  # its answer is for that request alone


async def test_an_embedder_that_is_down_or_slow_is_a_miss_and_no_error(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the time that a lookup may take."""
    monkeypatch.setattr("millrace.assembly.LOOKUP_S", 1.0)
    async with embedded_by(start, timeout_s=1.0) as (server, http):
        await asked(http, ASKED)
        await until(lambda: server.texts == [ASKED])
        await stored(http)
        server.open.clear()
        assert (await asked(http, SAME))["millrace.cache"] == "miss"
        assert not server.open.is_set()
        server.status = 500
        server.open.set()
        assert (await asked(http, "How could I reset my router?"))["millrace.cache"] == "miss"
