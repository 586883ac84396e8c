"""openai-python as it is: `client.files` and `client.batches`, only the base URL changed."""

import json

import pytest
from openai import BadRequestError, NotFoundError

from tests.support.batches import EMBEDDINGS, RESPONSES, chat, client_of, ended, jsonl, rows, run, started, uploaded
from tests.support.server import Running, Start


async def test_a_file_goes_in_and_a_file_comes_out(millrace: Running) -> None:
    """Chat completions, each under its custom_id, with cost in the usage and in the batch."""
    batch, answers, errors = await run(millrace, [chat(f"row-{number}", f"Say {number}") for number in range(20)])
    assert (batch.status, errors, batch.error_file_id) == ("completed", [], None)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"completed": 20, "failed": 0, "total": 20}
    assert {row["custom_id"] for row in answers} == {f"row-{number}" for number in range(20)}
    assert {row["response"]["status_code"] for row in answers} == {200}
    assert all(row["error"] is None and row["response"]["body"]["object"] == "chat.completion" for row in answers)
    assert batch.in_progress_at and batch.finalizing_at and batch.completed_at and batch.expires_at
    assert batch.model_extra is not None
    costs = sum(row["response"]["body"]["usage"]["cost_usd"] for row in answers)
    assert batch.model_extra["millrace"]["cost_usd"] == pytest.approx(costs)
    assert costs > 0
