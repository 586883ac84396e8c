"""Service tiers over every wire: asked for if they have a price, charged as the provider reports them."""

import json
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.http_client import CHAT, RESPONSES, body_of, events_of, lines_of
from tests.support.provider import DONE, END, HEAD, body, event, says, scripted_provider
from tests.support.server import Start, configuration_for, serving
from tests.support.wire_client import check_response, wire_client

FLEX = {"input": "0.075", "cached_input": "0.03", "output": "0.30"}
STANDARD = {"input": "0.15", "cached_input": "0.075", "output": "0.60"}
USAGE = {"prompt_tokens": 1000, "completion_tokens": 400, "prompt_tokens_details": {"cached_tokens": 200}}


def dollars(price: dict[str, str]) -> float:
    """Return what `USAGE` costs."""
    tokens = {"input": 800, "cached_input": 200, "output": 400}
    return float(sum(count * Decimal(price[name]) for name, count in tokens.items()) / 1_000_000)


def with_flex(url: str, **server: Any) -> dict[str, Any]:
    configuration = configuration_for(url, url, **server)
    configuration["models"]["small"]["tier_prices"] = {"flex": FLEX}
    return configuration


async def ask(url: str, wire: str, **fields: Any) -> dict[str, Any]:
    """Return the response, or the completion, or the last chunk that has usage."""
    fields = {"model": "small", **fields}
    if wire == "websocket":
        async with wire_client(url.replace("http", "ws", 1)) as client:
            return check_response(await client.ask("Hi", **fields))
    path = CHAT if wire.startswith("chat") else RESPONSES
    if wire.endswith("stream"):
        fields |= {"stream": True} | ({"stream_options": {"include_usage": True}} if path == CHAT else {})
    async with aiohttp.ClientSession(url) as http, http.post(path, json=body_of(path, "Hi", **fields)) as answer:
        if not wire.endswith("stream"):
            assert answer.status == 200
            whole: dict[str, Any] = await answer.json()
            return whole
        last = events_of(await lines_of(answer))[-1]
        return last["response"] if path == RESPONSES else last


WIRES = ["websocket", "responses", "responses stream", "chat", "chat stream"]
CASES: list[tuple[str | None, str | None, str | None, dict[str, str]]] = [  # asked, reported, told, charged
    (None, None, None, STANDARD),
    ("auto", "default", "default", STANDARD),
    ("flex", "flex", "flex", FLEX),
    ("flex", None, "flex", FLEX),
    ("flex", "default", "default", STANDARD),
    ("auto", "flex", "flex", FLEX),
    (None, "flex", "flex", FLEX),
    ("priority", None, "default", STANDARD),
    ("auto", "scale", "scale", STANDARD),
]


@pytest.mark.parametrize("wire", WIRES)
async def test_the_tier_that_was_used_is_told_and_charged(wire: str, tmp_path: Path) -> None:
    """To the cent, in the answer and in the ledger; what was not sent is noted."""
    async with scripted_provider(says()) as provider:
        url = provider.upstream.endpoint.base_url
        async with serving(with_flex(url, data_dir=str(tmp_path))) as served:
            for asked, reported, told, price in CASES:
                named = {} if reported is None else {"service_tier": reported}
                chunks = (event("Hello.", **named), event(None, "stop", usage=USAGE, **named), DONE)
                provider.script = says(HEAD + body(*chunks) + END)
                fields = {"service_tier": asked} if asked else {}
                answer = await ask(served, wire, millrace={"cache": "off"}, **fields)
                sent = provider.requests[-1][1]
                assert sent.get("service_tier") == (asked if asked != "priority" else None)
                assert answer.get("service_tier") == told
                assert answer["usage"]["cost_usd"] == pytest.approx(dollars(price), abs=1e-12)
                notes = answer["metadata"].get("millrace.notes", "")
                assert ("without service_tier priority" in notes) is (asked == "priority")
                assert ("no price for service_tier 'scale'" in notes) is (reported == "scale")
    with sqlite3.connect(tmp_path / "millrace.sqlite3") as ledger:
        rows = ledger.execute("SELECT cost_nanodollars, calls FROM entries ORDER BY opened_at, rowid").fetchall()
    ledger.close()
    assert [cost for cost, _ in rows] == [round(dollars(price) * 1e9) for *_, price in CASES]
    tiers = [json.loads(calls)[0].get("service_tier") for _, calls in rows]
    assert tiers == [None, "default", "flex", "flex", "default", "flex", "flex", None, "scale"]


async def test_a_budget_holds_at_the_price_of_the_tier(start: Start) -> None:
    """It buys less of a dear one."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["models"]["small"]["tier_prices"] = {"priority": {"input": "1500", "output": "6000"}}

    async with start(change) as running:
        asked = {"millrace": {"max_cost_usd": 0.5, "cache": "off"}}
        plain = await ask(running.url, "chat", **asked)
        assert plain["choices"][0]["finish_reason"] == "stop"
        assert "max_tokens" not in running.small.calls[-1].body
        dear = await ask(running.url, "chat", service_tier="priority", **asked)
        assert running.small.calls[-1].body["max_tokens"] < 100
        assert dear["usage"]["cost_usd"] <= 0.5
        assert dear["service_tier"] == "priority"


async def test_a_tier_is_no_part_of_the_cache(start: Start) -> None:
    """The same answer, whoever hurries; the one from the cache was made at no tier."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["models"]["small"]["tier_prices"] = {"flex": FLEX}

    async with start(change) as running:
        await ask(running.url, "chat", service_tier="flex")
        again = await ask(running.url, "chat", service_tier="default")
        assert (again["metadata"]["millrace.cache"], again.get("service_tier")) == ("exact", None)
        assert running.calls == 1


@pytest.mark.parametrize("wire", WIRES)
async def test_a_finish_reason_that_is_not_known_is_kept(wire: str, tmp_path: Path) -> None:
    """The answer is whole; the operator finds the word in the ledger, the client in the notes."""
    script = says(HEAD + body(event("Hello.", "wound_down", usage=USAGE), DONE) + END)
    async with scripted_provider(script) as provider:
        configuration = configuration_for(
            provider.upstream.endpoint.base_url, "http://127.0.0.1:1", data_dir=str(tmp_path)
        )
        async with serving(configuration) as served:
            answer = await ask(served, wire)
            assert "ended with finish_reason 'wound_down'" in answer["metadata"]["millrace.notes"]
            assert answer.get("status", "completed") == "completed"
    with sqlite3.connect(tmp_path / "millrace.sqlite3") as ledger:
        ((calls,),) = ledger.execute("SELECT calls FROM entries").fetchall()
    ledger.close()
    assert json.loads(calls)[0]["finish_reason"] == "wound_down"
