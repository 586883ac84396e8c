"""What a provider does not get, and the notes on it: service tiers without a price, marks for caches."""

import asyncio
import dataclasses
import json
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.types import Call, Message, Price, Prompt, Tool, Unread
from millrace.upstreams.chat import body as chat
from millrace.upstreams.quirks import PRESETS, change_for
from tests.support.provider import CALL, DONE, END, HEAD, body, event, says, scripted_provider

MARK: Unread = ((("content", 0, "cache_control"), {"type": "ephemeral"}), (("content", 0, "x"), 1))
ON_A_TOOL: Unread = ((("cache_control",), {"type": "ephemeral"}),)
MARKED = dataclasses.replace(
    CALL,
    prompt=Prompt(
        messages=(Message(role="user", parts=("Hi",), unread=MARK),), tools=(Tool(name="f", unread=ON_A_TOOL),)
    ),
)
PRICED = replace(CALL.model, tier_prices={"flex": Price(input=Decimal("0.5"), output=Decimal("0.5"))})
ANSWER = HEAD + body(event("Hi", "stop"), DONE) + END


def asking(tier: Any, **fields: Any) -> Call:
    return dataclasses.replace(CALL, **fields, prompt=dataclasses.replace(CALL.prompt, extras={"service_tier": tier}))


@pytest.mark.parametrize("provider", PRESETS)
def test_marks_for_a_cache_go_where_they_are_taken(provider: str) -> None:
    """A provider that is known to refuse them gets the rest, and the note says so."""
    refuses = provider in ("openai", "azure", "gemini", "mistral", "groq")
    fields, _, notes = chat.request(MARKED, PRESETS[provider])
    assert ("cache_control" in json.dumps(fields)) is not refuses
    assert notes == (["without cache_control"] if refuses else [])
    assert fields["messages"][0]["content"][0]["x"] == 1


def test_a_text_whose_only_mark_is_left_out_is_a_text() -> None:
    """As if it had not been marked."""
    asked = dataclasses.replace(
        MARKED,
        prompt=dataclasses.replace(MARKED.prompt, messages=(replace(MARKED.prompt.messages[0], unread=MARK[:1]),)),
    )
    assert chat.fields_of(asked, PRESETS["openai"])["messages"] == [{"role": "user", "content": "Hi"}]


async def test_a_refused_mark_is_left_out_and_remembered() -> None:
    """Wherever it was."""
    async with scripted_provider(says()) as provider:

        async def script(writer: asyncio.StreamWriter) -> None:
            error = json.dumps({"error": {"message": "Unknown parameter: 'messages[0].content[0].cache_control'."}})
            refused = f"HTTP/1.1 400 No\r\nContent-Length: {len(error)}\r\n\r\n{error}".encode()
            writer.write(refused if "cache_control" in json.dumps(provider.requests[-1][1]) else ANSWER)

        provider.script = script
        for _ in range(2):
            attempt = provider.upstream.open(MARKED)
            await attempt.done
            await attempt.task
            assert attempt.notes == ("without cache_control",)
        assert len(provider.requests) == 3


def test_a_mark_that_was_not_sent_is_not_left_out() -> None:
    """It would be tried for ever."""
    assert change_for("cache_control is unknown", chat.fields_of(CALL)) is None


@pytest.mark.parametrize("tier", ["auto", "default", "standard", "on_demand", "flex"])
def test_a_tier_with_a_price_is_asked_for(tier: str) -> None:
    """Which of them it is, is the provider's to say under `auto`."""
    fields, _, notes = chat.request(asking(tier, model=PRICED))
    assert (fields["service_tier"], notes) == (tier, [])


@pytest.mark.parametrize("tier", ["priority", "Flex", 5, {"a": 1}])
def test_a_tier_without_a_price_is_not(tier: Any) -> None:
    """What it costs could not be told."""
    fields, _, notes = chat.request(asking(tier, model=PRICED))
    assert "service_tier" not in fields
    assert len(notes) == 1
    assert notes[0].startswith("without service_tier")


REPORTED: list[tuple[Any, Any, str]] = [  # asked, reported, what is charged
    (None, None, ""),
    (None, "default", "default"),
    (None, "priority", "priority"),
    ("flex", None, "flex"),
    ("flex", "default", "default"),
    ("flex", "auto", "flex"),
    ("flex", 7, "flex"),
    ("auto", None, "auto"),
    ("auto", "flex", "flex"),
    ("priority", None, ""),
]


@pytest.mark.parametrize(("asked", "reported", "charged"), REPORTED)
async def test_the_tier_that_is_charged_is_the_one_reported(asked: Any, reported: Any, charged: str) -> None:
    """Until then, and if none is, the one that was sent. Streamed or whole."""
    named = {} if reported is None else {"service_tier": reported}
    whole = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], **named}
    for answer in (
        HEAD + body(event("Hi", **named), event(None, "stop"), DONE) + END,
        HEAD + body(json.dumps(whole).encode()) + END,
    ):
        async with scripted_provider(says(answer)) as provider:
            attempt = provider.upstream.open(
                asking(asked, model=PRICED) if asked else dataclasses.replace(CALL, model=PRICED)
            )
            await attempt.done
            assert attempt.service_tier == charged
            await attempt.task
