"""Input items of the Responses dialect: the turns they make, and what does not belong together."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from millrace.errors import MillraceError
from millrace.types import Api, Media, Message, Prompt, Sealed, ToolCall
from millrace.wire import requests

CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}', "id": "fc_1", "status": None}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "4"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
ASKED = {"role": "user", "content": "?"}
SAID: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "final"}
SAID |= {"content": [{"type": "output_text", "text": "!", "annotations": []}]}

USER = Message(role="user", parts=("?",))
F = ToolCall(id="c1", name="f", arguments='{"a":1}')
G = ToolCall(id="c2", name="g", arguments="")
RESULT = Message(role="tool", parts=("4",), call_id="c1")


def prompt(*items: Any, **fields: Any) -> Prompt:
    raw = msgspec.json.encode({"type": "response.create", "input": items} | fields)
    return requests.read_create(requests.open_frame(raw).fields, ()).prompt


def assistant(*parts: str, **fields: Any) -> Message:
    return Message(role="assistant", parts=parts, **fields)


def sealed(kind: str, **fields: Any) -> Sealed:
    return Sealed(api=Api.RESPONSES, fields={"type": kind, **fields})


def call(name: str, call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": ""}


TURNS: dict[str, tuple[list[dict[str, Any]], list[Message]]] = {
    "an answer": ([ASKED, SAID, ASKED], [USER, assistant("!"), USER]),
    "an answer as a text": ([ASKED, {"role": "assistant", "content": "!"}, ASKED], [USER, assistant("!"), USER]),
    "a type that is null": ([ASKED | {"type": None}], [USER]),
    "a developer": ([{"role": "developer", "content": "d"}, ASKED], [Message(role="system", parts=("d",)), USER]),
    "two answers in a row": ([SAID, SAID, ASKED], [assistant("!"), assistant("!"), USER]),
    "a call": ([ASKED, CALL, OUTPUT], [USER, assistant(calls=(F,)), RESULT]),
    "two calls": ([ASKED, CALL, call("g", "c2"), OUTPUT], [USER, assistant(calls=(F, G)), RESULT]),
    "words, then a call": ([ASKED, SAID, CALL, OUTPUT], [USER, assistant("!", calls=(F,)), RESULT]),
    "a call, then words": ([ASKED, CALL, SAID, OUTPUT], [USER, assistant("!", calls=(F,)), RESULT]),
    "reasoning, then words": ([ASKED, THOUGHT, SAID, ASKED], [USER, assistant("!", reasoning="Hm."), USER]),
    "reasoning about each call": (
        [ASKED, THOUGHT, CALL, THOUGHT, call("g", "c2"), OUTPUT],
        [USER, assistant(calls=(F, G), reasoning="Hm.Hm."), RESULT],
    ),
    "reasoning after an answer": (
        [SAID, THOUGHT, CALL, OUTPUT],
        [assistant("!"), assistant(calls=(F,), reasoning="Hm."), RESULT],
    ),
    "calls of two turns": (
        [CALL, OUTPUT, call("g", "c2"), OUTPUT | {"call_id": "c2"}],
        [assistant(calls=(F,)), RESULT, assistant(calls=(G,)), Message(role="tool", parts=("4",), call_id="c2")],
    ),
    "reasoning that led to nothing": ([ASKED, THOUGHT, ASKED], [USER, USER]),
    "encrypted reasoning": (
        [{"type": "reasoning", "encrypted_content": "x", "content": None, "summary": []}, SAID, ASKED],
        [assistant("!", sealed=(sealed("reasoning", encrypted_content="x", content=None, summary=[]),)), USER],
    ),
    "summaries": (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": t} for t in "ab"]}, SAID, ASKED],
        [assistant("!", reasoning="a\n\nb"), USER],
    ),
    "a refusal": (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, ASKED],
        [assistant(refusal="No."), USER],
    ),
    "an answer that says nothing": ([{"role": "assistant", "content": []}, ASKED], [USER]),
    "an output in parts": (
        [CALL, OUTPUT | {"output": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]}],
        [assistant(calls=(F,)), Message(role="tool", parts=("a", "b"), call_id="c1")],
    ),
    "an output of nothing": (
        [CALL, OUTPUT | {"output": ""}],
        [assistant(calls=(F,)), Message(role="tool", parts=("",), call_id="c1")],
    ),
}


@pytest.mark.parametrize("name", TURNS)
def test_items_make_turns(name: str) -> None:
    """What an assistant said, thought and called in one go is one message, as chat models know it."""
    items, messages = TURNS[name]
    assert list(prompt(*items).messages) == messages


def test_an_output_may_belong_to_the_previous_response() -> None:
    """Then its call is not here."""
    assert prompt(OUTPUT, previous_response_id="resp_1").messages == (RESULT,)


PARTS: list[tuple[dict[str, Any], Any]] = [
    ({"type": "input_text", "text": "t"}, "t"),
    ({"type": "text", "text": "t"}, "t"),
    ({"type": "output_text", "text": "t"}, "t"),
    (
        {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low", "file_id": None},
        Media(kind="image", fields={"url": "data:image/png;base64,AA==", "detail": "low"}),
    ),
    ({"type": "input_image", "file_id": "f"}, Media(kind="image", fields={"file_id": "f"})),
    (
        {"type": "input_file", "file_data": "d", "filename": "n"},
        Media(kind="file", fields={"file_data": "d", "filename": "n"}),
    ),
    ({"type": "input_file", "file_url": "u"}, Media(kind="file", fields={"file_url": "u"})),
    (
        {"type": "input_audio", "input_audio": {"data": "d", "format": "wav"}},
        Media(kind="audio", fields={"data": "d", "format": "wav"}),
    ),
]


@pytest.mark.parametrize(("part", "read"), PARTS)
def test_a_part_is_passed_on_as_it_came(part: dict[str, Any], read: Any) -> None:
    """Media are something to answer, without a word."""
    (message,) = prompt({"role": "user", "content": [part]}).messages
    assert message.parts == (read,)


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": parts}


IMAGE = {"type": "input_image", "image_url": "u"}
FAULTS: list[tuple[list[Any], str, str]] = [
    ([{"type": "telepathy_call"}], "input[0].type", "not supported; write message, function_call"),
    ([{"type": "item_reference", "id": ""}], "input[0].id", "length >= 1"),
    ([ASKED, {"type": "item_reference", "id": 7}], "input[1].id", "a string"),
    ([ASKED, {"type": "item_reference"}], "input[1].id", "missing"),
    ([ASKED, {"type": "web_search_call", "id": ["w"]}], "input[1].id", "a string"),
    ([{"role": "tool", "content": "x"}], "input[0].role", "assistant, developer, system, user"),
    ([{"content": "x"}], "input[0].role", "missing"),
    ([ASKED, OUTPUT], "input[1].call_id", "no function_call before it"),
    ([OUTPUT, CALL], "input[0].call_id", "no function_call before it"),
    ([CALL], "input", "nothing to answer"),
    ([THOUGHT], "input", "nothing to answer"),
    ([{"role": "user", "content": [{"type": "input_text", "text": " \n"}]}], "input", "nothing to answer"),
    ([CALL | {"name": None}], "input[0].name", "a string"),
    ([CALL | {"call_id": ""}], "input[0].call_id", "length >= 1"),
    ([CALL | {"call_id": "c" * 513}], "input[0].call_id", "length <= 512"),
    ([CALL | {"arguments": {}}], "input[0].arguments", "a string, got an object"),
    ([CALL, OUTPUT | {"output": 4}], "input[1].output", "a string or an array"),
    ([CALL, OUTPUT | {"output": [{"type": "x"}]}], "input[1].output[0].type", "input_text"),
    ([ASKED, user({"type": "video"})], "input[1].content[0].type", "'video' is not supported; write input_text"),
    ([user({"text": "t"})], "input[0].content[0].type", "missing"),
    ([user({"type": "input_text", "text": 7})], "input[0].content[0].text", "a string"),
    ([user({"type": "input_image"})], "input[0].content[0].image_url", "write image_url or file_id"),
    ([user({"type": "input_image", "image_url": {"url": "u"}})], "input[0].content[0].image_url", "a string"),
    ([user(IMAGE | {"file_id": "f"})], "input[0].content[0].file_id", "only one"),
    ([user({"type": "input_file", "filename": "n"})], "input[0].content[0].file_data", "file_url or file_id"),
    (
        [user({"type": "input_audio", "input_audio": {"data": "d"}})],
        "input[0].content[0].input_audio.format",
        "missing",
    ),
    ([user({"type": "refusal", "refusal": "No."})], "input[0].content[0].type", "only an assistant message"),
    ([{"role": "system", "content": [IMAGE]}, ASKED], "input[0].content[0]", "text only"),
    ([{"role": "assistant", "content": [IMAGE]}, ASKED], "input[0].content[0]", "text only"),
    ([ASKED | {"content": None}], "input[0].content", "a string or an array"),
]


@pytest.mark.parametrize(("items", "param", "words"), FAULTS)
def test_a_fault_names_its_item(items: list[Any], param: str, words: str) -> None:
    """By its path, with what to write instead."""
    with pytest.raises(MillraceError) as raised:
        prompt(*items)
    assert (raised.value.code, raised.value.param) == ("invalid_request", param)
    assert raised.value.message.startswith(param)
    assert words in raised.value.message


def as_items(turn: Message) -> list[dict[str, Any]]:
    """Return the items a server would have sent for a turn."""
    if turn.role == "user":
        return [{"role": "user", "content": [{"type": "input_text", "text": text} for text in turn.texts]}]
    items: list[dict[str, Any]] = []
    if turn.reasoning:
        items.append({"type": "reasoning", "summary": [], "content": [{"text": turn.reasoning}]})
    content = [{"type": "output_text", "text": text} for text in turn.texts]
    content += [{"type": "refusal", "refusal": turn.refusal}] if turn.refusal else []
    if content:
        items.append({"type": "message", "role": "assistant", "content": content})
    return items + [
        {"type": "function_call", "call_id": made.id, "name": made.name, "arguments": made.arguments}
        for made in turn.calls
    ]


TEXTS = st.text(min_size=1, max_size=8)
CALLS = st.builds(ToolCall, id=TEXTS, name=TEXTS, arguments=st.text(max_size=8))
ANSWERS = st.builds(
    lambda text, calls, reasoning, refusal: assistant(*text, calls=calls, reasoning=reasoning, refusal=refusal),
    st.lists(TEXTS, max_size=2),
    st.lists(CALLS, max_size=3).map(tuple),
    st.text(max_size=5),
    st.text(max_size=5),
).filter(lambda turn: bool(turn.parts or turn.calls or turn.refusal))


@given(st.lists(ANSWERS, max_size=5))
def test_a_conversation_comes_back_as_it_was_sent(answers: list[Message]) -> None:
    """Turn by turn, whatever the assistant's turns hold."""
    messages = [turn for answer in answers for turn in (USER, answer)] + [USER]
    assert list(prompt(*(item for turn in messages for item in as_items(turn))).messages) == messages
