"""Embeddings: passed on to one model byte for byte, within the limits of the key, and booked in a row of their own."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI, NotFoundError

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Limits, Role
from millrace.stores.database import FILE
from millrace.web.drain import drain
from tests.support.provider import Provider, close, says, scripted_provider, stay
from tests.support.server import Running, Start
from tests.support.waiting import until

PATH = "/v1/embeddings"
MODEL = "an-embedding-model"
ASKED = {"model": MODEL, "input": "a mill"}
PRICE = Decimal("0.02")
VECTORS = b'{"object":"list", "data":[{"object":"embedding","index":0,"embedding":[0.5,-1e-3]}] ,"usage":%b}'


def http_answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def configured(base_url: str, folder: Path | None = None, **more: Any) -> Callable[[dict[str, Any]], None]:
    def change(configuration: dict[str, Any]) -> None:
        table = {"base_url": base_url, "model": MODEL, "price": {"input": str(PRICE)}, **more}
        configuration["models"] |= {"embeddings": table, "aliases": {"mine": MODEL, "*": "auto"}}
        if folder is not None:
            configuration["server"]["data_dir"] = str(folder)

    return change


@asynccontextmanager
async def before(start: Start, script: Any, folder: Path, **more: Any) -> AsyncIterator[tuple[Provider, Running]]:
    """Run a server in front of a provider that does what a script says."""
    async with (
        scripted_provider(script) as provider,
        start(configured(provider.upstream.endpoint.base_url, folder, **more)) as running,
    ):
        yield provider, running


@pytest.fixture
async def embedding(start: Start) -> AsyncIterator[Running]:
    """A server whose small simulator makes embeddings too."""

    def change(configuration: dict[str, Any]) -> None:
        configured(configuration["models"]["small"]["base_url"])(configuration)

    async with start(change) as running:
        yield running


async def ask(running: Running, body: Any = ASKED, **headers: str) -> tuple[int, Any, bytes]:
    async with aiohttp.ClientSession() as http, http.post(running.url + PATH, json=body, headers=headers) as answer:
        return answer.status, answer.headers, await answer.read()


def error_in(answer: bytes) -> Any:
    return json.loads(answer)["error"]


async def rows(folder: Path, count: int = 1) -> list[dict[str, Any]]:
    """Return the rows of the ledger, once so many are settled."""

    def read() -> list[dict[str, Any]]:
        with sqlite3.connect(folder / FILE) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM entries ORDER BY opened_at")]

    await until(lambda: sum(row["status"] != "open" for row in read()) == count)
    return read()


@pytest.mark.parametrize("base", ["/v1", "/v1/"])
async def test_the_stock_client_gets_its_vectors(base: str, embedding: Running) -> None:
    """In base64, which it asks for by default, and as numbers; alike each time, near where words are alike."""
    async with AsyncOpenAI(base_url=embedding.url + base, api_key="ignored") as client:
        texts = ["the mill turns", "the mill stands", "quite another thing"]
        made = await client.embeddings.create(model=MODEL, input=texts)
        plain = await client.embeddings.create(model="mine", input=texts, encoding_format="float", dimensions=256)
        assert [one.index for one in made.data] == [0, 1, 2]
        for one, other in zip(made.data, plain.data, strict=True):
            assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
            assert len(one.embedding) == 256
        first, second, third = (one.embedding for one in plain.data)
        assert sum(map(float.__mul__, first, second)) > sum(map(float.__mul__, first, third))
        assert made.usage.prompt_tokens == made.usage.total_tokens > 6
        tokens = await client.embeddings.create(model=MODEL, input=[[1, 2, 3], [4]], dimensions=8, user="u")
        assert (len(tokens.data), len(tokens.data[0].embedding), tokens.usage.prompt_tokens) == (2, 8, 4)
        assert MODEL in [model.id async for model in await client.models.list()]
        assert (await client.models.retrieve(MODEL)).id == MODEL
        with pytest.raises(NotFoundError):
            await client.embeddings.create(model="small", input="x")
        with pytest.raises(NotFoundError):
            await client.chat.completions.create(model="mine", messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (b'{"prompt_tokens":300000,"total_tokens":300000}', 300_000),
        (b'{"total_tokens":7}', 7),
        (b'{"prompt_tokens":7,"total_tokens":9, "details": {"usage": {}}}', 7),
        (b"null", None),
        (b'{"prompt_tokens":0}', None),
    ],
)
async def test_an_answer_is_passed_on_byte_for_byte_and_booked(
    start: Start, tmp_path: Path, usage: bytes, tokens: int | None
) -> None:
    """The request too, but for the name of the model; the price is that of the tokens that were reported."""
    body = VECTORS % usage
    async with before(start, says(http_answer(body), then=stay), tmp_path) as (provider, running):
        asked: dict[str, Any] = ASKED | {
            "model": "mine",
            "dimensions": 2,
            "input_type": "query",
            "user": None,
            "millrace": {},
        }
        status, headers, answer = await ask(running, asked)
        assert (status, answer, headers["Content-Type"]) == (200, body, "application/json")
        head, sent = provider.requests[0]
        assert head.startswith("POST /v1/embeddings ")
        assert sent == {"model": MODEL, "input": "a mill", "dimensions": 2, "input_type": "query"}
        (row,) = await rows(tmp_path)
    assert row["request_id"] == headers["X-Request-Id"]
    assert row["request_id"].startswith("emb_")
    assert (row["status"], row["strategy"], row["source"], row["code"]) == ("completed", "embeddings", None, None)
    assert row["estimated"] == (tokens is None)
    counted = tokens or 2
    assert (row["input_tokens"], row["output_tokens"]) == (counted, 0)
    assert row["cost_nanodollars"] == int(counted * PRICE * 1000)
    (call,) = json.loads(row["calls"])
    assert (call["model"], call["tier"], call["outcome"]) == (MODEL, "embeddings", "answered")
    assert Decimal(call["price"]["input"]) == Decimal(PRICE)


async def test_a_long_answer_comes_whole(start: Start, tmp_path: Path) -> None:
    """Thousands of vectors, whose usage comes last."""
    numbers = ",".join(["-0.0123456789"] * 1536)
    vector = f'{{"object":"embedding","index":0,"embedding":[{numbers}]}}'
    body = f'{{"object":"list","data":[{",".join([vector] * 500)}],"usage":{{"prompt_tokens":99}}}}'.encode()
    assert len(body) > 10**7
    async with before(start, says(http_answer(body), then=stay), tmp_path) as (_, running):
        assert (await ask(running))[2] == body
        (row,) = await rows(tmp_path)
        async with aiohttp.ClientSession() as http, http.get(f"{running.url}/healthz?verbose") as answer:
            accounts = {each["name"]: each["used"] for each in (await answer.json())["memory"]["accounts"]}
    assert row["input_tokens"] == 99
    assert accounts["requests"] == 0


REFUSED = [
    ({"model": MODEL}, "input"),
    ({"input": "x"}, "model"),
    (ASKED | {"input": ""}, "input"),
    (ASKED | {"input": []}, "input"),
    (ASKED | {"input": ["x", ""]}, "input[1]"),
    (ASKED | {"input": ["x", 7]}, "input[1]"),
    (ASKED | {"input": [7, [7]]}, "input[1]"),
    (ASKED | {"input": [[7], []]}, "input[1]"),
    (ASKED | {"input": [[7], [-1]]}, "input[1][0]"),
    (ASKED | {"input": [1.5]}, "input[0]"),
    (ASKED | {"input": {"text": "x"}}, "input"),
    (ASKED | {"input": ["x"] * 2049}, "input"),
    (ASKED | {"encoding_format": "int8"}, "encoding_format"),
    (ASKED | {"dimensions": 0}, "dimensions"),
    (ASKED | {"dimensions": "8"}, "dimensions"),
    (ASKED | {"user": 7}, "user"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED, ids=[f"{param}-{at}" for at, (_, param) in enumerate(REFUSED)])
async def test_a_bad_request_is_refused_by_its_path(body: Any, param: str, embedding: Running) -> None:
    """Before the model is asked."""
    status, _, answer = await ask(embedding, body)
    assert (status, error_in(answer)["param"]) == (400, param)
    assert embedding.calls == 0


async def test_tokens_of_one_text_may_be_many(embedding: Running) -> None:
    assert (await ask(embedding, ASKED | {"input": [7] * 8000}))[0] == 200


@pytest.mark.parametrize("name", ["auto", "small", "large-model", "text-embedding-3-small"])
async def test_another_model_makes_none(name: str, embedding: Running) -> None:
    """Not even where any name is taken for an answer: vectors of two models cannot be compared."""
    status, _, answer = await ask(embedding, ASKED | {"model": name})
    error = error_in(answer)
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert MODEL in error["message"]


async def test_without_a_model_it_is_said_what_is_missing(millrace: Running) -> None:
    status, _, answer = await ask(millrace)
    assert (status, error_in(answer)["code"]) == (404, "model_not_found")
    assert "[models.embeddings]" in error_in(answer)["message"]


@pytest.mark.parametrize("name", [MODEL, "mine"])
async def test_the_model_answers_no_questions(name: str, embedding: Running) -> None:
    """A request for an answer that names it is not answered by another one."""
    async with (
        aiohttp.ClientSession(embedding.url) as http,
        http.post("/v1/responses", json={"model": name, "input": "Hello"}) as answer,
    ):
        error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (404, "model_not_found")
    assert "/v1/embeddings" in error["message"]


REFUSAL = b'{"error":{"message":"the key %b","type":"x","code":"%b"}}'
REFUSALS = [
    ("400 Bad Request", 400, b"context_length_exceeded", "context_length_exceeded", "false"),
    ("401 Unauthorized", 502, b"invalid_api_key", "upstream_error", "false"),
    ("404 Not Found", 502, b"model_not_found", "upstream_error", "false"),
    ("429 Too Many Requests", 429, b"rate_limit_exceeded", "rate_limit_exceeded", "true"),
    ("429 Too Many Requests", 429, b"insufficient_quota", "insufficient_quota", "false"),
    ("500 Internal Server Error", 502, b"oops", "upstream_error", "true"),
    ("200 OK", 502, b"oops", "upstream_error", "true"),
]


@pytest.mark.parametrize(("line", "status", "word", "code", "again"), REFUSALS, ids=range(len(REFUSALS)))
async def test_a_refusal_keeps_its_meaning_and_costs_nothing(
    start: Start, tmp_path: Path, line: str, status: int, word: bytes, code: str, again: str
) -> None:
    """Status, code, words and `Retry-After`; what is the operator's fault is not the client's."""
    script = says(http_answer(REFUSAL % (b"secret-key", word), line, "Retry-After: 3"), then=stay)
    async with before(start, script, tmp_path) as (_, running):
        got, headers, answer = await ask(running)
        assert (got, error_in(answer)["code"]) == (status, code)
        assert "secret-key" in error_in(answer)["message"] or "refused the key" in error_in(answer)["message"]
        assert headers["X-Should-Retry"] == again
        if line.startswith(("400", "429")):
            assert headers["Retry-After"] == "3"
        (row,) = await rows(tmp_path)
    assert (row["status"], row["code"], row["cost_nanodollars"]) == ("failed", code, 0)


BROKEN = {
    "no document": (http_answer(b"<html>"), close, "upstream_error", 2),
    "half of it": (http_answer(VECTORS % b"{}")[:-9], close, "upstream_truncated", 2),
    "nothing": (b"", close, "upstream_error", 2),
    "silence": (b"", stay, "upstream_timeout", 2),
    "no http": (b"what?\r\n\r\n", close, "upstream_error", 2),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_broken_answer_is_an_error_and_may_have_cost(start: Start, tmp_path: Path, broken: str) -> None:
    """What was sent may be billed, so its input is booked as an estimate."""
    sent, then, code, tokens = BROKEN[broken]
    async with before(start, says(sent, then=then), tmp_path, timeout_s=0.5) as (_, running):
        status, _, answer = await ask(running)
        assert (status, error_in(answer)["code"]) in ((502, code), (504, code))
        (row,) = await rows(tmp_path)
    assert (row["status"], row["code"], row["input_tokens"], row["estimated"]) == ("failed", code, tokens, 1)


async def test_a_provider_that_is_not_there_costs_nothing(start: Start, tmp_path: Path) -> None:
    async with start(configured("http://127.0.0.1:9/v1", tmp_path)) as running:
        status, _, answer = await ask(running)
        assert (status, error_in(answer)["code"]) == (502, "upstream_error")
        (row,) = await rows(tmp_path)
    assert (row["status"], row["cost_nanodollars"]) == ("failed", 0)


async def test_a_fault_that_passes_is_tried_once_more(start: Start, tmp_path: Path) -> None:
    """On a new connection, and billed once; also where a connection that was kept has been closed meanwhile."""
    answers = [
        (http_answer(b"{}", "503 Service Unavailable"), stay),
        (http_answer(VECTORS % b'{"total_tokens":5}'), stay),
        (b"", close),
        (http_answer(VECTORS % b'{"total_tokens":6}'), stay),
    ]

    async def script(writer: asyncio.StreamWriter) -> None:
        sent, then = answers.pop(0)
        await says(sent, then=then)(writer)

    async with before(start, script, tmp_path) as (provider, running):
        assert (await ask(running))[0] == 200
        answers.insert(0, (http_answer(VECTORS % b"{}"), stay))
        assert (await ask(running))[0] == 200  # leaves a connection in the pool
        assert (await ask(running))[0] == 200
        assert len(provider.requests) == 5
        assert [row["input_tokens"] for row in await rows(tmp_path, 3)] == [5, 2, 6]


@pytest.mark.parametrize("way", ["the client goes", "half-closed"])
async def test_a_client_that_goes_takes_its_call_with_it(start: Start, tmp_path: Path, way: str) -> None:
    """The socket to the provider is closed at once, and what may be billed is booked."""
    async with before(start, says(b"", then=stay), tmp_path) as (provider, running):
        host, port = running.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps(ASKED)
        writer.write(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await until(lambda: len(provider.requests) == 1)
        if way == "half-closed":
            writer.write_eof()
        else:
            writer.transport.abort()
        async with asyncio.timeout(2):
            await until(lambda: provider.left_at is not None)
        (row,) = await rows(tmp_path)
        writer.transport.abort()
    assert (row["status"], row["code"], row["input_tokens"], row["estimated"]) == ("cancelled", "cancelled", 2, 1)


async def with_key(folder: Path, **limits: Any) -> tuple[str, str]:
    """Store a key with limits; return its id and its text."""
    key, text = keys.make(tenant="acme", role=Role.USE, created_at=1.0, limits=Limits(**limits))
    async with key_store(str(folder)) as store:
        await store.add(key)
    return key.principal.key_id, text


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"requests_per_minute": 1}, "rate_limit_exceeded"),
        ({"tokens_per_minute": 8}, "rate_limit_exceeded"),
        ({"dollars_per_day": Decimal("0.00000015")}, "budget_exceeded"),
        ({"in_flight": 1}, "too_many_in_flight"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_the_limits_of_a_key_hold(start: Start, tmp_path: Path, limits: dict[str, Any], code: str) -> None:
    """The second request is one too many; the row names the key."""
    key_id, text = await with_key(tmp_path, **limits)
    bearer = {"Authorization": f"Bearer {text}"}
    go = asyncio.Event()

    async def script(writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await says(http_answer(VECTORS % b'{"prompt_tokens":7}'), then=stay)(writer)

    async with before(start, script, tmp_path) as (provider, running):
        assert (await ask(running))[0] == 401
        first = asyncio.create_task(ask(running, **bearer))
        await until(lambda: len(provider.requests) == 1)
        if code != "too_many_in_flight":
            go.set()
            assert (await first)[0] == 200
        _, _, answer = await ask(running, **bearer)
        assert error_in(answer)["code"] == code
        go.set()
        assert (await first)[0] == 200
        (row,) = await rows(tmp_path)
    assert (row["key_id"], row["tenant"]) == (key_id, "acme")


async def test_a_revoked_key_ends_its_calls(start: Start, tmp_path: Path) -> None:
    key_id, text = await with_key(tmp_path)
    async with before(start, says(b"", then=stay), tmp_path) as (provider, running):
        asked = asyncio.create_task(ask(running, Authorization=f"Bearer {text}"))
        await until(lambda: len(provider.requests) == 1)
        async with key_store(str(tmp_path)) as store:
            assert await store.revoke(key_id, 2.0)
        async with asyncio.timeout(8):
            status, _, answer = await asked
            await until(lambda: provider.left_at is not None)
        assert (status, error_in(answer)["code"]) == (499, "cancelled")
        (row,) = await rows(tmp_path)
    assert row["status"] == "cancelled"


async def test_a_drain_waits_for_them_and_ends_them_in_time(start: Start, tmp_path: Path) -> None:
    """New ones are refused; one that does not end within `drain_s` fails as `server_draining`."""
    async with scripted_provider(says(b"", then=stay)) as provider:

        def change(configuration: dict[str, Any]) -> None:
            configured(provider.upstream.endpoint.base_url, tmp_path)(configuration)
            configuration["server"]["drain_s"] = 0.5

        async with start(change) as running:
            asked = asyncio.create_task(ask(running))
            await until(lambda: len(provider.requests) == 1)
            (connection,) = running.connections
            draining = asyncio.create_task(drain(connection.app_state["process"]))
            await asyncio.sleep(0)
            status, _, answer = await ask(running)
            assert (status, error_in(answer)["code"]) == (503, "server_draining")
            status, headers, answer = await asked
            assert (status, error_in(answer)["code"]) == (503, "server_draining")
            assert headers["Retry-After"] == "1"
            await draining
            (row,) = await rows(tmp_path)
    assert (row["status"], row["code"], row["input_tokens"]) == ("failed", "server_draining", 2)
