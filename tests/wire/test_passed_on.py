"""Fields that Millrace does not read: at every place of a request they are passed on, or told by their path."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from millrace.errors import MillraceError
from millrace.types import Call, Message
from millrace.upstreams.chat import body as chat
from millrace.upstreams.quirks import PRESETS
from millrace.wire import carried, stored_items, turns
from millrace.wire.completions import read_completion
from millrace.wire.requests import Create, read_create
from tests.support.provider import CALL

SCHEMA = {"type": "object"}
IMAGE = {"type": "image_url", "image_url": {"url": "u"}}
CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "d", "format": "mp3"}}]},
        {
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "No."}, {"type": "text", "text": "b"}],
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "4"}]},
        {"role": "user", "content": "z"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
    "stream_options": {"include_usage": True},
    "millrace": {"context": [{"text": "c"}], "checks": [{"json_schema": SCHEMA}]},
}
RESPONSES: dict[str, Any] = {
    "input": [
        {"role": "developer", "content": [{"type": "input_text", "text": "s"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": "u"}, {"type": "input_text", "text": "a"}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "d", "format": "mp3"}}]},
        {"type": "reasoning", "summary": [{"text": "Hm."}], "content": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "No."}, {"type": "output_text", "text": "b"}],
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "d", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "4"}]},
        {"type": "function_call_output", "call_id": "d", "output": "5"},
        {"role": "user", "content": "z"},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
    "reasoning": {"effort": "low"},
    "millrace": {"context": [{"text": "c"}]},
}
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where the objects of a body are; what is in a schema is the schema's."""
    if isinstance(value, list):
        return [place for index, inner in enumerate(value) for place in places(inner, (*at, index))]
    if not isinstance(value, dict):
        return []
    inner = [place for name, found in value.items() if "schema" not in name for place in places(found, (*at, name))]
    inner = [place for place in inner if place[-1] not in ("parameters", "schema")]
    return [at, *inner]


def with_field(body: dict[str, Any], place: tuple[Any, ...], name: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    holder: Any = changed
    for step in place:
        holder = holder[step]
    holder[name] = value
    return changed


def written(place: tuple[Any, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")


def sent(create: Create) -> tuple[dict[str, Any], list[str]]:
    """Return what a provider gets, and the notes on what it does not get."""
    call = replace(CALL, prompt=create.prompt)
    fields, body, notes = chat.request(call)
    assert fields == json.loads(body)
    return json.loads(body), [*(f"without {path}" for path in create.not_passed_on), *notes]


READERS: list[tuple[dict[str, Any], Callable[..., Create]]] = [(CHAT, read_completion), (RESPONSES, read_create)]


@given(st.data(), st.sampled_from(READERS), VALUES)
def test_any_field_at_any_place_is_sent_unchanged_or_told_by_its_path(
    data: st.DataObject, dialect: tuple[dict[str, Any], Callable[..., Create]], value: Any
) -> None:
    """Wherever the standard has an object, in both dialects."""
    body, read = dialect
    place = data.draw(st.sampled_from(places(body)))
    asked = with_field(body, place, "x_vendor", value)
    provider, notes = sent(read(asked, ()))
    plain, no_notes = sent(read(body, ()))
    assert no_notes == []
    if value in ([], {}, "") and is_beside_an_answer(body, place):  # as SDKs send back what an answer did not have
        assert (provider, notes) == (plain, [])
    elif notes:
        assert notes == [f"without {written((*place, 'x_vendor'))}"]
        assert provider == plain
    else:
        assert found(provider, "x_vendor") == [value]
        assert without(provider, "x_vendor") == simplified(plain)


def is_beside_an_answer(body: dict[str, Any], place: tuple[Any, ...]) -> bool:
    """Whether an object is an earlier answer, or a call of one."""
    *parents, last = place or ("",)
    if parents[-1:] == ["tool_calls"]:
        return True
    if parents not in (["messages"], ["input"]):
        return False
    item: dict[str, Any] = body[parents[0]][last]
    return item.get("role") == "assistant" or item.get("type") == "function_call"


def found(value: Any, name: str) -> list[Any]:
    if isinstance(value, dict):
        return [inner for key, inner in value.items() if key == name] + [
            one for key, inner in value.items() if key != name for one in found(inner, name)
        ]
    return [one for inner in value for one in found(inner, name)] if isinstance(value, list) else []


def without(value: Any, name: str) -> Any:
    """Return a body without a field, in the form that is the same for a text and a list of one text."""
    if isinstance(value, dict):
        return simplified({key: without(inner, name) for key, inner in value.items() if key != name})
    return [without(inner, name) for inner in value] if isinstance(value, list) else value


def simplified(value: Any) -> Any:
    if isinstance(value, dict):
        plain = {key: simplified(inner) for key, inner in value.items()}
        content = plain.get("content")
        if isinstance(content, list) and len(content) == 1 and content[0].keys() == {"type", "text"}:
            plain["content"] = content[0]["text"]
        return plain
    return [simplified(inner) for inner in value] if isinstance(value, list) else value


MARK = {"type": "ephemeral"}
SENT: list[tuple[dict[str, Any], Callable[..., Create], tuple[Any, ...], tuple[Any, ...]]] = [
    (CHAT, read_completion, ("messages", 0), ("messages", 0)),
    (CHAT, read_completion, ("messages", 1, "content", 1), ("messages", 1, "content", 1)),
    (CHAT, read_completion, ("messages", 1, "content", 1, "image_url"), ("messages", 1, "content", 1, "image_url")),
    (CHAT, read_completion, ("messages", 4, "content", 1), ("messages", 4, "content", 0)),
    (CHAT, read_completion, ("messages", 4, "tool_calls", 0), ("messages", 4, "tool_calls", 0)),
    (CHAT, read_completion, ("tools", 0), ("tools", 0)),
    (CHAT, read_completion, ("tools", 0, "function"), ("tools", 0, "function")),
    (CHAT, read_completion, (), ()),
    (RESPONSES, read_create, ("input", 0), ("messages", 0)),
    (RESPONSES, read_create, ("input", 1, "content", 0), ("messages", 1, "content", 0)),
    (RESPONSES, read_create, ("input", 4, "content", 1), ("messages", 3, "content", 0)),
    (RESPONSES, read_create, ("input", 6), ("messages", 3, "tool_calls", 1)),
    (RESPONSES, read_create, ("input", 7, "output", 0), ("messages", 4, "content", 0)),
    (RESPONSES, read_create, ("input", 9), ("messages", 6)),
    (RESPONSES, read_create, ("tools", 0), ("tools", 0)),
    (RESPONSES, read_create, (), ()),
]


@pytest.mark.parametrize(("body", "read", "place", "goes_to"), SENT)
def test_what_is_passed_on_is_where_chat_completions_have_it(
    body: dict[str, Any], read: Callable[..., Create], place: tuple[Any, ...], goes_to: tuple[Any, ...]
) -> None:
    """A text that is marked is a part."""
    provider, notes = sent(read(with_field(body, place, "cache_control", MARK), ()))
    for step in goes_to:
        provider = provider[step]
    assert (provider["cache_control"], notes) == (MARK, [])


TOLD: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"truncation": "auto", "max_tool_calls": 3, "background": False}, ("max_tool_calls", "truncation")),
    (
        {"include": ["file_search_call.results", "message.output_text.logprobs"]},
        ("include.file_search_call.results",),
    ),
    ({"client_metadata": {"session_id": "s"}}, ()),
    ({"stream_options": {"include_obfuscation": True}}, ("stream_options",)),
    ({"include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"}}, ()),
    ({"top_logprobs": 5}, ("top_logprobs",)),
    ({"truncation": "disabled", "include": [], "top_logprobs": 0, "stream_options": {}}, ()),
    ({"reasoning": {"budget": 5}}, ("reasoning.budget",)),
    ({"millrace": {"strateggy": "small"}}, ("millrace.strateggy",)),
    (
        {"input": [{"role": "user", "content": "z", "id": "m", "status": "completed", "phase": "final_answer"}]},
        ("input[0].phase",),
    ),
    (
        {
            "input": [
                {"role": "assistant", "content": [{"type": "output_text", "text": "b", "annotations": given}]}
                for given in ([], [1], [2], [3])
            ]
        },
        ("input[1].content[0].annotations and 2 more",),
    ),
    (
        {"input": [{"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "e"}, *RESPONSES["input"]]},
        ("encrypted reasoning",),
    ),
    (
        {
            "input": [
                {
                    "type": "reasoning",
                    "id": "rs",
                    "status": "completed",
                    "summary": [{"type": "summary_text", "text": "Hm."}],
                    "content": [{"type": "reasoning_text", "text": "Hm."}],
                    "encrypted_content": carried.write({}, {}),
                },
                *RESPONSES["input"],
            ]
        },
        (),
    ),
]


@pytest.mark.parametrize(("fields", "told"), TOLD)
def test_what_has_no_place_is_told(fields: dict[str, Any], told: tuple[str, ...]) -> None:
    """Unless it asks for nothing; the ids of Millrace's own items need no word."""
    _, notes = sent(read_create({"input": "?", **fields}, ()))
    assert notes == [f"without {name}" for name in told]


def test_what_sdks_put_into_their_history_is_not_sent() -> None:
    """No provider takes what openai-python has parsed out of an answer."""
    function = {"name": "f", "arguments": "{}", "parsed_arguments": {}}
    call = {"id": "c", "type": "function", "function": function, "index": 0}
    said: dict[str, Any] = {
        "role": "assistant",
        "content": "{}",
        "parsed": {"a": 1},
        "audio": None,
        "tool_calls": [call],
    }
    said |= {"annotations": [1], "function_call": function}
    result = {"role": "tool", "tool_call_id": "c", "content": "4"}
    provider, notes = sent(read_completion({"messages": [said, result]}, ()))
    lost = ("parsed", "tool_calls[0].index", "annotations", "function_call")
    assert set(notes) == {f"without messages[0].{path}" for path in lost}
    assert provider["messages"][0].keys() == {"role", "content", "tool_calls"}
    assert provider["messages"][0]["tool_calls"][0].keys() == {"id", "type", "function"}


STRICT = ("openai", "azure", "mistral", "groq")


@pytest.mark.parametrize("preset", STRICT)
@pytest.mark.parametrize(
    ("body", "read", "place"),
    [
        (CHAT, read_completion, ("messages", 4)),
        (CHAT, read_completion, ("messages", 4, "tool_calls", 0)),
        (RESPONSES, read_create, ("input", 4)),
        (RESPONSES, read_create, ("input", 6)),
    ],
)
def test_what_stands_beside_an_answer_goes_to_providers_that_take_it_only(
    body: dict[str, Any], read: Callable[..., Create], place: tuple[Any, ...], preset: str
) -> None:
    """As a provider's own fields do, wherever the client found them."""
    call = replace(CALL, prompt=read(with_field(body, place, "x_vendor", 1), ()).prompt)
    fields, _, notes = chat.request(call, PRESETS[preset])
    assert found(fields, "x_vendor") == []
    assert "without x_vendor" in notes
    assert found(chat.fields_of(call), "x_vendor") == [1]


def test_what_millrace_sends_itself_is_never_replaced_and_that_is_told() -> None:
    """A Responses body may have fields of chat completions."""
    body = {"input": "?", "messages": [], "n": 3, "max_tokens": 5, "stream": True, "top_k": 5}
    provider, notes = sent(read_create(body, ()))
    assert (provider["top_k"], provider["messages"]) == (5, [{"role": "user", "content": "?"}])
    assert notes == ["without messages", "without n", "without max_tokens"]


def test_marks_stay_with_their_message_where_a_prompt_is_trimmed_or_added_to() -> None:
    """A context that goes in front of a picture moves its parts by one."""
    body = with_field(CHAT, ("messages", 2, "content", 0), "x", 1) | {"messages": CHAT["messages"][:3]}
    body["messages"][2] = {"role": "user", "content": [IMAGE | {"x": 1}]}
    create = read_completion(body, ())
    prompt = replace(create.prompt, messages=create.prompt.messages[1:], context="Context. ")
    assert chat.fields_of(Call(model=CALL.model, prompt=prompt))["messages"][1]["content"] == [
        {"type": "text", "text": "Context. "},
        IMAGE | {"x": 1},
    ]
    (question,) = read_completion(
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}]}, ()
    ).prompt.messages
    prompt = replace(create.prompt, messages=(question,), context="Context. ")
    assert chat.fields_of(Call(model=CALL.model, prompt=prompt))["messages"][0]["content"] == [
        {"type": "text", "text": "Context. a", "x": 1}
    ]


def test_what_is_passed_on_survives_the_disk() -> None:
    """A stored conversation is continued with its marks."""
    create = read_completion(with_field(CHAT, ("messages", 1, "content", 1, "image_url"), "x", {"y": [1]}), ())
    kept = msgspec.json.decode(msgspec.json.encode(create.prompt.messages), type=tuple[Message, ...])
    assert kept == create.prompt.messages


def test_what_is_passed_on_stays_with_the_items_of_a_turn() -> None:
    """As they are kept one by one, and as a turn is made of them again."""
    body = with_field(CHAT, ("messages", 4, "content", 1), "x", 1)
    call = body["messages"][4]["tool_calls"][0]
    body["messages"][4]["tool_calls"] += [call | {"id": "d", "function": call["function"] | {"x": 2}}]
    body = with_field(body, ("messages", 5, "content", 0), "x", 3)
    messages = read_completion(body, ()).prompt.messages
    kept = stored_items.input_pieces("resp_" + 32 * "0", messages)
    assert len(kept) == len(messages) + 2
    assert [path for piece in kept.values() for path, _ in piece.unread] == [
        ("content", 0, "x"),
        ("tool_calls", 0, "function", "x"),
        ("content", 0, "x"),
    ]
    assert turns.assembled(kept.values()) == messages


def test_what_is_passed_on_of_items_beside_references_is_kept() -> None:
    """Until it is known what they refer to, every item is a message of its own."""
    body = with_field(RESPONSES, ("input", 4, "content", 1), "x", 1)
    whole = read_create(body, ()).prompt.messages
    pieces = read_create(body | {"input": [*body["input"], {"id": "msg_1"}]}, ()).prompt.messages
    assert len(pieces) == len(body["input"]) + 1
    assert turns.assembled(pieces[:-1]) == whole
    assert whole[3].unread == ((("content", 0, "x"), 1),)


@pytest.mark.parametrize("name", ["messages", "model", "millrace", "extra_body"])
def test_extra_body_is_no_second_body(name: str) -> None:
    """What is read is written where it is read."""
    with pytest.raises(MillraceError) as raised:
        read_completion({"messages": CHAT["messages"], "extra_body": {name: "x"}}, ())
    assert raised.value.param == f"extra_body.{name}"
