"""`GET /metrics`: its text parses, its numbers are those of the ledger, and who may read it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace import settings
from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Role
from tests.support.embeddings_server import MODEL, embeddings_server
from tests.support.scraped import OPEN, scraped
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import wire_client

CHAT = "/v1/chat/completions"
EXACT = 1e-12  # dollars; what floats lose
KINDS = {"input": "input_tokens", "output": "output_tokens", "cached_input": "cached_input_tokens"}


async def ask(http: aiohttp.ClientSession, text: str, path: str = "/v1/responses", **fields: Any) -> int:
    body = {"input": text} if path == "/v1/responses" else {"messages": [{"role": "user", "content": text}]}
    if path == "/v1/messages":
        fields = {"max_tokens": 100} | fields
    async with http.post(path, json=body | {"model": "auto"} | fields) as answer:
        await answer.read()
        return answer.status


async def rows_of(http: aiohttp.ClientSession, at_least: int) -> list[dict[str, Any]]:
    """Return the ledger, once so many rows have ended."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with http.get("/v1/ledger?limit=100") as answer:
                rows: list[dict[str, Any]] = [row for row in (await answer.json())["data"] if row["status"] != "open"]
            if len(rows) >= at_least:
                return rows
            await asyncio.sleep(0.01)


@asynccontextmanager
async def busy(start: Start) -> AsyncIterator[tuple[Running, aiohttp.ClientSession, list[dict[str, Any]]]]:
    """A server after requests of all kinds, and the rows of its ledger."""
    async with embeddings_server() as embedder:

        def change(configuration: dict[str, Any]) -> None:
            configuration["models"]["embeddings"] = {
                "base_url": embedder.url,
                "model": MODEL,
                "price": {"input": "0.02"},
            }

        async with start(change) as running, aiohttp.ClientSession(running.url) as http:
            await ask(http, "What is a millrace?")
            await ask(http, "What is a millrace?")
            await ask(http, "What is a wheel? [weak]", CHAT)
            await ask(http, "What is a sluice?", "/v1/messages")
            await ask(http, "What is a heron?", millrace={"strategy": "race", "grace_ms": 1000})
            await ask(http, "What is a mill?", model="large", max_output_tokens=3)
            for path in ("/v1/responses", CHAT, "/v1/messages"):  # whole, each in the form of its API
                assert await ask(http, "What is a weir? [fault=429]", path, model="small") >= 400
            assert await ask(http, "What is a weir? [fault=429]", CHAT, model="small", stream=True) >= 400
            assert await ask(http, "", temperature=17) == 400
            async with http.post("/v1/embeddings", json={"model": MODEL, "input": "a mill"}) as answer:
                assert answer.status == 200
            async with wire_client(running.ws_url) as client:
                await client.create("What is a flume? [ttft=30]", model="small")
                await client.until("response.created")
                await client.send({"type": "response.cancel"})
                await client.until("response.incomplete", "response.failed", "response.completed")
                await client.send("no JSON")
                assert (await client.next())["type"] == "error"
            yield running, http, await rows_of(http, 12)


async def test_the_numbers_are_those_of_the_ledger(start: Start) -> None:
    async with busy(start) as (_, http, rows):
        found = await scraped(http)
        async with http.get("/v1/levers?since=1h") as answer:
            levers = await answer.json()
    assert found.by("millrace_requests_total", "status") == Counter(row["status"] for row in rows)
    assert found.by("millrace_requests_total", "cache") == Counter(row["cache"] for row in rows)
    assert found.by("millrace_requests_total", "source") == Counter(row["source"] or "none" for row in rows)
    assert found.by("millrace_requests_total", "strategy") == Counter(row["strategy"] for row in rows)
    assert found.by("millrace_errors_total", "code") == Counter(row["code"] for row in rows if row["code"])
    for kind, column in KINDS.items():
        assert found.value("millrace_answer_tokens_total", kind=kind) == sum(row[column] for row in rows)
    calls = [call for row in rows for call in row["calls"]]
    assert found.by("millrace_calls_total", "model", "outcome") == Counter(
        (call["model"], call["outcome"]) for call in calls
    )
    for kind, column in KINDS.items():
        assert found.value("millrace_tokens_total", kind=kind) == sum(call[column] for call in calls)
    spent = sum(float(row["cost_usd"]) for row in rows)
    assert found.value("millrace_spent_dollars_total") == pytest.approx(spent, abs=EXACT)
    baseline, saved = found.value("millrace_baseline_dollars_total"), found.by("millrace_saved_dollars_total", "lever")
    lost, wasted = (
        found.by("millrace_lost_by_lever_dollars_total", "lever"),
        found.by("millrace_wasted_dollars_total", "kind"),
    )
    shown = baseline - sum(saved.values()) + sum(lost.values()) + sum(wasted.values())
    assert shown == pytest.approx(spent, abs=EXACT)
    assert {"routing", "exact"} <= saved.keys()
    assert {"lost", "revised"} <= wasted.keys()
    assert levers_of(levers, "savings", "lever", "saved_usd") == pytest.approx(
        {**saved, **{name: -lost[name] for name in lost}}, abs=EXACT
    )
    assert levers_of(levers, "waste", "kind", "cost_usd") == pytest.approx(wasted, abs=EXACT)


def levers_of(report: dict[str, Any], kind: str, name: str, dollars: str) -> dict[str, float]:
    return {each[name]: each[dollars] for each in report["total"][kind] if each[dollars]}


async def test_it_tells_how_each_request_was_answered(start: Start) -> None:
    async with busy(start) as (running, http, rows):
        found = await scraped(http)
    dialects = {"responses": 6, "chat": 3, "messages": 2, "embeddings": 1}
    assert found.by("millrace_requests_total", "dialect") == dialects
    assert found.by("millrace_cache_lookups_total", "cache", "result")["exact", "hit"] == 1
    assert found.by("millrace_escalations_total", "reason") == {"unsure": 1}
    assert sum(found.by("millrace_races_total", "winner").values()) == 1
    assert found.value("millrace_routes_total", first="small", source="large") >= 1
    assert found.by("millrace_refused_total", "code") == {"invalid_request": 1, "invalid_json": 1}
    histogram = "gen_ai_server_request_duration_seconds"
    assert found.value(f"{histogram}_count") == len(rows)
    seconds = sum(row["latency_ms"] for row in rows) / 1000
    assert found.value(f"{histogram}_sum") == pytest.approx(seconds, abs=0.001)
    first = [row["ttft_ms"] / 1000 for row in rows if row["ttft_ms"] is not None]
    assert found.value("gen_ai_server_time_to_first_token_seconds_count") == len(first)
    assert found.value("gen_ai_server_time_to_first_token_seconds_sum") == pytest.approx(sum(first), abs=0.001)
    assert found.value("gen_ai_server_time_to_first_token_seconds_bucket", le="+Inf") == len(first)
    assert found.value("gen_ai_client_token_usage_sum", gen_ai_token_type="output") == found.value(
        "millrace_tokens_total", kind="output"
    )
    assert running.calls >= 8


async def test_it_shows_the_process(start: Start) -> None:
    async with start() as running, aiohttp.ClientSession(running.url) as http:
        async with wire_client(running.ws_url) as client:
            await client.create("Wait. [ttft=30]", model="small")
            await until(lambda: running.small.stats.started == 1)
            found = await scraped(http)
            await client.send({"type": "response.cancel"})
            await client.until("response.incomplete", "response.failed", "response.completed")
        after = await scraped(http)
    assert (found.value("millrace_in_flight_requests"), found.value("millrace_open_connections")) == (1, 1)
    assert found.value("millrace_deployment_running_calls", name="small") == 1
    assert after.value("millrace_in_flight_requests") == 0
    assert found.by("millrace_model_can_be_asked", "tier") == {"small": 1, "large": 1}
    assert found.by("millrace_deployment_breaker", "state") == {"closed": 2, "open": 0, "half_open": 0}
    assert found.value("millrace_build_info") == 1
    assert found.value("millrace_memory_limit_bytes") == 2**30
    assert found.value("process_cpu_seconds_total") > 0


async def test_what_limits_refuse_is_counted_over_both_transports(start: Start, tmp_path: Path) -> None:
    async with keyed(start, tmp_path, ("acme", Role.ADMIN), dollars_per_day="0.0000001") as (running, (http,)):
        header = {"Authorization": http.headers["Authorization"]}
        for path in ("/v1/responses", CHAT):
            assert await ask(http, "What is a millrace?", path) == 402
        async with wire_client(running.ws_url, additional_headers=header) as client:
            (refused,) = await client.ask("What is a millrace?")
            assert refused["error"]["code"] == "budget_exceeded"
        found = await scraped(http)
    assert found.by("millrace_refused_total", "code") == {"budget_exceeded": 3}
    assert found.value("millrace_requests_total") == 0


async def test_openmetrics_is_written_where_it_is_asked_for(start: Start) -> None:
    async with start() as running, aiohttp.ClientSession(running.url) as http:
        await ask(http, "What is a millrace?")
        found = await scraped(http, Accept=OPEN)
    assert found.value("millrace_requests_total") == 1


SECRETS = ("Ann", "nightly", "heron", "mr_", "key_")


async def test_no_label_holds_what_a_client_wrote(start: Start, tmp_path: Path) -> None:
    """No prompt, end user, tag, session, key or name of a model that is not configured."""
    async with keyed(start, tmp_path, ("acme", Role.ADMIN)) as (_, (http,)):
        extra: dict[str, Any] = {
            "safety_identifier": "Ann",
            "prompt_cache_key": "Ann",
            "metadata": {"millrace.tag": "nightly"},
        }
        await ask(http, "A secret heron.", **extra)
        async with http.post(CHAT, json={"model": "heron-9", "messages": [{"role": "user", "content": "Hi"}]}) as _:
            pass
        found = await scraped(http)
    assert found.value("millrace_requests_total") >= 1
    said = {
        value for family in found.families.values() for sample in family.samples for value in sample.labels.values()
    }
    assert not [value for value in said for secret in SECRETS if secret in value]


@asynccontextmanager
async def keyed(
    start: Start, folder: Path, *owners: tuple[str, Role], dollars_per_day: str = "0.001", **metrics: Any
) -> AsyncIterator[tuple[Running, list[aiohttp.ClientSession]]]:
    """A server with keys, and a client for each."""
    made = [keys.make(tenant=tenant, role=role, created_at=1.0) for tenant, role in owners]
    async with key_store(str(folder)) as store:
        for key, _ in made:
            await store.add(key)

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(folder)
        configuration["budgets"] = {"at": {}}
        configuration["limits"] = {"dollars_per_day": dollars_per_day, "tenant": {"dollars_per_month": "10"}}
        configuration["metrics"] = metrics

    async with start(change, {"SCRAPER": "a-long-key"}) as running:
        clients = [aiohttp.ClientSession(running.url, headers={"Authorization": f"Bearer {text}"}) for _, text in made]
        try:
            yield running, clients
        finally:
            for each in clients:
                await each.close()


async def refused(http: aiohttp.ClientSession, **headers: str) -> tuple[int, str]:
    async with http.get("/metrics", headers=headers) as answer:
        return answer.status, (await answer.json())["error"]["code"]


async def test_an_admin_sees_the_requests_of_the_tenant_alone(start: Start, tmp_path: Path) -> None:
    owners = ("acme", Role.ADMIN), ("other", Role.ADMIN), ("acme", Role.USE)
    async with keyed(start, tmp_path, *owners) as (running, (own, other, user)):
        for http in (own, other, other):
            await ask(http, "What is a millrace?")
        mine, theirs = await scraped(own), await scraped(other)
        assert await refused(user) == (403, "forbidden")
        async with aiohttp.ClientSession(running.url) as stranger:
            assert await refused(stranger) == (401, "unauthorized")
            assert await refused(stranger, Authorization="Bearer ") == (401, "unauthorized")
    assert (mine.value("millrace_requests_total"), theirs.value("millrace_requests_total")) == (1, 2)
    assert theirs.value("millrace_spent_dollars_total") == mine.value("millrace_spent_dollars_total")
    assert mine.by("millrace_budget_used_ratio", "account", "period").keys() == {("key", "day"), ("tenant", "month")}
    assert mine.value("millrace_budget_accounts", account="key", step="none") == 1
    used = mine.value("millrace_budget_used_ratio", account="key", period="day")
    assert used == pytest.approx(mine.value("millrace_spent_dollars_total") / 0.001)


@pytest.mark.parametrize("is_open", [False, True])
async def test_operators_see_all_tenants(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_open: bool
) -> None:
    """With the key of [metrics], or with none where that is open."""
    monkeypatch.setenv("SCRAPER", "a-long-key")
    metrics = {"open": True} if is_open else {"key_env": "SCRAPER"}
    async with keyed(start, tmp_path, ("acme", Role.USE), ("other", Role.USE), **metrics) as (running, clients):
        for http in clients:
            await ask(http, "What is a millrace?")
        async with aiohttp.ClientSession(running.url) as operator:
            header = {} if is_open else {"Authorization": "Bearer a-long-key"}
            found = await scraped(operator, **header)
            assert found.value("millrace_requests_total") == 2
            if not is_open:
                assert await refused(operator) == (401, "unauthorized")
                assert await refused(operator, Authorization="Bearer a-long-kez") == (401, "unauthorized")


def faults_of(metrics: dict[str, Any], environ: dict[str, str]) -> str:
    tree = {"metrics": metrics, "models": {}}
    with pytest.raises(settings.SettingsError) as error:
        settings.build(tree, environ)
    return "\n".join(map(str, error.value.faults))


def test_a_key_that_is_not_there_is_a_fault() -> None:
    assert "metrics.key_env: the variable SCRAPER is not set; run: export SCRAPER=" in faults_of(
        {"key_env": "SCRAPER"}, {}
    )
    said = faults_of({"key_env": "s3cret-key"}, {})
    assert "it is no name of a variable" in said
    assert "s3cret" not in said
    assert "metrics.key_env" not in faults_of({"key_env": "SCRAPER"}, {"SCRAPER": "x"})
