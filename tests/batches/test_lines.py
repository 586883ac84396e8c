"""What is wrong with a line is told with its number, and the other lines run."""

import json
from typing import Any

import pytest

from millrace.wire import limits
from tests.support.batches import CHAT, chat, client_of, ended, jsonl, rows, run, started
from tests.support.server import Running, Start

GOOD = chat("good", "Hello", model="small")


@pytest.mark.parametrize(
    ("line", "custom_id", "code", "param", "words"),
    [
        ("{", None, "invalid_json", None, "not JSON"),
        ("[]", None, "invalid_request", None, "a line must be a JSON object, not an array"),
        (GOOD | {"custom_id": 7}, None, "invalid_request", "custom_id", "custom_id: missing"),
        (GOOD | {"custom_id": ""}, None, "invalid_request", "custom_id", "expected 1 to 512 characters, got 0"),
        (GOOD, "good", "invalid_request", "custom_id", "that of line 1 too"),
        (chat("a", "x") | {"method": "GET"}, "a", "invalid_request", "method", "'GET' is not that of the batch"),
        (chat("a", "x") | {"url": "/v1/responses"}, "a", "invalid_request", "url", 'write "/v1/chat/completions"'),
        (chat("a", "x") | {"body": []}, "a", "invalid_request", "body", "expected the request, a JSON object"),
        ({"custom_id": "a", "method": "POST", "url": CHAT}, "a", "invalid_request", "body", "expected the request"),
    ],
)
async def test_a_line_that_is_not_run(
    line: Any, custom_id: str | None, code: str, param: str | None, words: str, millrace: Running
) -> None:
    batch, answers, errors = await run(millrace, [GOOD, "", line, chat("last", "Hello again", model="small")])
    assert batch.status == "completed"
    assert [row["custom_id"] for row in answers].sort() == ["good", "last"].sort()
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"completed": 2, "failed": 1, "total": 3}
    (error,) = errors
    assert (error["line"], error["custom_id"], error["response"]) == (3, custom_id, None)
    assert (error["error"]["code"], error["error"]["param"]) == (code, param)
    assert words in error["error"]["message"]
    assert millrace.calls == 2


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"messages": []}, "messages", "expected an array of length >= 1"),
        ({"stream": True}, "stream", "an answer in a batch comes whole"),
        ({"temperature": "hot"}, "temperature", "expected a number, got a string"),
        ({"metadata": {"millrace.strategy": "best"}}, 'metadata["millrace.strategy"]', "is not one of"),
    ],
)
async def test_a_request_that_is_refused(fields: dict[str, Any], param: str, words: str, millrace: Running) -> None:
    """With the status and the body that the endpoint would give."""
    line = chat("a", "x")
    line["body"] |= fields
    _, answers, errors = await run(millrace, [line])
    assert answers == []
    (error,) = errors
    assert (error["error"], error["response"]["status_code"]) == (None, 400)
    assert error["response"]["body"]["error"]["param"] == param
    assert words in error["response"]["body"]["error"]["message"]


async def test_what_a_provider_refuses_is_told_as_it_is(millrace: Running) -> None:
    """Its status and its words, and what it has cost; such a line is not asked again."""
    _, _, (error,) = await run(millrace, [chat("a", "x [fault=unheard-of]", model="small")])
    assert error["response"]["status_code"] == 400
    assert "unheard-of" in error["response"]["body"]["error"]["message"]
    assert error["response"]["body"]["usage"]["cost_usd"] == 0


async def test_the_order_of_keys_and_other_fields_do_not_matter(millrace: Running) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "model": "small"})
    line = f'{{"body": {body}, "extra": [1], "url": "{CHAT}", "method": "POST", "custom_id": "ä\\u00e9"}}\r'
    _, answers, errors = await run(millrace, ["\ufeff" + line])
    assert errors == []
    assert [row["custom_id"] for row in answers] == ["äé"]


async def test_a_line_longer_than_a_request_may_be_is_passed_over(start: Start) -> None:
    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["max_message_bytes"] = 2000

    async with start(change) as running:
        _, answers, errors = await run(running, [chat("long", "x" * 5000), chat("short", "Hi", model="small")])
    assert [row["custom_id"] for row in answers] == ["short"]
    assert [(row["line"], row["error"]["code"]) for row in errors] == [(1, "message_too_big")]


async def test_a_file_without_a_line_fails(millrace: Running) -> None:
    batch, answers, errors = await run(millrace, ["", "  "])
    assert (batch.status, answers, errors) == ("failed", [], [])
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [error.code for error in batch.errors.data] == ["empty_file"]


async def test_only_bad_lines_are_a_batch_all_the_same(millrace: Running) -> None:
    batch, answers, errors = await run(millrace, ["{"] * 3)
    assert (batch.status, answers) == ("completed", [])
    assert [row["line"] for row in errors] == [1, 2, 3]


async def test_lines_of_many_pieces_all_run(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are read ahead at once, with no line feed at the end."""
    monkeypatch.setattr(limits, "BATCH_LINES", 150)
    asked = jsonl(chat(str(number), "The same question", model="small") for number in range(150)).rstrip()
    async with client_of(millrace.url) as client:
        file = await client.files.create(file=("a", asked), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        answers = await rows(client, (await ended(client, batch)).output_file_id)
    assert sorted(int(row["custom_id"]) for row in answers) == [*range(150)]


async def test_what_a_batch_may_not_ask(millrace: Running) -> None:
    async with client_of(millrace.url) as client:
        for fields, words in (
            ({"endpoint": "/v1/moderations"}, "endpoint: "),
            ({"completion_window": "1h"}, "completion_window: "),
            ({"metadata": {"a": 1}}, "metadata"),
            ({"metadata": {"millrace.in_flight": "many"}}, "expected a number such as 4"),
        ):
            file_id = (await client.files.create(file=("a", b"{}"), purpose="batch")).id
            asked: dict[str, Any] = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
            with pytest.raises(Exception, match=words):
                await client.batches.create(**(asked | fields))
        batch = await ended(client, await started(client, [GOOD]))
        with pytest.raises(Exception, match="is an output; upload one with purpose batch"):
            await client.batches.create(
                input_file_id=str(batch.output_file_id), endpoint="/v1/chat/completions", completion_window="24h"
            )
