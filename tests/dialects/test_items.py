"""What is no plain text, end to end over the socket: tool calls, reasoning, refusals, images, in each delivery mode."""

from typing import Any

import aiohttp
import pytest

from tests.support.http_client import RESPONSES, events_of, lines_of
from tests.support.media import PIXEL
from tests.support.server import Running
from tests.support.wire_client import TERMINALS, Event, WireClient, check_response, output_of, wire_client

DELIVERIES = ["speculate", "prefix", "commit", "final"]
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CALLS = ("response.function_call_arguments.delta", "response.function_call_arguments.done")


def kinds(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]


def items_of(response: Event, kind: str) -> list[Event]:
    return [item for item in response["output"] if item["type"] == kind]


def check_items(events: list[Event]) -> None:
    """Assert that every item is opened once, closed once, and closed as the terminal has it."""
    opened = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    closed = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert len(opened) == len(set(opened))
    assert closed == events[-1]["response"]["output"]
    assert opened == [item["id"] for item in closed]
    for event in events:
        if "output_index" in event and "item_id" in event:
            assert opened[event["output_index"]] == event["item_id"]


async def until_call(client: WireClient) -> list[Event]:
    return await client.until(CALLS[0], *TERMINALS)


@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_a_tool_call_is_shown_when_it_stands(millrace: Running, delivery: str, *, negotiated: bool) -> None:
    """No argument before the small model has said all and was judged; two calls at once are two items."""
    second = {**WEATHER, "name": "get_tide"}
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        await client.create(
            "Paris? [tool=get_weather] [tool=get_tide] [tokens=4] [rate=60]",
            tools=[WEATHER, second],
            millrace={"delivery": delivery},
        )
        events = await until_call(client)
        sent = millrace.small.stats.tokens_sent
        events += await client.until(*TERMINALS)
    assert sent == millrace.small.stats.tokens_sent > 10
    response = check_response(events, negotiated=negotiated)
    check_items(events)
    calls = items_of(response, "function_call")
    assert [call["name"] for call in calls] == ["get_weather", "get_tide"]
    for call in calls:
        deltas = [event["delta"] for event in events if event["type"] == CALLS[0] and event["item_id"] == call["id"]]
        (done,) = [event for event in events if event["type"] == CALLS[1] and event["item_id"] == call["id"]]
        assert "".join(deltas) == done["arguments"] == call["arguments"]
        assert call["arguments"].startswith("{")
    assert response["metadata"]["millrace.route"] == "small"


@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_a_bad_call_of_the_small_model_is_never_seen(
    millrace: Running, delivery: str, *, negotiated: bool
) -> None:
    """Its arguments do not fit the tool; the large model's are the only ones."""
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        events = await client.ask("Paris? [tool=get_weather] [weak]", tools=[WEATHER], millrace={"delivery": delivery})
    response = check_response(events, negotiated=negotiated)
    check_items(events)
    (call,) = items_of(response, "function_call")
    deltas = [event["delta"] for event in events if event["type"] == CALLS[0]]
    assert "".join(deltas) == call["arguments"]
    assert response["metadata"]["millrace.route"] == "large"
    assert [attempt["outcome"] for attempt in response["usage"]["attempts"]] == ["revised", "answered"]


@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_thoughts_come_first_and_are_counted(millrace: Running, delivery: str, *, negotiated: bool) -> None:
    """An item of their own before the answer's."""
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        events = await client.ask("Why? [reason=9] [tokens=60]", millrace={"delivery": delivery})
    response = check_response(events, negotiated=negotiated)
    check_items(events)
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    thought = "".join(event["delta"] for event in events if event["type"] == "response.reasoning_text.delta")
    assert thought == items_of(response, "reasoning")[0]["content"][0]["text"]
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] == 9
    assert response["usage"]["output_tokens"] == 69


SUMMARY = {
    "response.reasoning_summary_part.added": 1,
    "response.reasoning_summary_text.done": 1,
    "response.reasoning_summary_part.done": 1,
}
THOUGHTS = ("response.reasoning_text.delta", "response.reasoning_text.done")


@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_thoughts_are_a_summary_for_who_asks_for_one(
    millrace: Running, delivery: str, *, negotiated: bool
) -> None:
    """All that many clients show; never both, and the words are the provider's."""
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        plain = check_response(await client.ask("Why? [reason=9]"), negotiated=negotiated)
        asked = {"reasoning": {"summary": "auto"}, "millrace": {"delivery": delivery, "cache": "off"}}
        events = await client.ask("Why? [reason=9]", **asked)
    response = check_response(events, negotiated=negotiated)
    check_items(events)
    (item,) = items_of(response, "reasoning")
    (words,) = item["summary"]
    assert item["content"] == []
    assert words == {"type": "summary_text", "text": items_of(plain, "reasoning")[0]["content"][0]["text"]}
    assert {kind: kinds(events).count(kind) for kind in SUMMARY} == SUMMARY
    assert not set(THOUGHTS) & set(kinds(events))
    deltas = [event for event in events if event["type"] == "response.reasoning_summary_text.delta"]
    assert "".join(event["delta"] for event in deltas) == words["text"]
    for event in events:
        if "summary" in event["type"]:
            assert (event["item_id"], event["output_index"], event["summary_index"]) == (item["id"], 0, 0)
            assert event.get("text", words["text"]) == words["text"]


@pytest.mark.parametrize("negotiated", [False, True])
async def test_a_summary_is_taken_back_too(millrace: Running, *, negotiated: bool) -> None:
    asked = "Why? [reason=5] [tokens=30] [fault.small=hangup@25] [rate=500]"
    options = {} if negotiated else {"delivery": "commit"}
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        events = await client.ask(asked, reasoning={"summary": "detailed"}, millrace=options)
    response = check_response(events, negotiated=negotiated)
    check_items(events)
    last = max((at for at, event in enumerate(events) if event["type"] == "millrace.revise"), default=0)
    words = [event["delta"] for event in events[last:] if event["type"] == "response.reasoning_summary_text.delta"]
    assert "".join(words) == items_of(response, "reasoning")[0]["summary"][0]["text"]
    assert response["metadata"]["millrace.route"] == "large"


async def test_a_summary_is_no_part_of_the_question(millrace: Running) -> None:
    """A cached answer is shown to each as it asked; a replay is what was sent."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        check_response(await client.ask("Why? [reason=9]"), negotiated=True)
        events = await client.ask("Why? [reason=9]", reasoning={"summary": "concise"})
        response = check_response(events, negotiated=True)
    assert response["metadata"]["millrace.cache"] == "exact"
    assert "response.reasoning_summary_text.delta" in kinds(events)
    async with (
        aiohttp.ClientSession(millrace.url) as http,
        http.get(f"{RESPONSES}/{response['id']}?stream=true") as answer,
    ):
        replayed = events_of(await lines_of(answer))
    assert items_of(replayed[-1]["response"], "reasoning") == items_of(response, "reasoning")
    assert "response.reasoning_summary_text.delta" in kinds(replayed)


@pytest.mark.parametrize(
    ("reasoning", "is_summary"),
    [
        *(({"summary": "auto"}, True), ({"generate_summary": "concise"}, True), ({"summary": "none"}, False)),
        *(({"summary": None, "effort": "low"}, False), ({}, False), (None, False)),
    ],
)
async def test_which_reasoning_is_a_summary(reasoning: Any, millrace: Running, *, is_summary: bool) -> None:
    async with wire_client(millrace.ws_url) as client:
        response = check_response(await client.ask("Why? [reason=9]", reasoning=reasoning))
    (item,) = items_of(response, "reasoning")
    assert (bool(item["summary"]), bool(item["content"])) == (is_summary, not is_summary)


async def test_an_unknown_kind_of_summary_is_refused(millrace: Running) -> None:
    async with wire_client(millrace.ws_url) as client:
        (error,) = await client.ask("Why?", reasoning={"summary": "long"})
    assert error["error"]["param"] == "reasoning.summary"
    assert "auto, concise, detailed" in error["error"]["message"]


@pytest.mark.parametrize("summary", [None, "auto"])
async def test_thoughts_come_back_as_they_were_shown(millrace: Running, summary: str | None) -> None:
    """An item goes back whole: the model of the next turn gets the same, whichever way it was shown."""
    async with wire_client(millrace.ws_url) as client:
        first = check_response(
            await client.ask("Weather? [reason=9] [tool=get_weather]", tools=[WEATHER], reasoning={"summary": summary})
        )
        (call,) = items_of(first, "function_call")
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "It rains."}
        history = [{"role": "user", "content": "Weather?"}, *first["output"], result]
        check_response(await client.ask(history, tools=[WEATHER], include=["reasoning.encrypted_content"]))
        sent = millrace.small.calls[-1].body["messages"]
        check_response(await client.ask([result], tools=[WEATHER], previous_response_id=first["id"]))
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[1:] == millrace.small.calls[-1].body["messages"][1:]


@pytest.mark.parametrize(
    ("delivery", "negotiated"),
    [
        ("speculate", True),
        *((delivery, negotiated) for delivery in ("commit", "final") for negotiated in (False, True)),
    ],
)
async def test_thoughts_are_taken_back_with_their_words(millrace: Running, delivery: str, *, negotiated: bool) -> None:
    """Each item that had some gets its revise; what stands is the large model's alone."""
    asked = "Why? [reason=5] [tokens=30] [fault.small=hangup@25] [rate=500]"
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        events = await client.ask(asked, millrace={"delivery": delivery})
    response = check_response(events, negotiated=negotiated)
    check_items(events)
    revises = [event["item_id"] for event in events if event["type"] == "millrace.revise"]
    if negotiated:
        seen = delivery == "speculate"
        assert len(revises) == (2 if seen else 1)
    last = max((at for at, event in enumerate(events) if event["type"] == "millrace.revise"), default=0)
    thought = "".join(event["delta"] for event in events[last:] if event["type"] == "response.reasoning_text.delta")
    assert thought == items_of(response, "reasoning")[0]["content"][0]["text"]
    assert response["metadata"]["millrace.route"] == "large"


@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_a_refusal_is_a_part_of_its_own(millrace: Running, delivery: str, *, negotiated: bool) -> None:
    """Of the large model it stands; the small model's is taken back first."""
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        events = await client.ask("Be rude. [refuse]", millrace={"delivery": delivery})
    response = check_response(events, negotiated=negotiated)
    check_items(events)
    (message,) = items_of(response, "message")
    refusals = [part["refusal"] for part in message["content"] if part["type"] == "refusal"]
    last = max((at for at, event in enumerate(events) if event["type"] == "millrace.revise"), default=0)
    refused = "".join(event["delta"] for event in events[last:] if event["type"] == "response.refusal.delta")
    assert refusals == [refused]
    assert refused
    assert response["metadata"]["millrace.route"] == "large"


@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_an_image_is_passed_on_as_it_is(millrace: Running, delivery: str) -> None:
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": PIXEL, "detail": "low"},
    ]
    async with wire_client(millrace.ws_url) as client:
        asked = [{"role": "user", "content": parts}]
        response = check_response(await client.ask(asked, millrace={"delivery": delivery}))
    assert "With it came 1 image." in output_of(response)
    (message,) = millrace.small.calls[0].body["messages"]
    assert message["content"][1] == {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
