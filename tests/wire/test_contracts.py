"""The published contracts: sound documents, all that the server sends and takes in them, and nothing loose."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema_rs
import msgspec
import pytest
from starlette.routing import Route

from millrace import __version__, app, settings
from millrace.wire import asyncapi, contracts, requests
from tests.support import frames
from tests.support.paths import REPOSITORY
from tests.support.server import Running, configuration_for

SPECIFICATIONS = REPOSITORY / "tests" / "js" / "node_modules"
ASYNCAPI = SPECIFICATIONS / "@asyncapi" / "specs" / "schemas" / "3.0.0-without-$id.json"
OPENAPI = SPECIFICATIONS / "@apidevtools" / "openapi-schemas" / "schemas" / "v3.1" / "schema.json"
FRAMES = (REPOSITORY / "tests" / "data" / "client_frames.jsonl").read_text("utf-8").splitlines()
EVENTS: list[dict[str, Any]] = [
    event
    for path in sorted((REPOSITORY / "tests" / "support" / "captured").glob("*.json"))
    for event in json.loads(path.read_text("utf-8"))["events"]
]
DOCUMENTS = {"asyncapi": asyncapi.document("1.2.3"), "openapi": contracts.openapi("1.2.3")}


def specification(path: Path) -> jsonschema_rs.Validator:
    if not path.exists():
        pytest.skip("the specifications' schemas are not installed; install them with: npm ci --prefix tests/js")
    return jsonschema_rs.validator_for(json.loads(path.read_text("utf-8")))


@pytest.mark.parametrize(("name", "path"), [("asyncapi", ASYNCAPI), ("openapi", OPENAPI)])
def test_a_document_is_what_its_specification_asks_for(name: str, path: Path) -> None:
    faults = [
        f"{'.'.join(map(str, error.instance_path))}: {error.message[:200]}"
        for error in specification(path).iter_errors(DOCUMENTS[name])
    ]
    assert faults == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_reference_leads_somewhere(name: str) -> None:
    found = [*references(DOCUMENTS[name])]
    assert len(found) > 50
    for reference in found:
        at: Any = DOCUMENTS[name]
        for step in reference.removeprefix("#/").split("/"):
            at = at[step]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_schema_is_one(name: str) -> None:
    for schema in DOCUMENTS[name]["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["type"])
def test_a_golden_event_is_in_the_contract(event: dict[str, Any]) -> None:
    frames.validate(event, "sent")


def test_every_event_of_the_contract_has_been_seen() -> None:
    """A golden conversation holds it; see `tests/support/captured/capture.py`."""
    assert {contracts.tag(shape) for shape in contracts.SENT} == {event["type"] for event in EVENTS}


@pytest.mark.parametrize("line", FRAMES)
def test_a_frame_of_a_client_is_in_the_contract_and_is_read(line: str) -> None:
    frames.validate(json.loads(line), "received")
    envelope = requests.open_frame(line)
    requests.check_ids(envelope)
    if envelope.type == "response.create":
        requests.read_create(envelope.fields, ("refusal",))


def test_every_frame_of_the_contract_has_been_sent() -> None:
    assert {contracts.tag(shape) for shape in contracts.RECEIVED} == {json.loads(line)["type"] for line in FRAMES}
    assert {contracts.tag(shape) for shape in contracts.RECEIVED} == set(requests.TYPES)


@pytest.mark.parametrize("event", {event["type"]: event for event in EVENTS}.values(), ids=lambda event: event["type"])
def test_the_contract_catches_what_is_missing_wrong_or_unknown(event: dict[str, Any]) -> None:
    """Field by field."""
    optional = {"stream_id", "event_id", "similarity", "entry_id", "age_s", "budget"} - (
        {"budget"} if event["type"] == "millrace.notice" else set()
    )
    for name, value in event.items():
        if name not in optional:
            with pytest.raises(AssertionError, match="contract"):
                frames.validate({key: value for key, value in event.items() if key != name}, "sent")
        if name != "t":  # of a ping: anything
            with pytest.raises(AssertionError, match="contract"):
                frames.validate({**event, name: "neither" if name == "type" or isinstance(value, list) else []}, "sent")
    with pytest.raises(AssertionError, match="contract"):
        frames.validate({**event, "one_more": 1}, "sent")


def test_an_unknown_event_is_caught() -> None:
    with pytest.raises(AssertionError, match="not in the contract"):
        frames.validate({"type": "response.guessed", "sequence_number": 0}, "sent")


def test_what_both_sides_write_has_no_defaults() -> None:
    """A default is written by the server and may be left out by a client: one schema could not say both."""
    written = {endpoint.answer for endpoint in contracts.OPERATIONS} | {*contracts.SENT}
    read = {endpoint.body for endpoint in contracts.OPERATIONS if endpoint.body} | {*contracts.RECEIVED}
    for shape in contracts.made_of(written).keys() & contracts.made_of(read).keys():
        assert all(field.required for field in msgspec.structs.fields(shape)), shape


def test_the_endpoints_of_the_document_are_those_of_the_server() -> None:
    routes = app.create_app(settings.build(configuration_for("http://127.0.0.1:1", "http://127.0.0.1:2"), {})).routes
    elsewhere = ("/asyncapi.json", "/openapi.json", "/metrics", "/docs", "/replicas")  # in no contract
    served = {
        (method.lower(), route.path_format)
        for route in routes
        if isinstance(route, Route) and not route.path.startswith(elsewhere)
        for method in (route.methods or set()) - {"HEAD"}
    }
    documented = {(method, path) for path, methods in DOCUMENTS["openapi"]["paths"].items() for method in methods}
    websockets = {("get", "/v1/responses"), ("get", "/v1/chat/ws"), ("get", "/v1/dashboard/live")}
    assert served - websockets == documented


async def test_the_server_publishes_them(millrace: Running) -> None:
    assert await got(f"{millrace.url}/asyncapi.json") == asyncapi.document(__version__)
    assert await got(f"{millrace.url}/openapi.json") == contracts.openapi(__version__)


@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/readyz"])
async def test_a_document_of_the_server_is_in_the_contract(path: str, millrace: Running) -> None:
    frames.validate_answer("get", path, 200, await got(millrace.url + path))


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/small", "/v1/models/gpt-9"])
async def test_models_for_anthropics_clients_are_in_the_contract(path: str, millrace: Running) -> None:
    written = path if path == "/v1/models" else "/v1/models/{id}"
    async with (
        aiohttp.ClientSession(headers={"anthropic-version": "2023-06-01"}) as client,
        client.get(millrace.url + path) as answer,
    ):
        frames.validate_answer("get", written, answer.status, await answer.json())


async def got(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        document: dict[str, Any] = await answer.json()
        return document


CHAT = {"messages": [{"role": "user", "content": "What is 2 + 2?"}], "stream_options": {"include_usage": True}}
TOOL = {"name": "get_weather", "parameters": {"type": "object"}}
SAID = {"max_tokens": 99, "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
MESSAGES_TOOL = {"name": "get_weather", "input_schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "What is 2 + 2?"}),
        (
            "/v1/responses",
            {"input": "Go. [reason=3]", "tools": [{"type": "function", **TOOL}], "tool_choice": "required"},
        ),
        ("/v1/responses", {"input": "Be rude. [refuse]", "model": "large"}),
        ("/v1/responses", {"input": "Hello [fault=hangup@3]", "model": "small"}),
        ("/v1/chat/completions", CHAT),
        (
            "/v1/chat/completions",
            {**CHAT, "tools": [{"type": "function", "function": TOOL}], "tool_choice": "required"},
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "Hello [fault=hangup@3]"}], "model": "small"},
        ),
        ("/v1/messages", SAID),
        ("/v1/messages", {**SAID, "tools": [MESSAGES_TOOL], "tool_choice": {"type": "any"}, "system": "[reason=3]"}),
        (
            "/v1/messages",
            {**SAID, "system": "[fault=hangup@3]", "model": "small"},
        ),
        ("/v1/messages", {**SAID, "max_tokens": 0}),
        ("/v1/messages/count_tokens", SAID),
        ("/v1/responses", {"input": "Hello", "model": "no-such-model"}),
        ("/v1/chat/completions", {"messages": []}),
    ],
)
async def test_what_http_answers_is_in_the_contract(path: str, body: dict[str, Any], millrace: Running) -> None:
    """Whole, and each event of it as a stream."""
    async with aiohttp.ClientSession() as client:
        async with client.post(millrace.url + path, json={"model": "auto", **body}) as answer:
            frames.validate_answer("post", path, answer.status, await answer.json())
        async with client.post(millrace.url + path, json={"model": "auto", **body, "stream": True}) as answer:
            if answer.status != 200 or answer.content_type == "application/json":
                frames.validate_answer("post", path, answer.status, await answer.json())
                return
            events = [line[6:] async for line in answer.content if line.startswith(b"data: ")]
    assert events
    for event in events:
        if event != b"[DONE]\n":
            frames.validate_streamed("post", path, json.loads(event))


async def test_what_is_done_with_a_response_is_in_the_contract(millrace: Running) -> None:
    one = "/v1/responses/{id}"
    async with aiohttp.ClientSession(millrace.url) as client:
        async with client.post("/v1/responses", json={"input": "What is 2 + 2?"}) as answer:
            path = f"/v1/responses/{(await answer.json())['id']}"
        async with client.get(path) as answer:
            frames.validate_answer("get", one, answer.status, await answer.json())
        async with client.get(f"{path}/input_items") as answer:
            frames.validate_answer("get", f"{one}/input_items", answer.status, await answer.json())
        async with client.get(f"{path}?stream=true") as answer:
            events = [json.loads(line[6:]) async for line in answer.content if line.startswith(b"data: ")]
        assert events[-1]["type"] == "response.completed"
        for event in events:
            frames.validate_streamed("get", one, event)
        async with client.post(f"{path}/cancel") as answer:
            frames.validate_answer("post", f"{one}/cancel", answer.status, await answer.json())
        for status in (200, 404):
            async with client.delete(path) as answer:
                assert answer.status == status
                frames.validate_answer("delete", one, status, await answer.json())


async def test_a_ticket_is_in_the_contract(millrace: Running) -> None:
    async with aiohttp.ClientSession(millrace.url) as client:
        for origin in (millrace.url, None):
            async with client.post("/v1/tickets", json={"origin": origin}) as answer:
                assert answer.status == (201 if origin else 400)
                frames.validate_answer("post", "/v1/tickets", answer.status, await answer.json())


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        schema = schema.values()
    elif not isinstance(schema, list):
        return
    for below in schema:
        yield from references(below)
