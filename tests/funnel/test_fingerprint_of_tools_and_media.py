"""Cache keys: tools, media, calls and options of a request are in them; what is not looked for by meaning, and why."""

import dataclasses
import time
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.funnel.fingerprint import Keys, Scope, keys_of
from millrace.types import Api, Media, Message, Native, Part, Request, Sealed, Strategy, Tool, ToolCall
from millrace.types.tool_choice import ToolChoice
from tests.support.scripted_models import CATALOG, request

IMAGE = Media(kind="image", fields={"url": "https://a.test/1.png", "detail": "low"})
CALL = ToolCall(id="call_1", name="depth", arguments='{"of":"it"}')
TOOL = Tool(name="depth", parameters={"type": "object"})
SEALED = Sealed(api=Api.MESSAGES, fields={"type": "thinking", "signature": "s"})
NATIVE = Native(api=Api.MESSAGES, fields={"thinking": {"type": "adaptive"}})
MARKED = Sealed(api=Api.MESSAGES, fields={"content": [{"cache_control": {"type": "ephemeral"}}]})
ASKED = Message(role="user", parts=("How deep is it?",))


def keys(asked: Request) -> Keys:
    return keys_of(asked, CATALOG.models, ("empty", "form"))


def user(*parts: Part) -> Message:
    return Message(role="user", parts=parts)


def after(**turn: Any) -> Request:
    """Return a request with one earlier turn of the assistant."""
    return request(user("Hello"), replace(Message(role="assistant", parts=("Hi",)), **turn), ASKED)


DIFFERENT: dict[str, Request] = {
    "nothing": request(),
    "a tool": request(tools=(TOOL,)),
    "its name": request(tools=(dataclasses.replace(TOOL, name="d"),)),
    "its description": request(tools=(dataclasses.replace(TOOL, description="d"),)),
    "its parameters": request(tools=(dataclasses.replace(TOOL, parameters={}),)),
    "its strictness": request(tools=(dataclasses.replace(TOOL, strict=True),)),
    "its namespace": request(tools=(dataclasses.replace(TOOL, namespace="n"),)),
    "a custom tool": request(tools=(dataclasses.replace(TOOL, is_custom=True),)),
    "its grammar": request(tools=(dataclasses.replace(TOOL, is_custom=True, grammar={"syntax": "lark"}),)),
    "a hosted tool": request(tools=(dataclasses.replace(TOOL, hosted=SEALED),)),
    "a sealed block": after(sealed=(SEALED,)),
    "its place": after(sealed=(dataclasses.replace(SEALED, parts_before=1),)),
    "its API": after(sealed=(dataclasses.replace(SEALED, api=Api.RESPONSES),)),
    "a call in a namespace": after(calls=(replace(CALL, namespace="n"),)),
    "a custom call": after(calls=(replace(CALL, is_custom=True),)),
    "a failed tool": after(role="tool", parts=("x",), call_id="call_1", is_error=True),
    "a tool that worked": after(role="tool", parts=("x",), call_id="call_1"),
    "a block": after(role="user", parts=(Media(kind="block", fields={"text": "t"}, sealed=SEALED),)),
    "its text": after(role="user", parts=(Media(kind="block", fields={"text": "u"}, sealed=SEALED),)),
    "what one API alone knows": request(native=NATIVE),
    "a header of its own": request(native=dataclasses.replace(NATIVE, headers={"anthropic-beta": "b"})),
    "unread fields of another API": request(
        Message(role="user", parts=("How deep is it?",)).with_unread(((("title",), "t"),), Api.MESSAGES)
    ),
    "two tools": request(tools=(TOOL, dataclasses.replace(TOOL, name="d"))),
    "two tools in another order": request(tools=(dataclasses.replace(TOOL, name="d"), TOOL)),
    "tool choice": request(tools=(TOOL,), tool_choice=ToolChoice("required")),
    "parallel calls": request(tools=(TOOL,), parallel_tool_calls=False),
    "extras": request(extras={"seed": 1}),
    "other extras": request(extras={"seed": 2}),
    "logprobs": request(extras={"logprobs": True}),
    "a vendor's field of a message": request(replace(ASKED, unread=((("x",), 1),))),
    "another value of it": request(replace(ASKED, unread=((("x",), 2),))),
    "the same field of its part": request(replace(ASKED, unread=((("content", 0, "x"), 1),))),
    "a vendor's field of a tool": request(tools=(dataclasses.replace(TOOL, unread=((("x",), 1),)),)),
    "the same field of its function": request(tools=(dataclasses.replace(TOOL, unread=((("function", "x"), 1),)),)),
    "cache scope": request(cache_scope="ward 3"),
    "context version": request(context_version="7"),
    "another version": request(context_version="8"),
    "context": request(context="The mill pond."),
    "context and version": request(context="The mill pond.", context_version="7"),
    "check schema": request(check_schema={"type": "object"}),
    "another schema": request(check_schema={}),
    "an image": request(user(IMAGE, "How deep is it?")),
    "the image last": request(user("How deep is it?", IMAGE)),
    "another image": request(user(replace(IMAGE, fields={"url": "https://a.test/2.png"}), "How deep is it?")),
    "a file of the same fields": request(user(replace(IMAGE, kind="file"), "How deep is it?")),
    "what an image's JSON is": request(user("image", "https://a.test/1.png", "How deep is it?")),
    "an earlier turn": after(),
    "with a call": after(calls=(CALL,)),
    "with a call that is signed": after(calls=(replace(CALL, own_fields={"signature": "a"}),)),
    "with another signature": after(calls=(replace(CALL, own_fields={"signature": "b"}),)),
    "with a provider's own fields": after(own_fields={"signature": "a"}),
    "another call": after(calls=(replace(CALL, name="d"),)),
    "another id": after(calls=(replace(CALL, id="call_2"),)),
    "other arguments": after(calls=(replace(CALL, arguments="{}"),)),
    "two calls": after(calls=(CALL, CALL)),
    "with a call id": after(call_id="call_1"),
    "another call id": after(call_id="call_2"),
    "with reasoning": after(reasoning="Hm."),
    "with a refusal": after(refusal="Hm."),
    "with it as a part": after(parts=("Hi", "Hm.")),
}


@pytest.mark.parametrize("change", DIFFERENT)
def test_no_two_of_these_share_an_answer(change: str) -> None:
    """Whatever is sent is in the key, and so are the asker's own walls."""
    exact = Counter(keys(asked).exact for asked in DIFFERENT.values())
    assert exact[keys(DIFFERENT[change]).exact] == 1


SAME: dict[str, tuple[Request, Request]] = {
    "order of fields": (
        DIFFERENT["an image"],
        request(user(replace(IMAGE, fields=dict(reversed(IMAGE.fields.items()))), "How deep is it?")),
    ),
    "white space after an image": (request(user(IMAGE, "a")), request(user(IMAGE, "a \n"))),
    "order of extras": (request(extras={"seed": 1, "stop": "x"}), request(extras={"stop": "x", "seed": 1})),
    "what cannot change the answer": (
        request(extras={"user": "u", "service_tier": "flex", "prompt_cache_key": "k", "safety_identifier": "s"}),
        request(extras={"cache_control": {"type": "ephemeral"}}),
    ),
    "a mark for a provider's cache": (
        request(replace(ASKED, unread=((("content", 0, "cache_control"), {}),)), tools=(TOOL,)),
        request(tools=(dataclasses.replace(TOOL, unread=((("cache_control",), {}),)),)),
    ),
    "a mark beside an earlier answer": (
        after(calls=(CALL,)),
        after(calls=(replace(CALL, own_fields={"cache_control": {}}),), own_fields={"cache_control": {}}),
    ),
    "a mark within a block": (
        after(role="user", parts=(Media(kind="block", fields={}, sealed=MARKED),)),
        after(
            role="user",
            parts=(Media(kind="block", fields={}, sealed=dataclasses.replace(MARKED, fields={"content": [{}]})),),
        ),
    ),
    "a mark beside what one API alone knows": (
        request(native=NATIVE),
        request(native=dataclasses.replace(NATIVE, fields=NATIVE.fields | {"cache_control": {}})),
    ),
    "only such a mark": (request(), request(native=dataclasses.replace(NATIVE, fields={"cache_control": {}}))),
    "budget": (request(), request(max_cost=1, deadline_at=3.0, on_disconnect="detach", store=True)),
}


@pytest.mark.parametrize("change", SAME)
def test_these_are_the_same_request(change: str) -> None:
    """What does not decide the answer is not in the key."""
    one, other = SAME[change]
    assert keys(one) == keys(other)


def test_a_version_stands_in_for_the_context() -> None:
    """Where meanings are compared; the whole request is compared with the context as it is sent."""
    one, other = (request(context=text, context_version="7") for text in ("The pond.", "The race."))
    assert keys(one).exact != keys(other).exact
    assert keys(one).scope == keys(other).scope
    plain = [request(context=text) for text in ("The pond.", "The race.", "")]
    scopes = [keys(asked).scope for asked in (one, replace(one, context_version="8"), *plain)]
    assert len(set(scopes)) == len(scopes)


@pytest.mark.parametrize(
    "fields", [{"cache_scope": "ward 3"}, {"check_schema": {}}, {"extras": {"seed": 1}}, {"strategy": Strategy.RACE}]
)
def test_walls_are_walls_for_meanings_too(fields: Any) -> None:
    """Nothing is looked for across them."""
    assert isinstance(keys(request(**fields)).scope, Scope)
    assert keys(request(**fields)).scope != keys(request()).scope


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(tools=(TOOL,)), "the request has tools"),
        (after(calls=(CALL,)), "the request has tools"),
        (
            request(ASKED, Message(role="tool", parts=("3 m",), call_id="call_1"), ASKED),
            "the request has tools",
        ),
        (request(user("How deep is it?", IMAGE)), "the question has attachments"),
        (request(user(IMAGE)), "the question has attachments"),
    ],
)
def test_what_is_not_looked_for_by_meaning(asked: Request, reason: str) -> None:
    """An answer of a tool holds at one moment, and what a picture shows nobody has looked at."""
    assert keys(asked).scope == reason


def test_earlier_pictures_must_be_the_very_same() -> None:
    """They are a part of the scope, like earlier words."""

    def shown(image: Media) -> Scope | str:
        return keys(request(user("Look:", image), Message(role="assistant", parts=("Nice.",)), ASKED)).scope

    assert isinstance(shown(IMAGE), Scope)
    assert shown(IMAGE) == shown(replace(IMAGE))
    assert shown(IMAGE) != shown(replace(IMAGE, fields={"url": "https://a.test/2.png"}))


def test_a_long_history_is_read_in_no_time() -> None:
    """400 kB that are no ASCII: once through a hash, not through an escape and twice."""
    turns = [Message(role=("user", "assistant")[at % 2], parts=("Мельница вертится. " * 526,)) for at in range(40)]
    asked = request(*turns, ASKED)
    best = min(_seconds(asked) for _ in range(20))
    assert best < 0.005


def _seconds(asked: Request) -> float:
    start = time.thread_time()
    keys(asked)
    return time.thread_time() - start


def test_what_is_passed_on_beside_a_question_is_a_wall_for_meanings() -> None:
    """Who asks, and a vendor's fields; a mark for a provider's cache is none."""
    marked = replace(ASKED, unread=((("content", 0, "cache_control"), {}),))
    others = [replace(ASKED, name="ann"), replace(ASKED, unread=((("x",), 1),)), replace(ASKED, unread=((("x",), 2),))]
    scopes = [keys(request(asked)).scope for asked in (ASKED, *others)]
    assert all(isinstance(scope, Scope) for scope in scopes)
    assert len({scope.digest for scope in scopes if isinstance(scope, Scope)}) == len(scopes)
    assert keys(request(marked)) == keys(request(ASKED))
