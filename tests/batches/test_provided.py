"""Lines that a provider answers in a batch of its own, at its price; everything else as usual."""

import asyncio
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError

from millrace.batches import provided
from millrace.simulator import LARGE, SMALL, Simulator
from millrace.stores.database import FILE
from tests.support.batches import EMBEDDINGS, RESPONSES, Line, chat, client_of, ended, rows, started
from tests.support.live_server import live_server
from tests.support.server import Start, configuration_for, serving, without_delays
from tests.support.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def looks_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provided, "FIRST_LOOK_S", 0.05)
    monkeypatch.setattr(provided, "LAST_LOOK_S", 0.1)


def with_batches(folder: Path, **small: Any) -> Any:
    def change(configuration: dict[str, Any]) -> None:
        configuration["server"] |= {"data_dir": str(folder), "drain_s": 0}
        configuration["models"]["small"] |= {"batch": True, **small}

    return change


def calls_of(folder: Path) -> list[tuple[str, int, int]]:
    """Return the tier, the cost and the input tokens of every call that the ledger has."""
    with closing(sqlite3.connect(folder / FILE)) as file:
        return file.execute(
            "SELECT json_extract(value, '$.service_tier'), json_extract(value, '$.cost_nanodollars'),"
            " json_extract(value, '$.input_tokens') FROM entries, json_each(calls) WHERE batch != ''"
        ).fetchall()


async def test_lines_for_one_model_go_to_its_provider_and_cost_half(start: Start, tmp_path: Path) -> None:
    """`auto`, options that need this server, and bad lines stay here."""
    asked: list[Line | str] = [chat(f"provided-{n}", f"Tell {n}", model="small") for n in range(20)]
    asked += [chat("auto", "Hello"), chat("large", "Hello", model="large"), "{"]
    asked += [chat("only", "Never asked", model="small", metadata={"millrace.cache": "only"})]
    async with start(with_batches(tmp_path)) as running, client_of(running.url) as client:
        batch = await ended(client, await started(client, asked))
        answers, errors = await rows(client, batch.output_file_id), await rows(client, batch.error_file_id)
        (theirs,) = running.small.batches.batches.values()
        assert (theirs.total, theirs.status) == (20, "completed")
        assert running.small.stats.started == 20 + 1
    assert len(answers) == 22
    assert {row.get("custom_id") for row in errors} == {None, "only"}
    mine = [row for row in answers if row["custom_id"].startswith("provided")]
    assert {row["response"]["body"]["service_tier"] for row in mine} == {"batch"}
    assert all(row["response"]["body"]["choices"][0]["message"]["content"] for row in mine)
    calls = calls_of(tmp_path)
    assert sum(tier == "batch" for tier, _, _ in calls) == 20
    costs = [row["response"]["body"]["usage"] for row in mine]
    for usage in costs:
        plain = usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
        whole = plain * Decimal("0.15") + usage["prompt_tokens_details"]["cached_tokens"] * Decimal("0.075")
        whole += usage["completion_tokens"] * Decimal("0.60")
        assert usage["cost_usd"] == pytest.approx(float(whole / 2 / 10**6), abs=1e-9)
    assert not [path.name for path in (tmp_path / "files").iterdir() if path.suffix in (".sent", ".came")]


async def test_a_price_of_its_own_and_the_responses_endpoint(start: Start, tmp_path: Path) -> None:
    """What comes in one API goes to the provider's in its own, and comes back."""
    line: Line = {"custom_id": "a", "method": "POST", "url": RESPONSES, "body": {"model": "small", "input": "Hello"}}
    prices = {"input": "100", "output": "0"}
    async with start(with_batches(tmp_path, price_batch=prices)) as running, client_of(running.url) as client:
        batch = await ended(client, await started(client, [line], RESPONSES))
        (row,) = await rows(client, batch.output_file_id)
    usage = row["response"]["body"]["usage"]
    assert row["response"]["body"]["status"] == "completed"
    assert usage["cost_usd"] == pytest.approx(usage["input_tokens"] * 100 / 10**6)


async def test_what_came_is_in_the_cache_for_visitors(start: Start, tmp_path: Path) -> None:
    async with start(with_batches(tmp_path)) as running, client_of(running.url) as client:
        await ended(client, await started(client, [chat("a", "Tell me of mills", model="small")]))
        asked = running.small.stats.started
        answer = await client.chat.completions.create(
            model="small", messages=[{"role": "user", "content": "Tell me of mills"}]
        )
        assert answer.choices[0].message.content
        assert running.small.stats.started == asked


async def test_what_the_provider_does_not_answer_is_asked_as_usual(start: Start, tmp_path: Path) -> None:
    """Its batch fails in one line, and later as a whole."""
    async with start(with_batches(tmp_path)) as running, client_of(running.url) as client:
        running.small.batches.delay_s = 0.3
        asked = [chat("good", "Hello", model="small"), chat("bad", "Go [fault=429]", model="small")]
        batch = await started(client, [*asked, chat("other", "Hello there", model="small")])
        await until(lambda: bool(running.small.batches.batches))
        (theirs,) = running.small.batches.batches.values()
        theirs.status = "failed"
        async with asyncio.timeout(PATIENCE_S):
            done = 0
            while done < 2:
                await asyncio.sleep(0.02)
                batch = await client.batches.retrieve(batch.id)
                done = 0 if batch.request_counts is None else batch.request_counts.completed
        batch = await ended(client, await client.batches.cancel(batch.id))
        assert {row["custom_id"] for row in await rows(client, batch.output_file_id)} == {"good", "other"}
    assert {tier for tier, _, _ in calls_of(tmp_path)} == {None}


async def test_a_new_process_finds_the_batch_of_the_provider_again(tmp_path: Path) -> None:
    """It is made once, and the wait for it is told."""
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        small.batches.delay_s = 1.0
        configuration = configuration_for(small.base_url, large.base_url)
        with_batches(tmp_path)(configuration)
        async with serving(configuration) as url, client_of(url) as client:
            batch = await started(client, [chat(str(n), f"Tell {n}", model="small") for n in range(5)])
            waits_for = ""
            async with asyncio.timeout(PATIENCE_S):
                while "of the small model's provider" not in waits_for:
                    await asyncio.sleep(0.02)
                    found = await client.batches.retrieve(batch.id)
                    assert found.model_extra is not None
                    waits_for = found.model_extra["millrace"]["waits_for"] or ""
        async with serving(configuration) as url, client_of(url) as client:
            batch = await ended(client, batch)
            assert len(await rows(client, batch.output_file_id)) == 5
        assert len(small.batches.batches) == 1
        assert small.stats.started == 5


async def test_a_visitor_may_not_ask_for_the_price_of_a_batch(start: Start, tmp_path: Path) -> None:
    async with start(with_batches(tmp_path)) as running, client_of(running.url) as client:
        with pytest.raises(BadRequestError, match='service_tier: "batch" is of batches'):
            await client.chat.completions.create(
                model="small",
                messages=[{"role": "user", "content": "Hello"}],
                extra_body={"service_tier": "batch"},
            )


async def test_a_line_for_embeddings_asks_no_chat_model(start: Start, tmp_path: Path) -> None:
    """Its body may look like that of a response."""
    line: Line = {"custom_id": "a", "method": "POST", "url": EMBEDDINGS, "body": {"model": "small", "input": "Hello"}}
    async with start(with_batches(tmp_path)) as running, client_of(running.url) as client:
        batch = await ended(client, await started(client, [line], EMBEDDINGS))
        assert len(await rows(client, batch.error_file_id)) == 1
        assert running.small.stats.started == 0


async def test_behind_a_guard_nothing_is_left_to_a_provider(start: Start, tmp_path: Path) -> None:
    def change(configuration: dict[str, Any]) -> None:
        with_batches(tmp_path)(configuration)
        configuration["guards"] = {"secrets": True}

    async with start(change) as running, client_of(running.url) as client:
        batch = await ended(client, await started(client, [chat("a", "Hello", model="small")]))
        assert batch.status == "completed"
        assert not running.small.batches.batches


async def test_batches_of_providers_and_guards_are_settings_that_change_while_it_runs() -> None:
    async with live_server() as live, client_of(live.running.url) as client:
        theirs = live.running.small.batches.batches
        line = chat("a", "Hello", model="small")
        await ended(client, await started(client, [line]))
        assert not theirs
        live.models["small"]["batch"] = True
        assert (await live.reload())["changed"] == ["models.small.batch"]
        await ended(client, await started(client, [line]))
        assert len(theirs) == 1
        live.configuration["guards"] = {"secrets": True}
        await live.reload()
        await ended(client, await started(client, [line]))
        assert len(theirs) == 1
