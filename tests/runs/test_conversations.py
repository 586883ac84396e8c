"""Conversations: `previous_response_id`, what is stored and for how long, and what a model gets to read of it."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.stores.archive import SqliteArchive
from millrace.wire import limits
from tests.support.http_client import RESPONSES
from tests.support.media import PIXEL
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import TERMINALS, Event, WireClient, check_response, output_of, wire_client

ASKED, NEXT = "What is the capital of France?", "And of Spain?"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PICTURE = [
    {
        "role": "user",
        "content": [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": PIXEL}],
    }
]


def said(running: Running) -> list[tuple[str, Any]]:
    """Return what the small model was last sent."""
    return [(message["role"], message.get("content")) for message in running.small.calls[-1].body["messages"]]


async def refused(client: WireClient, previous: str, **fields: Any) -> str:
    error = (await client.ask(NEXT, previous_response_id=previous, **fields))[-1]
    assert (error["status"], error["error"]["param"]) == (404, "previous_response_id")
    code: str = error["error"]["code"]
    return code


async def stored(running: Running, response_id: str) -> int:
    async with aiohttp.ClientSession(running.url) as http, http.get(f"{RESPONSES}/{response_id}") as answer:
        return answer.status


@pytest.mark.parametrize("way", ["its lane", "another lane", "another connection", "HTTP"])
async def test_a_conversation_goes_on_anywhere(millrace: Running, way: str) -> None:
    """The model gets all the turns; a third request has those of both before."""
    async with wire_client(millrace.ws_url) as client, wire_client(millrace.ws_url) as other:

        async def ask(asked: str, previous: str) -> Event:
            body = {"input": asked, "previous_response_id": previous}
            if way == "HTTP":
                async with aiohttp.ClientSession(millrace.url) as http, http.post(RESPONSES, json=body) as answer:
                    document: Event = await answer.json()
                    return document
            lane = {"stream_id": "b"} if way == "another lane" else {"stream_id": "a"}
            return check_response(await (other if way == "another connection" else client).ask(**body, **lane))

        first = check_response(await client.ask(ASKED, stream_id="a", model="small"))
        second = await ask(NEXT, first["id"])
        history = [("user", ASKED), ("assistant", output_of(first)), ("user", NEXT)]
        assert said(millrace) == history
        assert second["previous_response_id"] == first["id"]
        await ask("And of Italy?", second["id"])
        assert said(millrace) == [*history, ("assistant", output_of(second)), ("user", "And of Italy?")]


async def test_one_behind_the_other_in_a_lane(millrace: Running) -> None:
    """The second is sent as soon as the id is known; in another lane it would be too early."""
    async with wire_client(millrace.ws_url) as client:
        await client.create("go on [tokens=30] [rate=100]", stream_id="a")
        created = await client.next()
        response_id = created["response"]["id"]
        await client.create(NEXT, stream_id="a", previous_response_id=response_id)
        await client.create(NEXT, stream_id="b", previous_response_id=response_id)
        events = [created, *await client.until("error")]
        assert (events.pop()["error"]["code"], events[-1]["type"] in TERMINALS) == (
            "previous_response_not_found",
            False,
        )
        first = check_response(events + await client.until(*TERMINALS))
        check_response(await client.until(*TERMINALS))
    assert said(millrace)[1] == ("assistant", output_of(first))


@pytest.mark.parametrize("given", [{"instructions": "Be brief."}, {"instructions": ""}, {}])
async def test_instructions_are_of_one_request_alone(millrace: Running, given: Event) -> None:
    """And an empty one is none: it must not cost the conversation its first turn."""
    async with wire_client(millrace.ws_url) as client:
        first = check_response(await client.ask(ASKED, model="small", **given))
        check_response(await client.ask(NEXT, previous_response_id=first["id"], instructions="Be kind."))
        turns = [("user", ASKED), ("assistant", output_of(first)), ("user", NEXT)]
        assert said(millrace) == [("system", "Be kind."), *turns]
        check_response(await client.ask("Hm?", previous_response_id=first["id"], **given))
        own = [("system", given["instructions"])] if given.get("instructions") else []
        assert said(millrace) == [*own, *turns[:2], ("user", "Hm?")]


@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize("delivery", ["speculate", "prefix", "commit", "final"])
async def test_a_tool_is_called_and_its_result_answered(millrace: Running, delivery: str, *, negotiated: bool) -> None:
    """The call goes back as the model made it; the result alone is sent by the client."""
    options = {"delivery": delivery}
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        events = await client.ask("Weather in Paris? [tool=get_weather]", tools=[WEATHER], millrace=options)
        response = check_response(events, negotiated=negotiated)
        (call,) = [item for item in response["output"] if item["type"] == "function_call"]
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "It rains."}
        after = check_response(
            await client.ask([result], previous_response_id=response["id"], tools=[WEATHER], millrace=options),
            negotiated=negotiated,
        )
        wrong = result | {"call_id": "call_of_nobody"}
        error = (await client.ask([wrong], previous_response_id=response["id"], tools=[WEATHER]))[-1]
        assert (error["error"]["code"], error["error"]["param"]) == ("invalid_request", "input")
    assert "It rains." in output_of(after)
    sent = millrace.small.calls[-1].body["messages"]
    assert sent[1]["tool_calls"][0]["id"] == call["call_id"]
    assert sent[1]["tool_calls"][0]["function"]["arguments"] == call["arguments"]
    assert (sent[2]["role"], sent[2]["tool_call_id"]) == ("tool", call["call_id"])


async def test_what_has_no_answer_is_not_continued(millrace: Running) -> None:
    """Unknown, failed, cancelled before a word, still running elsewhere; each says why."""
    async with wire_client(millrace.ws_url) as client, wire_client(millrace.ws_url) as other:
        assert await refused(client, "resp_" + "0" * 32) == "previous_response_not_found"
        for fields in ({}, {"store": True}):
            failed = (await client.ask("x [fault=error]", **fields))[-1]["response"]["id"]
            assert await refused(client, failed) == "previous_response_not_found"
            assert await refused(other, failed) == "previous_response_not_found"
        await client.create("x [ttft=30]", stream_id="a")
        running = (await client.next())["response"]["id"]
        assert await refused(other, running) == "previous_response_not_found"
        await client.send({"type": "response.cancel", "stream_id": "a"})
        await client.until(*TERMINALS)
        assert await refused(client, running, stream_id="a") == "previous_response_not_found"


async def test_what_was_seen_of_a_cancelled_answer_is_continued(millrace: Running) -> None:
    """The user stopped it, and asks on."""
    async with wire_client(millrace.ws_url) as client:
        await client.create("go on [tokens=3000] [rate=200]", model="small")
        events = [await client.next() for _ in range(9)]
        await client.send({"type": "response.cancel"})
        events += await client.until(*TERMINALS)
        cancelled = check_response(events)
        assert cancelled["status"] == "cancelled"
        check_response(await client.ask(NEXT, previous_response_id=cancelled["id"]))
    assert said(millrace)[1] == ("assistant", output_of(cancelled))


async def test_a_call_that_was_broken_off_is_not_in_the_conversation(millrace: Running) -> None:
    """The user saw the words before it and stopped; a model would want the result of a call that nobody saw."""
    asked = "Paris? [tokens=5] [tool=get_weather] [rate=20]"
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        await client.create(asked, tools=[WEATHER])
        events = await client.until("response.output_text.delta")
        await until(lambda: millrace.small.stats.tokens_sent > 7)
        await client.send({"type": "response.cancel"})
        events += await client.until(*TERMINALS)
        cancelled = check_response(events, negotiated=True)
        assert [item["type"] for item in cancelled["output"]] == ["message"]
        check_response(await client.ask(NEXT, previous_response_id=cancelled["id"]), negotiated=True)
    sent = millrace.small.calls[-1].body["messages"]
    assert sent[1] == {"role": "assistant", "content": output_of(cancelled)}


async def test_store_false_is_its_lanes_last_and_no_more(millrace: Running) -> None:
    """Continued in its lane; nowhere else, not by GET, and not after the next one there."""
    async with wire_client(millrace.ws_url) as client, wire_client(millrace.ws_url) as other:
        first = check_response(await client.ask(ASKED, stream_id="a", store=False))["id"]
        assert await stored(millrace, first) == 404
        assert await refused(other, first, stream_id="a") == "previous_response_not_found"
        assert await refused(client, first, stream_id="b") == "previous_response_not_found"
        second = check_response(await client.ask(NEXT, stream_id="a", store=False, previous_response_id=first))["id"]
        check_response(await client.ask(NEXT, stream_id="a", previous_response_id=second))
        assert await refused(client, second, stream_id="a") == "previous_response_not_found"


async def test_a_lane_is_not_remembered_for_ever(millrace: Running) -> None:
    """Of the lanes that were used, the latest 33 know what they told last."""
    async with wire_client(millrace.ws_url) as client:
        ids = [
            check_response(await client.ask(f"{n} [tokens=2]", stream_id=f"l{n}", store=False))["id"] for n in range(34)
        ]
        assert await refused(client, ids[0], stream_id="l0") == "previous_response_not_found"
        check_response(await client.ask(NEXT, stream_id="l1", previous_response_id=ids[1]))


async def test_stored_ones_survive_the_process(start: Start, tmp_path: Path) -> None:
    """`store: true` is on disk, read whole and continued after a restart; the others are gone."""

    def kept(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)

    bodies: dict[str, Event] = {}
    async with start(kept) as running, wire_client(running.ws_url) as client:
        for name, fields in (
            ("stored", {"store": True}),
            ("kept", {}),
            ("called", {"store": True, "tools": [WEATHER]}),
        ):
            asked = f"{name} [tool=get_weather]" if name == "called" else ASKED
            bodies[name] = check_response(await client.ask(asked, model="small", instructions="Be brief.", **fields))
        seen = check_response(await client.ask(PICTURE, store=True, model="small"))
        failed = (await client.ask("x [fault=error]", store=True))[-1]["response"]
        assert await stored(running, bodies["kept"]["id"]) == 200
    async with start(kept) as running, wire_client(running.ws_url) as client:
        async with aiohttp.ClientSession(running.url) as http:
            for body in (bodies["stored"], bodies["called"], failed):
                async with http.get(f"{RESPONSES}/{body['id']}") as answer:
                    assert await answer.json() == body
            async with http.get(f"{RESPONSES}/{bodies['kept']['id']}") as answer:
                assert answer.status == 404
        assert await refused(client, bodies["kept"]["id"]) == "previous_response_not_found"
        assert await refused(client, failed["id"]) == "previous_response_not_found"
        check_response(await client.ask(NEXT, previous_response_id=bodies["stored"]["id"]))
        assert said(running) == [("user", ASKED), ("assistant", output_of(bodies["stored"])), ("user", NEXT)]
        check_response(await client.ask(NEXT, previous_response_id=seen["id"]))
        assert running.small.calls[-1].body["messages"][0]["content"][1]["image_url"]["url"] == PIXEL
        (call,) = [item for item in bodies["called"]["output"] if item["type"] == "function_call"]
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "It rains."}
        after = check_response(await client.ask([result], previous_response_id=bodies["called"]["id"], tools=[WEATHER]))
        assert "It rains." in output_of(after)


@pytest.mark.parametrize("fields", [{"store": True}, {}])
async def test_a_deleted_response_is_gone(millrace: Running, fields: Event) -> None:
    """From memory, from disk, from its lane; once. One that runs is cancelled first."""
    async with wire_client(millrace.ws_url) as client, aiohttp.ClientSession(millrace.url) as http:
        first = check_response(await client.ask(ASKED, **fields))["id"]
        async with http.delete(f"{RESPONSES}/{first}") as answer:
            assert await answer.json() == {"id": first, "object": "response", "deleted": True}
        for method, path in (("GET", first), ("GET", f"{first}?stream=true"), ("DELETE", first)):
            async with http.request(method, f"{RESPONSES}/{path}") as answer:
                assert answer.status == 404
        assert await refused(client, first) == "previous_response_not_found"
        await client.create("x [ttft=30]", **fields)
        running = (await client.next())["response"]["id"]
        async with http.delete(f"{RESPONSES}/{running}") as answer:
            assert (answer.status, (await answer.json())["error"]["param"]) == (400, "response_id")
        async with http.get(f"{RESPONSES}/{running}") as answer:
            assert (await answer.json())["status"] == "in_progress"
        async with http.post(f"{RESPONSES}/{running}/cancel"):
            pass
        async with http.delete(f"{RESPONSES}/{running}") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(("fields", "status"), [({"store": True}, 200), ({}, 404)])
async def test_memory_is_for_a_while(
    millrace: Running, monkeypatch: pytest.MonkeyPatch, fields: Event, status: int
) -> None:
    """After ten minutes only what is on disk is left; a lane still knows its last."""
    monkeypatch.setattr(limits, "KEPT_S", 0.0)
    async with wire_client(millrace.ws_url) as client, wire_client(millrace.ws_url) as other:
        first = check_response(await client.ask(ASKED, model="small", **fields))["id"]

        await forgotten(millrace, first)
        assert await stored(millrace, first) == status
        check_response(await client.ask(NEXT, previous_response_id=first))
        if status == 200:
            check_response(await other.ask(NEXT, previous_response_id=first, stream_id="b"))
        else:
            assert await refused(other, first, stream_id="b") == "previous_response_not_found"


async def test_the_disk_is_for_a_while_too(start: Start) -> None:
    """`store_ttl_s`; meanwhile memory has it."""

    def short(configuration: dict[str, Any]) -> None:
        configuration["server"]["store_ttl_s"] = 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "KEPT_S", 0.0)
        async with start(short) as running, wire_client(running.ws_url) as client:
            first = check_response(await client.ask(ASKED, store=True))["id"]
            assert await stored(running, first) == 200
            async with asyncio.timeout(PATIENCE_S):
                while await stored(running, first) == 200:  # noqa: ASYNC110 - the disk cannot tell us
                    await asyncio.sleep(0.05)


async def test_a_request_that_only_warms_up_is_continued(millrace: Running) -> None:
    """No model is asked; what it held is the beginning of what comes next."""
    async with wire_client(millrace.ws_url) as client:
        warm = check_response(await client.ask("You are on a mill.", generate=False, model="small"))
        assert (warm["status"], warm["output"], warm["usage"]["cost_usd"]) == ("completed", [], 0)
        assert millrace.calls == 0
        check_response(await client.ask(NEXT, previous_response_id=warm["id"], model="small"))
        assert said(millrace) == [("user", "You are on a mill."), ("user", NEXT)]
        empty = check_response(await client.ask([], generate=False))
        check_response(await client.ask(NEXT, previous_response_id=empty["id"]))
        assert said(millrace) == [("user", NEXT)]


async def test_a_cancel_while_the_conversation_is_read(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is honoured without what is read: a beginning, an end, no call; the lane goes on."""
    reading, read_on = asyncio.Event(), asyncio.Event()
    find = SqliteArchive.find

    async def slow(archive: SqliteArchive, tenant: str, response_id: str) -> Any:
        reading.set()
        await read_on.wait()
        return await find(archive, tenant, response_id)

    monkeypatch.setattr(SqliteArchive, "find", slow)
    monkeypatch.setattr(limits, "KEPT_S", 0.0)
    async with wire_client(millrace.ws_url) as client:
        first = check_response(await client.ask(ASKED, store=True, stream_id="b"))["id"]
        await forgotten(millrace, first)
        calls = millrace.calls
        await client.create(NEXT, previous_response_id=first)
        await asyncio.wait_for(reading.wait(), PATIENCE_S)
        await client.send({"type": "response.cancel"})
        await client.send({"type": "millrace.ping"})
        events = await client.until("millrace.pong")  # the terminal may have come before it
        read_on.set()
        if not any(event["type"] in TERMINALS for event in events):
            events += await client.until(*TERMINALS)
        events = [event for event in events if event["type"] != "millrace.pong"]
        assert check_response(events)["status"] == "cancelled"
        assert millrace.calls == calls
        check_response(await client.ask(NEXT, previous_response_id=first))


async def test_who_leaves_while_the_conversation_is_read_asks_nobody(
    millrace: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the socket the request is dropped; over HTTP it stops as soon as it has begun."""
    reading, read_on = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> None:
        reading.set()
        await read_on.wait()

    monkeypatch.setattr(SqliteArchive, "find", slow)
    body = {"input": NEXT, "previous_response_id": "resp_1"}
    async with wire_client(millrace.ws_url) as client:
        await client.create(**body)
        await asyncio.wait_for(reading.wait(), PATIENCE_S)
        client.connection.transport.abort()
    reading.clear()
    async with aiohttp.ClientSession(millrace.url) as http:
        asked = asyncio.ensure_future(http.post(RESPONSES, json=body))
        await asyncio.wait_for(reading.wait(), PATIENCE_S)
        asked.cancel()
    read_on.set()
    async with wire_client(millrace.ws_url) as client:
        check_response(await client.ask(ASKED))
    assert millrace.calls == 1


async def forgotten(running: Running, response_id: str) -> None:
    """Wait until memory has a response no more."""
    async with aiohttp.ClientSession(running.url) as http, asyncio.timeout(PATIENCE_S):
        status = 200
        while status == 200:
            async with http.get(f"{RESPONSES}/{response_id}?stream=true") as answer:
                status = answer.status


async def test_what_was_taken_back_is_not_in_the_conversation(millrace: Running) -> None:
    """Only the words that stand, and not the thoughts."""
    asked = "go on [tokens=30] [fault.small=hangup@9] [reason=4]"
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask(asked)
        first = check_response(events, negotiated=True)
        assert "millrace.revise" in {event["type"] for event in events}
        check_response(await client.ask(NEXT, previous_response_id=first["id"]), negotiated=True)
    await until(lambda: len(millrace.small.calls) == 2)
    assert said(millrace)[1] == ("assistant", output_of(first))
