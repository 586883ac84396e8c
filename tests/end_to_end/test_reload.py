"""Settings that change while a server runs, over real sockets: what runs keeps those it began with."""

import asyncio
import json
import os
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from millrace.simulator import SMALL, Simulator
from tests.support.keys import add_key
from tests.support.live_server import LiveServer, cost, live_server
from tests.support.logs import CapturedLogs, captured_logs
from tests.support.server import process_of, without_delays
from tests.support.waiting import until
from tests.support.wire_client import TERMINALS, WireClient, wire_client

LONG = "Tell me a story. [tokens=60] [rate=60]"


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def logged(logs: CapturedLogs, event: str) -> list[dict[str, Any]]:
    """Return what Millrace has logged of one kind."""
    lines = map(json.loads, logs.from_millrace.getvalue().splitlines())
    return [line for line in lines if line["event"] == event]


def connections_to(simulator: Simulator) -> int:
    """Return how many connections a model has."""
    runner = simulator._runner
    assert runner is not None, "it runs"
    assert runner.server is not None, "it runs"
    return len(runner.server.connections)


async def usage_of(client: WireClient, asked: str, **fields: Any) -> dict[str, Any]:
    usage: dict[str, Any] = (await client.ask(asked, **fields))[-1]["response"]["usage"]
    return usage


async def begun(client: WireClient, asked: str = LONG, **fields: Any) -> None:
    """Ask for an answer, and wait for its first word."""
    await client.create(asked, **fields)
    await client.until("response.output_text.delta")


async def test_a_request_is_billed_at_the_price_it_began_with() -> None:
    async with live_server() as live, wire_client(live.running.ws_url) as client:
        before = dict(live.models["small"]["price"])
        await begun(client, model="small")
        live.models["small"]["price"]["output"] = "60.00"
        assert await live.reload() == {
            "read": "configuration",
            "changed": ["models.small.price.output"],
            "needs_restart": [],
            "faults": [],
        }
        running = (await client.until(*TERMINALS))[-1]["response"]["usage"]
        later = await usage_of(client, "Another one. [tokens=60]", model="small")
    assert running["output_tokens"] == later["output_tokens"] == 60
    assert running["cost_usd"] == pytest.approx(cost(running, before), abs=1e-9)
    assert later["cost_usd"] == pytest.approx(cost(later, before | {"output": "60.00"}), abs=1e-9)


async def test_who_asks_the_same_after_a_price_has_changed_does_not_join() -> None:
    """Whoever pays for a shared answer in the end would pay the old price."""
    async with (
        live_server() as live,
        wire_client(live.running.ws_url) as first,
        wire_client(live.running.ws_url) as second,
    ):
        await begun(first, model="small")
        live.models["small"]["price"]["output"] = "60.00"
        await live.reload()
        await second.create(LONG, model="small")
        ends = [(await client.until(*TERMINALS))[-1]["response"]["usage"] for client in (first, second)]
        assert ends[1]["cost_usd"] > 50 * ends[0]["cost_usd"] > 0
        assert live.running.small.stats.started == 2


async def test_a_bad_configuration_is_refused_with_all_its_faults_and_changes_nothing() -> None:
    async with live_server() as live, wire_client(live.running.ws_url) as client:
        live.models["small"]["price"]["output"] = "dear"
        live.models["aliases"] = {"fast": "none"}
        live.configuration["funnel"]["stratgy"] = "large"
        live.configuration["limits"] = {"requests_per_minute": 1}
        with captured_logs() as logs:
            outcome = await live.reload()
        assert (outcome["changed"], outcome["needs_restart"]) == ([], [])
        assert [fault["path"] for fault in outcome["faults"]] == [
            "models.small.price.output",
            "funnel.stratgy",
            "models.aliases.fast",
        ]
        (refused,) = logged(logs, "configuration refused")
        assert [fault.partition(":")[0] for fault in refused["faults"]] == [f["path"] for f in outcome["faults"]]
        for _ in range(2):
            assert (await client.ask("Hello"))[-1]["type"] == "response.completed"
        assert "fast" not in [name["id"] for name in (await live.get("/v1/models"))["data"]]
        configuration = (await live.get("/readyz?verbose=true"))["configuration"]
        assert configuration["refused_at"] > configuration["read_at"]


async def test_a_server_that_fails_while_it_reads_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("sk-secret")

    async with live_server() as live, wire_client(live.running.ws_url) as client:
        monkeypatch.setattr("millrace.assembly.live.merged", fail)
        with captured_logs() as logs:
            outcome = await live.reload()
        assert [fault["path"] for fault in outcome["faults"]] == ["configuration"]
        assert "sk-secret" not in logs.text + str(outcome)
        assert (await client.ask("Hello"))[-1]["type"] == "response.completed"
        monkeypatch.undo()
        assert (await live.reload())["faults"] == []


async def test_what_cannot_change_is_named_and_the_rest_holds() -> None:
    """It is named again until the restart."""
    async with live_server() as live:
        live.configuration["server"]["port"] = 1
        live.configuration["cache"] = {"memory_bytes": 10**6, "max_wrong_hit_rate": 0.005}
        live.models["aliases"] = {"fast": "small"}
        outcome = await live.reload()
        assert outcome["changed"] == ["models.aliases.fast", "cache.max_wrong_hit_rate"]
        assert outcome["needs_restart"] == ["server.port", "cache.memory_bytes"]
        assert "fast" in [name["id"] for name in (await live.get("/v1/models"))["data"]]
        configuration = (await live.get("/readyz?verbose=true"))["configuration"]
        assert (configuration["refused_at"], configuration["needs_restart"]) == (None, outcome["needs_restart"])
        again = await live.reload()
        assert (again["changed"], again["needs_restart"]) == ([], ["server.port", "cache.memory_bytes"])
        evidence = await live.get("/v1/evidence")
        assert evidence["semantic"]["promised"] == 0.005


async def test_a_model_that_has_changed_does_not_get_the_answers_of_the_one_before() -> None:
    """And the one before gets its own again."""
    async with live_server() as live, wire_client(live.running.ws_url) as client:

        async def source() -> str:
            usage = await usage_of(client, "What is a millrace?", model="small")
            return "cache" if usage["cost_usd"] == 0 else "model"

        assert [await source(), await source()] == ["model", "cache"]
        live.models["small"]["model"] = "other-model"
        await live.reload()
        assert [await source(), await source()] == ["model", "cache"]
        live.models["small"]["model"] = "small-model"
        await live.reload()
        assert await source() == "cache"
        names = [name["id"] for name in (await live.get("/v1/models"))["data"]]
        assert "small-model" in names
        assert "other-model" not in names
        ready = await live.get("/readyz?verbose=true")
        assert [model["model"] for model in ready["models"]] == ["small-model", "large-model"]


async def test_caches_go_off_and_on_and_forget_sooner() -> None:
    """What they hold stays. One that was off at the start is not there."""
    async with live_server(cache={"semantic": False}) as live, wire_client(live.running.ws_url) as client:

        async def is_cached() -> bool:
            return not (await usage_of(client, "What is a millrace?"))["cost_usd"]

        assert [await is_cached(), await is_cached()] == [False, True]
        live.configuration["cache"] = {"semantic": True, "exact": False}
        outcome = await live.reload()
        assert (outcome["changed"], outcome["needs_restart"]) == (["cache.exact"], ["cache.semantic"])
        assert not await is_cached()
        live.configuration["cache"] = {"semantic": False}
        await live.reload()
        assert await is_cached()
        live.configuration["cache"]["ttl_s"] = 0.001
        assert (await live.reload())["changed"] == ["cache.ttl_s"]
        assert [await is_cached(), await is_cached()] == [False, False]


async def test_what_evidence_may_cost_changes() -> None:
    async with live_server(evidence={"judged": True}) as live:
        asking: Any = live.configuration["evidence"]
        asking |= {"dollars_per_day": "0.5", "small_share": 0, "model_judge": "large"}
        wanted = ["evidence.small_share", "evidence.dollars_per_day", "evidence.model_judge"]
        assert (await live.reload())["changed"] == wanted
        process = process_of(live.running)
        evidence = process.funnel.current.sampling.evidence
        assert evidence is not None
        assert (evidence._shares.small, evidence._shares.hits) == (0, 0.1)
        assert evidence._ask._principal.limits.dollars_per_day == Decimal("0.5")  # type: ignore[attr-defined]
        assert [judge.name for judge in evidence._panel._judges][-1] == "model"
        assert process.reports.promises.dollars_per_day == Decimal("0.5")


async def test_a_model_that_moves_is_left_when_its_last_request_has_ended() -> None:
    """No stream is cut. What was kept of the old server, and the connections to it, go."""
    async with (
        Simulator(without_delays(SMALL)) as elsewhere,
        live_server() as live,
        wire_client(live.running.ws_url) as client,
    ):
        await begun(client, model="small", store=False)
        process = process_of(live.running)
        live.models["small"]["base_url"] = elsewhere.base_url
        assert (await live.reload())["changed"] == ["models.small.base_url"]
        assert len(process.funnel.earlier) == 1
        events = await client.until(*TERMINALS)
        assert events[-1]["type"] == "response.completed"
        await until(lambda: not process.funnel.earlier)
        assert live.running.small.stats.started == 1
        await until(lambda: connections_to(live.running.small) == 0)
        assert (await client.ask("Hello", model="small"))[-1]["type"] == "response.completed"
        assert (live.running.small.stats.started, elsewhere.stats.started) == (1, 1)


async def test_guards_checks_and_the_strategy_change() -> None:
    async with live_server() as live, wire_client(live.running.ws_url) as client:
        assert (await client.ask("How deep is it?"))[-1]["response"]["model"] == "small-model"
        live.configuration["funnel"]["strategy"] = "large"
        live.configuration["guards"] = {"words": ["[tokens", "Alpha", "the"]}
        live.configuration["checks"] = {"repair": False, "off": ["empty"]}
        outcome = await live.reload()
        assert outcome["changed"] == ["funnel.strategy", "checks.off", "guards.words"]
        events = await client.ask("How wide is it?")
        assert events[-1]["response"]["model"] == "large-model"
        assert process_of(live.running).funnel.checks.names[0] != "empty"
        assert "the " not in text_of(events).lower()


async def test_limits_hold_from_the_next_request_of_an_open_connection_on(tmp_path: Path) -> None:
    key = await asyncio.to_thread(add_key, tmp_path)
    async with (
        live_server(server={"data_dir": str(tmp_path)}) as live,
        wire_client(live.running.ws_url, additional_headers={"Authorization": f"Bearer {key}"}) as client,
    ):
        assert (await client.ask("One"))[-1]["type"] == "response.completed"
        live.configuration["limits"] = {"requests_per_minute": 1}
        outcome = await live_reload_by(live, tmp_path)
        assert outcome["changed"] == ["limits.requests_per_minute"]
        assert (await client.ask("Two"))[-1]["type"] == "response.completed"
        refused = (await client.ask("Three"))[-1]
        assert (refused["type"], refused["error"]["code"]) == ("error", "rate_limit_exceeded")


async def test_budgets_hold_from_the_next_request_on_and_count_what_was_spent_before(tmp_path: Path) -> None:
    """Of keys without limits of their own, of tenants, and the steps of both."""
    key = await asyncio.to_thread(add_key, tmp_path)
    async with (
        live_server(server={"data_dir": str(tmp_path)}) as live,
        wire_client(live.running.ws_url, additional_headers={"Authorization": f"Bearer {key}"}) as client,
    ):
        assert (await client.ask("One", model="large"))[-1]["type"] == "response.completed"
        live.configuration["limits"] = {"dollars_per_day": "0.000001"}
        live.configuration["budgets"] = {"at": {}, "webhook": "http://127.0.0.1:9/told"}
        outcome = await live_reload_by(live, tmp_path)
        assert {"limits.dollars_per_day", "budgets.webhook"} <= {*outcome["changed"]}
        assert outcome["needs_restart"] == []
        refused = (await client.ask("Two"))[-1]
        assert (refused["type"], refused["error"]["code"]) == ("error", "budget_exceeded")
        live.configuration["limits"] = {"tenant": {"dollars_per_month": "0.000001"}, "max_output_tokens": 5}
        live.configuration["budgets"]["at"] = {"1": "cache"}
        await live_reload_by(live, tmp_path)
        failed = (await client.ask("Three"))[-1]
        assert (failed["type"], failed["response"]["error"]["code"]) == ("response.failed", "budget_exceeded")
        live.configuration["limits"] = {"max_output_tokens": 5}
        await live_reload_by(live, tmp_path)
        cut = (await client.ask("Four [tokens=60]"))[-1]["response"]
        assert cut["incomplete_details"]["reason"] == "max_output_tokens"
        assert cut["usage"]["output_tokens"] == 5


async def live_reload_by(live: LiveServer, folder: Path) -> dict[str, Any]:
    """Reload as an admin; nobody else may."""
    plain = await asyncio.to_thread(add_key, folder)
    admin = await asyncio.to_thread(add_key, folder, "--tenant", "acme", "--role", "admin")
    keyring = process_of(live.running).gate.keyring
    await until(lambda: all(keyring.is_valid(key.split("_")[1]) for key in (plain, admin)))
    async with live.http.post("/v1/reload", headers={"Authorization": f"Bearer {plain}"}) as answer:
        assert answer.status == 403
    return await live.reload(Authorization=f"Bearer {admin}")


async def test_pages_may_connect_from_the_next_origins_on() -> None:
    page = {"Origin": "https://app.example"}
    async with live_server() as live:
        async with live.http.get("/v1/models", headers=page) as answer:
            assert answer.status == 403
        live.configuration["server"]["origins"] = ["https://app.example"]
        assert (await live.reload())["changed"] == ["server.origins"]
        async with live.http.get("/v1/models", headers=page) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, page["Origin"])
        del live.configuration["server"]["origins"]
        await live.reload()
        async with live.http.get("/v1/models", headers=page) as answer:
            assert (answer.status, answer.headers.get("Access-Control-Allow-Origin")) == (403, None)


async def test_a_name_that_is_configured_no_more_is_refused_also_if_it_waited() -> None:
    """In a lane behind another request."""
    async with live_server() as live, wire_client(live.running.ws_url, negotiated=True) as client:
        await client.create(LONG, model="small", stream_id="a")
        await client.until("response.output_text.delta")
        await client.create("And now?", model="small-model", stream_id="a")
        live.models["small"]["model"] = "other-model"
        await live.reload()
        events = await client.until("error")
        assert "response.completed" in [event["type"] for event in events]
        assert events[-1]["error"]["code"] == "model_not_found"


async def test_a_promise_of_the_router_changes_and_what_it_has_learned_stays() -> None:
    async with live_server(router={"large_share": 0.0}) as live, wire_client(live.running.ws_url) as client:
        routed = process_of(live.running).funnel.current.sampling.router
        for number in range(3):
            assert (await client.ask(f"How deep is {number}?"))[-1]["response"]["model"] == "small-model"
        live.configuration["router"] = {"large_share": 1.0}
        assert (await live.reload())["changed"] == ["router.large_share"]
        assert (await client.ask("How deep is it all?"))[-1]["response"]["model"] == "large-model"
        assert process_of(live.running).funnel.current.sampling.router is routed
        assert routed.promises.places == [("anonymous", "auto")]


async def test_sighup_reads_the_configuration_anew() -> None:
    async with live_server() as live:
        live.models["aliases"] = {"fast": "small"}
        with captured_logs(level="info") as logs:
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: bool(logged(logs, "configuration read")))
        assert "fast" in [name["id"] for name in (await live.get("/v1/models"))["data"]]


async def test_embeddings_come_and_go() -> None:
    async with live_server() as live:

        async def status() -> int:
            async with live.http.post("/v1/embeddings", json={"model": "vectors", "input": "a"}) as answer:
                return answer.status

        assert await status() == 404
        small = live.models["small"]["base_url"]
        live.models["embeddings"] = {"base_url": small, "model": "vectors", "price": {"input": "1"}}
        assert (await live.reload())["changed"] == ["models.embeddings"]
        assert await status() == 200
        del live.models["embeddings"]
        await live.reload()
        assert await status() == 404


async def test_reloads_that_come_together_are_made_one_after_the_other() -> None:
    async with live_server() as live:
        live.models["aliases"] = {"fast": "small"}
        outcomes = await asyncio.gather(*(live.reload() for _ in range(5)))
        assert sorted(len(outcome["changed"]) for outcome in outcomes) == [0, 0, 0, 0, 1]
        await until(lambda: not process_of(live.running).funnel.earlier)
