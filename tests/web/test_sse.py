"""The funnel over HTTP: both dialects, whole and streamed; refusals, failures, goodbyes, cancel and resume."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Role
from millrace.wire import limits
from tests.support.http_client import CHAT, MESSAGES, RESPONSES, body_of, data_of, events_of, lines_of, text_of_chunks
from tests.support.logs import captured_logs
from tests.support.server import AT_ONCE_S, Running, Start, answers_up_to
from tests.support.waiting import PATIENCE_S, until, within
from tests.support.wire_client import TERMINALS, Event, check_response, wire_client

ASKED = "What is the capital of France?"


@pytest.fixture
async def http(millrace: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(millrace.url) as session:
        yield session


@asynccontextmanager
async def asking(running: Running, path: str, body: Event) -> AsyncIterator[aiohttp.ClientResponse]:
    """Ask on a connection of its own, which is gone at the end."""
    async with aiohttp.ClientSession(running.url) as session, session.post(path, json=body) as answer:
        yield answer


async def test_responses_streamed_are_the_events_of_the_socket(millrace: Running, http: aiohttp.ClientSession) -> None:
    """Each with its name; the terminal is the last; the same answer whole."""
    async with http.post(RESPONSES, json=body_of(RESPONSES, ASKED, stream=True)) as answer:
        assert answer.headers["X-Request-Id"].startswith("resp_")
        lines = await lines_of(answer)
    events = events_of(lines)
    response = check_response(events)
    assert [line.removeprefix("event: ") for line in lines if line.startswith("event: ")] == [
        event["type"] for event in events
    ]
    assert "[DONE]" not in data_of(lines)
    async with http.post(RESPONSES, json=body_of(RESPONSES, ASKED)) as answer:
        whole = await answer.json()
    assert whole["status"] == "completed"
    assert whole["metadata"]["millrace.cache"] == "exact"
    assert [item["content"] for item in whole["output"]] == [item["content"] for item in response["output"]]


async def test_a_completion_streamed_is_the_whole_one(millrace: Running, http: aiohttp.ClientSession) -> None:
    """From the role to [DONE]."""
    async with http.post(CHAT, json=body_of(CHAT, ASKED, stream=True)) as answer:
        data = data_of(await lines_of(answer))
    assert data[-1] == "[DONE]"
    chunks = [json.loads(each) for each in data[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    async with http.post(CHAT, json=body_of(CHAT, ASKED)) as answer:
        whole = await answer.json()
    assert whole["choices"][0]["message"]["content"] == text_of_chunks(chunks)
    assert "Paris" in text_of_chunks(chunks)


REFUSED: list[tuple[str, str, Event, int, str, str | None]] = [
    ("no such model", RESPONSES, {"input": "x", "model": "gpt-9"}, 404, "model_not_found", "model"),
    (
        "no such model",
        CHAT,
        {"messages": [{"role": "user", "content": "x"}], "model": "g"},
        404,
        "model_not_found",
        "model",
    ),
    ("no input", RESPONSES, {"model": "auto"}, 400, "invalid_request", "input"),
    ("no messages", CHAT, {"model": "auto"}, 400, "invalid_request", "messages"),
    ("too hot", RESPONSES, {"input": "x", "temperature": 9}, 400, "invalid_request", "temperature"),
    (
        "no content",
        RESPONSES,
        {"input": [{"role": "user", "content": "x"}, {"role": "user"}]},
        400,
        "invalid_request",
        "input[1].content",
    ),
    (
        "unknown previous",
        RESPONSES,
        {"input": "x", "previous_response_id": "resp_0"},
        404,
        "previous_response_not_found",
        "previous_response_id",
    ),
    (
        "a bad option",
        RESPONSES,
        {"input": "x", "millrace": {"delivery": "soon"}},
        400,
        "invalid_request",
        "millrace.delivery",
    ),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"), [pytest.param(*row[1:], id=f"{row[0]} {row[1]}") for row in REFUSED]
)
async def test_what_is_refused_has_a_status_and_names_the_field(
    millrace: Running,
    http: aiohttp.ClientSession,
    path: str,
    body: Event,
    status: int,
    code: str,
    param: str,
    stream: bool,
) -> None:
    async with http.post(path, json={**body, "stream": stream}) as answer:
        assert (answer.status, answer.content_type) == (status, "application/json")
        error = (await answer.json())["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert millrace.calls == 0


@pytest.mark.parametrize("path", [RESPONSES, CHAT])
async def test_a_body_that_is_none(millrace: Running, http: aiohttp.ClientSession, path: str) -> None:
    """No JSON, no object, too long."""
    for sent, status, code in (
        (b"{", 400, "invalid_json"),
        (b"", 400, "invalid_json"),
        (b"[1]", 400, "invalid_request"),
        (b"\xff", 400, "invalid_json"),
        (io.BytesIO(b'{"input":"' + b"x" * limits.MAX_MESSAGE_BYTES + b'"}'), 413, "message_too_big"),
    ):
        async with http.post(path, data=sent) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", RESPONSES, 405),
        ("DELETE", RESPONSES, 405),
        ("GET", CHAT, 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/tickets", 405),
        ("PATCH", f"{RESPONSES}/resp_1", 405),
        ("GET", f"{RESPONSES}/resp_1/cancel", 405),
        ("GET", "/v1/audio/speech", 404),
        ("POST", "/v1/audio/speech", 404),
        ("GET", RESPONSES, 426),
    ],
)
async def test_what_is_not_there_is_refused_as_json(
    http: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    """SDKs read errors as JSON; a page is still a page."""
    async with http.request(method, path) as answer:
        assert (answer.status, answer.content_type) == (status, "application/json")
        assert (await answer.json())["error"]["code"] == "invalid_request"
    async with http.get("/nothing") as page:
        assert (page.status, page.content_type) == (404, "text/plain")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [RESPONSES, CHAT])
async def test_a_key_over_its_limit_is_told_when_to_come_back(
    start: Start, tmp_path: Path, path: str, stream: bool
) -> None:
    """429 with Retry-After, which SDKs heed."""
    key, text = keys.make(tenant="acme", role=Role.USE, created_at=1.0)
    async with key_store(str(tmp_path)) as store:
        await store.add(key)

    def once(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)
        configuration["limits"] = {"requests_per_minute": 1}

    headers = {"Authorization": f"Bearer {text}"}
    async with start(once) as running, aiohttp.ClientSession(running.url, headers=headers) as http:
        async with http.post(path, json=body_of(path, ASKED)) as answer:
            assert answer.status == 200
        async with http.post(path, json=body_of(path, ASKED, stream=stream)) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (429, "rate_limit_exceeded")
            assert 1 <= int(answer.headers["Retry-After"]) <= 61


FAILS = [("[fault=error]", 502, "upstream_error"), ("[fault=429]", 429, "rate_limit_exceeded")]


@pytest.mark.parametrize(("fault", "status", "code"), FAILS)
@pytest.mark.parametrize("path", [RESPONSES, CHAT])
async def test_a_failure_before_the_first_word_is_a_status(
    http: aiohttp.ClientSession, path: str, fault: str, status: int, code: str
) -> None:
    """Whole, and of a completion streamed too; a streamed response has begun by then and says so in its terminal."""
    async with http.post(path, json=body_of(path, f"x {fault}")) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
    async with http.post(path, json=body_of(path, f"x {fault}", stream=True)) as answer:
        if path == CHAT:
            assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
        else:
            response = check_response(events_of(await lines_of(answer)))
            assert (response["status"], response["error"]["code"]) == ("failed", code)


async def test_a_failure_in_mid_stream_is_said_and_nothing_is_done(http: aiohttp.ClientSession) -> None:
    """No [DONE] of a completion that breaks off; `response.failed` of a response; whole ones are statuses."""
    asked = "go on [tokens=60] [fault=hangup@20]"
    async with http.post(CHAT, json=body_of(CHAT, asked, stream=True, model="small")) as answer:
        data = data_of(await lines_of(answer))
    assert "[DONE]" not in data
    assert text_of_chunks([json.loads(each) for each in data])
    assert json.loads(data[-1])["error"]["code"] == "upstream_truncated"
    async with http.post(RESPONSES, json=body_of(RESPONSES, asked, stream=True, model="small")) as answer:
        events = events_of(await lines_of(answer))
    assert events[-1]["type"] == "response.failed"
    assert check_response(events)["error"]["code"] == "upstream_truncated"
    for path in (CHAT, RESPONSES):
        async with http.post(path, json=body_of(path, asked, model="small")) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (502, "upstream_truncated")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [RESPONSES, CHAT, MESSAGES])
@pytest.mark.parametrize("moment", ["before the first word", "in mid-stream"])
async def test_who_leaves_stops_the_model(millrace: Running, path: str, moment: str, stream: bool) -> None:
    """Within 250 ms, also when nothing has been sent yet and when nothing would be sent before the end."""
    early = moment == "before the first word"
    pace = "[ttft=30]" if early else "[tokens=4000] [rate=100]"
    async with aiohttp.ClientSession(millrace.url) as session:
        body = body_of(path, f"go on {pace}", stream=stream, model="small")
        asked = asyncio.ensure_future(session.post(path, json=body))
        await until(lambda: millrace.small.stats.running == 1 and (early or millrace.small.stats.tokens_sent > 20))
        if stream and not (early and path != RESPONSES):
            answer = await asked
            await answer.content.readline()
            leave: Any = answer.close
        else:
            leave = asked.cancel
        async with within(AT_ONCE_S):
            leave()
            await until(lambda: millrace.small.stats.aborted == 1)


async def test_who_said_so_may_leave(millrace: Running, http: aiohttp.ClientSession) -> None:
    """`on_disconnect: detach`: it runs on, and is there to be told from where it was left."""
    body = body_of(RESPONSES, "go on [tokens=60] [rate=150]", stream=True, millrace={"on_disconnect": "detach"})
    seen: list[str] = []
    async with asking(millrace, RESPONSES, body) as answer:
        path = f"{RESPONSES}/{answer.headers['X-Request-Id']}"
        while len(seen) < 21:
            seen.append((await answer.content.readline()).decode().rstrip("\n"))
    last = events_of(seen)[-1]["sequence_number"]
    async with http.get(path) as so_far:
        assert (await so_far.json())["status"] == "in_progress"
    async with http.get(f"{path}?stream=true&starting_after={last}") as answer:
        rest = await lines_of(answer)
    assert check_response(events_of(seen + rest))["status"] == "completed"
    async with http.get(f"{path}?stream=true") as answer:
        assert await lines_of(answer) == seen + rest
    assert millrace.calls == 1


@pytest.mark.parametrize("cut", [1, 2, 4, 8, 31, 90])
async def test_a_stream_is_told_again_from_any_event(millrace: Running, http: aiohttp.ClientSession, cut: int) -> None:
    """While it runs and when it has ended, byte for byte; after the last event nothing comes."""
    body = body_of(RESPONSES, "go on [tokens=80] [rate=800]", stream=True, millrace={"on_disconnect": "detach"})
    seen: list[str] = []
    async with asking(millrace, RESPONSES, body) as answer:
        path = f"{RESPONSES}/{answer.headers['X-Request-Id']}?stream=true"
        while len(seen) < 3 * cut and (line := await answer.content.readline()):  # two lines and an empty one
            seen.append(line.decode().rstrip("\n"))
    last = events_of(seen)[-1]["sequence_number"]
    for _ in range(2):
        async with http.get(f"{path}&starting_after={last}") as answer:
            rest = await lines_of(answer)
        async with http.get(path) as answer:
            assert await lines_of(answer) == seen + rest
    events = events_of(seen + rest)
    assert check_response(events)["status"] == "completed"
    async with http.get(f"{path}&starting_after={len(events) - 1}") as answer:
        assert await lines_of(answer) == []


async def test_there_is_no_other_socket(millrace: Running) -> None:
    """Refused before the upgrade, and no fault of the server's."""
    with captured_logs() as logs, pytest.raises(InvalidStatus) as refused:
        async with connect(f"{millrace.ws_url}/v1/nothing", open_timeout=PATIENCE_S):
            pass
    assert refused.value.response.status_code == 404
    assert logs.warnings == []


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "", "²"])
async def test_where_to_start_is_a_number(http: aiohttp.ClientSession, after: str) -> None:
    async with http.post(RESPONSES, json=body_of(RESPONSES, ASKED)) as answer:
        path = f"{RESPONSES}/{(await answer.json())['id']}?stream=true&starting_after="
    async with http.get(path + after) as answer:
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, "starting_after")
    async with http.get(f"{path}9999") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (409, "resume_gap")


async def test_http_cancels_what_a_socket_asked(millrace: Running, http: aiohttp.ClientSession) -> None:
    """The answer is the response as it ended, which is what the socket is told."""
    async with wire_client(millrace.ws_url) as client:
        await client.create("go on [tokens=4000] [rate=100]")
        events = [await client.next() for _ in range(6)]
        async with http.post(f"{RESPONSES}/{events[0]['response']['id']}/cancel") as answer:
            ended = await answer.json()
        assert (answer.status, ended["status"]) == (200, "cancelled")
        events += await client.until(*TERMINALS)
    assert check_response(events) == ended
    await until(lambda: millrace.small.stats.aborted == 1)


async def test_a_socket_cancels_what_http_asked(millrace: Running) -> None:
    """It ends for all who listen: a stream, one who waits for the whole, a socket."""
    body = body_of(RESPONSES, "go on [tokens=4000] [rate=100]", millrace={"idempotency_key": "k"})
    async with (
        asking(millrace, RESPONSES, body | {"stream": True}) as streamed,
        aiohttp.ClientSession(millrace.url) as session,
        wire_client(millrace.ws_url) as client,
    ):
        whole = asyncio.ensure_future(session.post(RESPONSES, json=body))
        await client.send({"type": "response.create", **body})
        response_id = (await client.next())["response"]["id"]
        await until(lambda: millrace.small.stats.running == 1)
        assert response_id == streamed.headers["X-Request-Id"]
        await client.send({"type": "response.cancel", "response_id": response_id})
        terminal = (await client.until(*TERMINALS))[-1]["response"]
        assert check_response(events_of(await lines_of(streamed))) == terminal
        assert await (await whole).json() == terminal
    assert terminal["status"] == "cancelled"
    await until(lambda: millrace.small.stats.aborted == 1)
    assert millrace.calls == 1


async def test_a_completion_has_no_word_for_a_cancel(millrace: Running, http: aiohttp.ClientSession) -> None:
    """It is an error; as a status none that an SDK repeats, or it would ask again for what was cancelled."""
    body = body_of(CHAT, "go on [tokens=4000] [rate=100]", millrace={"idempotency_key": "k"})
    async with (
        asking(millrace, CHAT, body | {"stream": True}) as streamed,
        aiohttp.ClientSession(millrace.url) as session,
    ):
        whole = asyncio.ensure_future(session.post(CHAT, json=body))
        first = (await streamed.content.readline()).decode()
        async with http.post(f"{RESPONSES}/{streamed.headers['X-Request-Id']}/cancel") as answer:
            assert (await answer.json())["status"] == "cancelled"
        data = data_of([first, *await lines_of(streamed)])
        assert json.loads(data[-1])["error"]["code"] == "cancelled"
        refused = await whole
        assert (refused.status, (await refused.json())["error"]["code"]) == (499, "cancelled")
    assert millrace.calls == 1


async def test_a_cancel_of_what_has_ended_returns_it(http: aiohttp.ClientSession) -> None:
    """Twice too; an unknown one is not found."""
    async with http.post(RESPONSES, json=body_of(RESPONSES, ASKED)) as answer:
        whole = await answer.json()
    for _ in range(2):
        async with http.post(f"{RESPONSES}/{whole['id']}/cancel") as answer:
            assert await answer.json() == whole
    async with http.post(f"{RESPONSES}/resp_0/cancel") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "response_not_found")


async def test_a_silent_stream_is_kept_open(
    millrace: Running, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments pass while a model thinks; no event is lost, and no reader of events sees them."""
    monkeypatch.setattr(limits, "SILENT_S", 0.2)
    async with http.post(RESPONSES, json=body_of(RESPONSES, "x [ttft=1]", stream=True)) as answer:
        lines = await lines_of(answer)
    comments = [line for line in lines if line.startswith(":")]
    assert 2 <= len(comments) <= 5
    assert check_response(events_of(lines))["status"] == "completed"


@pytest.mark.parametrize("path", [RESPONSES, CHAT])
@pytest.mark.parametrize("delivery", ["prefix", "commit"])
async def test_a_stream_that_has_not_begun_is_kept_open_too(
    millrace: Running, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, path: str, delivery: str
) -> None:
    """Before the first word, and while a whole answer is held back. The answer that follows is the same as ever."""
    monkeypatch.setattr(limits, "SILENT_S", 0.2)
    asked = "Go on. [tokens=30] [ttft=0.5] [rate=60]"
    body = body_of(path, asked, stream=True, model="small", millrace={"delivery": delivery, "cache": "off"})
    async with http.post(path, json=body) as answer:
        assert await answer.content.readline() == (b": still there\n" if path == CHAT else b"event: response.created\n")
        lines = await lines_of(answer)
    if path == RESPONSES:
        assert ": still there" in lines
    else:
        assert data_of(lines)[-1] == "[DONE]"
        assert len(text_of_chunks([json.loads(data) for data in data_of(lines)[:-1]]).split()) > 15


@pytest.mark.parametrize("path", [RESPONSES, CHAT])
async def test_what_fails_after_the_first_comment_fails_in_mid_stream(
    millrace: Running, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """One error with what it cost, and no [DONE]; before the first comment it would be a status."""
    monkeypatch.setattr(limits, "SILENT_S", 0.2)
    async with http.post(path, json=body_of(path, "x [ttft=0.8] [fault=hangup@0]", stream=True)) as answer:
        lines = await lines_of(answer)
    assert ": still there" in lines
    events = events_of(lines)
    if path == CHAT:
        (only,) = events
        assert only["error"]["code"] == "upstream_truncated"
        assert only["usage"]["cost_usd"] >= 0
    else:
        assert check_response(events)["error"]["code"] == "upstream_truncated"
    assert "[DONE]" not in data_of(lines)


async def test_who_leaves_a_stream_of_comments_stops_the_model(
    millrace: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SILENT_S", 0.1)
    async with asking(millrace, CHAT, body_of(CHAT, "x [ttft=30]", stream=True, model="small")) as answer:
        assert await answer.content.readline() == b": still there\n"
        await until(lambda: millrace.calls == 1, 30)  # who leaves before it is asked stops nothing
    await until(lambda: millrace.small.stats.aborted == 1)


async def test_who_takes_nothing_is_given_up(start: Start) -> None:
    """A client that does not read pauses the model; after a while the request ends, and its model stops."""
    async with (
        start(answers_up_to(100_000, stuck_s=0.5)) as running,
        aiohttp.ClientSession(running.url, read_bufsize=1024) as http,
    ):
        body = body_of(RESPONSES, "flood [tokens=100000]", stream=True, model="small")
        async with http.post(RESPONSES, json=body) as answer:
            await until(lambda: running.small.stats.aborted == 1)
            assert running.small.stats.tokens_sent < 100_000
            async with http.get(f"{RESPONSES}/{answer.headers['X-Request-Id']}") as got:
                ended = await got.json()
            answer.close()
    assert (ended["status"], ended["incomplete_details"]) == ("incomplete", {"reason": "slow_consumer"})
