"""How providers differ: what a setting says, and what their refusals teach."""

import asyncio
import json
from dataclasses import replace
from typing import Any, get_args

import pytest

from millrace import settings
from millrace.errors import UpstreamError
from millrace.types import Call, Message, Prompt, ToolCall
from millrace.upstreams import chat
from millrace.upstreams.quirks import DROPPABLE, LEARNED_S, PRESETS, Quirks, change_for
from tests.support.provider import CALL, DONE, END, HEAD, Provider, Script, body, event, says, scripted_provider

TURNS = (
    Message(role="system", parts=("Be brief.",)),
    Message(role="user", parts=("Hi",)),
    Message(role="assistant", parts=("Hello",), reasoning="Hm."),
    Message(role="assistant", calls=(ToolCall(id="c", name="now", arguments="{}"),)),
    Message(role="tool", call_id="c", parts=("noon",)),
)
PRICED = replace(CALL.model, tier_prices={"flex": CALL.model.price})
ASKED = replace(
    CALL,
    model=PRICED,
    prompt=Prompt(messages=TURNS, extras={"user": "u", "service_tier": "flex", "stop": ["x"], "store": False}),
)


def sent(call: Call, **quirks: Any) -> dict[str, Any]:
    return chat.fields_of(call, Quirks(**quirks))


def test_every_preset_has_a_name_in_the_settings() -> None:
    """And no other."""
    assert set(get_args(settings.Provider)) == set(PRESETS)


def test_what_a_preset_may_change() -> None:
    """Never tools, the format, `stop`, or a limit."""
    for quirks in PRESETS.values():
        assert quirks.drop <= set(DROPPABLE)
        assert chat.fields_of(ASKED, quirks)["stop"] == ["x"]
        assert quirks.max_tokens_field in chat.fields_of(ASKED, quirks)


def test_reasoning_goes_back_where_it_is_wanted() -> None:
    """Never, where there is some, or with every message that has calls."""

    def thoughts(reasoning: Any) -> list[str | None]:
        return [message.get("reasoning_content") for message in sent(ASKED, reasoning=reasoning)["messages"]]

    assert thoughts("no") == [None] * 5
    assert thoughts("yes") == [None, None, "Hm.", None, None]
    assert thoughts("calls") == [None, None, None, "", None]


REFUSALS = {  # what providers write, and what helps
    "Extra inputs are not permitted, field: 'stream_options'": "without stream_options",
    '{"detail":[{"type":"extra_forbidden","loc":["body","stream_options","include_usage"]}]}': "without stream_options",
    "Unknown name \"user\" at 'generation_config'": "without user",
    "service_tier is not available on your plan": "without service_tier",
    "property 'messages.2.reasoning_content' is unsupported": "without reasoning_content",
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
