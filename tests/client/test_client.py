"""The bundled Python client against a whole server."""

import asyncio
from typing import Any

import pytest

from millrace.wire import responses as wire
from millrace_client import Client, ConnectionLostError, MillraceError
from millrace_client.client import endpoint
from tests.support.server import Running
from tests.support.waiting import until

HARD = "Prove that the square root of 2 is irrational."


async def test_stream_and_ask(millrace: Running) -> None:
    """Events as they come, the text they add up to, and the whole reply."""
    async with Client(millrace.url) as client:
        stream = client.stream("What is the capital of France?")
        kinds = [type(event) async for event in stream]
        assert kinds[0] is wire.Created
        assert kinds[-1] is wire.Completed
        assert "Paris" in stream.text
        reply = await client.ask("What is the capital of France?")
        assert client.hello is not None
    assert reply.text == stream.text
    assert (reply.status, reply.route, reply.cache, reply.check) == ("completed", "cache", "exact", "passed")
    assert reply.cost_usd == 0 < reply.saved_usd
    assert reply.input_tokens > 0 < reply.output_tokens


async def test_revises_are_applied(millrace: Running) -> None:
    """The text is only what stands; the client saw the other words come and go."""
    async with Client(millrace.url) as client:
        stream, seen = client.stream(f"{HARD} [rate=200]"), set()
        async for _ in stream:
            seen.add(stream.text)
    assert stream.response is not None
    assert stream.response.metadata["millrace.route"] == "large"
    assert stream.text == stream.response.output_text
    assert any(not stream.text.startswith(text) for text in seen)


async def test_a_client_that_does_not_negotiate(millrace: Running) -> None:
    """Nothing but standard events."""
    async with Client(millrace.url, negotiate=False) as client:
        stream = client.stream(HARD)
        kinds = {type(event) async for event in stream}
        assert client.hello is None
    assert wire.Revise not in kinds
    assert wire.Route not in kinds


async def test_many_at_once_and_lanes_in_order(millrace: Running) -> None:
    """Side by side by default, one after the other in a named lane."""
    async with Client(millrace.url) as client:
        replies = await asyncio.gather(*(client.ask(f"say {n} [tokens=5]", metadata={"n": str(n)}) for n in range(40)))
        assert {reply.status for reply in replies} == {"completed"}
        first = client.stream("first [ttft=0.2]", lane="a")
        second = client.stream("second", lane="a")
        await second.reply()
        assert first.ended
        assert (await first.reply()).text


async def test_options_reach_the_server(millrace: Running) -> None:
    """Strategy, delivery, cache and any field of the Responses API."""
    async with Client(millrace.url) as client:
        reply = await client.ask("x", strategy="large", delivery="final", cache="off", temperature=0.3)
    assert reply.route == "large"
    assert millrace.large.calls[0].body["temperature"] == 0.3


@pytest.mark.parametrize("begun", [False, True])
async def test_cancel(millrace: Running, *, begun: bool) -> None:
    """Acknowledged with what it cost, also before the response has an id."""
    async with Client(millrace.url) as client:
        stream = client.stream("talk [tokens=900] [rate=100]")
        if begun:
            async for event in stream:
                if isinstance(event, wire.TextDelta):
                    break
        stream.cancel()
        reply = await stream.reply()
        assert (reply.status, reply.reason) == ("cancelled", "cancelled")
        stream.cancel()
        assert (await client.ask("hello")).status == "completed"
    await until(lambda: millrace.small.stats.running == 0)


async def test_cancelling_a_queued_request_spares_its_lane(millrace: Running) -> None:
    """The ones before and after it in a named lane are answered."""
    async with Client(millrace.url) as client:
        streams = [client.stream(f"{number} [ttft=0.2]", lane="a") for number in range(3)]
        streams[1].cancel()
        assert [(await stream.reply()).status for stream in streams] == ["completed", "cancelled", "completed"]


async def test_more_than_the_server_takes_at_once_wait_here(millrace: Running) -> None:
    """Also there a cancel is honoured, and costs nothing."""
    async with Client(millrace.url) as client:
        streams = [client.stream(f"{number} [ttft=0.2]") for number in range(20)]
        streams[19].cancel()
        statuses = [(await stream.reply()).status for stream in streams]
    assert statuses == ["completed"] * 19 + ["cancelled"]
    assert millrace.small.stats.started == 19


async def test_leaving_early_cancels(millrace: Running) -> None:
    """`async with stream` never leaves a model talking to nobody."""
    async with Client(millrace.url) as client:
        async with client.stream("talk [tokens=900] [rate=100]") as stream:
            async for event in stream:
                if isinstance(event, wire.TextDelta):
                    break
        await until(lambda: millrace.small.stats.aborted == 1)


@pytest.mark.parametrize(
    ("options", "code", "param"),
    [
        ({"model": "gpt-9"}, "model_not_found", "model"),
        ({"strategy": "fastest"}, "invalid_request", "millrace.strategy"),
        ({"temperature": 7}, "invalid_request", "temperature"),
        ({"lane": "not a lane"}, "invalid_stream_id", "stream_id"),
    ],
)
async def test_a_refusal_raises(millrace: Running, options: dict[str, Any], code: str, param: str) -> None:
    """With the wire's code and the path of the fault."""
    async with Client(millrace.url) as client:
        waiting = client.stream("wait [ttft=0.2]", lane="a")
        with pytest.raises(MillraceError) as refused:
            await client.ask("x", **({"lane": "a"} | options))
        assert (refused.value.code, refused.value.param) == (code, param)
        assert (await waiting.reply()).status == "completed"


async def test_a_failed_answer_raises(millrace: Running) -> None:
    """`reply` and `ask` raise what the terminal says."""
    async with Client(millrace.url) as client:
        with pytest.raises(MillraceError) as failed:
            await client.ask("x [fault=429]", strategy="small")
    assert failed.value.code == "rate_limit_exceeded"
    assert failed.value.retry_after_ms == 2000


async def test_a_lost_connection_ends_every_stream_and_the_next_request_has_a_new_one(millrace: Running) -> None:
    """Nobody waits for ever; what could be billed twice is not sent again; the client comes back."""
    async with Client(millrace.url) as client:
        streams = [client.stream(f"wait {number} [ttft=30]") for number in range(3)]
        await until(lambda: millrace.small.stats.running == 3)
        assert client._connection is not None
        client._connection._socket.transport.abort()
        for stream in streams:
            with pytest.raises(ConnectionLostError):
                await stream.reply()
        assert (await client.ask("hello again")).text
        assert client.hello is not None


async def test_a_connection_lost_while_idle_is_opened_again(millrace: Running) -> None:
    """Before the next request, or with it."""
    async with Client(millrace.url) as client:
        for question in ("one", "two", "three"):
            assert (await client.ask(question)).text
            lost = client._connection
            assert lost is not None
            lost._socket.transport.abort()
            await until(lambda lost=lost: client._connection is not lost)  # type: ignore[misc]
            await until(lambda lost=lost: all(task.done() for task in lost._tasks))  # type: ignore[misc]


async def test_a_keyed_request_is_repeated_on_a_new_connection(millrace: Running) -> None:
    """Without `detach` it ended with the old one, and runs anew; it cannot be billed twice."""
    async with Client(millrace.url) as client:
        stream = client.stream("talk [ttft=0.5] [tokens=5]", model="small", idempotency_key="once")
        await until(lambda: millrace.small.stats.running == 1)
        assert client._connection is not None
        client._connection._socket.transport.abort()
        reply = await stream.reply()
    assert reply.status == "completed"
    assert millrace.small.stats.started == 2


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ws://h:1", "ws://h:1/v1/responses"),
        ("http://h:1/", "ws://h:1/v1/responses"),
        ("https://h/v1", "wss://h/v1/responses"),
        ("wss://h/v1/responses", "wss://h/v1/responses"),
        ("h:8000", "ws://h:8000/v1/responses"),
        ("http://h/gate/v1?x=1", "ws://h/gate/v1/responses?x=1"),
    ],
)
def test_the_ways_to_write_an_address(written: str, meant: str) -> None:
    """A base URL as SDKs take it works too."""
    assert endpoint(written) == meant


async def test_a_client_that_is_not_open_says_so() -> None:
    """Before it is opened a request would wait for ever; once it is closed, it is not the connection's fault."""
    client = Client("ws://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="not open"):
        await client.ask("Hi")
    with pytest.raises(RuntimeError, match="not open"):
        client.resume("resp_1", epoch="one")


async def test_a_client_that_is_closed_says_so(millrace: Running) -> None:
    async with Client(millrace.url) as client:
        pass
    with pytest.raises(ConnectionLostError, match="the client is closed"):
        await client.ask("Hi")
