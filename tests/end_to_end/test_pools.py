"""Deployments of one model over real sockets: what fails there does not show, and what is shown of them."""

import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from millrace.simulator import LARGE, SMALL, Simulator
from millrace.stores.database import FILE
from tests.support.outage import OUTAGES, stage
from tests.support.server import configuration_for, serving, without_delays

CHUNKS = (
    b'data: {"choices": [{"index": 0, "delta": {"content": "Hello."}}]}\n\n'
    b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
PLAIN = {"cache": "off", "strategy": "small"}


@pytest.mark.timeout(240)
async def test_a_deployment_that_fails_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is down in another way under load; no request fails, and a dead one gets nothing but probes."""
    monkeypatch.setattr("millrace.funnel.pools.SILENT_S", 1.0)
    wanted = [outage for outage in OUTAGES if outage.name in ("killed", "frozen", "429")]
    async with stage(first_token_timeout_s=20, stall_timeout_s=5) as running:
        for outage, deployment in zip(wanted, running.deployments, strict=True):
            measured = await running.measured(outage, deployment, per_s=10, down_s=4)
            counts = measured.counts
            assert (counts.failed, counts.late, counts.why) == (0, 0, Counter())
            assert counts.answered + counts.cut == counts.asked > 30
            assert counts.cut < 10  # plain clients that had seen words
            assert measured.known_s > 0
            assert measured.asked_when_known <= 2 * measured.known_s + 3


@asynccontextmanager
async def keyed_provider(limited: str) -> AsyncIterator[tuple[str, Counter[str]]]:
    """Run a provider that refuses one key with 429; yield its URL, and how often each key came."""
    came: Counter[str] = Counter()

    async def answer(request: web.Request) -> web.StreamResponse:
        key = request.headers["Authorization"].removeprefix("Bearer ")
        came[key] += 1
        if key == limited:
            error = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
            return web.json_response(error, status=429, headers={"Retry-After": "60"})
        return web.Response(body=CHUNKS, content_type="text/event-stream")

    application = web.Application()
    application.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", came
    finally:
        await runner.cleanup()


async def test_of_three_keys_one_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """At one address. It is asked once, and left alone for as long as it has asked for."""
    keys = {f"KEY_{number}": f"sk-test-{number}" for number in (1, 2, 3)}
    for name, key in keys.items():
        monkeypatch.setenv(name, key)
    async with keyed_provider("sk-test-2") as (url, came):
        configuration = configuration_for(url, url)
        configuration["models"]["small"]["deployments"] = [{"api_key_env": name} for name in keys]
        async with serving(configuration, environ=keys) as served, aiohttp.ClientSession(served) as http:
            for number in range(60):
                body = {"input": f"Hello {number}", "millrace": PLAIN}
                async with http.post("/v1/responses", json=body) as answer:
                    said = await answer.json()
                assert said["status"] == "completed"
            places = await deployments(http)
    assert came["sk-test-2"] == 1
    assert came["sk-test-1"] == pytest.approx(30, abs=3)
    assert [place["breaker"] for place in places] == ["closed", "open", "closed"]
    assert places[1]["why"].startswith("answered HTTP 429")
    assert "sk-test" not in json.dumps(places)


async def deployments(http: aiohttp.ClientSession) -> list[dict[str, Any]]:
    async with http.get("/readyz?verbose") as answer:
        found: list[dict[str, Any]] = (await answer.json())["models"][0]["deployments"]
        return found


async def test_the_bill_and_the_ledger_say_where_each_call_was_made(tmp_path: Path) -> None:
    async with Simulator(without_delays(SMALL)) as down, Simulator(without_delays(SMALL)) as up:
        configuration = configuration_for(down.base_url, up.base_url, data_dir=str(tmp_path))
        configuration["models"]["small"]["deployments"] = [
            {"region": "eu"},
            {"base_url": up.base_url, "region": "us"},
        ]
        async with aiohttp.ClientSession() as http:
            await http.post(down.base_url.replace("/v1", "/fault"), data="error")
        async with serving(configuration) as url, aiohttp.ClientSession(url) as http:
            body = {"input": "What is a millrace?", "millrace": PLAIN}
            async with http.post("/v1/responses", json=body) as answer:
                said = await answer.json()
    told = [(each["deployment"], each["outcome"]) for each in said["usage"]["attempts"]]
    assert told == [("eu", "failed"), ("us", "answered")]
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        ((calls,),) = file.execute("SELECT calls FROM entries").fetchall()
    assert [(each["deployment"], each["outcome"]) for each in json.loads(calls)] == told


async def test_a_deployment_more_leaves_the_caches_as_they_are(tmp_path: Path) -> None:
    """An answer is found whichever deployment has given it, and however many there are since."""
    asked = {"input": "What is a millrace?", "millrace": {"strategy": "small"}}
    async with Simulator(without_delays(SMALL)) as one, Simulator(without_delays(SMALL)) as two:
        for places in ([], [{}, {"base_url": two.base_url}], [{"base_url": two.base_url, "region": "eu"}]):
            configuration = configuration_for(one.base_url, one.base_url, data_dir=str(tmp_path))
            configuration["models"]["small"]["deployments"] = places
            async with (
                serving(configuration) as url,
                aiohttp.ClientSession(url) as http,
                http.post("/v1/responses", json=asked) as answer,
            ):
                assert (await answer.json())["status"] == "completed"
        assert (one.stats.started, two.stats.started) == (1, 0)


async def test_one_name_at_two_addresses() -> None:
    """The provider's name of both models may be the same: a small and a large host of one model, say."""
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        configuration = configuration_for(small.base_url, large.base_url)
        for model in configuration["models"].values():
            model["model"] = "mill-7b"
        async with serving(configuration) as url, aiohttp.ClientSession(url) as http:
            for name, calls in (("small", (1, 0)), ("large", (1, 1)), ("mill-7b", (2, 1))):
                body = {"model": name, "input": "What is a millrace?", "millrace": {"cache": "off"}}
                async with http.post("/v1/responses", json=body) as answer:
                    assert (await answer.json())["status"] == "completed"
                assert (small.stats.started, large.stats.started) == calls


async def test_a_model_that_stands_in_answers_with_its_own_api_and_price() -> None:
    """It has a name of its own, and its provider's is told."""
    async with Simulator(without_delays(SMALL)) as spare:
        configuration = configuration_for("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1")
        price = {"input": "1000", "output": "1000"}
        configuration["models"]["more"] = {
            "spare": {"upstream": "openai", "base_url": spare.base_url, "model": "spare-model", "price": price}
        }
        for model in ("small", "large"):
            configuration["models"][model]["fallback"] = ["spare"]
        async with serving(configuration) as url, aiohttp.ClientSession(url) as http:
            for strategy, tier in (("cascade", "small"), ("large", "large")):
                body = {"input": "What is a millrace?", "millrace": {"cache": "off", "strategy": strategy}}
                async with http.post("/v1/responses", json=body) as answer:
                    said = await answer.json()
                assert said["status"] == "completed"
                assert said["metadata"]["millrace.route"] == tier
                assert said["metadata"]["millrace.failed"].startswith(f"{tier}-model could not be reached")
                first, second = said["usage"]["attempts"]
                assert (first["model"], second["model"], second["outcome"]) == (
                    f"{tier}-model",
                    "spare-model",
                    "answered",
                )
                assert second["cost_usd"] == second["tokens"] / 1000
            async with http.get("/readyz?verbose") as answer:
                models = (await answer.json())["models"]
    assert [(model["name"], model["model"], model["status"]) for model in models] == [
        ("small", "small-model", "failing"),
        ("large", "large-model", "failing"),
        ("spare", "spare-model", "ok"),
    ]
