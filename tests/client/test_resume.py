"""The Python client when its connection breaks, drains or is refused: nothing lost or twice, or an honest error."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from millrace.wire import responses as wire
from millrace_client import Client, ConnectionLostError, MillraceError, Stream, client as client_module
from tests.support.keyed_server import APP, keyed_server
from tests.support.proxy import proxy_to
from tests.support.server import Running, Start
from tests.support.waiting import until

LONG = "Tell me a long story. [tokens=60] [rate=60]"
STORY = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for half a second here."""
    monkeypatch.setattr(client_module, "FIRST_S", 0.02)
    monkeypatch.setattr(client_module, "LONGEST_S", 0.1)


async def some_words(stream: Stream) -> list[Any]:
    """Read until there are a few."""
    seen: list[Any] = []
    async for event in stream:
        seen.append(event)
        if sum(isinstance(event, wire.TextDelta) for event in seen) == 3:
            return seen
    raise AssertionError("it ended")


async def test_a_broken_connection_is_not_noticed(millrace: Running) -> None:
    """Cut twice in the middle of two answers: every event once, in order, and each model asked once."""
    async with proxy_to(millrace.url) as proxy, Client(proxy.url) as client:
        streams = [
            client.stream(f"{LONG} {n}", on_disconnect="detach", lane=lane) for n, lane in enumerate((None, "a"))
        ]
        seen = [await some_words(stream) for stream in streams]
        for _ in range(2):
            proxy.cut()
            for index, stream in enumerate(streams):
                seen[index] += await some_words(stream)
        for before, stream in zip(seen, streams, strict=True):
            events = before + [event async for event in stream]
            assert [event.sequence_number for event in events] == [*range(len(events))]
            assert stream.response is not None
            assert (stream.response.status, stream.text) == ("completed", stream.response.output_text)
        assert proxy.connections == 3
        assert (await client.ask("And now?")).status == "completed"
    assert millrace.small.stats.started == 3


async def test_cut_again_and_again(millrace: Running) -> None:
    """With a key even what had not begun is safe: each is answered once, and its text is whole."""
    seen = 0

    async def read(stream: Stream) -> None:
        nonlocal seen
        async for event in stream:
            seen += isinstance(event, wire.TextDelta)
            if seen and seen % 40 == 0:
                proxy.cut()
        assert stream.response is not None
        assert (stream.response.status, stream.text) == ("completed", stream.response.output_text)

    async with proxy_to(millrace.url) as proxy, Client(proxy.url) as client:
        asked = [
            client.stream(f"{n}: talk. [tokens=30] [rate=60]", on_disconnect="detach", idempotency_key=str(n))
            for n in range(20)
        ]
        await asyncio.gather(*map(read, asked))
        assert proxy.connections > 3
    assert millrace.small.stats.started == 20


async def test_what_is_not_detached_is_lost_and_the_rest_goes_on(millrace: Running) -> None:
    """The default is to cancel with the connection; a request that waits here is asked on the next one."""
    async with proxy_to(millrace.url) as proxy, Client(proxy.url) as client:
        kept = client.stream(LONG, on_disconnect="detach")
        gone = client.stream(f"{LONG} again")
        await some_words(kept)
        await some_words(gone)
        proxy.cut()
        with pytest.raises(ConnectionLostError):
            await gone.reply()
        late = client.stream("Am I heard?", lane="b")
        assert (await kept.reply()).status == "completed"
        assert (await late.reply()).status == "completed"


async def test_a_request_that_had_not_begun_is_asked_again_only_with_a_key(millrace: Running) -> None:
    """Behind another in its lane when the connection broke."""
    async with proxy_to(millrace.url) as proxy, Client(proxy.url) as client:
        first = client.stream(LONG, lane="a", on_disconnect="detach")
        keyed = client.stream("second", lane="a", on_disconnect="detach", idempotency_key="two")
        bare = client.stream("third", lane="a", on_disconnect="detach")
        await some_words(first)
        proxy.cut()
        assert (await first.reply()).status == "completed"
        assert (await keyed.reply()).status == "completed"
        with pytest.raises(ConnectionLostError, match="idempotency_key"):
            await bare.reply()


async def test_cancelled_while_there_is_no_connection(millrace: Running) -> None:
    """The end, with what it cost, still comes."""
    async with proxy_to(millrace.url) as proxy, Client(proxy.url) as client:
        stream = client.stream("Talk. [tokens=900] [rate=100]", on_disconnect="detach")
        await some_words(stream)
        proxy.cut()
        await until(lambda: client._connection is None)
        stream.cancel()
        reply = await stream.reply()
        assert (reply.status, reply.reason) == ("cancelled", "cancelled")
        assert reply.cost_usd > 0
    await until(lambda: millrace.small.stats.running == 0)


async def test_cancelled_before_it_began_and_sent_again(millrace: Running) -> None:
    """It may run under its key, so it is sent again and cancelled; the one before it in its lane goes on."""
    async with proxy_to(millrace.url) as proxy, Client(proxy.url) as client:
        first = client.stream(LONG, lane="a", on_disconnect="detach")
        second = client.stream(
            "Talk. [tokens=900] [rate=100]", lane="a", on_disconnect="detach", idempotency_key="second"
        )
        await some_words(first)
        second.cancel()
        proxy.cut()
        assert (await first.reply()).status == "completed"
        assert (await second.reply()).status == "cancelled"
    await until(lambda: millrace.small.stats.running == 0)


async def test_another_process_is_asked_again_with_a_key_and_else_refused(start: Start) -> None:
    """The words of before are gone then, and those of the new answer stand alone."""
    async with start() as one, start() as other, proxy_to(one.url) as proxy, Client(proxy.url) as client:
        keyed = client.stream(LONG, on_disconnect="detach", idempotency_key="story")
        bare = client.stream(f"{LONG} again", on_disconnect="detach")
        await some_words(keyed)
        await some_words(bare)
        proxy.target = other.url
        proxy.cut()
        with pytest.raises(MillraceError) as expired:
            await bare.reply()
        assert expired.value.code == "resume_expired"
        reply = await keyed.reply()
        assert (reply.status, reply.text) == ("completed", keyed.text)
        assert (one.small.stats.started, other.small.stats.started) == (2, 1)


async def test_nobody_there_any_more(millrace: Running) -> None:
    """After five tries every stream ends with an error that says why, and so does a new one."""
    async with proxy_to(millrace.url) as proxy, Client(proxy.url) as client:
        stream = client.stream(LONG, on_disconnect="detach")
        await some_words(stream)
        proxy.target = None
        proxy.cut()
        await until(lambda: client._connection is None)
        waiting = client.stream("Am I heard?")
        for lost in (stream, waiting, client.stream("And I?")):
            with pytest.raises(ConnectionLostError, match="no other could be opened"):
                await lost.reply()
        assert proxy.connections == 1 + client_module.TRIES
        with pytest.raises(ConnectionLostError):
            await client.ping()


@pytest.mark.parametrize("after", [-1, 4])
async def test_resume_by_hand(millrace: Running, after: int) -> None:
    """Another client of the same server gets exactly what came after."""
    async with Client(millrace.url) as client, Client(millrace.url) as other:
        asked = client.stream(LONG)
        seen = [*await some_words(asked)]
        assert asked.id is not None
        assert client.hello is not None
        resumed = other.resume(asked.id, after, client.hello.epoch)
        seen += [event async for event in asked]
        replayed = [event async for event in resumed]
        assert replayed == seen[after + 1 :]
        assert (await resumed.reply()).text == asked.text
        for response_id, epoch in (("resp_unknown", None), (asked.id, "another")):
            with pytest.raises(MillraceError) as refused:
                await other.resume(response_id, -1, epoch).reply()
            assert refused.value.code == "resume_expired"


async def test_a_connection_that_drains_is_left(start: Start) -> None:
    """What runs ends where it is; what is new is asked on another connection; the old one is closed by the server."""

    def short_lived(configuration: dict[str, Any]) -> None:
        configuration["server"]["max_age_s"] = 0.4

    async with start(short_lived) as running, Client(running.url) as client:
        assert client.hello is not None
        before = client.hello.connection_id
        running_on = client.stream("Talk. [tokens=150] [rate=100]")
        await until(lambda: client.hello is not None and client.hello.connection_id != before)
        assert (await client.ask("And I?")).status == "completed"
        assert not running_on.ended
        assert (await running_on.reply()).status == "completed"


async def test_what_a_draining_server_refuses_is_asked_elsewhere() -> None:
    """It never ran, so no key is needed. The server is scripted: it drains as the request is on its way."""
    asked: list[str] = []

    async def script(socket: ServerConnection) -> None:
        hello = {
            "type": "millrace.hello",
            "connection_id": "c",
            "epoch": "e",
            "version": "0",
            "heartbeat_s": 20,
            "limits": {"in_flight": 1, "queued": 1, "lanes": 1, "max_message_bytes": 1, "max_age_s": 1},
            "resume": {"ttl_s": 1, "detached_s": 1, "bytes": 1},
        }
        await socket.send(json.dumps(hello))
        frame = json.loads(await socket.recv())
        asked.append(frame["input"])
        lane = {"stream_id": frame["stream_id"], "event_id": frame["event_id"]}
        if len(asked) == 1:
            await socket.send(json.dumps({"type": "millrace.draining", "deadline_ms": 1, "reconnect_after_ms": 1}))
            error = {"type": "server_error", "code": "server_draining", "message": "elsewhere, please"}
            await socket.send(json.dumps({"type": "error", "status": 503, "error": error, **lane}))
        else:
            body = {"id": "resp_1", "created_at": 1, "status": "completed", "model": "m", "metadata": {}}
            for kind in ("response.created", "response.completed"):
                await socket.send(json.dumps({"type": kind, "response": body, **lane}))
        await socket.wait_closed()

    async with serve(script, "127.0.0.1", 0, subprotocols=[wire.SUBPROTOCOL]) as server:  # type: ignore[list-item]
        port = server.sockets[0].getsockname()[1]
        async with Client(f"ws://127.0.0.1:{port}") as client:
            assert (await client.ask("hello")).status == "completed"
    assert asked == ["hello", "hello"]


async def test_a_key_or_a_ticket_for_each_connection(start: Start, tmp_path: Path) -> None:
    """A ticket is fetched anew when the connection breaks; what the server refuses has the wire's code."""
    async with keyed_server(start, tmp_path) as guarded:
        url = guarded.running.url
        with pytest.raises(MillraceError) as refused:
            await Client(url, api_key="mr_wrong").__aenter__()
        assert refused.value.code == "unauthorized"
        async with Client(url, api_key=guarded.key) as keyed:
            assert (await keyed.ask("hello")).status == "completed"
        async with proxy_to(url) as proxy:
            async with Client(proxy.url, ticket=guarded.ticket, origin=APP) as client:
                stream = client.stream(LONG, on_disconnect="detach")
                await some_words(stream)
                proxy.cut()
                assert (await stream.reply()).status == "completed"
            async with Client(proxy.url, ticket=await guarded.ticket(), origin=APP) as once:
                stream = once.stream(LONG, on_disconnect="detach", cache="off")
                await some_words(stream)
                proxy.cut()
                with pytest.raises(ConnectionLostError, match="ticket"):
                    await stream.reply()


async def test_ping(millrace: Running) -> None:
    """Several at once, each with its own answer; one that is never answered ends with its connection."""
    async with proxy_to(millrace.url) as proxy, Client(proxy.url) as client:
        assert all(0 < seconds < 60 for seconds in await asyncio.gather(client.ping(), client.ping()))
        unanswered = asyncio.create_task(client.ping())
        await asyncio.sleep(0)
        proxy.cut()
        with pytest.raises(ConnectionLostError):
            await unanswered


async def test_tool_calls_reasoning_and_refusals(millrace: Running) -> None:
    """Of the whole reply, and of the stream while it grows."""
    async with Client(millrace.url) as client:
        called = await client.ask("Weather? [tool=get_weather]", tools=[STORY])
        assert [(call.name, json.loads(call.arguments)) for call in called.tool_calls] == [("get_weather", {})]
        output = {"type": "function_call_output", "call_id": called.tool_calls[0].call_id, "output": "rain"}
        replayed = await client.ask([output], previous_response_id=called.id, tools=[STORY])
        assert replayed.text
        stream = client.stream("Think. [reason=6] [tokens=8]")
        reply = await stream.reply()
        assert reply.reasoning == stream.reasoning != ""
        stream = client.stream("Say it. [refuse]", strategy="large")
        reply = await stream.reply()
        assert (reply.text, reply.refusal) == ("", stream.refusal)
        assert reply.refusal


async def test_every_option_is_a_keyword(millrace: Running) -> None:
    """Those of Millrace go into its object, beside what is in there; the others are the request's own."""
    async with Client(millrace.url) as client:
        stream = client.stream(
            "hello",
            deadline_ms=60_000,
            max_cost_usd=0.5,
            idempotency_key="k",
            store=False,
            instructions=None,
            millrace={"concise": True},
        )
        assert stream.fields == {
            "input": "hello",
            "model": "auto",
            "event_id": "ev_1",
            "store": False,
            "millrace": {"concise": True, "max_cost_usd": 0.5, "deadline_ms": 60_000, "idempotency_key": "k"},
        }
        assert (await stream.reply()).status == "completed"
        with pytest.raises(MillraceError) as late:
            await client.ask("x [ttft=5]", deadline_ms=1, cache="off")
        assert late.value.code == "deadline_exceeded"
