"""UI messages of the AI SDK become the turns that models know."""

from typing import Any

import msgspec
import pytest

from millrace.errors import MillraceError
from millrace.types import CacheMode, Media, Message, OnDisconnect, Sealed
from millrace.types.conversation import Api
from millrace.wire import carried, ui_messages
from millrace.wire.requests import Create, Envelope
from millrace.wire.ui_steps import earlier_of

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def envelope(messages: list[dict[str, Any]], **fields: Any) -> Envelope:
    sent = {"type": "send", "requestId": "r", "id": "chat", "messages": messages, **fields}
    return Envelope("send", "chat", "r", sent)


def read(messages: list[dict[str, Any]], **fields: Any) -> Create:
    _, create = ui_messages.read_send(envelope(messages, **fields), ("refusal",))
    return create


def turns(*messages: dict[str, Any]) -> tuple[Message, ...]:
    return read([*messages]).prompt.messages


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": "u", "role": "user", "parts": [*parts]}


def assistant(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": "m", "role": "assistant", "parts": [*parts]}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "state": "done"}


def tool(state: str, **fields: Any) -> dict[str, Any]:
    return {"type": "tool-look", "toolCallId": "c1", "state": state, "input": {"at": "sky"}, **fields}


STEP = {"type": "step-start"}
ASKED = user(text("Why?"))


def test_texts_and_files_of_a_user() -> None:
    (message,) = turns(
        user(
            text("What is this?"),
            {"type": "file", "mediaType": "image/png", "url": PIXEL},
            {"type": "file", "mediaType": "audio/wav", "url": "data:audio/wav;base64,UklG"},
            {"type": "file", "mediaType": "application/pdf", "url": "https://a.example/b.pdf", "filename": "b.pdf"},
            {"type": "file", "mediaType": "text/plain", "url": "data:text/plain;base64,aGk="},
        )
    )
    assert message.parts == (
        "What is this?",
        Media(kind="image", fields={"url": PIXEL}),
        Media(kind="audio", fields={"data": "UklG", "format": "wav"}),
        Media(kind="file", fields={"file_url": "https://a.example/b.pdf", "filename": "b.pdf"}),
        Media(kind="file", fields={"file_data": "data:text/plain;base64,aGk="}),
    )


def test_the_steps_of_an_answer_are_turns_with_results_between_them() -> None:
    found = turns(
        {"id": "s", "role": "system", "parts": [text("Be brief.")]},
        ASKED,
        assistant(
            STEP,
            {"type": "reasoning", "text": "Hm."},
            text("I look."),
            tool("output-available", output={"blue": True}),
            STEP,
            text("It is blue."),
        ),
        user(text("Sure?")),
    )
    assert [message.role for message in found] == ["system", "user", "assistant", "tool", "assistant", "user"]
    asked, result = found[2], found[3]
    assert (asked.text, asked.reasoning, asked.calls[0].name) == ("I look.", "Hm.", "look")
    assert asked.calls[0].arguments == '{"at":"sky"}'
    assert (result.call_id, result.text, result.is_error) == ("c1", '{"blue":true}', False)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (tool("output-error", errorText="no sky"), "no sky"),
        (tool("output-denied", approval={"id": "a", "approved": False, "reason": "not now"}), "not now"),
        (tool("approval-responded", approval={"id": "a", "approved": False}), ui_messages.DENIED),
    ],
)
def test_a_call_that_came_to_nothing_is_told_the_model(part: dict[str, Any], said: str) -> None:
    result = turns(ASKED, assistant(STEP, part))[-1]
    assert (result.role, result.text, result.is_error) == ("tool", said, True)


@pytest.mark.parametrize("state", ["input-streaming", "input-available", "approval-requested", "approval-responded"])
def test_a_call_without_a_result_is_left_out(state: str) -> None:
    """No model goes on without it. An approved one waits for its result too."""
    part = tool(state, approval={"id": "a", "approved": True})
    found = turns(ASKED, assistant(STEP, text("I look."), part), user(text("And?")))
    assert [(message.role, message.calls) for message in found] == [("user", ()), ("assistant", ()), ("user", ())]


def test_dynamic_and_custom_tools() -> None:
    ours = {"millrace": {"custom": True, "namespace": "notes"}}
    part = tool("output-available", output="ok") | {"type": "dynamic-tool", "toolName": "note"}
    call = turns(ASKED, assistant(part | {"input": "plain words", "callProviderMetadata": ours}))[1].calls[0]
    assert (call.name, call.arguments, call.is_custom, call.namespace) == ("note", "plain words", True, "notes")


def test_what_only_the_provider_reads_comes_back_to_it() -> None:
    sealed = Sealed(api=Api.RESPONSES, fields={"type": "reasoning", "id": "rs_1", "encrypted_content": "x"})
    word = carried.write({"own": 1}, {"c1": {"signature": "s"}}, [sealed])
    part = {"type": "custom", "kind": "millrace.carried", "providerMetadata": {"millrace": {carried.FIELD: word}}}
    answer = turns(ASKED, assistant(STEP, tool("output-available", output="ok"), part))[1]
    assert answer.own_fields == {"own": 1}
    assert answer.calls[0].own_fields == {"signature": "s"}
    assert [one.fields for one in answer.sealed] == [sealed.fields]


def test_what_has_no_place_is_named() -> None:
    create = read(
        [
            user(text("Why?"), {"type": "data-mood", "data": "good"}),
            assistant(STEP, text("So."), {"type": "source-url", "sourceId": "s", "url": "https://a.example"}),
            user(text("And?")),
        ]
    )
    assert create.not_passed_on == ("messages[0].parts[1] and 1 more",)


def test_a_message_of_the_user_in_the_middle_of_an_answer() -> None:
    steering = {"type": "steering-message", "id": "x", "parts": [text("Shorter!")]}
    found = turns(ASKED, assistant(STEP, text("Long."), steering, STEP, text("Short.")), user(text("Thanks")))
    assert [(message.role, message.text) for message in found] == [
        *(("user", "Why?"), ("assistant", "Long."), ("user", "Shorter!")),
        *(("assistant", "Short."), ("user", "Thanks")),
    ]


def test_the_body_has_the_fields_of_a_responses_request() -> None:
    body = {
        "model": "small",
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "temperature": 0.5,
        "millrace": {"strategy": "race", "tag": "chat"},
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}}],
        "seed": 7,
    }
    create = read([ASKED], body=body)
    assert (create.model, create.strategy, create.tag) == ("small", "race", "chat")
    assert [message.text for message in create.prompt.messages] == ["Be brief.", "Why?"]
    assert (create.prompt.max_output_tokens, create.prompt.temperature) == (9, 0.5)
    assert create.prompt.tools[0].name == "look"
    assert create.prompt.extras == {"seed": 7}


def test_defaults_of_a_chat() -> None:
    """It may come back after a lost connection; who wants another answer gets no stored one."""
    assert (read([ASKED]).on_disconnect, read([ASKED]).cache) == (OnDisconnect.DETACH, CacheMode.ON)
    again = read([ASKED], trigger="regenerate-message")
    assert again.cache is CacheMode.REFRESH
    chosen = {"millrace": {"on_disconnect": "cancel", "cache": "on"}}
    again = read([ASKED], trigger="regenerate-message", body=chosen)
    assert (again.on_disconnect, again.cache) == (OnDisconnect.CANCEL, CacheMode.ON)
    in_metadata = {"metadata": {"millrace.on_disconnect": "cancel"}}
    assert read([ASKED], body=in_metadata).on_disconnect is OnDisconnect.CANCEL


@pytest.mark.parametrize(
    ("trigger", "messages"),
    [("submit-message", [ASKED]), ("regenerate-message", [ASKED, assistant(STEP, text("So."))])],
)
def test_an_answer_begins_a_message(trigger: str, messages: list[dict[str, Any]]) -> None:
    send, _ = ui_messages.read_send(envelope(messages, trigger=trigger), ())
    assert earlier_of(send) is None


def test_an_answer_goes_on_with_the_message_that_waits_for_it() -> None:
    """Its steps can be made again: no tool is run twice."""
    note = {"type": "dynamic-tool", "toolCallId": "c2", "toolName": "note", "state": "output-error", "errorText": "no"}
    denied = tool("output-denied", approval={"id": "a", "approved": False}) | {"toolCallId": "c3"}
    word = {"millrace": {"encrypted_content": "mr1.e30="}}
    parts = [
        *(STEP, {"type": "reasoning", "text": "Hm."}, text("I look."), tool("output-available", output=[1])),
        *(note, denied, {"type": "custom", "kind": "millrace.carried", "providerMetadata": word}),
        *({"type": "custom", "kind": "other.thing"}, {"type": "data-mood", "data": 1}),
    ]
    send, _ = ui_messages.read_send(envelope([ASKED, assistant(*parts)]), ())
    earlier = earlier_of(send)
    assert earlier is not None
    assert earlier.message_id == "m"
    assert [msgspec.json.decode(chunk) for chunk in earlier.chunks] == [
        {"type": "start-step"},
        {"type": "reasoning-start", "id": "reasoning"},
        {"type": "reasoning-delta", "id": "reasoning", "delta": "Hm."},
        {"type": "reasoning-end", "id": "reasoning"},
        {"type": "text-start", "id": "text"},
        {"type": "text-delta", "id": "text", "delta": "I look."},
        {"type": "text-end", "id": "text"},
        {"type": "tool-input-start", "toolCallId": "c1", "toolName": "look", "dynamic": False},
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '{"at":"sky"}'},
        {"type": "tool-output-available", "toolCallId": "c1", "output": [1]},
        {"type": "tool-input-start", "toolCallId": "c2", "toolName": "note", "dynamic": True},
        {"type": "tool-output-error", "toolCallId": "c2", "errorText": "no"},
        {"type": "tool-input-start", "toolCallId": "c3", "toolName": "look", "dynamic": False},
        {"type": "tool-input-delta", "toolCallId": "c3", "inputTextDelta": '{"at":"sky"}'},
        {"type": "tool-output-denied", "toolCallId": "c3"},
        {"type": "custom", "kind": "millrace.carried", "providerMetadata": word},
    ]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "tool", "parts": []}], "messages[0].role"),
        ([user({"type": "text", "text": 1})], "messages[0].parts[0].text"),
        ([user({"type": 1})], "messages[0].parts[0].type"),
        ([user({"type": "file", "mediaType": "image/png"})], "messages[0].parts[0].url"),
        ([ASKED, assistant({"type": "tool-look", "state": "input-available"})], "messages[1].parts[0].toolCallId"),
        ([ASKED, assistant(tool("guessed"))], "messages[1].parts[0].state"),
        ([ASKED, assistant(tool("output-available") | {"type": "dynamic-tool"})], "messages[1].parts[0].toolName"),
        ([ASKED, assistant(tool("output-available") | {"type": "tool-"})], "messages[1].parts[0].type"),
        ([ASKED, assistant({"type": "steering-message", "id": "x"})], "messages[1].parts[0].parts"),
        ([user(text("  "))], "messages"),
        ([user()], "messages"),
    ],
)
def test_a_fault_is_named_by_its_path(messages: list[dict[str, Any]], param: str) -> None:
    with pytest.raises(MillraceError) as refused:
        read(messages)
    assert (refused.value.code, refused.value.param) == ("invalid_request", param)
    assert refused.value.message.startswith(param)
