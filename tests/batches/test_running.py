"""How a batch goes on its way: asked again, waiting for money and for visitors, ended by others."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from openai import AsyncOpenAI, BadRequestError, RateLimitError
from openai.types import Batch

from millrace.access.keys import ANONYMOUS
from millrace.assembly import key_store
from millrace.batches import running as batches_running
from millrace.batches.budget import SPENT
from millrace.errors import MillraceError
from millrace.principal import Limits
from millrace.simulator.faults import Fault, Kind
from millrace.wire import limits
from millrace.wire.batches import BatchBody
from tests.support.batches import chat, client_of, ended, rows, run, started
from tests.support.server import Running, Start, process_of
from tests.support.tenants import shared_server
from tests.support.waiting import PATIENCE_S, until

SLOW = "[tokens=40] [rate=20]"  # two seconds
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def rests_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_running, "FIRST_REST_S", 0.02)
    monkeypatch.setattr(batches_running, "LONGEST_REST_S", 0.05)


def batch_settings(**fields: Any) -> Change:
    def change(configuration: dict[str, Any]) -> None:
        configuration["batch"] = fields

    return change


async def waits_for(client: AsyncOpenAI, batch: Batch, words: str) -> str:
    """Return what a batch waits for, once it waits for that."""
    found = ""
    async with asyncio.timeout(PATIENCE_S):
        while words not in found:
            await asyncio.sleep(0.02)
            found = _waits_for(await client.batches.retrieve(batch.id))
        return found


def _waits_for(batch: Batch) -> str:
    assert batch.model_extra is not None
    return batch.model_extra["millrace"]["waits_for"] or ""


async def test_a_line_that_fails_is_asked_again_and_then_told(millrace: Running) -> None:
    """Three times, since others are answered meanwhile; each time is on the bill of the batch."""
    asked = [chat("bad", "Go [fault=hangup@5]", model="small")]
    asked += [chat(str(number), f"Say {number}", model="small") for number in range(40)]
    batch, answers, (error,) = await run(millrace, asked)
    assert (batch.status, len(answers), error["custom_id"]) == ("completed", 40, "bad")
    assert error["response"]["status_code"] == 502
    assert error["response"]["body"]["error"]["code"] == "upstream_truncated"
    assert 40 + 3 <= millrace.calls <= 40 + 10


async def test_an_outage_is_waited_out(millrace: Running) -> None:
    """While nothing is answered, a failure is not the fault of its line."""
    async with client_of(millrace.url) as client:
        millrace.small.fault = Fault(Kind.RATE_LIMITED)
        batch = await started(client, [chat(str(number), f"Say {number}", model="small") for number in range(5)])
        assert "Rate limit reached" in await waits_for(client, batch, "Rate limit")
        millrace.small.fault = None
        batch = await ended(client, batch)
        assert batch.request_counts is not None
        assert batch.request_counts.model_dump() == {"completed": 5, "failed": 0, "total": 5}


async def test_when_the_money_of_batches_is_spent_they_wait_and_say_so(start: Start) -> None:
    """Visitors are answered all the same. Midnight is another day."""
    async with (
        start(batch_settings(dollars_per_day="0.0001", in_flight=1)) as running,
        client_of(running.url) as client,
    ):
        asked = [chat(str(number), f"Tell {number} [tokens=50]", model="small", max_tokens=60) for number in range(20)]
        batch = await started(client, asked)
        assert await waits_for(client, batch, "dollars_per_day") == SPENT
        done = (await client.batches.retrieve(batch.id)).request_counts
        assert done is not None
        assert 0 < done.completed < 20
        said = await client.chat.completions.create(model="small", messages=[{"role": "user", "content": "Hello"}])
        assert said.choices[0].message.content
        process = process_of(running)
        budget = process.batches._budget
        budget._wall = lambda: process.wall() + 86_400
        batch = await client.batches.retrieve(batch.id)
        async with asyncio.timeout(PATIENCE_S):
            while batch.request_counts is None or batch.request_counts.completed == done.completed:
                batch = await client.batches.retrieve(batch.id)
        await ended(client, await client.batches.cancel(batch.id))


async def test_what_no_day_has_money_for_is_told(start: Start) -> None:
    async with start(batch_settings(dollars_per_day="0.000001")) as running:
        _, answers, (error,) = await run(running, [chat("dear", "Hi", model="large")])
    assert (answers, error["response"]["status_code"]) == ([], 402)
    assert "more than batch.dollars_per_day" in error["response"]["body"]["error"]["message"]


async def test_half_of_what_a_key_may_do_is_left_to_visitors(start: Start, tmp_path: Path) -> None:
    """A key with four requests at once runs two of a batch, and its visitors have the other two."""
    async with (
        shared_server(start, tmp_path, "acme", limits=Limits(in_flight=4)) as shared,
        client_of(shared.running.url, shared.keys["acme"]) as client,
    ):
        batch = await started(client, [chat(str(n), f"Tell {n} {SLOW}", model="small") for n in range(8)])
        await waits_for(client, batch, "requests in flight")
        await until(lambda: shared.running.small.stats.started >= 2)
        visits = [
            client.chat.completions.create(model="large", messages=[{"role": "user", "content": f"Hello {n}"}])
            for n in range(2)
        ]
        assert all(answer.choices for answer in await asyncio.gather(*visits))
        assert shared.running.small.stats.started == 2
        await ended(client, await client.batches.cancel(batch.id))


async def test_a_batch_asks_no_more_at_once_than_it_says(millrace: Running) -> None:
    asked = [chat(str(number), f"Tell {number} [tokens=10] [rate=100]", model="small") for number in range(12)]
    most = 0
    async with client_of(millrace.url) as client:
        batch = await started(client, asked, metadata={"millrace.in_flight": "2"})
        while batch.status not in ("completed", "failed"):
            most = max(most, process_of(millrace).funnel.running)
            batch = await client.batches.retrieve(batch.id)
    assert 1 <= most <= 2


async def test_batches_of_a_tenant_run_one_by_one_and_one_that_waits_is_cancelled_at_once(millrace: Running) -> None:
    async with client_of(millrace.url) as client:
        first = await started(client, [chat("a", f"Tell {SLOW}", model="small")])
        second = await started(client, [chat("a", "Hello", model="small")])
        third = await started(client, [chat("a", "Hello", model="small")])
        assert (await client.batches.retrieve(third.id)).status == "validating"
        assert await waits_for(client, third, "before it") == "2 of your batches before it"
        assert (await client.batches.cancel(second.id)).status == "cancelled"
        assert await waits_for(client, third, "before it") == "1 of your batches before it"
        assert (await ended(client, third)).status == "completed"
        assert (await client.batches.retrieve(first.id)).status == "completed"


async def test_a_batch_that_comes_just_when_the_one_before_ends_is_not_forgotten(millrace: Running) -> None:
    async with client_of(millrace.url) as client:
        first = await started(client, [chat("a", "Hello", model="small")])
        batches = process_of(millrace).batches
        forget, found = batches._forget, await batches.find("anonymous", first.id)
        again = replace(found, id="batch_again", output_file_id="file-again", error_file_id="file-again-errors")

        def forgotten(work: Any) -> None:
            forget(work)
            if work.batch.id == first.id:
                asyncio.get_running_loop().call_soon(batches._enqueue, again)

        batches._forget = forgotten  # type: ignore[method-assign]
        await ended(client, first)
        await until(lambda: "batch_again" in batches._works)
        await until(lambda: "batch_again" not in batches._works)


async def test_what_an_earlier_process_reads_is_not_deleted(millrace: Running) -> None:
    async with client_of(millrace.url) as client:
        batch = await started(client, [chat("a", f"Tell {SLOW}", model="small")])
        batches = process_of(millrace).batches
        works, batches._works, batches._has_begun = batches._works, {}, False
        with pytest.raises(BadRequestError, match="still reads it"):
            await client.files.delete(batch.input_file_id)
        batches._works, batches._has_begun = works, True
        await ended(client, await client.batches.cancel(batch.id))


async def test_a_tenant_has_a_bounded_queue(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCHES_WAITING", 2)
    async with client_of(millrace.url) as client:
        made = [await started(client, [chat("a", f"Tell {n} {SLOW}", model="small")]) for n in range(2)]
        with pytest.raises(RateLimitError, match="2 of your batches are not done yet"):
            await started(client, [chat("a", "Hello")])
        await ended(client, await client.batches.cancel(made.pop().id))
        asked = BatchBody(input_file_id=made[0].input_file_id, endpoint="/v1/chat/completions", completion_window="24h")
        batches = process_of(millrace).batches
        at_once = await asyncio.gather(*(batches.create(ANONYMOUS, asked) for _ in range(5)), return_exceptions=True)
        assert [isinstance(each, MillraceError) for each in at_once].count(True) == 4
        for batch_id in (each.id for each in (*made, *at_once) if not isinstance(each, BaseException)):
            await client.batches.cancel(batch_id)


async def test_what_is_not_done_in_its_time_expires(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is in one file: with its answer, or told that its time is over."""
    monkeypatch.setattr("millrace.batches.batches.WINDOW_S", 1.0)
    async with client_of(millrace.url) as client:
        asked = [chat(str(number), f"Tell {number} {SLOW}", model="small") for number in range(40)]
        batch = await ended(client, await started(client, asked))
        answers, errors = await rows(client, batch.output_file_id), await rows(client, batch.error_file_id)
    assert batch.status == "expired"
    assert batch.expired_at is not None
    assert sorted(int(row["custom_id"]) for row in answers + errors) == [*range(40)]
    assert {row["error"]["code"] for row in errors} == {"batch_expired"}
    assert len(answers) == 16
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (16, 24)


async def test_a_revoked_key_ends_its_batches(start: Start, tmp_path: Path) -> None:
    """Another key of the tenant reads what there is."""
    async with (
        shared_server(start, tmp_path, "acme") as shared,
        client_of(shared.running.url, shared.keys["acme"]) as client,
    ):
        batch = await started(client, [chat(str(n), f"Tell {n} {SLOW}", model="small") for n in range(40)])
        await asyncio.sleep(0)
        process = process_of(shared.running)
        async with key_store(str(tmp_path)) as store:
            (key,) = await store.load()
            assert await store.revoke(key.principal.key_id, 1.0)
        found = await process.batches.find("acme", batch.id)
        async with asyncio.timeout(PATIENCE_S):
            while not found.status.is_final:
                await asyncio.sleep(0.02)
                found = await process.batches.find("acme", batch.id)
    assert found.status == "cancelled"
    assert found.fault is not None
    assert found.fault.message == "the key was revoked"
    assert found.failed == 0


async def test_a_batch_goes_on_in_the_next_process_after_a_drain(start: Start, tmp_path: Path) -> None:
    """What ran when the drain began ends or is asked again; nothing is twice in the output."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"] |= {"data_dir": str(tmp_path), "drain_s": 0}

    async with start(change) as running, client_of(running.url) as client:
        asked = [chat(str(number), f"Tell {number} [tokens=10] [rate=100]", model="small") for number in range(60)]
        batch = await started(client, asked)
        while (await client.batches.retrieve(batch.id)).request_counts.completed == 0:  # type: ignore[union-attr]
            pass
    first_calls = running.calls
    async with start(change) as again, client_of(again.url) as client:
        batch = await ended(client, batch)
        answers = await rows(client, batch.output_file_id)
    assert batch.status == "completed"
    assert batch.error_file_id is None
    assert sorted(int(row["custom_id"]) for row in answers) == [*range(60)]
    assert 60 <= first_calls + again.calls <= 60 + 16
    assert 0 < first_calls < 60
