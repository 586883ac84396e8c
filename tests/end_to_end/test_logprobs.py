"""Log-probabilities over every wire: each stays with its text, and goes with text that is taken back."""

import asyncio
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from tests.support.http_client import CHAT, RESPONSES, body_of, events_of, lines_of
from tests.support.provider import DONE, END, HEAD, body, event, says, scripted_provider
from tests.support.server import Running, Start, configuration_for, serving
from tests.support.wire_client import Event, check_response, output_of, wire_client

INCLUDE = ["message.output_text.logprobs"]
TALK = "Talk. [tokens=30]"
DELTA, DONE_EVENT, PART = "response.output_text.delta", "response.output_text.done", "response.content_part.done"


def said(logprobs: list[Event]) -> str:
    return "".join(entry["token"] for entry in logprobs)


def checked(events: list[Event]) -> list[Event]:
    """Assert that all log-probabilities of a response are with their text; return those of the terminal."""
    for delta in (each for each in events if each["type"] == DELTA):
        assert said(delta["logprobs"]) == delta["delta"]
    response = check_response(events, negotiated=any(each["type"].startswith("millrace.") for each in events))
    (item,) = [item for item in response["output"] if item["type"] == "message"]
    (part,) = item["content"]
    assert said(part["logprobs"]) == part["text"] == output_of(response)
    (done,) = [each for each in events if each["type"] == DONE_EVENT]
    (closed,) = [each for each in events if each["type"] == PART]
    assert done["logprobs"] == closed["part"]["logprobs"] == part["logprobs"]
    found: list[Event] = part["logprobs"]
    return found


@pytest.mark.parametrize("negotiated", [True, False])
@pytest.mark.parametrize("delivery", ["speculate", "prefix", "commit", "final"])
@pytest.mark.parametrize("asked", [TALK, TALK + "[weak.small]", "Hi"])
async def test_responses(millrace: Running, asked: str, delivery: str, *, negotiated: bool) -> None:
    """At once, late, or after the small model's words were taken back."""
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        options = {"delivery": delivery, "strategy": "cascade"}
        events = await client.ask(asked, include=INCLUDE, top_logprobs=2, millrace=options)
    found = checked(events)
    assert all(len(entry["top_logprobs"]) == 2 for entry in found)
    assert all(entry["logprob"] <= 0 and bytes(entry["bytes"]).decode() == entry["token"] for entry in found)


@pytest.mark.parametrize("strategy", ["small", "large", "race", "hedge"])
async def test_every_strategy(millrace: Running, strategy: str) -> None:
    """What a contender said before it won is shown with its log-probabilities."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        checked(await client.ask(TALK, include=INCLUDE, millrace={"strategy": strategy}))


async def test_chat_completions(millrace: Running) -> None:
    """Streamed and whole, as an SDK reads them."""
    async with AsyncOpenAI(base_url=f"{millrace.url}/v1", api_key="-") as client:
        asked: Any = {
            "model": "auto",
            "messages": [{"role": "user", "content": TALK}],
            "logprobs": True,
            "top_logprobs": 1,
        }
        whole = (await client.chat.completions.create(**asked)).choices[0]
        assert whole.logprobs is not None
        assert "".join(entry.token for entry in whole.logprobs.content or ()) == whole.message.content
        text = ""
        async for chunk in await client.chat.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                content = choice.logprobs.content if choice.logprobs else None
                assert "".join(entry.token for entry in content or ()) == (choice.delta.content or "")
                text += choice.delta.content or ""
        assert text == whole.message.content


@pytest.mark.parametrize("path", [RESPONSES, CHAT])
async def test_who_does_not_ask_gets_none(millrace: Running, path: str) -> None:
    """And the provider is not asked."""
    async with (
        aiohttp.ClientSession(millrace.url) as http,
        http.post(path, json=body_of(path, TALK, stream=True)) as answer,
    ):
        lines = await lines_of(answer)
    assert "top_logprobs" not in "".join(lines)
    assert events_of(lines)
    assert "logprobs" not in millrace.small.calls[0].body


async def test_no_cache_answers_and_none_stores(millrace: Running) -> None:
    """Caches hold no log-probabilities; an identical request that runs at the same time has them too."""
    asked: dict[str, Any] = {"input": TALK + "[ttft=0.3]", "include": INCLUDE}
    async with wire_client(millrace.ws_url) as one, wire_client(millrace.ws_url) as other:
        both = await asyncio.gather(one.ask(**asked), other.ask(**asked))
        assert checked(both[0]) == checked(both[1])
        caches = sorted(events[-1]["response"]["metadata"]["millrace.cache"] for events in both)
        assert (caches, millrace.calls) == (["joined", "miss"], 1)
        checked(await one.ask(**asked))
        plain = await one.ask(asked["input"])
        assert plain[-1]["response"]["metadata"]["millrace.cache"] == "miss"
        again = await one.ask(asked["input"])
        assert again[-1]["response"]["metadata"]["millrace.cache"] == "exact"
        checked(await one.ask(**asked))
        assert millrace.calls == 4


async def test_a_slow_reader_gets_merged_text_with_all_of_its_logprobs(millrace: Running) -> None:
    """However many tokens one event joins."""
    async with wire_client(millrace.ws_url, max_queue=1, max_size=None) as client:
        await client.create("Talk. [tokens=5000]", include=INCLUDE, top_logprobs=3, millrace={"strategy": "small"})
        await asyncio.sleep(1)
        events = await client.until("response.completed", "response.failed", "response.incomplete")
    assert len(checked(events)) == 5000
    assert any(len(each["logprobs"]) > 1 for each in events if each["type"] == DELTA)


async def test_a_response_that_is_read_later_has_them(millrace: Running) -> None:
    """From memory, after its end."""
    async with aiohttp.ClientSession(millrace.url) as http:
        async with http.post(RESPONSES, json=body_of(RESPONSES, TALK, include=INCLUDE)) as answer:
            first = await answer.json()
        async with http.get(f"{RESPONSES}/{first['id']}") as answer:
            again = await answer.json()
    assert again["output"] == first["output"]
    assert said(again["output"][0]["content"][0]["logprobs"]) == output_of(first)


async def test_a_provider_that_sends_none_is_told_of() -> None:
    """The answer is whole without them."""
    answer = HEAD + body(event("Hello."), event(None, "stop"), DONE) + END
    async with scripted_provider(says(answer)) as provider:
        url = provider.upstream.endpoint.base_url
        async with (
            serving(configuration_for(url, f"{url}/")) as served,
            aiohttp.ClientSession(served) as http,
            http.post(CHAT, json=body_of(CHAT, "Hi", logprobs=True)) as answered,
        ):
            completion = await answered.json()
    assert "without logprobs" in completion["metadata"]["millrace.notes"]
    assert completion["choices"][0]["logprobs"] is None
    assert provider.requests[0][1]["logprobs"] is True


async def test_a_stored_answer_is_continued_as_text(start: Start) -> None:
    """What was measured of it is no part of the conversation."""
    async with start() as running, wire_client(running.ws_url) as client:
        first = (await client.ask(TALK, include=INCLUDE, store=True))[-1]["response"]
        await client.ask("And then?", previous_response_id=first["id"])
        history = running.small.calls[-1].body["messages"]
        assert [message["content"] for message in history] == [TALK, output_of(first), "And then?"]
