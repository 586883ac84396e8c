"""One WebSocket: the standard sequence, lanes, refusals, and a connection that goes on."""

import itertools
import json
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.typing import Origin

from millrace.wire import limits
from tests.support.server import Running, Start, answers_up_to, paused_at
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import (
    TERMINALS,
    Event,
    WireClient,
    check_response,
    output_of,
    small_buffer_socket,
    wire_client,
)

STANDARD = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


async def test_a_plain_client_gets_the_standard_events_and_nothing_else(millrace: Running) -> None:
    """Order, numbering, text, usage and money of one ordinary answer."""
    async with wire_client(millrace.ws_url) as client:
        events = await client.ask("What is the capital of France?", metadata={"app": "test"})
    response = check_response(events)
    assert list(dict.fromkeys(event["type"] for event in events)) == STANDARD
    assert "Paris" in output_of(response)
    assert response["status"] == "completed"
    assert response["model"] == "small-model"
    assert response["metadata"] == {
        "app": "test",
        "millrace.route": "small",
        "millrace.cache": "miss",
        "millrace.check": "passed",
    }
    usage = response["usage"]
    expected = (usage["input_tokens"] * 0.15 + usage["output_tokens"] * 0.60) / 1e6
    assert usage["cost_usd"] == pytest.approx(expected, abs=1e-9)
    large = (usage["input_tokens"] * 2.50 + usage["output_tokens"] * 10.00) / 1e6
    assert usage["saved_usd"] == pytest.approx(large - expected, abs=1e-9)


async def test_a_negotiated_client_sees_hello_route_and_usage(millrace: Running) -> None:
    """The extensions come numbered, and only after a subprotocol or ?millrace=1 asked for them."""
    async with connect(f"{millrace.ws_url}/v1/responses?millrace=1", open_timeout=PATIENCE_S) as connection:
        hello = json.loads(await connection.recv())
        assert hello["type"] == "millrace.hello"
        assert hello["limits"] == {
            "in_flight": 16,
            "queued": 64,
            "lanes": 32,
            "max_message_bytes": 20 * 2**20,
            "max_age_s": 3300,
        }
        assert hello["heartbeat_s"] == 20
        assert hello["epoch"]
        events = await WireClient(connection).ask("What is the capital of France?")
    check_response(events, negotiated=True)
    by_type = {event["type"]: event for event in events}
    route = by_type["millrace.route"]
    assert (route["strategy"], route["tier"], route["model"], route["cache"]) == (
        "auto",
        "small",
        "small-model",
        "miss",
    )
    assert route["reason"]
    usage, terminal = by_type["millrace.usage"], events[-1]["response"]
    assert 0 <= usage["cost_usd"] <= terminal["usage"]["cost_usd"]
    assert [attempt["model"] for attempt in usage["attempts"]] == ["small-model"]
    assert [attempt["outcome"] for attempt in terminal["usage"]["attempts"]] == ["answered"]


async def test_usage_comes_once_a_second_while_an_answer_streams(millrace: Running) -> None:
    """A long answer says on the way what it has cost; the amounts only grow."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask("go on [tokens=66] [rate=30]")
    check_response(events, negotiated=True)
    costs = [event["cost_usd"] for event in events if event["type"] == "millrace.usage"]
    assert len(costs) in (1, 2)
    assert costs == sorted(costs)
    assert costs[0] > 0


async def test_events_echo_their_lane(millrace: Running) -> None:
    """Every event of a request carries its stream_id."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask("hello", stream_id="a.b_c-1")
    assert {event["stream_id"] for event in events} == {"a.b_c-1"}


async def test_lanes_run_side_by_side_and_each_in_order(millrace: Running) -> None:
    """Different lanes interleave; in one lane the second begins after the first has ended."""
    async with wire_client(millrace.ws_url) as client:
        for lane, text in (("a", "first"), ("a", "second"), ("b", "third")):
            await client.create(f"{text} [tokens=12] [rate=100]", stream_id=lane, model="small")
        events: list[Event] = []
        while sum(event["type"] in TERMINALS for event in events) < 3:
            events.append(await client.next())
    lanes = [event["stream_id"] for event in events]
    assert "b" in lanes[: len(lanes) - lanes[::-1].index("a")]
    changes = sum(one != other for one, other in itertools.pairwise(lanes))
    assert changes > 4
    a = [event for event in events if event["stream_id"] == "a"]
    end = next(index for index, event in enumerate(a) if event["type"] in TERMINALS)
    check_response(a[: end + 1])
    check_response(a[end + 1 :])
    check_response([event for event in events if event["stream_id"] == "b"])


async def test_sixteen_run_sixtyfour_wait_and_the_next_is_refused(millrace: Running) -> None:
    """The limits of one connection; a refusal names its lane and event, and the others are answered."""
    async with wire_client(millrace.ws_url) as client:
        for number in range(80):
            await client.create(f"{number} [ttft=1.2]", stream_id=f"l{number % 32}", millrace={"cache": "off"})
        await client.create("one too many", stream_id="l0", event_id="ev81")
        (error,) = [event for event in await client.until("error") if event["type"] == "error"]
        assert (error["status"], error["error"]["code"]) == (429, "queue_full")
        assert (error["event_id"], error["stream_id"]) == ("ev81", "l0")
        assert error["error"]["retry_after_ms"] > 0
        await until(lambda: millrace.small.stats.started == 16)
        client.connection.transport.abort()  # a close would wait for events that nobody reads
    await until(lambda: millrace.small.stats.running == 0)


async def test_thirtytwo_lanes_may_be_busy(millrace: Running) -> None:
    """The 33rd lane is refused while 32 are busy; the default lane still goes."""
    async with wire_client(millrace.ws_url) as client:
        for number in range(32):
            await client.create("wait [ttft=0.3]", stream_id=f"l{number}")
        await client.create("no", stream_id="l32")
        error = (await client.until("error"))[-1]
        assert error["error"]["code"] == "websocket_stream_limit_reached"
        assert error["error"]["param"] == "stream_id"
        await client.create("What is the capital of France?")
        ended = 0
        while ended < 33:
            event = await client.next()
            ended += event["type"] == "response.completed"


async def test_fifty_requests_over_sixteen_lanes(millrace: Running) -> None:
    """Nothing is lost or mixed up under a pile of requests."""
    async with wire_client(millrace.ws_url) as client:
        for number in range(50):
            await client.create(f"say {number} [tokens=9]", stream_id=f"l{number % 16}", metadata={"n": str(number)})
        events: list[Event] = []
        while sum(event["type"] in TERMINALS for event in events) < 50:
            events.append(await client.next())
    for lane in {event["stream_id"] for event in events}:
        rest = [event for event in events if event["stream_id"] == lane]
        numbers = []
        while rest:
            end = next(index for index, event in enumerate(rest) if event["type"] in TERMINALS) + 1
            numbers.append(int(check_response(rest[:end])["metadata"]["n"]))
            rest = rest[end:]
        assert numbers == sorted(numbers)


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
DEEP = "[" * 5000
HOSTILE: list[tuple[str, Any, str, str | None]] = [
    ("not JSON", "hello", "invalid_json", None),
    ("half JSON", '{"type":"response.create"', "invalid_json", None),
    ("5,000 brackets", DEEP, "invalid_json", None),
    ("5,000 brackets in a field", '{"type":"response.create","input":' + DEEP + "]" * 5000 + "}", "invalid_json", None),
    ("not an object", "[1]", "invalid_request", None),
    ("no type", {"input": "x"}, "invalid_request", "type"),
    ("wrong-typed type", {"type": 7}, "invalid_request", "type"),
    ("unknown type", {"type": "response.destroy"}, "unknown_event", "type"),
    ("no input", {"type": "response.create"}, "invalid_request", "input"),
    ("wrong-typed input", {"type": "response.create", "input": 7}, "invalid_request", "input"),
    ("empty input", {"type": "response.create", "input": " "}, "invalid_request", "input"),
    ("no content", {"type": "response.create", "input": [{"role": "user"}]}, "invalid_request", "input[0].content"),
    (
        "a part without text",
        {"type": "response.create", "input": [{"role": "user", "content": [{"type": "input_text"}]}]},
        "invalid_request",
        "input[0].content[0].text",
    ),
    (
        "unknown role",
        {"type": "response.create", "input": [{"role": "wizard", "content": "x"}]},
        "invalid_request",
        "input[0].role",
    ),
    (
        "hot temperature",
        {"type": "response.create", "input": "x", "temperature": 9},
        "invalid_request",
        "temperature",
    ),
    (
        "no tokens",
        {"type": "response.create", "input": "x", "max_output_tokens": 0},
        "invalid_request",
        "max_output_tokens",
    ),
    ("unknown model", {"type": "response.create", "input": "x", "model": "gpt-9"}, "model_not_found", "model"),
    (
        "over-long stream_id",
        {"type": "response.create", "input": "x", "stream_id": "s" * 257},
        "invalid_stream_id",
        "stream_id",
    ),
    ("odd stream_id", {"type": "response.create", "input": "x", "stream_id": "a b"}, "invalid_stream_id", "stream_id"),
    (
        "over-long event_id",
        {"type": "response.create", "input": "x", "event_id": "e" * 513},
        "invalid_request",
        "event_id",
    ),
    (
        "over-long response_id",
        {"type": "response.cancel", "response_id": "r" * 600},
        "invalid_request",
        "response_id",
    ),
    (
        "stranger's response_id",
        {"type": "response.cancel", "response_id": "resp_x"},
        "response_not_found",
        "response_id",
    ),
    (
        "unknown strategy",
        {"type": "response.create", "input": "x", "millrace": {"strategy": "fastest"}},
        "invalid_request",
        "millrace.strategy",
    ),
    (
        "unknown cache mode in metadata",
        {"type": "response.create", "input": "x", "metadata": {"millrace.cache": "maybe"}},
        "invalid_request",
        'metadata["millrace.cache"]',
    ),
    (
        "metadata that is no text",
        {"type": "response.create", "input": "x", "metadata": {"a": 1}},
        "invalid_request",
        "metadata.a",
    ),
    (
        "a schema that fetches",
        {
            "type": "response.create",
            "input": "x",
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"$ref": "http://127.0.0.1:9/x"}}},
        },
        "invalid_request",
        "text.format.schema",
    ),
]


@pytest.mark.parametrize(("frame", "code", "param"), [pytest.param(*row[1:], id=row[0]) for row in HOSTILE])
async def test_a_bad_frame_is_answered_and_the_connection_goes_on(
    millrace: Running, frame: Any, code: str, param: str | None
) -> None:
    """Each gets an `error` that names the field; the next request is answered; no model was asked."""
    async with wire_client(millrace.ws_url) as client:
        await client.send(frame)
        error = await client.next()
        assert error["type"] == "error"
        assert (error["error"]["code"], error["error"]["param"]) == (code, param)
        assert error["error"]["message"]
        assert millrace.calls == 0
        check_response(await client.ask("What is the capital of France?"))


@pytest.mark.parametrize("where", ["millrace", "metadata"])
async def test_options_ride_in_the_object_or_in_metadata(millrace: Running, where: str) -> None:
    """Both ways do the same; the metadata keys are not echoed but replaced."""
    options: dict[str, Any] = (
        {"millrace": {"strategy": "large", "cache": "off"}}
        if where == "millrace"
        else {"metadata": {"millrace.strategy": "large", "millrace.cache": "off", "mine": "1"}}
    )
    async with wire_client(millrace.ws_url) as client:
        response = check_response(await client.ask("What is the capital of France?", **options))
    assert response["metadata"]["millrace.route"] == "large"
    assert response["metadata"]["millrace.cache"] == "miss"
    assert response["metadata"].get("mine") == ("1" if where == "metadata" else None)
    assert (millrace.small.stats.started, millrace.large.stats.started) == (0, 1)


@pytest.mark.parametrize(
    ("model", "route"),
    [("auto", "small"), ("small", "small"), ("large", "large"), ("large-model", "large"), ("gpt-4o", "large")],
)
async def test_model_names_and_aliases(start: Start, model: str, route: str) -> None:
    """A tier, a configured name or an alias chooses who answers."""

    def alias(configuration: dict[str, Any]) -> None:
        configuration["models"]["aliases"] = {"gpt-4o": "large"}

    async with start(alias) as running, wire_client(running.ws_url) as client:
        response = check_response(await client.ask("What is the capital of France?", model=model))
        assert response["metadata"]["millrace.route"] == route


async def test_an_unknown_model_is_told_the_names(millrace: Running) -> None:
    """The message lists what may be written."""
    async with wire_client(millrace.ws_url) as client:
        error = (await client.ask("x", model="gpt-9"))[-1]["error"]
    assert all(name in error["message"] for name in ("auto", "small", "large", "small-model", "large-model"))


async def test_strategy_goes_before_model(millrace: Running) -> None:
    """`millrace.strategy` outranks the name."""
    async with wire_client(millrace.ws_url) as client:
        response = check_response(await client.ask("What is 7 times 8?", model="large", millrace={"strategy": "small"}))
    assert response["metadata"]["millrace.route"] == "small"


async def test_the_upstream_gets_the_request_as_it_was_made(millrace: Running) -> None:
    """Instructions, history, parameters, cap and format reach the model in its own dialect."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    async with wire_client(millrace.ws_url) as client:
        events = await client.ask(
            [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]},
                {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            ],
            instructions="Be kind.",
            temperature=0.5,
            top_p=0.9,
            max_output_tokens=77,
            reasoning={"effort": "low"},
            text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}, "verbosity": "low"},
        )
    assert check_response(events)["status"] == "completed"
    body = millrace.small.calls[0].body
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": schema, "strict": True},
    }
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.5, 0.9, 77)
    assert (body["reasoning_effort"], body["verbosity"]) == ("low", "low")
    assert body["stream_options"] == {"include_usage": True}


async def test_the_answer_is_capped_by_request_and_model(start: Start) -> None:
    """The tighter cap goes to the model; what it cuts is incomplete."""
    async with start(answers_up_to(5)) as running, wire_client(running.ws_url) as client:
        events = await client.ask("count [tokens=50]", max_output_tokens=50, millrace={"strategy": "small"})
        response = check_response(events)
    assert events[-1]["type"] == "response.incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["usage"]["output_tokens"] == 5
    assert "response.output_item.done" in [event["type"] for event in events]


async def test_a_full_process_says_overloaded(start: Start) -> None:
    """Past [server] max_running a request is refused before it becomes a response."""

    def one(configuration: dict[str, Any]) -> None:
        configuration["server"]["max_running"] = 1

    async with start(one) as running, wire_client(running.ws_url) as client:
        await client.create("slow [ttft=5]", stream_id="a")
        await until(lambda: running.small.stats.running == 1)
        await client.create("next", stream_id="b", event_id="e")
        error = (await client.until("error"))[-1]
        assert (error["status"], error["error"]["code"], error["event_id"]) == (503, "overloaded", "e")


async def test_binary_frames_close_the_connection(millrace: Running) -> None:
    """1003, as the wire says."""
    async with wire_client(millrace.ws_url) as client:
        await client.connection.send(b"\x00")
        with pytest.raises(ConnectionClosedError) as closed:
            await client.connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", ""])
async def test_a_foreign_page_is_refused_before_the_upgrade(millrace: Running, origin: str) -> None:
    """Without keys the Origin is all that tells the user's own page from any other."""
    with pytest.raises(InvalidStatus) as refused:
        async with wire_client(millrace.ws_url, origin=Origin(origin)):
            pass
    assert refused.value.response.status_code == 403


async def test_a_foreign_name_for_this_machine_is_refused(millrace: Running) -> None:
    """A page whose own name was made to resolve to 127.0.0.1 sends that name as Host and Origin."""
    evil = {"Host": "evil.example", "Origin": "http://evil.example"}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{millrace.url}/v1/responses", headers=evil | UPGRADE) as response,
    ):
        assert response.status == 403


@pytest.mark.parametrize("origin", ["http://localhost:3000", "{url}"])
async def test_a_page_of_this_machine_may_connect(millrace: Running, origin: str) -> None:
    """One's own development server, and the page itself."""
    async with wire_client(millrace.ws_url, origin=Origin(origin.format(url=millrace.url))) as client:
        check_response(await client.ask("hello"))


@pytest.mark.untraced
async def test_a_slow_reader_pauses_its_model_and_still_gets_everything(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket nobody reads fills up, the model is read no further; once it is read, nothing is missing."""
    monkeypatch.setattr(limits, "HEARTBEAT_S", 600.0)  # it answers a ping only when it has read what came before
    tokens = 6000  # thrice what fits into the buffers of all sockets on the way
    async with (
        start(answers_up_to(tokens)) as running,
        wire_client(running.ws_url, max_queue=1, sock=small_buffer_socket(running.url)) as client,
    ):
        await client.create(f"flood [tokens={tokens}]", model="small")
        assert await paused_at(running) < tokens
        events = await client.until(*TERMINALS)
    response = check_response(events)
    assert response["status"] == "completed"
    assert response["usage"]["output_tokens"] == tokens


async def test_steering_is_refused_and_the_answer_goes_on(millrace: Running) -> None:
    async with wire_client(millrace.ws_url) as client:
        await client.create("go on [tokens=120] [rate=100]")
        events = [await client.next() for _ in range(5)]
        steer = {"type": "response.steer", "input": "other", "stream_id": "s", "event_id": "e"}
        await client.send(steer)
        while (event := await client.next())["type"] != "response.steer.failed":
            events.append(event)
        assert (event["error"]["code"], event["steer"]["input"]) == ("steering_unsupported", "other")
        assert (event["stream_id"], event["event_id"]) == ("s", "e")
        assert check_response(events + await client.until(*TERMINALS))["status"] == "completed"


@pytest.mark.parametrize("t", [0, 1.5, "now", None, [1, {"a": []}], {"deep": {"er": 1}}])
async def test_a_ping_comes_back_at_once(millrace: Running, t: Any) -> None:
    """Also from the midst of an answer, and without a negotiation; a long one is refused."""
    async with wire_client(millrace.ws_url) as client:
        await client.create("wait [ttft=30]")
        await client.until("response.in_progress")
        await client.send({"type": "millrace.ping", "t": t})
        assert await client.next() == {"type": "millrace.pong", "t": t}
        await client.send({"type": "millrace.ping", "t": "x" * 1025, "event_id": "e"})
        error = await client.next()
        assert (error["error"]["code"], error["error"]["param"], error["event_id"]) == ("invalid_request", "t", "e")
        client.connection.transport.abort()
