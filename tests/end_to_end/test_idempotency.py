"""The same request twice is one response: attached while it runs and after, over the socket and over HTTP."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.support.byte_client import byte_client
from tests.support.http_client import CHAT, RESPONSES, body_of, events_of, lines_of
from tests.support.server import Running
from tests.support.waiting import until
from tests.support.wire_client import TERMINALS, Event, check_response, wire_client

KEYED = {"idempotency_key": "k"}
GOES_ON = "go on [tokens=40] [rate=150]"


@pytest.mark.parametrize("negotiated", [False, True])
async def test_a_repeat_gets_everything_from_the_first_event(millrace: Running, *, negotiated: bool) -> None:
    """On the same connection in another lane, on another one while it runs, and when it has ended: the same bytes."""
    async with (
        byte_client(millrace, negotiated=negotiated) as first,
        byte_client(millrace, negotiated=negotiated) as second,
    ):
        await first.create(GOES_ON, KEYED)
        seen = [await first.frame() for _ in range(8)]
        await second.create(GOES_ON, KEYED)
        running, whole = await asyncio.gather(second.to_the_end(), first.to_the_end())
        assert running == seen + whole
        await second.create(GOES_ON, KEYED)
        assert await second.to_the_end() == running
        await first.create(GOES_ON, KEYED, stream_id="b", event_id="another")
        again = await first.to_the_end()
        assert [frame.replace(',"stream_id":"b"', "") for frame in again] == running
    assert millrace.calls == 1


async def test_a_repeat_in_the_same_lane_waits_for_its_first(millrace: Running) -> None:
    async with wire_client(millrace.ws_url) as client:
        for _ in range(2):
            await client.create(GOES_ON, millrace=KEYED)
        assert await client.until(*TERMINALS) == await client.until(*TERMINALS)
    assert millrace.calls == 1


@pytest.mark.parametrize("path", [RESPONSES, CHAT])
async def test_over_http_too(millrace: Running, path: str) -> None:
    """Streamed and whole are one response; so is what a socket asked, in its dialect."""
    body = body_of(path, GOES_ON, millrace=KEYED)
    async with aiohttp.ClientSession(millrace.url) as http:

        async def whole() -> Event:
            async with http.post(path, json=body) as answer:
                document: Event = await answer.json()
                return document

        async def streamed() -> list[str]:
            async with http.post(path, json=body | {"stream": True}) as answer:
                return await lines_of(answer)

        one, other, lines, again = await asyncio.gather(whole(), whole(), streamed(), streamed())
        assert one == other == await whole()
        assert lines == again == await streamed()
        if path == RESPONSES:
            assert check_response(events_of(lines)) == one
            async with wire_client(millrace.ws_url) as client:
                assert check_response(await client.ask(**body)) == one
    assert millrace.calls == 1


async def test_each_negotiation_is_told_what_it_may_see(millrace: Running) -> None:
    """A plain repeat of a speculating request never gets a word that is taken back, nor an event it did not ask for."""
    asked = "go on [tokens=60] [fault.small=hangup@20] [rate=200]"
    async with (
        wire_client(millrace.ws_url, negotiated=True) as speculating,
        wire_client(millrace.ws_url) as plain,
    ):
        await speculating.create(asked, millrace=KEYED)
        first = await speculating.next()
        events, repeated = await asyncio.gather(speculating.until(*TERMINALS), plain.ask(asked, millrace=KEYED))
    original, repeat = check_response([first, *events], negotiated=True), check_response(repeated)
    assert "millrace.revise" in {event["type"] for event in events}
    assert (original["id"], original["output"], original["usage"]) == (repeat["id"], repeat["output"], repeat["usage"])


@pytest.mark.parametrize(
    "fields", [{"temperature": 0.5}, {"input": "other"}, {"metadata": {"a": "1"}}, {"store": True}]
)
async def test_another_body_is_a_mismatch(millrace: Running, fields: dict[str, Any]) -> None:
    """What differs only in lane, event_id or the order of its keys is the same."""
    async with wire_client(millrace.ws_url) as client, aiohttp.ClientSession(millrace.url) as http:
        body = {"input": "How deep is it?", "millrace": KEYED, "model": "auto"}
        first = check_response(await client.ask(**body))
        reordered = {"stream_id": "a", "model": "auto", "event_id": "e", "millrace": KEYED, "input": "How deep is it?"}
        assert check_response(await client.ask(**reordered)) == first
        error = (await client.ask(**body | fields, event_id="e"))[-1]
        assert (error["status"], error["error"]["code"], error["event_id"]) == (409, "idempotency_mismatch", "e")
        async with http.post(RESPONSES, json=body | fields) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (409, "idempotency_mismatch")
    assert millrace.calls == 1


async def test_as_a_string_in_metadata(millrace: Running) -> None:
    asked = {"input": "How deep is it?", "metadata": {"millrace.idempotency_key": "k", "mine": "1"}}
    async with wire_client(millrace.ws_url) as client:
        first, second = [check_response(await client.ask(**asked)) for _ in range(2)]
    assert first == second
    assert first["metadata"]["mine"] == "1"


async def test_what_was_refused_is_not_repeated(millrace: Running) -> None:
    """A request that never became a response may be asked again, and then be another."""
    async with wire_client(millrace.ws_url) as client:
        refused = await client.ask("x", previous_response_id="resp_0", millrace=KEYED)
        assert refused[-1]["error"]["code"] == "previous_response_not_found"
        check_response(await client.ask("x", millrace=KEYED))


async def test_what_failed_or_was_cancelled_stays_so(millrace: Running) -> None:
    async with wire_client(millrace.ws_url) as client:
        failed = await client.ask("x [fault=error]", millrace={"idempotency_key": "f"})
        assert failed[-1]["response"]["status"] == "failed"
        calls = millrace.calls
        assert await client.ask("x [fault=error]", millrace={"idempotency_key": "f"}) == failed
        await client.create("x [ttft=30]", millrace={"idempotency_key": "c"})
        created = await client.next()
        await client.send({"type": "response.cancel"})
        cancelled = [created, *await client.until(*TERMINALS)]
        assert await client.ask("x [ttft=30]", millrace={"idempotency_key": "c"}) == cancelled
        assert cancelled[-1]["response"]["status"] == "cancelled"
        assert millrace.calls <= calls + 1


async def test_a_repeat_needs_its_conversation_no_more(millrace: Running) -> None:
    """Whoever lost the connection asks again; what was continued may be gone by then, or never was theirs to name."""
    async with wire_client(millrace.ws_url) as first, wire_client(millrace.ws_url) as second:
        before = check_response(await first.ask("How deep is it?", store=False))["id"]
        asked = {"input": "And now?", "previous_response_id": before, "millrace": KEYED}
        events = await first.ask(**asked)
        check_response(events)
        assert await second.ask(**asked) == events
    assert millrace.calls == 2


async def test_a_deleted_response_is_asked_anew(millrace: Running) -> None:
    body = {"input": "How deep is it?", "millrace": {"idempotency_key": "k", "cache": "off"}}
    async with aiohttp.ClientSession(millrace.url) as http:
        async with http.post(RESPONSES, json=body) as answer:
            first = (await answer.json())["id"]
        async with http.delete(f"{RESPONSES}/{first}") as answer:
            assert answer.status == 200
        async with http.post(RESPONSES, json=body) as answer:
            assert (await answer.json())["id"] != first
    assert millrace.calls == 2


async def test_it_runs_until_the_last_has_gone(millrace: Running) -> None:
    """By default a request ends with its client; with two of them, with the second."""
    asked = "go on [ttft=30]"
    async with wire_client(millrace.ws_url) as second:
        async with wire_client(millrace.ws_url) as first:
            await first.create(asked, millrace=KEYED)
            await first.next()
            await second.create(asked, millrace=KEYED)
            await second.next()
            await until(lambda: millrace.small.stats.running == 1)
            first.connection.transport.abort()
        await second.send({"type": "millrace.ping", "t": 1})
        await second.until("millrace.pong")
        assert millrace.small.stats.running == 1
        second.connection.transport.abort()
        await until(lambda: millrace.small.stats.aborted == 1)


async def test_a_cancel_ends_it_for_all(millrace: Running) -> None:
    asked = "go on [tokens=3000] [rate=100]"
    async with wire_client(millrace.ws_url) as first, wire_client(millrace.ws_url) as second:
        for client in (first, second):
            await client.create(asked, millrace=KEYED)
        response_id = (await second.next())["response"]["id"]
        await second.send({"type": "response.cancel", "response_id": response_id})
        ends = [(await client.until(*TERMINALS))[-1] for client in (first, second)]
    assert ends[0] == ends[1]
    assert ends[0]["response"]["status"] == "cancelled"
