"""What a request may take and cost, and its other options as strings in `metadata`, over real sockets."""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from tests.support.http_client import CHAT, RESPONSES, body_of, events_of, lines_of
from tests.support.server import Running
from tests.support.waiting import until, within
from tests.support.wire_client import TERMINALS, Event, check_response, output_of, wire_client

SLOW = "go on [tokens=4000] [rate=100]"


@pytest.mark.usefixtures("free_clock")
@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize("delivery", ["speculate", "prefix", "commit", "final"])
async def test_a_deadline_before_and_after_the_first_word(
    millrace: Running, delivery: str, *, negotiated: bool
) -> None:
    """Failed where nobody has seen a word, incomplete where somebody has; the model stops either way."""
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        options = {"delivery": delivery, "deadline_ms": 250}
        early = check_response(await client.ask("x [ttft=30]", millrace=options), negotiated=negotiated)
        assert (early["status"], early["error"]["code"]) == ("failed", "deadline_exceeded")
        await until(lambda: millrace.small.stats.aborted == 1)
        options["deadline_ms"] = 2_000
        asked_at = time.monotonic()
        async with within(6):
            late = check_response(await client.ask(SLOW, millrace=options), negotiated=negotiated)
        assert time.monotonic() - asked_at > 1.9
        await until(lambda: millrace.small.stats.aborted == 2)
    if delivery in ("commit", "final"):
        assert (late["status"], late["error"]["code"], output_of(late)) == ("failed", "deadline_exceeded", "")
    else:
        assert (late["status"], late["incomplete_details"]) == ("incomplete", {"reason": "deadline"})
        assert output_of(late)
    assert late["usage"]["cost_usd"] > 0


async def test_a_deadline_passes_in_the_queue(millrace: Running) -> None:
    """The time in the lane counts; no model is asked for what is late already, and the lane goes on."""
    async with wire_client(millrace.ws_url) as client:
        await client.create("x [ttft=4]", stream_id="a")
        await client.create("y", stream_id="a", millrace={"deadline_ms": 300})
        await client.create("z", stream_id="a")
        first, second, third = [check_response(await client.until(*TERMINALS)) for _ in range(3)]
    assert (first["status"], third["status"]) == ("completed", "completed")
    assert (second["status"], second["error"]["code"]) == ("failed", "deadline_exceeded")
    assert second["usage"]["attempts"] == []
    assert millrace.calls == 2


async def test_a_deadline_over_http(millrace: Running) -> None:
    """408 as long as there is nothing to show; in mid-stream the terminal, or the error, says it."""
    async with aiohttp.ClientSession(millrace.url) as http:
        for path in (RESPONSES, CHAT):
            for stream in (False, True):
                body = body_of(path, "x [ttft=30]", stream=stream, millrace={"deadline_ms": 200})
                async with http.post(path, json=body) as answer:
                    if path == RESPONSES and stream:
                        assert check_response(events_of(await lines_of(answer)))["error"]["code"] == "deadline_exceeded"
                    else:
                        assert (answer.status, (await answer.json())["error"]["code"]) == (408, "deadline_exceeded")
        options = {"deadline_ms": 2_000}
        async with http.post(CHAT, json=body_of(CHAT, SLOW, stream=True, millrace=options)) as answer:
            assert events_of(await lines_of(answer))[-1]["error"]["code"] == "deadline_exceeded"
        async with http.post(RESPONSES, json=body_of(RESPONSES, SLOW, stream=True, millrace=options)) as answer:
            ended = check_response(events_of(await lines_of(answer)))
            assert (ended["status"], ended["incomplete_details"]) == ("incomplete", {"reason": "deadline"})


@pytest.mark.parametrize("budget", ["0.0000001", "0.00001", "0.0001", "0.002"])
@pytest.mark.parametrize("asked", ["go on [tokens=300]", "go on [tokens=300] [fault.small=hangup@50]", "hm [weak]"])
async def test_it_never_costs_more_than_allowed(millrace: Running, budget: str, asked: str) -> None:
    """As a number, as a string and in `metadata`: completed within it, cut where it ends, or failed before a word."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        for fields in (
            {"millrace": {"max_cost_usd": float(budget), "cache": "off"}},
            {"millrace": {"max_cost_usd": budget, "cache": "off"}},
            {"metadata": {"millrace.max_cost_usd": budget, "millrace.cache": "off"}},
        ):
            response = check_response(await client.ask(asked, **fields), negotiated=True)
            assert Decimal(str(response["usage"]["cost_usd"])) <= Decimal(budget)
            if response["status"] == "incomplete":
                assert response["incomplete_details"] == {"reason": "budget_exceeded"}
                assert output_of(response)
            elif response["status"] == "failed":
                assert response["error"]["code"] in ("budget_exceeded", "upstream_truncated")
                assert budget != "0.002"


async def test_a_budget_ends_both_ways(millrace: Running) -> None:
    """Before the first word it is a failure, 402 over HTTP; after it the words stand."""
    async with wire_client(millrace.ws_url) as client, aiohttp.ClientSession(millrace.url) as http:
        failed = check_response(await client.ask("go on [tokens=300]", millrace={"max_cost_usd": 1e-7}))
        assert (failed["status"], failed["error"]["code"]) == ("failed", "budget_exceeded")
        assert millrace.calls == 0
        cut = check_response(await client.ask("go on [tokens=300]", millrace={"max_cost_usd": 2e-5}))
        assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "budget_exceeded"})
        for path in (RESPONSES, CHAT):
            body = body_of(path, "go on [tokens=300]", millrace={"max_cost_usd": 1e-7})
            async with http.post(path, json=body) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (402, "budget_exceeded")


def routed(route: str) -> Callable[[Running, list[Event]], bool]:
    return lambda _, events: events[-1]["response"]["metadata"]["millrace.route"] == route


def failed_with(code: str) -> Callable[[Running, list[Event]], bool]:
    return lambda _, events: (events[-1]["response"]["error"] or {}).get("code") == code


def deltas(events: list[Event]) -> int:
    return sum(event["type"] == "response.output_text.delta" for event in events)


IN_METADATA: dict[str, tuple[str, str, Callable[[Running, list[Event]], bool]]] = {
    "strategy": ("large", "x", routed("large")),
    "delivery": ("final", "x [tokens=90] [rate=900]", lambda _, events: deltas(events) == 1),
    "cache": ("only", "x", failed_with("response_not_found")),
    "cache_scope": ("ward 3", "x", routed("small")),
    "context_version": ("7", "x", routed("small")),
    "context_budget": ("1", "x", routed("small")),
    "checks": ("empty, cut_off", "x [weak]", routed("small")),
    "max_cost_usd": ("0.0000001", "x", failed_with("budget_exceeded")),
    "deadline_ms": ("150", "x [ttft=30]", failed_with("deadline_exceeded")),
    "on_disconnect": ("detach", "x", routed("small")),
    "concise": ("true", "x", lambda running, _: running.small.calls[0].body["messages"][0]["role"] == "system"),
    "idempotency_key": ("k", "x", routed("small")),
    "grace_ms": ("1", "x", routed("small")),
    "hedge_ms": ("1", "x", routed("small")),
}


@pytest.mark.parametrize("name", IN_METADATA)
async def test_an_option_is_a_string_in_metadata(millrace: Running, name: str) -> None:
    """For SDKs that allow no field of ours; it does what it says and is not echoed; nonsense names its key."""
    value, asked, holds = IN_METADATA[name]
    key = f"millrace.{name}"
    async with wire_client(millrace.ws_url) as client:
        events = await client.ask(asked, metadata={key: value, "mine": "1"})
        response = check_response(events)
        assert holds(millrace, events), response
        assert response["metadata"]["mine"] == "1"
        assert response["metadata"].get(key) != value
        wrong: dict[str, Any] = {"metadata": {key: "x" * 300}}
        error = (await client.ask(asked, **wrong))[-1]["error"]
        assert error["code"] == "invalid_request"
        assert error["param"].startswith(f'metadata["{key}"]')
