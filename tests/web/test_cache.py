"""The endpoints for admins under /v1/cache: who may use them, what they show, what they delete."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.access import keys
from millrace.assembly import key_store
from millrace.caches import deletions
from millrace.principal import Role
from millrace.stores.processes import Processes
from tests.support.cache_commands import asked
from tests.support.frames import validate_answer
from tests.support.logs import captured_logs
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S

ASKED, SAME, FAR = "How do I reset my router?", "How can I reset my router?", "Which vegetables may a tortoise eat?"
NEVER = "ans_000000000000000000000000"
REQUESTS = [
    ("GET", "/v1/cache/stats", None),
    ("GET", "/v1/cache/entries?query=x", None),
    ("DELETE", "/v1/cache/entries?tenant=acme", None),
    ("GET", f"/v1/cache/entries/{NEVER}", None),
    ("DELETE", f"/v1/cache/entries/{NEVER}", None),
    ("POST", "/v1/cache/why", {"a": "x", "b": "y"}),
]


@asynccontextmanager
async def keyed(start: Start, folder: Path, *owners: tuple[str, Role]) -> AsyncIterator[list[aiohttp.ClientSession]]:
    """Yield a client for each key."""
    made = [keys.make(tenant=tenant, role=role, created_at=1.0) for tenant, role in owners]
    async with key_store(str(folder)) as store:
        for key, _ in made:
            await store.add(key)
    async with start(lambda configuration: configuration["server"].update(data_dir=str(folder))) as running:
        clients = [aiohttp.ClientSession(running.url, headers={"Authorization": f"Bearer {text}"}) for _, text in made]
        try:
            yield clients
        finally:
            for each in clients:
                await each.close()


async def told(http: aiohttp.ClientSession, method: str, path: str, json: Any = None) -> tuple[int, Any]:
    async with http.request(method, path, json=json) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
async def test_it_is_for_admins_alone(start: Start, tmp_path: Path, method: str, path: str, body: Any) -> None:
    async with keyed(start, tmp_path, ("acme", Role.USE)) as (http,):
        status, said = await told(http, method, path, body)
    assert (status, said["error"]["code"]) == (403, "forbidden")
    assert "--role admin" in said["error"]["message"]


async def test_an_admin_sees_and_deletes_what_is_the_tenants_own(start: Start, tmp_path: Path) -> None:
    """To another tenant's admin it does not exist."""
    async with keyed(start, tmp_path, ("acme", Role.ADMIN), ("other", Role.ADMIN)) as (own, other):
        await asked(own, ASKED)
        entry_id = (await asked(own, SAME))["millrace.entry_id"]
        async with asyncio.timeout(PATIENCE_S):
            while (await told(own, "GET", f"/v1/cache/entries/{entry_id}"))[1]["hits"] == 0:
                pass  # the ledger is written a moment later
        status, shown = await told(own, "GET", f"/v1/cache/entries/{entry_id}")
        assert (status, shown["question"], shown["tenant"]) == (200, ASKED, "acme")
        assert (shown["caches"], shown["hits"]) == (["semantic", "exact"], 1)
        for method in ("GET", "DELETE"):
            status, said = await told(other, method, f"/v1/cache/entries/{entry_id}")
            assert (status, said["error"]["code"]) == (404, "entry_not_found")
        assert (await told(other, "GET", f"/v1/cache/entries?query={ASKED}"))[1]["data"] == []
        assert (await told(other, "GET", "/v1/cache/stats"))[1]["semantic"]["entries"] == 0
        status, said = await told(other, "DELETE", "/v1/cache/entries?tenant=acme")
        assert (status, said["error"]["code"]) == (403, "forbidden")
        await told(other, "DELETE", "/v1/cache/entries?tenant=other")
        assert (await asked(own, SAME))["millrace.cache"] == "semantic"
        status, deleted = await told(own, "DELETE", f"/v1/cache/entries/{entry_id}")
        assert (status, deleted["exact"], deleted["semantic"]) == (200, 1, 1)
        assert (await asked(own, SAME))["millrace.cache"] == "miss"


async def test_it_answers_once_the_other_processes_on_the_data_dir_heed_a_deletion_too(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older one that drains."""
    monkeypatch.setattr(deletions, "HEED_S", 0.3)
    async with keyed(start, tmp_path, ("acme", Role.ADMIN)) as (http,):
        other = Processes(str(tmp_path), "other")
        status, said = await told(http, "DELETE", "/v1/cache/entries?tenant=acme")
        assert (status, said["error"]["code"]) == (503, "overloaded")
        assert "has not read it" in said["error"]["message"]
        other.leave()
        monkeypatch.setattr(deletions, "HEED_S", PATIENCE_S)
        status, _ = await told(http, "DELETE", "/v1/cache/entries?tenant=acme")
        assert status == 200


async def test_what_is_deleted_is_not_served_from_the_answer_on(millrace: Running) -> None:
    """Also on a server without a folder."""
    async with aiohttp.ClientSession(millrace.url) as http:
        await asked(http, ASKED)
        hit = await asked(http, SAME)
        assert hit["millrace.cache"] == "semantic"
        assert (await told(http, "DELETE", f"/v1/cache/entries/{hit['millrace.entry_id']}"))[0] == 200
        assert (await asked(http, SAME))["millrace.cache"] == "miss"
        assert (await told(http, "DELETE", "/v1/cache/entries?tenant=anonymous"))[0] == 200
        assert (await asked(http, SAME))["millrace.cache"] == "miss"


async def test_it_tells_how_much_is_stored_and_what_is_near(millrace: Running) -> None:
    """As the contract has it."""
    async with aiohttp.ClientSession(millrace.url) as http:
        for question in (ASKED, FAR, SAME, ASKED):
            await asked(http, question)
        _, stats = await told(http, "GET", "/v1/cache/stats")
        validate_answer("get", "/v1/cache/stats", 200, stats)
        assert (stats["semantic"]["entries"], stats["semantic"]["hits"], stats["semantic"]["scopes"]) == (2, 1, 1)
        assert (stats["exact"]["entries"], stats["exact"]["hits"], stats["requests"]) == (2, 1, 4)
        _, found = await told(http, "GET", f"/v1/cache/entries?query={SAME}&limit=2")
        validate_answer("get", "/v1/cache/entries", 200, found)
        assert [each["question"] for each in found["data"]] == [ASKED, FAR]
        assert [each["decision"]["served"] for each in found["data"]] == [True, False]
        _, shown = await told(http, "GET", f"/v1/cache/entries/{found['data'][0]['id']}")
        validate_answer("get", "/v1/cache/entries/{id}", 200, shown)
        assert shown["scope"] == found["data"][0]["scope"]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions", "/v1/messages"])
async def test_a_hit_names_its_entry_and_its_age_in_every_dialect(millrace: Running, path: str) -> None:
    """Of either cache, also in the log; what a model answers has neither."""

    def body(question: str) -> dict[str, Any]:
        said = {"input": question} if path == "/v1/responses" else {"messages": [{"role": "user", "content": question}]}
        return said | {"model": "auto"} | ({"max_tokens": 1000} if path == "/v1/messages" else {})

    async with aiohttp.ClientSession(millrace.url) as http:
        with captured_logs(level="info") as logs:
            found = [(await told(http, "POST", path, body(each)))[1]["metadata"] for each in (ASKED, ASKED, SAME)]
        fresh, exact, near = found
        assert (fresh["millrace.cache"], exact["millrace.cache"], near["millrace.cache"]) == (
            "miss",
            "exact",
            "semantic",
        )
        assert fresh.keys().isdisjoint({"millrace.entry_id", "millrace.age_s"})
        for hit, prefix in ((exact, "ans_"), (near, "sem_")):
            assert hit["millrace.entry_id"].startswith(prefix)
            assert int(hit["millrace.age_s"]) >= 0
            assert f'"entry_id":"{hit["millrace.entry_id"]}"' in logs.from_millrace.getvalue()
            status, shown = await told(http, "GET", f"/v1/cache/entries/{hit['millrace.entry_id']}")
            assert (status, shown["ids"]) == (200, [near["millrace.entry_id"], exact["millrace.entry_id"]])


async def test_it_tells_why(millrace: Running) -> None:
    async with aiohttp.ClientSession(millrace.url) as http:
        _, decision = await told(http, "POST", "/v1/cache/why", {"a": "Cancel order 1001.", "b": "Cancel order 1002."})
        validate_answer("post", "/v1/cache/why", 200, decision)
        assert (decision["served"], decision["probability"]) == (False, None)
        assert any(each["hard"] for each in decision["objections"])


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("GET", "/v1/cache/entries", None, "query"),
        ("GET", "/v1/cache/entries?query=x&limit=0", None, "limit"),
        ("GET", "/v1/cache/entries?query=x&scope=xyz", None, "scope"),
        ("DELETE", "/v1/cache/entries", None, "tenant"),
        ("DELETE", "/v1/cache/entries?scope=00", None, "scope"),
        ("POST", "/v1/cache/why", {"a": "x"}, "b"),
        ("POST", "/v1/cache/why", {"a": "", "b": "x"}, "a"),
    ],
)
async def test_a_fault_names_the_field(millrace: Running, method: str, path: str, body: Any, param: str) -> None:
    async with aiohttp.ClientSession(millrace.url) as http:
        status, said = await told(http, method, path, body)
    assert (status, said["error"]["code"], said["error"]["param"]) == (400, "invalid_request", param)
