"""Files of requests, batches of a server, and what stands in their output."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from openai import AsyncOpenAI
from openai.types import Batch

from tests.support.server import Running
from tests.support.waiting import PATIENCE_S

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"

Line = dict[str, Any]


def client_of(url: str, key: str = "none") -> AsyncOpenAI:
    """Return the stock client."""
    return AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def chat(custom_id: str, question: str, **fields: Any) -> Line:
    body = {"model": "auto", "messages": [{"role": "user", "content": question}], **fields}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}


def jsonl(lines: Iterable[Line | str]) -> bytes:
    return b"".join((line if isinstance(line, str) else json.dumps(line)).encode() + b"\n" for line in lines)


async def uploaded(client: AsyncOpenAI, lines: Iterable[Line | str]) -> str:
    """Return the id of a file of these lines."""
    return (await client.files.create(file=("requests.jsonl", jsonl(lines)), purpose="batch")).id


async def started(client: AsyncOpenAI, lines: Iterable[Line | str], endpoint: Any = CHAT, **fields: Any) -> Batch:
    file_id = await uploaded(client, lines)
    return await client.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h", **fields)


async def ended(client: AsyncOpenAI, batch: Batch, patience_s: float = PATIENCE_S) -> Batch:
    """Return a batch once it is done."""
    async with asyncio.timeout(patience_s):
        while batch.status not in ("completed", "failed", "expired", "cancelled"):
            await asyncio.sleep(0.02)
            batch = await client.batches.retrieve(batch.id)
        return batch


async def rows(client: AsyncOpenAI, file_id: str | None) -> list[Line]:
    """Return the lines of a file; none if there is no file."""
    if file_id is None:
        return []
    content = await client.files.content(file_id)
    return [json.loads(line) for line in content.text.splitlines()]


async def run(
    running: Running, lines: Iterable[Line | str], endpoint: str = CHAT
) -> tuple[Batch, list[Line], list[Line]]:
    """Return a batch that is done, its answers and its errors."""
    async with client_of(running.url) as client:
        batch = await ended(client, await started(client, lines, endpoint))
        return batch, await rows(client, batch.output_file_id), await rows(client, batch.error_file_id)
