"""What is refused names the field as its client wrote it: of the Responses API, or of chat completions."""

from typing import Any

import aiohttp
import pytest

from tests.support.http_client import CHAT, RESPONSES
from tests.support.server import Running

BAD: dict[str, Any] = {"type": "objekt"}
ASKED = [{"role": "user", "content": "Hello"}]
LONG = [{"role": "user", "content": "word " * 140_000}]
NAMED = {"name": "f", "parameters": BAD}
FORMAT = {"type": "json_schema", "name": "n", "schema": BAD}
CHEAP = {"millrace.max_cost_usd": "0.000000001"}

REFUSALS = [
    (RESPONSES, {"input": ASKED, "text": {"format": FORMAT}}, "text.format.schema"),
    (RESPONSES, {"input": ASKED, "tools": [{"type": "function"} | NAMED]}, "tools[0].parameters"),
    (RESPONSES, {"input": LONG}, "input"),
    (RESPONSES, {"input": ASKED, "metadata": CHEAP}, 'metadata["millrace.max_cost_usd"]'),
    (RESPONSES, {"input": ASKED, "millrace": {"max_cost_usd": 1e-9}}, "millrace.max_cost_usd"),
    (
        CHAT,
        {"messages": ASKED, "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": BAD}}},
        "response_format.json_schema.schema",
    ),
    (
        CHAT,
        {"messages": ASKED, "tools": [{"type": "function", "function": NAMED}]},
        "tools[0].function.parameters",
    ),
    (CHAT, {"messages": LONG}, "messages"),
    (CHAT, {"messages": ASKED, "metadata": CHEAP}, 'metadata["millrace.max_cost_usd"]'),
]


@pytest.fixture
async def http(millrace: Running) -> Any:
    async with aiohttp.ClientSession(millrace.url) as session:
        yield session


@pytest.mark.parametrize(("path", "body", "param"), REFUSALS, ids=[f"{path} {param}" for path, _, param in REFUSALS])
async def test_a_refusal_names_the_field_of_its_dialect(
    http: aiohttp.ClientSession, path: str, body: dict[str, Any], param: str
) -> None:
    async with http.post(path, json=body) as answer:
        error = (await answer.json())["error"]
    assert answer.status in (400, 402)
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")
