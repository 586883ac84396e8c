"""`GET /v1/ledger`: who may read it, whose rows it has, and in which order they come."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.principal import Role
from millrace.stores import ledger_rows
from millrace.wire import ledger as wire
from tests.support.frames import validate_answer
from tests.support.http_client import RESPONSES
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S
from tests.web.test_cache import keyed, told

LEDGER = "/v1/ledger"


async def asked(http: aiohttp.ClientSession, *questions: str, **fields: Any) -> list[str]:
    """Ask, and return the ids once they are in the ledger."""
    ids = []
    for question in questions:
        async with http.post(RESPONSES, json={"input": question, "model": "small", **fields}) as answer:
            ids.append((await answer.json())["id"])

    async with asyncio.timeout(PATIENCE_S):
        while (await told(http, "GET", f"{LEDGER}/{ids[-1]}"))[1].get("status") in (None, "open"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return ids


@pytest.mark.parametrize("path", [LEDGER, f"{LEDGER}/resp_1"])
async def test_it_is_for_admins_alone(start: Start, tmp_path: Path, path: str) -> None:
    async with keyed(start, tmp_path, ("acme", Role.USE)) as (http,):
        status, said = await told(http, "GET", path)
    assert (status, said["error"]["code"]) == (403, "forbidden")


async def test_an_admin_reads_the_rows_of_the_tenant_alone(start: Start, tmp_path: Path) -> None:
    """To any other the row does not exist, also as a place to go on from."""
    async with keyed(start, tmp_path, ("acme", Role.ADMIN), ("other", Role.ADMIN)) as (own, other):
        (mine,) = await asked(own, "What is a millrace?")
        (theirs,) = await asked(other, "What is a wheel?")
        status, rows = await told(own, "GET", LEDGER)
        assert (status, [row["id"] for row in rows["data"]]) == (200, [mine])
        for path in (f"{LEDGER}/{theirs}", f"{LEDGER}?after={theirs}", f"{LEDGER}/resp_nothing"):
            status, said = await told(own, "GET", path)
            assert (status, said["error"]["code"]) == (404, "entry_not_found")


async def test_a_row_says_what_each_call_took_and_cost(millrace: Running) -> None:
    """As the contract has it, on a server that keeps nothing on disk too; without a word of the request."""
    async with aiohttp.ClientSession(millrace.url) as http:
        (request,) = await asked(http, "A secret word is heron. [tokens=9]", safety_identifier="ann")
        status, row = await told(http, "GET", f"{LEDGER}/{request}")
    assert status == 200
    validate_answer("get", "/v1/ledger/{id}", 200, row)
    (call,) = row["calls"]
    assert 0 <= call["started_ms"] <= call["started_ms"] + call["ttft_ms"] <= row["latency_ms"]
    assert call["ttft_ms"] <= call["lasted_ms"] <= row["latency_ms"]
    assert row["ttft_ms"] >= call["started_ms"] + call["ttft_ms"] - 1
    assert (row["cost_usd"], row["user"], row["source"]) == (call["cost_usd"], "ann", "small")
    assert row["shape"]["messages"] == [["user", len("A secret word is heron. [tokens=9]")]]
    assert "heron" not in str(row)


async def test_rows_come_in_pages_in_both_orders(millrace: Running) -> None:
    async with aiohttp.ClientSession(millrace.url) as http:
        ids = await asked(http, *(f"Number {number}?" for number in range(5)))
        assert (await told(http, "GET", f"{LEDGER}?limit=2"))[1]["last_id"] == ids[3]
        _, page = await told(http, "GET", f"{LEDGER}?limit=2&after={ids[3]}")
        validate_answer("get", LEDGER, 200, page)
        assert ([row["id"] for row in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
        _, page = await told(http, "GET", f"{LEDGER}?order=asc&after={ids[1]}")
        assert ([row["id"] for row in page["data"]], page["has_more"]) == (ids[2:], False)
        _, page = await told(http, "GET", f"{LEDGER}?order=asc&after={ids[4]}")
        assert (page["data"], page["first_id"], page["has_more"]) == ([], None, False)
        for wrong, param in (
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=x", "limit"),
            ("order=up", "order"),
        ):
            status, said = await told(http, "GET", f"{LEDGER}?{wrong}")
            assert (status, said["error"]["param"]) == (400, param)


async def test_nothing_of_a_page_is_made_on_the_event_loop(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand rows take some 0.2 s, which no stream may wait for."""
    threads: list[int] = []

    def noted(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*values: Any) -> Any:
            threads.append(threading.get_ident())
            return make(*values)

        return made

    monkeypatch.setattr(ledger_rows, "_entry", noted(ledger_rows._entry))
    monkeypatch.setattr(wire, "entry", noted(wire.entry))
    async with aiohttp.ClientSession(millrace.url) as http:
        await asked(http, "One?", "Two?")
        threads.clear()
        _, page = await told(http, "GET", LEDGER)
    assert len(page["data"]) == 2
    assert len(threads) == 4
    assert threading.get_ident() not in threads
