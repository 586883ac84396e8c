"""What a provider's batch has answered is paid for: it is used once, and nobody else is asked for it."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web

from millrace.batches import provided, running as batches_running
from millrace.principal import Limits
from millrace.simulator import LARGE, SMALL, Simulator, batches as provider
from tests.batches.test_provided import calls_of, with_batches
from tests.support.batches import chat, client_of, ended, rows, started
from tests.support.server import Start, configuration_for, process_of, serving, without_delays
from tests.support.tenants import shared_server
from tests.support.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def waits_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provided, "FIRST_LOOK_S", 0.05)
    monkeypatch.setattr(provided, "LAST_LOOK_S", 0.1)
    monkeypatch.setattr(batches_running, "FIRST_REST_S", 0.02)
    monkeypatch.setattr(batches_running, "LONGEST_REST_S", 0.05)


def batching(start: Start, folder: Path) -> Start:
    """Return how to start a server whose small model has batches."""

    def begin(change: Any) -> Any:
        def changed(configuration: dict[str, Any]) -> None:
            change(configuration)
            with_batches(folder)(configuration)

        return start(changed)

    return begin


async def test_an_answer_that_has_no_room_yet_is_kept(start: Start, tmp_path: Path) -> None:
    """The key may run one request of a batch at once, so most of what came is refused at first."""
    async with (
        shared_server(batching(start, tmp_path), tmp_path, "acme", limits=Limits(in_flight=2)) as shared,
        client_of(shared.running.url, shared.keys["acme"]) as client,
    ):
        batch = await started(client, [chat(str(n), f"Tell {n}", model="small") for n in range(12)])
        batch = await ended(client, batch)
        assert len(await rows(client, batch.output_file_id)) == 12
        assert shared.running.small.stats.started == 12
    assert {tier for tier, _, _ in calls_of(tmp_path)} == {"batch"}


async def test_what_came_before_a_kill_is_not_asked_for_again(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process has brought the answers, and is gone before any is booked."""
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        configuration = configuration_for(small.base_url, large.base_url)
        with_batches(tmp_path)(configuration)
        with monkeypatch.context() as patch:

            async def killed(*_: Any) -> None:
                await asyncio.Event().wait()

            patch.setattr(provided.Provided, "_give_back", killed)
            async with serving(configuration) as url, client_of(url) as client:
                batch = await started(client, [chat(str(n), f"Tell {n}", model="small") for n in range(12)])
                came = tmp_path / "files" / f"{batch.id}-small.came"
                await until(came.exists)
        async with serving(configuration) as url, client_of(url) as client:
            batch = await ended(client, batch)
            assert len(await rows(client, batch.output_file_id)) == 12
        assert small.stats.started == 12
    assert {tier for tier, _, _ in calls_of(tmp_path)} == {"batch"}


async def test_what_a_provider_has_answered_before_a_cancel_is_fetched(start: Start, tmp_path: Path) -> None:
    """It is paid for: so it is in the output and in the ledger. Nothing else is asked."""
    async with start(with_batches(tmp_path)) as running, client_of(running.url) as client:
        asked = [chat(str(n), f"Tell {n}", model="small") for n in range(provider.AT_ONCE)]
        asked += [chat(f"late-{n}", "Tell [tokens=30] [rate=20]", model="small") for n in range(provider.AT_ONCE)]
        asked += [chat(f"never-{n}", "Tell", model="small") for n in range(5)]
        batch = await started(client, asked)
        await until(
            lambda: any(theirs.completed == provider.AT_ONCE for theirs in running.small.batches.batches.values())
        )
        cancelled = await client.batches.cancel(batch.id)
        assert cancelled.status == "cancelling"
        batch = await ended(client, batch)
        assert batch.status == "cancelled"
        (theirs,) = running.small.batches.batches.values()
        assert theirs.status == "cancelled"
        answers = await rows(client, batch.output_file_id)
        assert provider.AT_ONCE <= len(answers) < len(asked)
        assert len(answers) == theirs.completed == running.small.stats.started
        assert batch.error_file_id is None
    assert [tier for tier, _, _ in calls_of(tmp_path)] == ["batch"] * len(answers)


async def test_what_a_provider_has_answered_before_the_window_ends_is_fetched(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.batches.batches.WINDOW_S", 1.0)
    async with start(with_batches(tmp_path)) as running, client_of(running.url) as client:
        asked = [chat(str(n), f"Tell {n}", model="small") for n in range(4)]
        asked += [chat(f"late-{n}", "Tell [tokens=30] [rate=20]", model="small") for n in range(provider.AT_ONCE + 3)]
        batch = await ended(client, await started(client, asked))
        answers, errors = await rows(client, batch.output_file_id), await rows(client, batch.error_file_id)
        assert batch.status == "expired"
        assert len(answers) == 4 + provider.AT_ONCE
        assert {row["error"]["code"] for row in errors} == {"batch_expired"}
        assert len(answers) + len(errors) == len(asked)
    assert {tier for tier, _, _ in calls_of(tmp_path)} == {"batch"}


async def test_a_provider_gets_no_more_than_the_budget_of_batches_pays(start: Start, tmp_path: Path) -> None:
    """What it may cost is reserved when it is sent; the other lines wait for the next day."""

    def change(configuration: dict[str, Any]) -> None:
        with_batches(tmp_path, price={"input": "0", "output": "1000"})(configuration)
        configuration["batch"] = {"dollars_per_day": "0.1"}

    async with start(change) as running, client_of(running.url) as client:
        # 40 tokens at half of $1,000 a million are $0.02.
        asked = [chat(str(n), f"Tell {n} [tokens=40]", model="small", max_tokens=40) for n in range(9)]
        batch = await started(client, asked)
        budget = process_of(running).batches._budget
        async with asyncio.timeout(PATIENCE_S):
            while batch.request_counts is None or batch.request_counts.completed < 5:
                await asyncio.sleep(0.02)
                batch = await client.batches.retrieve(batch.id)
        (theirs,) = running.small.batches.batches.values()
        assert theirs.total == 5
        assert running.small.stats.started == 5
        assert (budget._spent, budget._reserved) == (Decimal("0.1"), Decimal(0))
        await ended(client, await client.batches.cancel(batch.id))
        assert budget._reserved == 0


async def test_what_counts_against_a_budget_of_its_own_stays_here(start: Start, tmp_path: Path) -> None:
    """No answer of a provider's batch is cut where a budget ends."""
    limits = Limits(dollars_per_day=Decimal(1))
    async with (
        shared_server(batching(start, tmp_path), tmp_path, "acme", limits=limits) as shared,
        client_of(shared.running.url, shared.keys["acme"]) as client,
    ):
        batch = await ended(client, await started(client, [chat("a", "Hello", model="small")]))
        assert batch.status == "completed"
        assert not shared.running.small.batches.batches


@pytest.mark.parametrize("refusal", [web.HTTPUnauthorized, web.HTTPNotFound, web.HTTPNotImplemented])
async def test_a_provider_without_batches_is_asked_as_usual(start: Start, tmp_path: Path, refusal: Any) -> None:
    async with start(with_batches(tmp_path)) as running, client_of(running.url) as client:
        running.small.batches._keep = Mock(side_effect=refusal)  # type: ignore[method-assign]
        batch = await ended(client, await started(client, [chat("a", "Hello", model="small")]))
        assert batch.status == "completed"
        assert len(await rows(client, batch.output_file_id)) == 1


def _spoil(desk: provider.BatchDesk) -> None:
    """Have a provider bring answers that nobody can read."""
    keep = desk._keep

    def spoilt(content: bytes) -> str:
        return keep(content.replace(b'"choices"', b'"voices"'))

    desk._keep = spoilt  # type: ignore[method-assign]


async def test_a_call_whose_answer_is_of_no_use_is_made_again_at_the_usual_price(start: Start, tmp_path: Path) -> None:
    """Its provider is not asked for a tier that is of batches alone."""
    async with start(with_batches(tmp_path)) as running, client_of(running.url) as client:
        _spoil(running.small.batches)
        batch = await ended(client, await started(client, [chat("a", "Hello", model="small")]))
        assert batch.status == "completed"
        assert len(await rows(client, batch.output_file_id)) == 1
        assert running.small.stats.started == 2
        assert [call.body.get("service_tier") for call in running.small.calls] == [None, None]
    assert sorted(tier or "" for tier, _, _ in calls_of(tmp_path)) == ["", "batch"]


async def test_an_answer_that_is_there_needs_no_provider(start: Start, tmp_path: Path) -> None:
    """It is left alone since it failed visitors, and another model would stand in for it."""
    async with start(with_batches(tmp_path, fallback=["large"])) as running, client_of(running.url) as client:
        running.small.batches.delay_s = 0.3
        batch = await started(client, [chat("a", "Hello", model="small")])
        health = process_of(running).funnel.health
        health._open(health.pools["small"].places[0], "down", 600)
        batch = await ended(client, batch)
        assert batch.status == "completed"
        assert (running.small.stats.started, running.large.stats.started) == (1, 0)
    assert [tier for tier, _, _ in calls_of(tmp_path)] == ["batch"]


@pytest.mark.parametrize("is_spoilt", [False, True])
async def test_what_a_batch_has_brought_tells_nothing_of_how_its_provider_is_now(
    is_spoilt: bool, start: Start, tmp_path: Path
) -> None:
    """Neither how soon it answers, nor that it fails: visitors would be kept from it."""
    async with start(with_batches(tmp_path)) as running, client_of(running.url) as client:
        if is_spoilt:
            _spoil(running.small.batches)
        await client.batches.list()
        (place,) = (pool := process_of(running).funnel.health.pools["small"]).places
        batch = await ended(client, await started(client, [chat(str(n), f"Tell {n}", model="small") for n in range(9)]))
        assert batch.status == "completed"
        asked = running.small.stats.started - 9  # as usual, since what came was of no use
        assert asked == (9 if is_spoilt else 0)
        assert len(pool._first_words) == asked
        assert place.breaker.is_closed
