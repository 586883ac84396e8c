"""What a client sees as a budget runs out, over real sockets: frames, headers, metadata. What the operator is told."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from millrace.simulator import LARGE, SMALL, Simulator
from tests.support.live_server import live_server
from tests.support.server import Start, configuration_for, serving, without_delays
from tests.support.waiting import until
from tests.support.wire_client import Event, WireClient, check_response, wire_client

DOLLARS = 0.1  # of the tenant, a day; 1,000 tokens of either model cost 0.01
Change = Callable[[dict[str, Any]], None]


def budget(**sections: Any) -> Change:
    """Edit a configuration: a tenant's budget of a day, and two models at one price."""

    def change(configuration: dict[str, Any]) -> None:
        for name in ("small", "large"):
            configuration["models"][name]["price"] = {"input": "0.01", "output": "10"}
        configuration["limits"] = {"tenant": {"dollars_per_day": str(DOLLARS)}}
        for name, section in sections.items():
            configuration[name] = configuration.get(name, {}) | section

    return change


async def talk(client: WireClient, tokens: int, **options: Any) -> list[Event]:
    options = {"cache": "off", "strategy": "large"} | options
    return await client.ask(f"talk [tokens={tokens}]", millrace=options)


def told(events: list[Event]) -> list[tuple[str, str]]:
    """Return the steps that a client was told of: by which event, and which step."""
    return [
        (event["type"].removeprefix("millrace."), event["budget"]["step"]) for event in events if event.get("budget")
    ]


def error_of(events: list[Event]) -> dict[str, Any]:
    response: dict[str, Any] = events[-1]["response"]
    assert response["status"] == "failed"
    error: dict[str, Any] = response["error"]
    return error


async def test_the_steps_come_in_order_each_is_told_once_and_always_in_the_route(start: Start) -> None:
    async with start(budget()) as running, wire_client(running.ws_url, negotiated=True) as client:
        first = await client.ask("What is a millrace?")
        assert told(first) == []
        assert "millrace.budget" not in check_response(first, negotiated=True)["metadata"]
        for _ in range(4):
            assert told(await talk(client, 2000)) == []  # 80 % and the first question
        warned = await talk(client, 10)
        assert told(warned) == [("notice", "warn"), ("route", "warn")]
        kinds = [event["type"] for event in warned]
        assert kinds.index("millrace.notice") == 2  # before the route, and numbered as all of the response
        response = check_response(warned, negotiated=True)
        assert response["metadata"]["millrace.route"] == "large"
        assert response["metadata"]["millrace.budget"].startswith("warn: 8")
        (notice,) = [event for event in warned if event["type"] == "millrace.notice"]
        assert notice["message"].startswith(response["metadata"]["millrace.budget"].removeprefix("warn: "))
        assert notice["budget"]["account"] == "tenant"
        assert 0 < notice["budget"]["left_usd"] < 0.2 * DOLLARS
        assert told(await talk(client, 1000)) == [("route", "warn")]

        small = await talk(client, 10)
        assert told(small) == [("notice", "small"), ("route", "small")]
        metadata = check_response(small, negotiated=True)["metadata"]
        assert metadata["millrace.route"] == "small"
        (route,) = [event for event in small if event["type"] == "millrace.route"]
        assert (route["tier"], route["reason"]) == ("small", "its budget runs out")
        assert told(await talk(client, 10, strategy="race")) == [("route", "small")]
        again = check_response(await client.ask("What is a millrace?"), negotiated=True)
        assert again["metadata"]["millrace.cache"] == "exact"  # what was stored under another strategy still serves

        cut = check_response(await talk(client, 5000), negotiated=True)
        assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "budget_exceeded"})
        last = await client.ask("What is a millrace?")
        assert told(last) == [("notice", "cache"), ("route", "cache")]
        assert check_response(last, negotiated=True)["metadata"]["millrace.cache"] == "exact"
        missed = await client.ask("What is a weir?")
        assert told(missed) == []  # it has no route, and the step was told
        assert error_of(missed)["code"] == "budget_exceeded"
        assert "this tenant's $0.1 a day is spent: only the caches answer" in error_of(missed)["message"]
        assert error_of(await talk(client, 10))["code"] == "budget_exceeded"
        assert check_response(missed, negotiated=True)["metadata"]["millrace.budget"].startswith("cache: ")
    assert 0.99 * DOLLARS < spent_by(running) <= DOLLARS


def spent_by(running: Any) -> float:
    """Return what both models have charged, for output."""
    return 10e-6 * float(running.small.stats.tokens_sent + running.large.stats.tokens_sent)


async def test_a_request_that_small_cannot_take_is_refused_near_the_end(start: Start) -> None:
    """It is too long for it: the error says so, and that a budget is why the large model was not asked."""

    def change(configuration: dict[str, Any]) -> None:
        budget(budgets={"at": {"0.1": "small"}})(configuration)
        configuration["models"]["small"]["context_window"] = 1000

    async with start(change) as running, wire_client(running.ws_url, negotiated=True) as client:
        check_response(await talk(client, 1000), negotiated=True)
        calls = running.calls
        refused = await client.ask("mill " * 2000)
        assert running.calls == calls
    error = error_of(refused)
    assert error["code"] == "budget_exceeded"
    assert "only small-model is asked from here on, and 20" in error["message"]
    assert "tokens do not fit small-model" in error["message"]


async def test_without_steps_a_budget_ends_at_once(start: Start) -> None:
    """`at = {}`: nothing is told or answered by less, and at the end all is refused before it is a response."""
    async with start(budget(budgets={"at": {}})) as running, wire_client(running.ws_url, negotiated=True) as client:
        await client.ask("What is a millrace?")
        for _ in range(4):
            assert told(await talk(client, 2400)) == []
        while (last := (await talk(client, 2400))[-1])["type"] != "error":
            assert last["response"]["metadata"].get("millrace.budget") is None
        assert last["error"]["code"] == "budget_exceeded"
        assert (await client.ask("What is a millrace?"))[-1]["error"]["code"] == "budget_exceeded"


BODIES: dict[str, dict[str, Any]] = {
    "/v1/responses": {"input": "What is a millrace?"},
    "/v1/chat/completions": {"model": "auto", "messages": [{"role": "user", "content": "What is a millrace?"}]},
    "/v1/messages": {
        "model": "auto",
        "max_tokens": 90,
        "messages": [{"role": "user", "content": "What is a millrace?"}],
    },
}
RATES = {"requests_per_minute": 3, "tokens_per_minute": 90_000, "dollars_per_day": "5"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
async def test_headers_say_what_is_left_and_when_to_come_back(start: Start, path: str, stream: bool) -> None:
    body = BODIES[path] | {"stream": stream}
    async with start(budget(limits={"user": RATES})) as running, aiohttp.ClientSession(running.url) as http:
        named = {"metadata": {"user_id": "ann"}} if path == "/v1/messages" else {"user": "ann"}
        found = []
        for _ in range(4):
            async with http.post(path, json=body | named) as answer:
                await answer.read()
                found.append((answer.status, answer.headers.copy()))
        async with http.post(path, json=body) as other:
            assert other.status == 200
            assert "x-ratelimit-limit-requests" not in other.headers
    statuses = [status for status, _ in found]
    assert statuses == [200, 200, 200, 429]
    for left, (_, headers) in zip((2, 1, 0, 0), found, strict=True):
        assert headers["x-ratelimit-limit-requests"] == "3"
        assert headers["x-ratelimit-remaining-requests"] == str(left)
        assert 0 < int(headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 61
        assert headers["x-ratelimit-limit-tokens"] == "90000"
        assert 80_000 < int(headers["x-ratelimit-remaining-tokens"]) < 90_000
        assert headers["x-millrace-budget-limit-usd"] == "0.1"  # the tenant has less left than ann
        assert 0 < float(headers["x-millrace-budget-remaining-usd"]) < DOLLARS
        assert 0 < int(headers["x-millrace-budget-reset"].removesuffix("s")) <= 86_400
    assert 0 < int(found[-1][1]["retry-after"]) <= 61


async def test_without_limits_there_are_no_such_headers(start: Start) -> None:
    body = BODIES["/v1/responses"] | {"user": "ann"}
    async with (
        start() as running,
        aiohttp.ClientSession(running.url) as http,
        http.post("/v1/responses", json=body) as answer,
    ):
        assert answer.status == 200
        assert not [name for name in answer.headers if "ratelimit" in name.lower() or "budget" in name.lower()]


async def test_over_http_the_step_is_in_headers_and_metadata(start: Start) -> None:
    change = budget(budgets={"at": {"0.1": "warn", "0.2": "cache"}})
    ask = {"input": "talk [tokens=1100]", "millrace": {"strategy": "large", "cache": "off"}}
    async with start(change) as running, aiohttp.ClientSession(running.url) as http:
        steps = []
        for _ in range(3):
            async with http.post("/v1/responses", json=ask) as answer:
                document = await answer.json()
                step = answer.headers.get("x-millrace-budget-step")
                steps.append((answer.status, step, document.get("metadata", {}).get("millrace.budget", "")[:4]))
                assert "x-millrace-budget-remaining-usd" in answer.headers
    assert steps == [(200, None, ""), (200, "warn", "warn"), (402, "cache", "")]
    assert document["error"]["code"] == "budget_exceeded"


@asynccontextmanager
async def hook(*statuses: int) -> AsyncIterator[tuple[str, list[tuple[dict[str, Any], str]]]]:
    """Serve a webhook that answers its first notices with these statuses, and 200 after that."""
    received: list[tuple[dict[str, Any], str]] = []
    left = list(statuses)

    async def take(request: web.Request) -> web.Response:
        received.append((json.loads(await request.text()), request.headers.get("Authorization", "")))
        return web.Response(status=left.pop(0) if left else 200)

    app = web.Application()
    app.router.add_post("/budgets", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/budgets", received
    finally:
        await runner.cleanup()


async def test_a_webhook_is_told_of_each_step_once_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again where it was not taken, in order, with its key, and without a word of a question."""
    monkeypatch.setenv("HOOK_KEY", "hook-secret")
    monkeypatch.setattr("millrace.assembly.budgets.PAUSES_S", (0.01, 0.01))
    async with (
        hook(503, 429) as (url, received),
        Simulator(without_delays(SMALL)) as small,
        Simulator(without_delays(LARGE)) as large,
    ):
        configuration = configuration_for(small.base_url, large.base_url)
        budget(budgets={"webhook": url, "webhook_key_env": "HOOK_KEY"})(configuration)
        async with (
            serving(configuration, environ={"HOOK_KEY": "hook-secret"}) as http,
            wire_client(http.replace("http", "ws", 1)) as client,
        ):
            for tokens in (5000, 3100, 50, 1000, 50, 5000, 50):
                await talk(client, tokens)
            await until(lambda: len(received) == 5)
    notices = [notice for notice, _ in received]
    assert [notice["step"] for notice in notices] == ["warn", "warn", "warn", "small", "cache"]
    assert notices[0] == notices[1] == notices[2]
    warn = notices[0]
    assert warn["id"].startswith("tenant/anonymous/day:20")
    assert warn["id"].endswith("/warn")
    assert warn["account"] == {"kind": "tenant", "tenant": "anonymous", "name": ""}
    assert warn["spent_usd"] + warn["left_usd"] == pytest.approx(warn["limit_usd"]) == pytest.approx(DOLLARS)
    assert {key for _, key in received} == {"Bearer hook-secret"}
    assert "talk" not in json.dumps(notices)


async def test_a_webhook_that_a_reload_brings_is_told_of_the_next_step() -> None:
    async with hook() as (url, received), live_server() as live, wire_client(live.running.ws_url) as client:
        budget()(live.configuration)
        await live.reload()
        await talk(client, 8100)
        live.configuration["budgets"] = {"webhook": url}
        assert (await live.reload())["changed"] == ["budgets.webhook"]
        await talk(client, 1000)
        await until(lambda: bool(received))
        assert [notice["step"] for notice, _ in received] == ["small"]
        live.configuration["budgets"] = {}
        await live.reload()
        await talk(client, 1500)
    assert len(received) == 1
