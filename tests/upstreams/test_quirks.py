"""How providers differ: what a setting says, and what their refusals teach."""

import asyncio
import dataclasses
import json
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from millrace.errors import UpstreamError
from millrace.settings import sections
from millrace.types import Call, Format, Message, Prompt, ToolCall
from millrace.upstreams.chat import body as chat
from millrace.upstreams.quirks import DROPPABLE, LEARNED_S, PRESETS, Quirks, change_for
from tests.support.provider import CALL, DONE, END, HEAD, Provider, Script, body, event, says, scripted_provider, stay

ID = "call_" + "0123456789" * 4  # longer than OpenAI takes
TURNS = (
    Message(role="system", parts=("Be brief.",)),
    Message(role="user", parts=("Hi",)),
    Message(role="assistant", parts=("Hello",), reasoning="Hm.", own_fields={"reasoning_details": [{"data": "x"}]}),
    Message(
        role="assistant", calls=(ToolCall(id=ID, name="now", arguments="{}", own_fields={"extra_content": {"a": 1}}),)
    ),
    Message(role="assistant", calls=(ToolCall(id="c", name="now", arguments="{}"),)),
    Message(role="tool", call_id=ID, parts=("noon",)),
)
PRICED = replace(CALL.model, tier_prices={"flex": CALL.model.price})
ASKED = dataclasses.replace(
    CALL,
    model=PRICED,
    prompt=Prompt(messages=TURNS, extras={"user": "u", "service_tier": "flex", "stop": ["x"], "store": False}),
)


def sent(call: Call, **quirks: Any) -> dict[str, Any]:
    return chat.fields_of(call, Quirks(**quirks))


def test_every_preset_has_a_name_in_the_settings() -> None:
    """And no other."""
    assert set(get_args(sections.Provider)) == set(PRESETS)


def test_what_a_preset_may_change() -> None:
    """Never tools, the format, `stop`, or a limit."""
    of_messages = {"name", "refusal"}
    for quirks in PRESETS.values():
        assert {name.rpartition(".")[2] for name in quirks.drop} <= {*DROPPABLE, *of_messages}
        assert chat.fields_of(ASKED, quirks)["stop"] == ["x"]
        assert quirks.max_tokens_field in chat.fields_of(ASKED, quirks)


def test_reasoning_goes_back_where_it_is_wanted() -> None:
    """Never, where there is some, or in every answer once there were calls: what has none says so with a blank."""

    def thoughts(reasoning: Any) -> list[str | None]:
        return [message.get("reasoning_content") for message in sent(ASKED, reasoning=reasoning)["messages"]]

    assert thoughts("no") == [None] * 6
    assert thoughts("yes") == [None, None, "Hm.", None, None, None]
    assert thoughts("calls") == [None, None, "Hm.", " ", " ", None]
    assert sent(dataclasses.replace(ASKED, prompt=Prompt(messages=TURNS[:2])), reasoning="calls")["messages"][
        1
    ].keys() == {
        "role",
        "content",
    }


def test_ids_of_calls_fit_the_provider_and_stay_pairs() -> None:
    """Those that fit are left alone; others are replaced by the same each time, in a call and in its result."""

    def ids(kind: Any) -> list[str]:
        messages = sent(ASKED, call_ids=kind)["messages"]
        return [messages[3]["tool_calls"][0]["id"], messages[4]["tool_calls"][0]["id"], messages[5]["tool_call_id"]]

    assert ids("any") == [ID, "c", ID]
    short, nine = ids("short"), ids("nine")
    assert short == [short[2], "c", short[0]]
    assert len(short[0]) <= 40
    assert nine[0] == nine[2] != nine[1]
    assert all(len(id_) == 9 and id_.isalnum() for id_ in nine)


def test_a_providers_own_fields_go_back_to_those_that_take_them() -> None:
    """All, some or none; what stays behind is told."""

    def kept(own_fields: set[str]) -> tuple[bool, bool, list[str]]:
        quirks = Quirks(own_fields=frozenset(own_fields))
        fields, _, left = chat.request(ASKED, quirks)
        messages = fields["messages"]
        return "reasoning_details" in messages[2], "extra_content" in messages[3]["tool_calls"][0], left

    assert kept({"*"}) == (True, True, [])
    assert kept({"extra_content"}) == (False, True, ["without reasoning_details"])
    assert kept(set()) == (False, False, ["without reasoning_details", "without extra_content"])


def test_a_call_that_another_model_made_is_signed_where_it_must_be() -> None:
    messages = sent(ASKED, signatures=True)["messages"]
    assert messages[3]["tool_calls"][0]["extra_content"] == {"a": 1}
    assert set(messages[4]["tool_calls"][0]["extra_content"]) == {"google"}


def test_what_a_refusal_said_is_the_content_where_there_is_no_field_for_it() -> None:
    asked = dataclasses.replace(ASKED, prompt=Prompt(messages=(Message(role="assistant", refusal="No."),)))
    (message,) = sent(asked, drop=frozenset({"assistant.refusal"}))["messages"]
    assert message == {"role": "assistant", "content": "No."}


REFUSALS = {  # what providers write, and what helps
    "Extra inputs are not permitted, field: 'stream_options'": "without stream_options",
    '{"detail":[{"type":"extra_forbidden","loc":["body","stream_options","include_usage"]}]}': "without stream_options",
    "Unknown name \"user\" at 'generation_config'": "without user",
    "service_tier is not available on your plan": "without service_tier",
    "property 'messages.2.reasoning_content' is unsupported": "without reasoning_content",
    "'messages.2' : for 'role:assistant' the following must be satisfied[('messages.2' : property 'reasoning_content'"
    " is unsupported)]": "without reasoning_content",
    "Unknown parameter: 'messages[3].tool_calls[0].extra_content'.": "without extra_content",
    "Extra inputs are not permitted: body.messages.2.assistant.reasoning_details": "without reasoning_details",
    "Function call is missing a thought_signature in functionCall parts.": "with thought_signature",
    "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.": "with ids of 9 characters",
    "Invalid 'messages[3].tool_calls[0].id': string too long. Expected a string with maximum length 40, but got 43.": (
        "with ids of 40 characters"
    ),
    "* GenerateContentRequest.contents[4].parts[0].function_response.name: Name cannot be empty.": (
        "with names of tools"
    ),
    "Invalid request content: Each message must have at least one content element.": "with empty content",
    "thinking is enabled but reasoning_content is missing in assistant tool call message at index 3": (
        "with reasoning_content"
    ),
    "The `reasoning_content` in the thinking mode must be passed back to the API.": "with reasoning_content",
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.": (
        "with max_completion_tokens"
    ),
    "Unsupported value: 'messages[0].role' does not support 'system' with this model.": "with developer",
    "stop: too many": None,
    "tools are not supported": None,
    "response_format is not supported": None,
    "This model's maximum context length is 8192 tokens.": None,
    "parallel_tool_calls is not supported": None,  # it was not sent
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_says_what_helps(refusal: str) -> None:
    """If the answer does not need the field, and it was sent."""
    change = change_for(refusal, sent(ASKED))
    assert (change and change.what) == REFUSALS[refusal]


def test_what_helps_is_another_request() -> None:
    """A change that changes nothing would be tried for ever."""
    for refusal, what in REFUSALS.items():
        if what is not None:
            change = change_for(refusal, sent(ASKED))
            assert change is not None
            assert chat.fields_of(ASKED, change.applied(Quirks())) != sent(ASKED)


def test_a_name_that_a_client_made_up_is_left_out_of_its_messages_alone() -> None:
    """Else it would take a field of the same name from everybody's requests."""
    message = Message(role="assistant", parts=("Hi",), own_fields={"response_format": 1, "messages": 2, "x": 3})
    prompt = Prompt(messages=(message,), format=Format(kind="json_object"))
    asked = Call(model=CALL.model, prompt=prompt)
    for name in ("response_format", "messages", "x"):
        change = change_for(f"messages.0.{name}: Extra inputs are not permitted ('{name}')", sent(asked))
        assert change is not None
        assert not change.is_of_the_provider
        fields = chat.fields_of(asked, change.applied(Quirks()))
        assert fields["response_format"] == {"type": "json_object"}
        assert name not in fields["messages"][0]


async def test_what_does_not_help_is_not_remembered() -> None:
    """A refusal may name a field and mean something else."""
    asked = Call(model=CALL.model, prompt=Prompt(messages=CALL.prompt.messages, extras={"user": "ann"}))
    error = json.dumps({"error": {"message": "messages with role 'user' must not be empty"}})
    refused = f"HTTP/1.1 400 No\r\nContent-Length: {len(error)}\r\n\r\n{error}".encode()
    async with scripted_provider(says(refused, then=stay)) as provider:
        for _ in range(2):
            attempt = provider.upstream.open(asked)
            with pytest.raises(UpstreamError, match="must not be empty"):
                await attempt.done
        assert ["user" in body for _, body in provider.requests] == [True, False, True, False]


ANSWER = HEAD + body(event("Hi", "stop"), DONE) + END


def strict(provider: Provider, *forbidden: str, status: int = 400) -> Script:
    """Return the script of a provider that refuses any request with one of these fields."""

    async def script(writer: asyncio.StreamWriter) -> None:
        asked = provider.requests[-1][1]
        error = next(
            (json.dumps({"error": {"message": f"'{name}' is not supported"}}) for name in forbidden if name in asked),
            "",
        )
        refused = f"HTTP/1.1 {status} No\r\nContent-Length: {len(error)}\r\n\r\n{error}"
        writer.write(refused.encode() if error else ANSWER)

    return script


@pytest.mark.parametrize("status", [400, 422])
async def test_a_refused_field_is_left_out_and_remembered_for_an_hour(status: int) -> None:
    """Each field that is named; later requests go without it at once; then it is tried again."""
    async with scripted_provider(says()) as provider:
        provider.script = strict(provider, "stream_options", "service_tier", status=status)
        for _ in range(2):
            attempt = provider.upstream.open(ASKED)
            await attempt.done
            await attempt.task
            assert set(attempt.notes) == {"without stream_options", "without service_tier"}
        fields = [set(body) & {"stream_options", "service_tier"} for _, body in provider.requests]
        assert fields == [{"stream_options", "service_tier"}, {"service_tier"}, set(), set()]
        provider.now += LEARNED_S + 1
        await provider.upstream.open(ASKED).done
        assert "stream_options" in provider.requests[4][1]


async def test_what_the_answer_needs_is_never_left_out() -> None:
    """The refusal is passed on, and the request not repeated."""
    async with scripted_provider(says()) as provider:
        provider.script = strict(provider, "stop")
        with pytest.raises(UpstreamError, match="'stop' is not supported") as raised:
            await provider.upstream.open(ASKED).done
    assert (raised.value.rule.status, raised.value.rule.retry, len(provider.requests)) == (400, False, 1)
