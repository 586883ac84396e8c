"""Items of responses that are kept: referred to by their ids, and listed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.wire import stored_items
from tests.support.http_client import RESPONSES
from tests.support.media import PIXEL
from tests.support.server import Running, Start
from tests.support.wire_client import Event, WireClient, check_response, output_of, wire_client

WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
ASKED, NEXT = "What is the capital of France?", "And of Spain?"
USER = {"role": "user", "content": ASKED}


def reference(item_id: str) -> dict[str, str]:
    return {"type": "item_reference", "id": item_id}


def sent(running: Running) -> list[Event]:
    """Return the messages that the small model was last sent."""
    messages: list[Event] = running.small.calls[-1].body["messages"]
    return messages


@pytest.fixture
async def http(millrace: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(millrace.url) as session:
        yield session


async def ask(http: aiohttp.ClientSession, given: Any, **fields: Any) -> tuple[int, Event]:
    async with http.post(RESPONSES, json={"model": "small", "input": given, **fields}) as answer:
        return answer.status, await answer.json()


async def asked(http: aiohttp.ClientSession, given: Any, **fields: Any) -> Event:
    status, response = await ask(http, given, **fields)
    assert (status, response.get("status")) == (200, "completed"), response
    return response


async def items_of(http: aiohttp.ClientSession, response_id: str, query: str = "order=asc") -> Event:
    async with http.get(f"{RESPONSES}/{response_id}/input_items?{query}") as answer:
        assert answer.status == 200
        page: Event = await answer.json()
        return page


@pytest.mark.parametrize("store", [None, True])
@pytest.mark.parametrize("typed", [True, False])
async def test_a_tool_is_answered_by_references_to_its_call(
    millrace: Running, http: aiohttp.ClientSession, store: bool | None, *, typed: bool
) -> None:
    """The model gets the reasoning and the calls as one turn, as if they had been sent whole."""
    first = await asked(http, "Paris? [reason=3] [tool=get_weather] [tool=get_weather]", tools=[WEATHER], store=store)
    output = first["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call", "function_call"]
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": f"It rains {at}."}
        for at, item in enumerate(output[1:])
    ]
    references: list[Any] = [reference(item["id"]) if typed else {"id": item["id"]} for item in output]
    await asked(http, [USER, *references, *results], tools=[WEATHER])
    referred = sent(millrace)
    await asked(http, [USER, *output, *results], tools=[WEATHER], millrace={"cache": "off"})
    assert referred == sent(millrace)
    assert [message["role"] for message in referred] == ["user", "assistant", "tool", "tool"]
    assert len(referred[1]["tool_calls"]) == 2


async def test_an_answer_and_a_question_are_referred_to(millrace: Running, http: aiohttp.ClientSession) -> None:
    """Items of an output, and of an input as it is listed; also over a WebSocket."""
    first = await asked(http, ASKED)
    question = (await items_of(http, first["id"]))["data"][0]["id"]
    given = [reference(question), reference(first["output"][0]["id"]), {"role": "user", "content": NEXT}]
    history = [("user", ASKED), ("assistant", output_of(first)), ("user", NEXT)]
    second = await asked(http, given)
    assert [(message["role"], message["content"]) for message in sent(millrace)] == history
    async with wire_client(millrace.ws_url) as client:
        check_response(await client.ask([*given, {"role": "user", "content": "Hm?"}], model="small"))
    assert len(sent(millrace)) == 4
    assert len((await items_of(http, second["id"]))["data"]) == 3


async def test_one_item_alone_is_answered(millrace: Running, http: aiohttp.ClientSession) -> None:
    """And one that is nothing to answer is refused, as if it had been sent."""
    first = await asked(http, "Why? [reason=3]", millrace={"cache": "off"})
    question = (await items_of(http, first["id"]))["data"][0]["id"]
    assert output_of(await asked(http, [reference(question)], instructions="Be brief."))
    assert [message["role"] for message in sent(millrace)] == ["system", "user"]
    status, refused = await ask(http, [reference(first["output"][0]["id"])])
    assert (status, refused["error"]["param"]) == (400, "input")


UNKNOWN = [
    "msg_" + "0" * 32,
    "rs_" + "a" * 32,
    "fc_" + "a" * 32 + "_0",
    "msg_" + "a" * 32 + "_in0",
    "msg_1",
    "item",
    "resp_" + "0" * 32,
    "é" * 500,
]


@pytest.mark.parametrize("item_id", UNKNOWN)
async def test_an_unknown_item_is_named_by_its_path(item_id: str, http: aiohttp.ClientSession) -> None:
    """Before any model is called; the id that was sent is in the words, if it is not too long."""
    status, refused = await ask(http, [USER, reference(item_id)])
    error = refused["error"]
    assert (status, error["code"], error["param"]) == (404, "item_not_found", "input[1].id")
    assert error["message"].startswith(f"input[1].id: '{item_id[:80]}")


async def test_an_unknown_item_is_an_error_on_its_lane(millrace: Running) -> None:
    async with wire_client(millrace.ws_url) as client:
        (error,) = await client.ask([USER, reference(UNKNOWN[0])], stream_id="a", event_id="e")
        assert (error["status"], error["error"]["code"]) == (404, "item_not_found")
        assert (error["stream_id"], error["event_id"]) == ("a", "e")
        assert check_response(await client.ask("Hello", stream_id="a"))["status"] == "completed"


async def test_an_item_is_named_once(http: aiohttp.ClientSession) -> None:
    """Or a short request could grow without bound."""
    (item,) = (await asked(http, ASKED))["output"]
    status, refused = await ask(http, [USER, reference(item["id"]), USER, reference(item["id"])])
    assert (status, refused["error"]["param"]) == (400, "input[3].id")


@pytest.mark.parametrize("store", [None, True])
async def test_an_item_of_the_conversation_that_goes_on_is_sent_once(
    millrace: Running, http: aiohttp.ClientSession, store: bool | None
) -> None:
    """An item of the response before, of one before that, of an output and of an input: the model gets each once."""
    first = await asked(http, ASKED, store=store)
    second = await asked(http, NEXT, store=store, previous_response_id=first["id"])
    question = (await items_of(http, first["id"]))["data"][0]["id"]
    references = [reference(question), *(reference(one["output"][0]["id"]) for one in (first, second))]
    history = [ASKED, output_of(first), NEXT, output_of(second), "Hm?"]
    other = await asked(http, "Something else", store=store)
    elsewhere = other["output"][0]["id"]
    third = {"role": "user", "content": "Hm?"}
    for given, expected in (
        ([*references, third], history),
        ([references[2], third], history),
        ([*references, reference(elsewhere), third], [*history[:-1], output_of(other), "Hm?"]),
    ):
        await asked(http, given, previous_response_id=second["id"], millrace={"cache": "off"})
        assert [message["content"] for message in sent(millrace)] == expected
    unknown = reference("msg_" + "0" * 32)
    status, refused = await ask(http, [unknown, third], previous_response_id=second["id"])
    assert (status, refused["error"]["code"]) == (404, "item_not_found")


async def test_a_tool_is_answered_by_references_to_what_is_brought_along(
    millrace: Running, http: aiohttp.ClientSession
) -> None:
    """The call is in the conversation that goes on, and is referred to beside its result."""
    first = await asked(http, "Paris? [reason=3] [tool=get_weather]", tools=[WEATHER])
    call = first["output"][-1]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "It rains."}
    references = [reference(item["id"]) for item in first["output"]]
    await asked(http, [*references, result], tools=[WEATHER], previous_response_id=first["id"])
    referred = sent(millrace)
    assert [message["role"] for message in referred] == ["user", "assistant", "tool"]
    again = {"tools": [WEATHER], "previous_response_id": first["id"], "millrace": {"cache": "off"}}
    await asked(http, [result], **again)
    assert referred == sent(millrace)


async def test_the_lineage_of_a_stored_conversation_outlives_its_process(start: Start, tmp_path: Path) -> None:
    """So what it brings along is sent once after a restart, too."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)

    async with start(change) as millrace, aiohttp.ClientSession(millrace.url) as http:
        first = await asked(http, ASKED, store=True)
        second = await asked(http, NEXT, store=True, previous_response_id=first["id"])
    async with start(change) as millrace, aiohttp.ClientSession(millrace.url) as http:
        given = [reference(one["output"][0]["id"]) for one in (first, second)]
        await asked(http, [*given, {"role": "user", "content": "Hm?"}], previous_response_id=second["id"])
        contents = [message["content"] for message in sent(millrace)]
        assert contents == [ASKED, output_of(first), NEXT, output_of(second), "Hm?"]


async def test_what_is_referred_to_is_bounded_like_a_request(start: Start) -> None:
    """By `max_message_bytes`."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["max_message_bytes"] = 4096

    async with start(change) as millrace, aiohttp.ClientSession(millrace.url) as http:
        ids = []
        for number in range(3):
            first = await asked(http, f"{number} " + "word " * 500)
            ids.append((await items_of(http, first["id"]))["data"][0]["id"])
        assert (await ask(http, [reference(ids[0]), USER]))[0] == 200
        status, refused = await ask(http, [*map(reference, ids), USER])
        assert (status, refused["error"]["code"]) == (413, "message_too_big")


async def test_an_output_of_another_call_is_refused(http: aiohttp.ClientSession) -> None:
    """Also where its call might be what a reference stands for."""
    (item,) = (await asked(http, ASKED))["output"]
    result = {"type": "function_call_output", "call_id": "call_of_nobody", "output": "4"}
    status, refused = await ask(http, [USER, reference(item["id"]), result])
    assert (status, refused["error"]["code"]) == (400, "invalid_request")
    assert "call_of_nobody" in refused["error"]["message"]


@pytest.mark.parametrize("store", [None, True, False])
async def test_what_is_not_kept_cannot_be_referred_to(
    millrace: Running, http: aiohttp.ClientSession, store: bool | None
) -> None:
    """Once it is deleted; with `store: false` only the next request of its lane can."""
    async with wire_client(millrace.ws_url) as client:
        first = check_response(await client.ask(ASKED, model="small", store=store))
        (item,) = first["output"]
        body = [USER, reference(item["id"]), {"role": "user", "content": NEXT}]
        assert (await ask(http, body))[0] == (404 if store is False else 200)
        if store is False:
            check_response(await client.ask(body))
            (error,) = await client.ask(body)
            assert error["error"]["code"] == "item_not_found"
            return
    async with http.delete(f"{RESPONSES}/{first['id']}") as answer:
        assert answer.status == 200
    assert (await ask(http, body))[0] == 404


async def test_a_stored_item_outlives_its_process(start: Start, tmp_path: Path) -> None:
    """What `store: true` keeps is there after a restart: its input and its output."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)

    async with start(change) as millrace, aiohttp.ClientSession(millrace.url) as http:
        first = await asked(http, [USER], store=True)
        prepared = await asked(http, [USER, {"role": "assistant", "content": "Well"}], store=True, generate=False)
        before = [await items_of(http, response["id"]) for response in (first, prepared)]
    async with start(change) as millrace, aiohttp.ClientSession(millrace.url) as http:
        assert [await items_of(http, response["id"]) for response in (first, prepared)] == before
        assert [len(page["data"]) for page in before] == [1, 2]
        question = before[0]["data"][0]["id"]
        given = [reference(question), reference(first["output"][0]["id"]), {"role": "user", "content": NEXT}]
        await asked(http, given)
        assert [message["content"] for message in sent(millrace)] == [ASKED, output_of(first), NEXT]


async def one_of_each(client: WireClient) -> Event:
    """Return a response whose input has one item of each kind."""
    given = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "?"}, {"type": "input_image", "image_url": PIXEL}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "I ask."}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
        {"role": "user", "content": [{"type": "input_file", "file_data": "ZA==", "filename": "n"}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "ZA==", "format": "wav"}}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": ASKED},
    ]
    return check_response(await client.ask(given, model="small", instructions="Not an item."))


async def test_every_item_of_an_input_is_listed(millrace: Running, http: aiohttp.ClientSession) -> None:
    """Whole, in order, with the history that it continues; each can be referred to by its id."""
    async with wire_client(millrace.ws_url) as client:
        first = await one_of_each(client)
        second = check_response(await client.ask(NEXT, model="small", previous_response_id=first["id"]))
    page = await items_of(http, first["id"])
    shown = [{name: value for name, value in item.items() if name not in ("id", "status")} for item in page["data"]]
    assert [item["type"] for item in shown] == [
        *("message", "message", "reasoning", "message", "function_call", "function_call_output"),
        *("message", "message", "message", "message"),
    ]
    assert shown[0] == {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be brief."}]}
    assert shown[1]["content"][1] == {"type": "input_image", "image_url": PIXEL, "file_id": None, "detail": "auto"}
    assert shown[2]["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert shown[4] == {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    assert shown[5] == {"type": "function_call_output", "call_id": "c1", "output": "4"}
    assert shown[6]["content"][0]["file_data"] == "ZA=="
    assert shown[7]["content"][0]["input_audio"] == {"data": "ZA==", "format": "wav"}
    assert shown[8]["content"] == [{"type": "refusal", "refusal": "No."}]
    history = (await items_of(http, second["id"]))["data"]
    assert len(history) == len(shown) + 2
    assert history[-2]["content"][0]["text"] == output_of(first)
    await asked(http, [reference(item["id"]) for item in history])
    referred = sent(millrace)
    del page["data"][1]["content"][1]["detail"]  # the default, which was not sent
    await asked(http, [*page["data"], *first["output"], {"role": "user", "content": NEXT}], millrace={"cache": "off"})
    assert referred == sent(millrace)


async def test_items_are_listed_by_pages(http: aiohttp.ClientSession) -> None:
    """Twenty at once, the latest first, unless something else is asked for."""
    turns = [{"role": ("user", "assistant")[at % 2], "content": f"turn {at}"} for at in range(45)]
    response = await asked(http, turns)
    texts = [f"turn {at}" for at in range(45)]

    def of(page: Event) -> list[str]:
        return [item["content"][0]["text"] for item in page["data"]]

    page = await items_of(http, response["id"], "")
    assert (of(page), page["has_more"], page["object"]) == (texts[:-21:-1], True, "list")
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
    for order, expected in (("asc", texts), ("desc", texts[::-1])):
        found: list[str] = []
        query = f"order={order}&limit=7&include[]=message.input_image.image_url"
        page = await items_of(http, response["id"], query)
        found += of(page)
        while page["has_more"]:
            page = await items_of(http, response["id"], f"{query}&after={page['last_id']}")
            found += of(page)
        assert found == expected
    last = await items_of(http, response["id"], f"after={page['last_id']}")
    assert (last["data"], last["first_id"], last["last_id"], last["has_more"]) == ([], None, None, False)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        *(("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("limit=%C2%B2", "limit")),
        *(("order=up", "order"), ("after=msg_1", "after")),
    ],
)
async def test_a_page_that_makes_no_sense_is_refused(query: str, param: str, http: aiohttp.ClientSession) -> None:
    response = await asked(http, ASKED)
    async with http.get(f"{RESPONSES}/{response['id']}/input_items?{query}") as answer:
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, param)


@pytest.mark.parametrize("way", ["unknown", "failed", "not stored"])
async def test_what_is_not_kept_is_not_listed(way: str, millrace: Running, http: aiohttp.ClientSession) -> None:
    response_id = "resp_" + "0" * 32
    async with wire_client(millrace.ws_url) as client:
        if way == "failed":
            events = await client.ask("Hello [fault=500]", model="small", store=True)
            response_id = events[-1]["response"]["id"]
        if way == "not stored":
            response_id = check_response(await client.ask(ASKED, store=False))["id"]
    async with http.get(f"{RESPONSES}/{response_id}/input_items") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "response_not_found")


def test_ids_are_told_apart() -> None:
    """The id of an item says which response has it."""
    hexadecimal = "0123456789abcdef" * 2
    for item_id in ("msg_{}", "rs_{}", "fc_{}_0", "fc_{}_in12", "fco_{}_in3", "msg_{}_in0"):
        assert stored_items.response_of(item_id.format(hexadecimal)) == f"resp_{hexadecimal}"
    for item_id in ("resp_{}", "msg_{}x", "x_{}", "msg_", "msg_{}_in", "msg_{}\n", json.dumps("msg_{}")):
        assert stored_items.response_of(item_id.format(hexadecimal)) is None
