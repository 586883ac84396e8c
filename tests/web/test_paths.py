"""Paths as clients really write them: repeated slashes, a WebSocket where none is."""

from pathlib import Path

import aiohttp
import pytest

from tests.support.keyed_server import HEAD, keyed_server
from tests.support.logs import no_warnings_logged
from tests.support.server import Running, Start
from tests.support.wire_client import check_response, wire_client


@pytest.mark.parametrize("path", ["/v1//responses", "//v1/responses", "///v1///responses"])
async def test_slashes_in_a_row_are_one_over_http(path: str, millrace: Running) -> None:
    """As an SDK sends them whose base_url ends in a slash."""
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{millrace.url}{path}", json={"input": "What is 2 + 2?"}) as answer:
            response = await answer.json()
        assert (answer.status, response["status"]) == (200, "completed")
        async with http.get(f"{millrace.url}{path}/{response['id']}") as answer:
            assert (answer.status, (await answer.json())["id"]) == (200, response["id"])


async def test_slashes_in_a_row_are_one_over_a_websocket(millrace: Running) -> None:
    async with wire_client(f"{millrace.ws_url}/") as client:
        assert check_response(await client.ask("What is 2 + 2?"))["status"] == "completed"


@pytest.mark.parametrize("path", ["//v1/responses", "//v1//models", "/v1//models/small"])
async def test_slashes_lead_nowhere_past_the_gate(path: str, start: Start, tmp_path: Path) -> None:
    """As soon as there is a key, it is asked for."""
    async with keyed_server(start, tmp_path) as server:
        method = "POST" if path.endswith("responses") else "GET"
        assert (await server.ask(f"{method} {path} HTTP/1.1")).status == 401
        assert (await server.ask(HEAD.replace("/v1/responses", path))).status == 401


@pytest.mark.parametrize("path", ["/", "/ws", "/v1/realtime", "/v1/models", "/v1/chat/completions", "/v1/responses/x"])
async def test_a_websocket_where_none_is_gets_404_and_the_right_path(path: str, start: Start, tmp_path: Path) -> None:
    """As the answer to its handshake, in the body of an error; nothing is logged."""
    async with keyed_server(start, tmp_path) as server, no_warnings_logged():
        answer = await server.ask(HEAD.replace("/v1/responses", path), server.bearer)
        assert answer.status == 404
        assert answer.code == "invalid_request"
        assert b"connect to /v1/responses" in answer.body
