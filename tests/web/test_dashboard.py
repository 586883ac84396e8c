"""`/v1/dashboard/...`: who may read it, whose requests it shows, and that it is live."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.principal import Role
from millrace.web import live
from tests.support.frames import validate_answer
from tests.support.keys import add_key
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S
from tests.web.test_cache import keyed, told
from tests.web.test_ledger import asked
from tests.web.test_slow_clients import process_of

FIGURES, LIVE, LINES = "/v1/dashboard/figures", "/v1/dashboard/live", "/v1/dashboard/requests"
PATHS = (FIGURES, "/v1/dashboard/now", "/v1/dashboard/promises", LINES, f"{LINES}/resp_1", LIVE)
WEAK = "Explain the tides of the sea in one word [weak]"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tick soon, so that no test waits for seconds."""
    monkeypatch.setattr(live, "TICK_S", 0.05)
    monkeypatch.setattr(live, "GAP_S", 0.01)
    monkeypatch.setattr("millrace.accounts.dashboard.rollups.WATCHED_S", 0.02)


@asynccontextmanager
async def watching(http: aiohttp.ClientSession, query: str = "") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with http.ws_connect(f"{LIVE}?{query}", protocols=["millrace.dashboard.v1"]) as socket:
        assert socket.protocol == "millrace.dashboard.v1"
        yield socket


async def next_of(socket: aiohttp.ClientWebSocketResponse, kind: str) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while (frame := await socket.receive_json())["type"] != kind:
            pass
        return frame


async def ticks_until_ended(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[Any]:
    """Return ticks, the last of which has told the end of so many requests together with those before it."""
    ticks, seen = list[Any](), 0
    while seen < count:
        ticks.append(await next_of(socket, "dashboard.tick"))
        seen += ticks[-1]["ended"]["requests"]
    assert seen == count
    return ticks


async def test_it_is_for_admins_alone(start: Start, tmp_path: Path) -> None:
    async with keyed(start, tmp_path, ("acme", Role.USE)) as (http,):
        for path in PATHS[:-1]:
            status, said = await told(http, "GET", path)
            assert (status, said["error"]["code"]) == (403, "forbidden"), path
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(LIVE)
        assert refused.value.status == 403
        async with aiohttp.ClientSession(str(http._base_url)) as nobody:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await nobody.ws_connect(LIVE)
        assert refused.value.status == 401


def with_operators(start: Start) -> Start:
    """Return a starter of servers on which the admins of `ops` see all."""

    def started(change: Any) -> Any:
        def changed(configuration: dict[str, Any]) -> None:
            change(configuration)
            configuration["dashboard"] = {"operators": ["ops"]}

        return start(changed)

    return started


async def test_tenants_never_meet_and_operators_see_all(start: Start, tmp_path: Path) -> None:
    """Neither in figures, nor in lists and stories, nor live."""
    owners = (("acme", Role.ADMIN), ("other", Role.ADMIN), ("ops", Role.ADMIN))
    async with keyed(with_operators(start), tmp_path, *owners) as (acme, other, ops), watching(acme) as seen:
        async with watching(ops, "tenant=*") as seen_by_ops:
            (mine,) = await asked(acme, "What is a millrace?")
            (theirs,) = await asked(other, "What is a wheel?")
            for socket, ids in ((seen_by_ops, [mine, theirs]), (seen, [mine])):
                ticks = await ticks_until_ended(socket, len(ids))
                assert sorted(line["id"] for tick in ticks for line in tick["entries"]) == sorted(ids)
        for http, query, ids in (
            (acme, "", [mine]),
            (other, "tenant=other", [theirs]),
            (ops, "", []),
            (ops, "tenant=acme", [mine]),
            (ops, "tenant=*", [theirs, mine]),
        ):
            status, figures = await told(http, "GET", f"{FIGURES}?{query}")
            assert (status, figures["total"]["requests"]) == (200, len(ids))
            status, lines = await told(http, "GET", f"{LINES}?{query}")
            assert (status, [line["id"] for line in lines["data"]]) == (200, ids)
        assert [part["name"] for part in figures["tenants"]] == ["acme", "other"]
        for path in (f"{FIGURES}?tenant=other", f"{LINES}?tenant=*", "/v1/dashboard/now?tenant=other"):
            status, said = await told(acme, "GET", path)
            assert (status, said["error"]["code"], said["error"]["param"]) == (403, "forbidden", "tenant")
        for path in (f"{LINES}/{theirs}", f"{LINES}?after={theirs}"):
            status, said = await told(acme, "GET", path)
            assert (status, said["error"]["code"]) == (404, "entry_not_found")
        assert (await told(ops, "GET", f"{LINES}/{theirs}"))[0] == 200
        await seen.send_json({"type": "dashboard.watch", "tenant": "*"})
        assert (await next_of(seen, "error"))["error"]["code"] == "forbidden"


async def test_documents_are_as_the_contract_has_them(millrace: Running) -> None:
    async with aiohttp.ClientSession(millrace.url) as http:
        (request,) = await asked(http, WEAK, model="auto", metadata={"millrace.tag": "night"})
        for path in PATHS[:-1]:
            status, document = await told(http, "GET", path.replace("resp_1", request))
            assert status == 200, document
            validate_answer("get", path.replace("resp_1", "{id}"), 200, document)
        _, now = await told(http, "GET", "/v1/dashboard/now")
        assert (now["in_flight"], now["budgets"], {model["tier"] for model in now["models"]}) == (
            0,
            [],
            {"small", "large"},
        )
        _, promises = await told(http, "GET", "/v1/dashboard/promises?since=1d")
        (wrong_hits,) = promises["promises"]
        assert (wrong_hits["kind"], wrong_hits["holds"], wrong_hits["judged"]) == ("wrong_hits", "unknown", 0)
        status, said = await told(http, "GET", LIVE)
        assert (status, "figures" in said["error"]["message"]) == (426, True)


async def test_where_no_key_is_needed_the_spending_is_that_of_all(start: Start) -> None:
    starting = start(lambda each: each.update(router={"spend_per_day": "20"}))
    async with starting as running, aiohttp.ClientSession(running.url) as http:
        (request,) = await asked(http, "What is a millrace?")
        _, promises = await told(http, "GET", "/v1/dashboard/promises")
        _, row = await told(http, "GET", f"/v1/ledger/{request}")
    (spend,) = [each for each in promises["promises"] if each["kind"] == "spend"]
    assert (spend["estimate"], spend["promised"], spend["holds"]) == (row["cost_usd"], "20", "yes")


async def test_budgets_are_those_of_the_tenant(start: Start, tmp_path: Path) -> None:
    def limited(change: Any) -> Any:
        def changed(configuration: dict[str, Any]) -> None:
            change(configuration)
            configuration["limits"] = {"tenant": {"dollars_per_day": "2"}, "tag": {"dollars_per_month": "4"}}

        return start(changed)

    async with keyed(limited, tmp_path, ("acme", Role.ADMIN), ("other", Role.ADMIN)) as (acme, other):
        await asked(acme, "What is a millrace?", metadata={"millrace.tag": "night"})
        for http, tenant, names in ((acme, "acme", ["night", "acme"]), (other, "other", ["other"])):
            _, now = await told(http, "GET", "/v1/dashboard/now")
            budgets = {budget["name"]: budget for budget in now["budgets"]}
            assert sorted(budgets) == sorted(names)
            assert {budget["tenant"] for budget in budgets.values()} == {tenant}
            (of_tenant,) = [budget for budget in budgets.values() if budget["kind"] == "tenant"]
            assert (of_tenant["limit_usd"], of_tenant["period"], of_tenant["step"]) == ("2", "day", None)
            assert (float(of_tenant["spent_usd"]) > 0) is (tenant == "acme")


async def test_a_story_tells_each_stage_and_its_cost(millrace: Running) -> None:
    """An answer that a check took back, and then the large model's."""
    async with aiohttp.ClientSession(millrace.url) as http:
        (request,) = await asked(http, WEAK, model="auto")
        _, story = await told(http, "GET", f"{LINES}/{request}")
        _, entry = await told(http, "GET", f"/v1/ledger/{request}")
    stages = {stage["stage"]: stage for stage in story["stages"]}
    assert [*stages] == ["trim", "exact", "join", "semantic", "route", "small", "check", "large", "settle"]
    states = {name: stage["state"] for name, stage in stages.items()}
    assert (states["exact"], states["route"], states["small"]) == ("missed", "passed", "revised")
    assert (states["check"], states["large"], states["settle"]) == ("failed", "answered", "passed")
    assert stages["large"]["at_ms"] >= stages["small"]["at_ms"] + stages["small"]["took_ms"] - 1
    costs = [float(stages[name]["cost_usd"]) for name in ("small", "large", "settle")]
    assert costs[0] + costs[1] == pytest.approx(costs[2])
    assert story["entry"] == entry
    assert story["line"]["escalated"]
    assert story["waterfall"]["cost_usd"] == entry["cost_usd"]
    assert {"asked", "strategy", "failed check", "answered by", "cost"} <= {fact["name"] for fact in story["facts"]}
    assert "tides" not in json.dumps(story)


async def test_lines_come_in_pages_and_by_what_is_asked_for(millrace: Running) -> None:
    async with aiohttp.ClientSession(millrace.url) as http:
        ids = await asked(http, *(f"Number {number}?" for number in range(5)))
        ids += await asked(http, "Number 1?", metadata={"millrace.tag": "again"})
        ids += await asked(http, "And you?", model="large")
        got: list[str] = []
        after = ""
        while True:
            _, page = await told(http, "GET", f"{LINES}?limit=3{after}")
            got += [line["id"] for line in page["data"]]
            if not page["has_more"]:
                break
            after = f"&after={page['last_id']}"
        assert got == ids[::-1]
        _, large = await told(http, "GET", f"{LINES}/{ids[-1]}")
        for query, wanted in (
            ("source=cache", [ids[5]]),
            ("model=(cache)", [ids[5]]),
            ("tag=again", [ids[5]]),
            (f"model={large['line']['model']}", [ids[6]]),
            ("source=large&status=completed", [ids[6]]),
            ("status=failed", []),
            ("code=nothing", []),
            ("strategy=race", []),
            ("since=1000000&until=2000000", []),
        ):
            _, page = await told(http, "GET", f"{LINES}?{query}")
            assert [line["id"] for line in page["data"]] == wanted, query
        for query, param in (
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("status=odd", "status"),
            ("source=odd", "source"),
            ("since=odd", "since"),
            ("step=odd", "step"),
        ):
            status, said = await told(http, "GET", f"{LINES}?{query}")
            assert (status, said["error"]["code"], said["error"]["param"]) == (400, "invalid_request", param)
        status, said = await told(http, "GET", "/v1/dashboard/promises?since=odd")
        assert (status, said["error"]["param"]) == (400, "since")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{LIVE}?step=odd")
        assert refused.value.status == 400


async def test_what_ends_is_told_within_a_tick_and_the_figures_follow(
    millrace: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "FIGURES_S", 0.1)
    async with aiohttp.ClientSession(millrace.url) as http, watching(http) as socket:
        hello = await socket.receive_json()
        assert (hello["type"], hello["tenant"], hello["sees_all"]) == ("dashboard.hello", "anonymous", False)
        first = await next_of(socket, "dashboard.figures")
        assert first["figures"]["total"]["requests"] == 0
        assert (await next_of(socket, "dashboard.tick"))["now"]["object"] == "dashboard.now"
        ids = await asked(http, "One?", "Two?")
        ticks, figures = list[Any](), first["figures"]
        async with asyncio.timeout(PATIENCE_S):
            while sum(tick["ended"]["requests"] for tick in ticks) < 2 or figures["total"]["requests"] < 2:
                frame = await socket.receive_json()
                figures = frame.get("figures", figures)
                ticks += [frame] if frame["type"] == "dashboard.tick" else []
        lines = [line for tick in ticks for line in tick["entries"]]
        assert sorted(line["id"] for line in lines) == sorted(ids)
        assert (ticks[-1]["minute"]["requests"], ticks[-1]["minute"]["by_small"]) == (2, 2)
        assert figures["total"]["cost_usd"] == str(sum(Decimal(line["cost_usd"]) for line in lines))


async def test_filters_change_on_the_way_and_bad_frames_change_nothing(millrace: Running) -> None:
    async with aiohttp.ClientSession(millrace.url) as http, watching(http, "tag=night") as socket:
        await asked(http, "One?", metadata={"millrace.tag": "night"})
        await asked(http, "Two?")
        (tick,) = [tick for tick in await ticks_until_ended(socket, 1) if tick["entries"]]
        assert [line["tag"] for line in tick["entries"]] == ["night"]
        for frame, code in (
            ("{", "invalid_json"),
            ('{"type": "response.create"}', "unknown_event"),
            ('{"type": "dashboard.watch", "since": []}', "invalid_request"),
            ('{"type": "dashboard.watch", "step": "minute", "since": "7d"}', "invalid_request"),
        ):
            await socket.send_str(frame)
            assert (await next_of(socket, "error"))["error"]["code"] == code
        await socket.send_json({"type": "dashboard.watch", "since": "2h", "tag": "(none)"})
        figures = (await next_of(socket, "dashboard.figures"))["figures"]
        assert (figures["tag"], figures["step"], figures["total"]["requests"]) == ("(none)", "minute", 1)
        await socket.send_str(" " * 5000)
        while (await socket.receive()).type != aiohttp.WSMsgType.CLOSE:
            pass
        assert socket.close_code == 1009


async def test_dashboards_of_one_tenant_are_bounded(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_OF_TENANT", 1)
    async with aiohttp.ClientSession(millrace.url) as http:
        async with watching(http) as socket:
            await next_of(socket, "dashboard.tick")
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(LIVE)
            assert refused.value.status == 503
            monkeypatch.setattr(live, "MOST_OF_TENANT", 2)
            upgrades = (http.ws_connect(LIVE) for _ in range(5))  # at the same time
            found = await asyncio.gather(*upgrades, return_exceptions=True)
            opened = [each for each in found if isinstance(each, aiohttp.ClientWebSocketResponse)]
            assert len(opened) == 1
            await opened[0].close()
        monkeypatch.setattr(live, "MOST_OF_TENANT", 1)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    async with watching(http) as socket:
                        await next_of(socket, "dashboard.tick")
                    break
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0.02)


async def test_dashboards_of_all_are_bounded(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has none open is not told to close one."""
    monkeypatch.setattr(live, "MOST", 0)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    async with aiohttp.ClientSession(millrace.url) as http, http.get(LIVE, headers=upgrade | key) as answer:
        said = (await answer.json())["error"]
    assert (answer.status, said["code"]) == (503, "overloaded")
    assert "on this server" in said["message"]


async def test_an_operator_that_is_none_any_more_sees_no_others(start: Start, tmp_path: Path) -> None:
    """A reload takes that away from a dashboard that is open, too."""
    async with with_operators(start)(lambda each: each["server"].update(data_dir=str(tmp_path))) as running:
        key = await asyncio.to_thread(add_key, tmp_path, "--tenant", "ops", "--role", "admin")
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(running.url, headers=headers) as http:
            async with asyncio.timeout(PATIENCE_S):
                while (await told(http, "GET", f"{FIGURES}?tenant=*"))[0] != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            async with watching(http, "tenant=*") as socket:
                await next_of(socket, "dashboard.tick")
                process_of(running).dashboard.operators = ()
                async with asyncio.timeout(PATIENCE_S):
                    while (await socket.receive()).type != aiohttp.WSMsgType.CLOSE:
                        pass
                assert socket.close_code == 1012
