"""The HTTP side: health, models, the page's files; and what happens when Millrace itself is at fault."""

from typing import Any

import aiohttp
import pytest

from millrace import __version__
from millrace.funnel import recall
from millrace.web.session import Session
from tests.support.server import Running, Start
from tests.support.wire_client import check_response, wire_client


@pytest.fixture
async def http() -> Any:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_health_and_readiness(millrace: Running, http: aiohttp.ClientSession) -> None:
    """Alive says who it is; ready says that it takes requests."""
    async with http.get(f"{millrace.url}/healthz") as response:
        body = await response.json()
    assert (response.status, body["status"], body["version"], body["running"]) == (200, "ok", __version__, 0)
    async with http.get(f"{millrace.url}/readyz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ready"})


async def test_models_are_listed_as_openai_lists_them(millrace: Running, http: aiohttp.ClientSession) -> None:
    """auto, small, large and the configured names."""
    async with http.get(f"{millrace.url}/v1/models") as response:
        body = await response.json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["auto", "small", "large", "small-model", "large-model"]


@pytest.mark.parametrize("name", ["auto", "large", "small-model", "mine", "org/model", "org/model/v2"])
async def test_a_model_is_found_by_its_name(name: str, start: Start) -> None:
    """An alias too, and one with slashes."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["models"]["aliases"] = {"mine": "small", "org/model": "large", "org/model/v2": "large"}

    async with start(change) as millrace, aiohttp.ClientSession(millrace.url) as http:
        async with http.get(f"/v1/models/{name}") as response:
            model = await response.json()
        assert (response.status, model["id"], model["object"]) == (200, name, "model")
        async with http.get("/v1/models") as response:
            assert model in (await response.json())["data"]


@pytest.mark.parametrize("name", ["nope", "*", "org/none", "large/", "Large"])
async def test_an_unknown_model_is_not_found(name: str, start: Start) -> None:
    """In OpenAI's shape, also where any name may be asked for."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["models"]["aliases"] = {"*": "auto"}

    async with start(change) as millrace, aiohttp.ClientSession(millrace.url) as http:
        async with http.get(f"/v1/models/{name}") as response:
            error = (await response.json())["error"]
        assert (response.status, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert error["type"] == "invalid_request_error"


async def test_a_plain_get_is_told_to_upgrade(millrace: Running, http: aiohttp.ClientSession) -> None:
    """426, in the body an SDK reads."""
    async with http.get(f"{millrace.url}/v1/responses") as response:
        body = await response.json()
    assert response.status == 426
    assert response.headers["Upgrade"] == "websocket"
    assert "WebSocket" in body["error"]["message"]


async def test_the_page_is_served_and_nothing_beside_it(millrace: Running, http: aiohttp.ClientSession) -> None:
    """The page and its modules; no file outside the folder."""
    async with http.get(f"{millrace.url}/") as response:
        assert response.status == 200
        assert "<title>" in await response.text()
    async with http.get(f"{millrace.url}/millrace.js") as response:
        assert response.content_type in ("text/javascript", "application/javascript")
    async with http.get(f"{millrace.url}/%2e%2e/pyproject.toml") as response:
        assert response.status == 404


async def test_a_fault_in_a_stage_is_one_failed_terminal(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """`internal_error`, without the trace; the lane goes on."""

    def broken(*_: Any) -> bytes:
        raise RuntimeError("secret detail")

    async with wire_client(millrace.ws_url) as client:
        with monkeypatch.context() as patch:
            patch.setattr(recall, "keys_of", broken)
            response = check_response(await client.ask("hello"))
        assert response["error"]["code"] == "internal_error"
        assert "secret" not in response["error"]["message"]
        assert check_response(await client.ask("hello"))["status"] == "completed"


async def test_a_fault_in_reading_a_frame_is_an_error(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection and its other lanes go on."""

    def broken(*_: Any) -> None:
        raise RuntimeError("secret detail")

    async with wire_client(millrace.ws_url) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Session, "_create", broken)
            error = (await client.ask("hello"))[-1]
        assert error["error"]["code"] == "internal_error"
        assert check_response(await client.ask("hello"))["status"] == "completed"
