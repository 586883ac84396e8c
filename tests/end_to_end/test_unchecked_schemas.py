"""A schema that cannot be checked here goes to its model all the same, and the client is told the path."""

from typing import Any

import aiohttp
import pytest

from tests.support.http_client import CHAT, RESPONSES
from tests.support.server import Running
from tests.support.wire_client import check_response, wire_client

LOOKAHEAD = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "^(?=(a+)+$)b"}},
    "required": ["city"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "name": "n", "schema": LOOKAHEAD}
TOOL = {"name": "f", "parameters": LOOKAHEAD}
ASKED = [{"role": "user", "content": "Which city?"}]
PATTERN = ".properties.city.pattern"
SCHEMA = f"text.format.schema{PATTERN}"


async def test_the_route_names_the_pattern_and_the_answer_is_kept(millrace: Running) -> None:
    """The rest of the schema is checked, and passes."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask("Which city?", strategy="cascade", text={"format": FORMAT})
    metadata = check_response(events, negotiated=True)["metadata"]
    (route,) = [event for event in events if event["type"] == "millrace.route"]
    assert route["unchecked"] == [SCHEMA]
    assert metadata["millrace.unchecked"] == SCHEMA
    assert (metadata["millrace.check"], metadata["millrace.route"]) == ("passed", "small")


@pytest.mark.parametrize(
    ("path", "body", "unchecked"),
    [
        (RESPONSES, {"input": ASKED, "text": {"format": FORMAT}}, "text.format.schema"),
        (RESPONSES, {"input": ASKED, "tools": [{"type": "function"} | TOOL]}, "tools[0].parameters"),
        (
            CHAT,
            {"messages": ASKED, "response_format": {"type": "json_schema", "json_schema": FORMAT}},
            "response_format.json_schema.schema",
        ),
        (CHAT, {"messages": ASKED, "tools": [{"type": "function", "function": TOOL}]}, "tools[0].function.parameters"),
    ],
)
async def test_every_dialect_names_its_own_field(
    millrace: Running, path: str, body: dict[str, Any], unchecked: str
) -> None:
    """In the metadata, which every client gets."""
    async with aiohttp.ClientSession(millrace.url) as http, http.post(path, json=body) as answer:
        assert answer.status == 200
        metadata = (await answer.json())["metadata"]
    assert metadata["millrace.unchecked"] == unchecked + PATTERN


async def test_what_is_checked_is_not_named(millrace: Running) -> None:
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask("Which city?", text={"format": FORMAT | {"schema": {"type": "object"}}})
    (route,) = [event for event in events if event["type"] == "millrace.route"]
    assert "unchecked" not in route
    assert "millrace.unchecked" not in check_response(events, negotiated=True)["metadata"]
