"""Many requests at once against a small budget, over real sockets: it holds, none of it is left unused or reserved."""

import asyncio
import json
import random
import signal
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from millrace.__main__ import main
from millrace.access import keys
from millrace.assembly import key_store
from millrace.pricing import BOOKED
from millrace.principal import Limits, Role
from millrace.stores.limits import MemoryLimiter
from millrace.wire.limits import MERGE_TOKENS
from tests.support.processes import server_process
from tests.support.server import Running, Start, process_of
from tests.support.waiting import until
from tests.support.wire_client import wire_client

AT_ONCE, FITS = 200, 50  # requests, and those that the budget is for
TOKENS = 100  # of an answer; $10 a million
ANSWER = TOKENS * 10e-6


def limiter_of(running: Running) -> MemoryLimiter:
    limiter: Any = process_of(running).intake._limiter
    assert isinstance(limiter, MemoryLimiter)
    return limiter


def reserved(running: Running) -> set[tuple[int, int, Decimal]]:
    return {(one.in_flight, one.reserved_tokens, one.reserved_cost) for one in limiter_of(running).accounts}


def of_a_user(dollars: float) -> Any:
    def change(configuration: dict[str, Any]) -> None:
        for name in ("small", "large"):
            configuration["models"][name]["price"] = {"input": "0", "output": "10"}
        configuration["limits"] = {"user": {"dollars_per_day": f"{dollars:.9f}"}, "tenant": {"dollars_per_day": "1000"}}

    return change


async def ask(http: aiohttp.ClientSession, number: int, codes: Counter[str]) -> str:
    """Ask until the answer is something else than to come again; return how it ended."""
    body = {
        "input": f"talk of {number} [tokens={TOKENS}]",
        "user": "ann",
        "millrace": {"strategy": "small", "cache": "off"},
    }
    while True:
        async with http.post("/v1/responses", json=body) as answer:
            document = await answer.json()
        if answer.status == 200:
            return str(document["status"])
        codes[document["error"]["code"]] += 1
        if answer.status == 402:
            return str(document["error"]["code"])
        assert answer.status == 429
        assert float(answer.headers["Retry-After"]) > 0
        await asyncio.sleep(0.2 + 0.3 * random.random())


@pytest.mark.timeout(200)
@pytest.mark.parametrize("fits", [FITS, FITS + 0.5])
async def test_all_whose_cost_fits_are_served_and_no_more(start: Start, fits: float) -> None:
    """What each reserves is ten times what it costs. Where half an answer is left, one is cut there."""
    async with (
        start(of_a_user(fits * ANSWER)) as running,
        aiohttp.ClientSession(running.url, connector=aiohttp.TCPConnector(limit=0)) as http,
        asyncio.timeout(150),
    ):
        codes: Counter[str] = Counter()
        ended = Counter(await asyncio.gather(*(ask(http, number, codes) for number in range(AT_ONCE))))
        assert reserved(running) == {(0, 0, Decimal(0))}
        (spent,) = {account.spent_day for account in limiter_of(running).accounts}
        cut = 1 if fits > FITS else 0
        assert ended["completed"] == FITS
        assert ended["incomplete"] == cut
        assert ended["budget_exceeded"] == AT_ONCE - FITS - cut
        assert float(spent) <= fits * ANSWER + 1e-9
        assert codes["rate_limit_exceeded"] > 0  # they did meet


async def test_answers_that_outgrow_what_they_reserved_are_cut_where_the_budget_ends(start: Start) -> None:
    """Each at most a merge window later, however many run."""
    count, bought = 6, 8 * BOOKED
    async with start(of_a_user(bought * 10e-6)) as running:
        async with wire_client(running.ws_url) as client:
            for number in range(count):
                await client.create(
                    f"talk of {number} [tokens=4000] [rate=400]",
                    stream_id=f"lane-{number}",
                    user="ann",
                    millrace={"strategy": "small", "cache": "off"},
                )
            ended = [(await client.until("response.completed", "response.incomplete"))[-1] for _ in range(count)]
            assert reserved(running) == {(0, 0, Decimal(0))}
        reasons = Counter((event["response"]["incomplete_details"] or {}).get("reason") for event in ended)
        cost = sum(event["response"]["usage"]["cost_usd"] for event in ended)
        assert set(reasons) == {"budget_exceeded"}
        assert cost <= (bought + count * MERGE_TOKENS) * 10e-6
        assert cost >= (bought - count * BOOKED / 2) * 10e-6


async def test_no_reservation_is_left_after_cancels_and_disconnects(start: Start) -> None:
    async with start(of_a_user(1)) as running:
        chance = random.Random(5)
        async with wire_client(running.ws_url, negotiated=True) as witness:
            await witness.ask("one answer", user="ann")  # so that something is spent, however soon the others are left
            for _ in range(4):
                async with wire_client(running.ws_url, negotiated=True) as client:
                    for number in range(12):
                        await client.create(
                            f"talk {number} [tokens=4000] [rate=400]", stream_id=f"lane-{number}", user="ann"
                        )
                    await client.until("response.created")
                    for number in chance.sample(range(12), 6):
                        await client.send({"type": "response.cancel", "stream_id": f"lane-{number}"})
                    await client.until("response.incomplete")
            await witness.send({"type": "millrace.ping", "t": 1})
            await witness.until("millrace.pong")
            await until(lambda: reserved(running) == {(0, 0, Decimal(0))})
            (spent,) = {account.spent_day for account in limiter_of(running).accounts}
            assert 0 < spent < 1


async def test_after_a_kill_only_what_was_spent_counts(tmp_path: Path) -> None:
    """What was running is closed at what it had booked; the command shows no reservation, and requests fit again."""
    limits = Limits(dollars_per_day=Decimal("0.01"), dollars_per_month=Decimal("0.02"))
    key, text = keys.make(tenant="t", role=Role.USE, limits=limits, created_at=1.0)
    async with key_store(str(tmp_path)) as store:
        await store.add(key)
    headers = {"Authorization": f"Bearer {text}"}

    async def shown() -> list[dict[str, Any]]:
        command = ["budgets", "--json", "--config", str(tmp_path / "millrace.toml")]
        result = await asyncio.to_thread(CliRunner().invoke, main, command)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    async with (
        server_process(tmp_path, 1.0) as running,
        wire_client(running.ws_url, additional_headers=headers) as client,
    ):
        for number in range(3):
            await client.create(
                f"talk of {number} [tokens=4000] [rate=50]", stream_id=f"lane-{number}", model="small", user="ann"
            )
        await client.until("response.output_text.delta")
        while {line["reserved_usd"] > 0.006 for line in await shown()} != {True}:  # noqa: ASYNC110 - it is on the disk
            await asyncio.sleep(0.05)
        running.stop(signal.SIGKILL)
        await running.exited()
    async with (
        server_process(tmp_path, 1.0) as again,
        wire_client(again.ws_url, additional_headers=headers) as client,
    ):
        last = (await client.ask("Say so. [tokens=2]", model="small", max_output_tokens=10))[-1]
        assert last["type"] == "response.completed"
        again.stop()
        await again.exited()
    lines = await shown()  # the last row is written after its answer
    assert [(line["kind"], line["period"], line["reserved_usd"]) for line in lines] == [
        ("key", "day", 0.0),
        ("key", "month", 0.0),
    ]
    for line in lines:
        assert 0.006 < line["spent_usd"] < 0.0065
        assert line["left_usd"] == pytest.approx(line["limit_usd"] - line["spent_usd"])
