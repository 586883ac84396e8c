"""What only another API understands: not sent, named in the notes; what can be said in words is said."""

from typing import Any

import pytest

from millrace.types import Api, Call, Media, Message, Native, Prompt, Sealed, Tool, ToolCall
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams.chat import body as chat
from millrace.upstreams.foreign import left_out
from tests.support.scripted_models import SMALL

ASKED = Message(role="user", parts=("?",))
THINKING = Sealed(api=Api.MESSAGES, fields={"type": "thinking", "thinking": "Hm.", "signature": "s"})
SEARCH = Tool(name="web_search", hosted=Sealed(api=Api.MESSAGES, fields={"type": "web_search_20250305"}))


def block(text: str | None, **fields: Any) -> Media:
    said = {} if text is None else {"text": text}
    return Media(kind="block", fields=said, sealed=Sealed(api=Api.MESSAGES, fields={"type": "document", **fields}))


def body_of(*messages: Message, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    sent, _, notes = chat.request(Call(model=SMALL, prompt=Prompt(messages=messages or (ASKED,), **fields)))
    return sent, notes


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (Message(role="assistant", parts=("a",), sealed=(THINKING,)), "signed thinking"),
        (
            Message(role="assistant", parts=("a",), sealed=(Sealed(api=Api.RESPONSES, fields={"type": "reasoning"}),)),
            "encrypted reasoning",
        ),
        (Message(role="assistant", parts=("a",), sealed=(Sealed(api=Api.MESSAGES, fields={"type": "x"}),)), "x"),
        (ASKED.with_unread(((("content", 0, "citations"), {"enabled": True}),), Api.MESSAGES), "citations"),
        (Message(role="user", parts=("?", block(None))), "document"),
    ],
)
def test_what_a_message_has_for_another_api_is_named(message: Message, name: str) -> None:
    sent, notes = body_of(ASKED, message)
    assert notes == [f"without {name}"]
    plain = {"user": {"role": "user", "content": "?"}, "assistant": {"role": "assistant", "content": "a"}}
    content = [{"type": "text", "text": "?"}]
    assert sent["messages"][1] in (plain[message.role], {"role": "user", "content": content})


def test_fields_of_another_api_are_named_and_not_sent() -> None:
    native = Native(api=Api.MESSAGES, fields={"thinking": {"type": "adaptive"}, "top_k": 3}, headers={"h": "v"})
    sent, notes = body_of(native=native)
    assert notes == ["without thinking", "without top_k"]
    assert not {"thinking", "top_k", "h"} & sent.keys()
    assert left_out(Prompt(messages=(ASKED,), native=native), Api.MESSAGES) == []


def test_marks_for_a_cache_are_dropped_without_a_word() -> None:
    """Only the API that they are meant for knows them."""
    mark = {"type": "ephemeral"}
    tool = Tool(name="f", unread=((("cache_control",), mark),), unread_api=Api.MESSAGES)
    asked = ASKED.with_unread(((("content", 0, "cache_control"), mark),), Api.MESSAGES)
    sent, notes = body_of(asked, tools=(tool,))
    assert notes == []
    assert sent["messages"] == [{"role": "user", "content": "?"}]
    assert sent["tools"] == [{"type": "function", "function": {"name": "f"}}]


def test_a_tool_that_the_provider_would_run_is_left_out() -> None:
    """With it goes the choice of it, since a provider refuses the name of a tool that it does not know."""
    sent, notes = body_of(tools=(SEARCH, Tool(name="f")), tool_choice=ToolChoice("function", "web_search"))
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["f"]
    assert "tool_choice" not in sent
    assert notes == ["without web_search"]
    assert "tools" not in body_of(tools=(SEARCH,), tool_choice=ToolChoice("auto"))[0]


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        (("no such file",), "The tool failed: no such file"),
        ((), "The tool failed: "),
        (
            (Media(kind="image", fields={"url": "u"}),),
            [{"type": "text", "text": "The tool failed: "}, {"type": "image_url", "image_url": {"url": "u"}}],
        ),
    ],
)
def test_a_failed_tool_is_told_in_words(parts: Any, content: Any) -> None:
    call = Message(role="assistant", calls=(ToolCall(id="c", name="f", arguments="{}"),))
    sent, notes = body_of(ASKED, call, Message(role="tool", parts=parts, call_id="c", is_error=True))
    assert sent["messages"][2]["content"] == content
    assert notes == []


def test_a_block_with_a_text_is_sent_as_that() -> None:
    sent, notes = body_of(Message(role="user", parts=("?", block("Deep is the river."))))
    assert [part["text"] for part in sent["messages"][0]["content"]] == ["?", "Deep is the river."]
    assert notes == []
