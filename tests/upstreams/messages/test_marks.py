"""Marks for the provider's cache: set on what comes again, unless the client has set some."""

import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.types import Api, Call, Message, Native, Prompt
from millrace.upstreams.messages import body as messages
from millrace.upstreams.quirks import Quirks
from tests.support.messages_wire import signature_of, thinking
from tests.upstreams.messages.test_body import ASKED, BIG, CALLED, MARK, WEATHER, sealed, sent


def marked(fields: Any) -> list[str]:
    """Return where the marks are."""
    places = [f"tools.{at}" for at, tool in enumerate(fields.get("tools", ())) if "cache_control" in tool]
    places += [f"system.{at}" for at, block in enumerate(fields.get("system", ())) if "cache_control" in block]
    return places + [
        f"{at}.{number}"
        for at, turn in enumerate(fields["messages"])
        for number, block in enumerate(turn["content"])
        if "cache_control" in block
    ]


SYSTEM = Message(role="system", parts=("Be brief.", "Be kind."))
SAID = Message(role="assistant", parts=("Deep.",))
RESULT = Message(role="tool", parts=("21",), call_id="toolu_1")
MARKS: list[tuple[tuple[Message, ...], dict[str, Any], list[str]]] = [
    ((ASKED,), {}, []),
    ((SYSTEM, ASKED), {}, ["system.1"]),
    ((SYSTEM, ASKED, SAID, ASKED), {}, ["system.1", "0.0", "2.0"]),
    ((ASKED, SAID, ASKED, SAID, ASKED), {}, ["2.0", "4.0"]),
    ((SYSTEM, ASKED), {"tools": (WEATHER, dataclasses.replace(WEATHER, name="f"))}, ["tools.1", "system.1", "0.0"]),
    ((SYSTEM, ASKED, CALLED, RESULT), {"tools": (WEATHER,)}, ["tools.0", "system.1", "0.0", "2.0"]),
    ((SYSTEM, ASKED, SAID, ASKED), {"context": "Context.\n\n"}, ["system.1", "0.0"]),
]


@pytest.mark.parametrize(("asked", "prompt", "places"), MARKS)
def test_marks_for_the_cache_are_set_on_what_comes_again(
    asked: tuple[Message, ...], prompt: dict[str, Any], places: list[str]
) -> None:
    """Tools, the system prompt, and the last two turns of a user; not a question that stands alone or has context."""
    fields, notes = sent(*asked, marks=True, **prompt)
    assert marked(fields) == places
    assert notes == []


GIVEN: dict[str, tuple[tuple[Message, ...], dict[str, Any], list[str]]] = {
    "in a system prompt": (
        (SYSTEM.with_unread(((("content", 0, "cache_control"), MARK),), Api.MESSAGES), ASKED, SAID, ASKED),
        {},
        ["system.0"],
    ),
    "by chat completions": (
        (SYSTEM, ASKED.with_unread(((("content", 0, "cache_control"), MARK),)), SAID, ASKED),
        {},
        ["0.0"],
    ),
    "of a whole message": (
        (SYSTEM, ASKED.with_unread(((("cache_control",), MARK),)), SAID, ASKED),
        {},
        ["0.0"],
    ),
    "beside a result": (
        (ASKED, CALLED, RESULT.with_unread(((("cache_control",), MARK),), Api.MESSAGES)),
        {"tools": (WEATHER,)},
        ["2.0"],
    ),
    "beside a tool": (
        (SYSTEM, ASKED),
        {"tools": (dataclasses.replace(WEATHER, unread=((("function", "cache_control"), MARK),)),)},
        ["tools.0"],
    ),
    "at the top": ((SYSTEM, ASKED), {"native": Native(api=Api.MESSAGES, fields={"cache_control": MARK})}, []),
}


@pytest.mark.parametrize("where", GIVEN)
def test_where_a_client_has_set_marks_no_other_is_set(where: str) -> None:
    """Wherever they are."""
    asked, prompt, places = GIVEN[where]
    fields, notes = sent(*asked, marks=True, **prompt)
    assert marked(fields) == places
    assert notes == []
    dropped, _ = sent(*asked, **prompt)
    assert marked(dropped) == []
    assert "cache_control" not in dropped


def test_the_same_conversation_begins_with_the_same_bytes() -> None:
    """Of each turn, all but the marks, which move."""
    first = [SYSTEM, ASKED, replace(CALLED, sealed=(sealed(thinking("Hm.")),)), RESULT]
    second = [*first, SAID, ASKED]
    one, other = (
        messages.request(Call(model=BIG, prompt=Prompt(messages=tuple(asked), tools=(WEATHER,)), room=1000), Quirks())
        for asked in (first, second)
    )
    plain = [raw.replace(b',"cache_control":{"type":"ephemeral"}', b"") for _, raw, _ in (one, other)]
    before = plain[0].partition(b'],"stream"')[0]
    assert plain[1].startswith(before)
    assert signature_of("Hm.").encode() in before
