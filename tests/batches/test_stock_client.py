"""openai-python as it is: `client.files` and `client.batches`, only the base URL changed."""

from itertools import pairwise
from pathlib import Path

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from tests.support.batches import (
    EMBEDDINGS,
    RESPONSES,
    Line,
    chat,
    client_of,
    ended,
    jsonl,
    rows,
    run,
    started,
    uploaded,
)
from tests.support.embeddings_server import embeddings_server
from tests.support.server import Running, Start
from tests.support.tenants import shared_server

SLOW = "[tokens=40] [rate=20]"


async def test_a_file_goes_in_and_a_file_comes_out(millrace: Running) -> None:
    """Chat completions, each under its custom_id, with the cost in the usage and of the batch."""
    batch, answers, errors = await run(millrace, [chat(f"row-{number}", f"Say {number}") for number in range(20)])
    assert (batch.status, errors, batch.error_file_id) == ("completed", [], None)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"completed": 20, "failed": 0, "total": 20}
    assert {row["custom_id"] for row in answers} == {f"row-{number}" for number in range(20)}
    assert {row["response"]["status_code"] for row in answers} == {200}
    assert all(row["error"] is None and row["response"]["body"]["object"] == "chat.completion" for row in answers)
    times = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at, batch.expires_at]
    assert all(one is not None and next_ is not None and one <= next_ for one, next_ in pairwise(times))
    assert batch.model_extra is not None
    costs = sum(row["response"]["body"]["usage"]["cost_usd"] for row in answers)
    assert batch.model_extra["millrace"]["cost_usd"] == pytest.approx(costs)
    assert costs > 0


async def test_responses(millrace: Running) -> None:
    asked: list[Line] = [
        {"custom_id": "a", "method": "POST", "url": RESPONSES, "body": {"model": "small", "input": "Hello"}},
        {"custom_id": "b", "method": "POST", "url": RESPONSES, "body": {"model": "small"}},
    ]
    batch, answers, errors = await run(millrace, asked, RESPONSES)
    assert (batch.status, len(answers), len(errors)) == ("completed", 1, 1)
    assert answers[0]["response"]["body"]["object"] == "response"
    assert answers[0]["response"]["body"]["status"] == "completed"
    assert errors[0]["custom_id"] == "b"
    assert errors[0]["line"] == 2
    assert errors[0]["response"]["status_code"] == 400
    assert errors[0]["response"]["body"]["error"]["param"] == "input"


async def test_a_repeat_in_a_batch_is_answered_by_the_cache(millrace: Running) -> None:
    """One call for ten lines, and one price."""
    _, answers, _ = await run(millrace, [chat(str(number), "What is a millrace?") for number in range(10)])
    assert millrace.calls == 1
    costs = [row["response"]["body"]["usage"]["cost_usd"] for row in answers]
    assert (len(costs), sum(cost > 0 for cost in costs)) == (10, 1)


async def test_files_are_listed_shown_read_and_deleted(millrace: Running) -> None:
    async with client_of(millrace.url) as client:
        ids = [await uploaded(client, [chat("a", f"Say {number}")]) for number in range(3)]
        listed = await client.files.list(limit=2)
        assert [file.id for file in listed.data] == [ids[2], ids[1]]
        assert listed.has_more
        assert [file.id async for file in client.files.list(limit=2)] == ids[::-1]
        assert [file.id async for file in client.files.list(limit=1, order="asc")] == ids
        assert [file.id async for file in client.files.list(purpose="batch_output")] == []
        shown = await client.files.retrieve(ids[0])
        content = jsonl([chat("a", "Say 0")])
        assert (shown.filename, shown.bytes, shown.purpose) == ("requests.jsonl", len(content), "batch")
        assert (await client.files.content(ids[0])).content == content
        assert (await client.files.delete(ids[0])).deleted
        for lost in (client.files.retrieve(ids[0]), client.files.content(ids[0]), client.files.delete(ids[0])):
            with pytest.raises(NotFoundError, match="no file"):
                await lost
        with pytest.raises(NotFoundError, match="input_file_id: no file"):
            await client.batches.create(input_file_id=ids[0], endpoint="/v1/responses", completion_window="24h")


async def test_a_file_may_expire_earlier(millrace: Running) -> None:
    async with client_of(millrace.url) as client:
        file = await client.files.create(
            file=("a.jsonl", b"{}\n"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
        )
        assert file.expires_at == file.created_at + 3600
        with pytest.raises(BadRequestError, match=r"expires_after\.seconds"):
            await client.files.create(
                file=("a.jsonl", b"{}\n"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 1}
            )


async def test_batches_are_listed_page_by_page_and_keep_their_metadata(millrace: Running) -> None:
    async with client_of(millrace.url) as client:
        made = [await started(client, [chat("a", f"Say {number}")], metadata={"n": str(number)}) for number in range(3)]
        for batch in made:
            await ended(client, batch)
        listed = [batch async for batch in client.batches.list(limit=2)]
        assert [batch.id for batch in listed] == [batch.id for batch in made[::-1]]
        assert [batch.metadata for batch in listed] == [{"n": "2"}, {"n": "1"}, {"n": "0"}]
        assert {batch.status for batch in listed} == {"completed"}
        with pytest.raises(BadRequestError, match="after: "):
            await client.batches.list(after="batch_unknown")


async def test_a_cancelled_batch_gives_what_it_has(millrace: Running) -> None:
    """What has ended is in the output; what has not begun is in neither file."""
    async with client_of(millrace.url) as client:
        asked = [chat(str(number), f"Tell {number} {SLOW if number else ''}", model="small") for number in range(200)]
        batch = await started(client, asked)
        while not (batch := await client.batches.retrieve(batch.id)).request_counts.completed:  # type: ignore[union-attr]
            pass
        with pytest.raises(BadRequestError, match=f"{batch.id} still reads it"):
            await client.files.delete(batch.input_file_id)
        cancelling = await client.batches.cancel(batch.id)
        assert cancelling.status == "cancelling"
        batch = await ended(client, cancelling)
        assert batch.status == "cancelled"
        assert batch.cancelled_at is not None
        answers = await rows(client, batch.output_file_id)
        assert batch.request_counts is not None
        assert len(answers) == batch.request_counts.completed
        assert 0 < len(answers) <= 17
        assert await rows(client, batch.error_file_id) == []
        with pytest.raises(BadRequestError, match="cannot be cancelled, since it is cancelled"):
            await client.batches.cancel(batch.id)


async def test_embeddings(start: Start) -> None:
    """The provider's answer, and its price, in the cost of the batch."""
    async with embeddings_server() as model:

        def change(configuration: dict[str, object]) -> None:
            models: dict[str, object] = configuration["models"]  # type: ignore[assignment]
            models["embeddings"] = {"base_url": model.url, "model": "embedder", "price": {"input": "100"}}

        async with start(change) as running:
            asked: list[Line] = [
                {
                    "custom_id": str(n),
                    "method": "POST",
                    "url": EMBEDDINGS,
                    "body": {"model": "embedder", "input": f"{n}"},
                }
                for n in range(3)
            ]
            batch, answers, errors = await run(running, asked, EMBEDDINGS)
    assert (batch.status, errors) == ("completed", [])
    assert {row["custom_id"] for row in answers} == {"0", "1", "2"}
    tokens = sum(row["response"]["body"]["usage"]["prompt_tokens"] for row in answers)
    assert batch.model_extra is not None
    assert batch.model_extra["millrace"]["cost_usd"] == pytest.approx(tokens / 10_000)


async def test_tenants_never_meet(start: Start, tmp_path: Path) -> None:
    """Files and batches of one do not exist for another."""
    async with shared_server(start, tmp_path, "acme", "other") as shared:
        url = shared.running.url
        async with client_of(url, shared.keys["acme"]) as acme, client_of(url, shared.keys["other"]) as other:
            batch = await ended(acme, await started(acme, [chat("a", "Hello")]))
            assert batch.output_file_id is not None
            await _sees_nothing(other, batch.id, batch.input_file_id)
            with pytest.raises(NotFoundError):
                await other.files.content(batch.output_file_id)
            assert len(await rows(acme, batch.output_file_id)) == 1
            mine = await ended(other, await started(other, [chat("a", "Hello")]))
            assert [one.id for one in (await other.batches.list()).data] == [mine.id]
    assert shared.running.calls == 2  # nor in the caches


async def _sees_nothing(other: AsyncOpenAI, batch_id: str, file_id: str) -> None:
    for asked in (
        other.batches.retrieve(batch_id),
        other.batches.cancel(batch_id),
        other.files.retrieve(file_id),
        other.files.content(file_id),
        other.files.delete(file_id),
        other.batches.create(input_file_id=file_id, endpoint="/v1/responses", completion_window="24h"),
    ):
        with pytest.raises(NotFoundError):
            await asked
    assert (await other.files.list()).data == []
    assert (await other.batches.list()).data == []
