"""Sessions: what names one, what goes on in it, and what it has cost."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
from click.testing import CliRunner

from millrace.__main__ import main
from millrace.simulator import LARGE, SMALL, Simulator
from millrace.stores.database import FILE
from tests.support.http_client import CHAT, RESPONSES, body_of
from tests.support.server import Running, configuration_for, serving, without_delays
from tests.support.wire_client import Event, check_response, wire_client

OFF = {"millrace": {"cache": "off"}}


async def post(http: aiohttp.ClientSession, path: str, asked: str, headers: Any = None, **fields: Any) -> Event:
    async with http.post(path, json=body_of(path, asked, **OFF, **fields), headers=headers or {}) as answer:
        assert answer.status == 200
        response: Event = await answer.json()
        return response


async def test_a_chain_is_one_session_over_both_transports(millrace: Running) -> None:
    """It goes on whatever a later request names; the route says so, and what anybody can read."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        first = check_response(await client.ask("1", **OFF), negotiated=True)
        assert "millrace.session" not in first["metadata"]
        events = await client.ask("2", previous_response_id=first["id"], prompt_cache_key="other", **OFF)
        second = check_response(events, negotiated=True)
    (route,) = [event for event in events if event["type"] == "millrace.route"]
    assert route["session"] == second["metadata"]["millrace.session"] == first["id"]
    async with aiohttp.ClientSession(millrace.url) as http:
        third = await post(http, RESPONSES, "3", previous_response_id=second["id"])
        assert third["metadata"]["millrace.session"] == first["id"]


async def test_a_header_of_the_upgrade_names_the_session_of_its_requests(millrace: Running) -> None:
    headers = {"session-id": "ses_1"}
    async with wire_client(millrace.ws_url, additional_headers=headers) as client:
        plain = check_response(await client.ask("1", **OFF))
        keyed = check_response(await client.ask("1", prompt_cache_key="ses_2", **OFF))
    assert [each["metadata"]["millrace.session"] for each in (plain, keyed)] == ["ses_1", "ses_2"]


async def test_both_dialects_over_http(millrace: Running) -> None:
    async with aiohttp.ClientSession(millrace.url) as http:
        for path in (RESPONSES, CHAT):
            answer = await post(http, path, "1", headers={"X-Session-Id": "ses_1"})
            assert answer["metadata"]["millrace.session"] == "ses_1"
            alone = await post(http, path, "1")
            assert "millrace.session" not in alone["metadata"]


async def test_the_bill_of_each_session(tmp_path: Path) -> None:
    """In the ledger a column; the command adds it up. A chain goes on after a restart."""
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        configuration = configuration_for(small.base_url, large.base_url, data_dir=str(tmp_path))
        async with serving(configuration) as url, aiohttp.ClientSession(url) as http:
            kept = await post(http, RESPONSES, "1", store=True)
            alone = await post(http, RESPONSES, "2")
            bills = [(await post(http, CHAT, asked, prompt_cache_key="ses_1"))["usage"]["cost_usd"] for asked in "345"]
        async with serving(configuration) as url, aiohttp.ClientSession(url) as http:
            again = await post(http, RESPONSES, "6", previous_response_id=kept["id"])
            assert again["metadata"]["millrace.session"] == kept["id"]
    with closing(sqlite3.connect(tmp_path / FILE)) as ledger:
        rows = ledger.execute("SELECT session, count(*), sum(cost_nanodollars) FROM entries GROUP BY 1").fetchall()
    found = {session: (count, cost) for session, count, cost in rows}
    assert found["ses_1"] == (3, round(sum(bills) * 1e9))
    assert (found[kept["id"]][0], found[alone["id"]][0], len(found)) == (2, 1, 3)
    command = ["sessions", "--data-dir", str(tmp_path)]
    shown = await asyncio.to_thread(CliRunner(env={"COLUMNS": "250"}).invoke, main, command)
    assert shown.exit_code == 0
    (line,) = [line for line in shown.stdout.splitlines() if "ses_1" in line]
    assert f"${sum(bills):.6f}" in line
    assert [kept["id"] in text for text in shown.stdout.splitlines()].count(True) == 1


def test_sessions_need_a_folder() -> None:
    result = CliRunner().invoke(main, ["sessions", "--data-dir", ":memory:"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "keeps nothing" in result.stderr
