"""The stock openai-python goes round two turns against each provider, with a picture, reasoning and a tool."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI

from tests.strict.gateways import gateways
from tests.strict.provider import ANSWER, SHOWN_AS, THOUGHTS, Providers
from tests.strict.rules import RULES

PICTURE = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "get_weather", "description": "Get the weather.", "parameters": SCHEMA, "strict": True}
CHAT_TOOL: Any = {"type": "function", "function": FUNCTION}
TOOL: Any = {"type": "function", **FUNCTION}
ALL_FIELDS: Any = {"user": "u", "parallel_tool_calls": True, "prompt_cache_key": "k", "safety_identifier": "s"}
SEES = [name for name, rules in RULES.items() if rules.images != "none"]
OF_ANOTHER_MODEL: Any = {  # a call as a client sends it that has kept nothing else
    "id": "call_" + "0123456789" * 4,
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}


@pytest.fixture
async def strict(preset: str) -> AsyncIterator[tuple[Providers, AsyncOpenAI]]:
    async with gateways([preset]) as (providers, urls), AsyncOpenAI(base_url=urls[preset], api_key="x") as client:
        yield providers, client


def question(preset: str, *, chat: bool) -> list[Any]:
    """Return instructions and a question, with a picture where the provider looks at one."""
    words = "What is the weather here?"
    if preset not in SEES:
        return [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": words}]
    text = {"type": "text" if chat else "input_text", "text": words}
    url = {"url": PICTURE} if chat else PICTURE
    picture = {"type": "image_url" if chat else "input_image", "image_url": url}
    return [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [text, picture]}]


async def completed(client: AsyncOpenAI, *, stream: bool, **request: Any) -> Any:
    """Return the message of a chat completion, as the SDK puts it together."""
    if not stream:
        return (await client.chat.completions.create(**request, **ALL_FIELDS)).choices[0].message
    async with client.chat.completions.stream(**request, **ALL_FIELDS) as events:
        async for _ in events:
            pass
        return (await events.get_final_completion()).choices[0].message


async def responded(client: AsyncOpenAI, *, stream: bool, **request: Any) -> Any:
    if not stream:
        return await client.responses.create(**request, **ALL_FIELDS)
    async with client.responses.stream(**request, **ALL_FIELDS) as events:
        async for _ in events:
            pass
        return await events.get_final_response()


def check_round(providers: Providers, preset: str) -> None:
    """Both turns were taken, nothing was refused on the way, and what the provider wants back came back."""
    assert providers.faults() == []
    assert len(providers.accepted[preset]) == 2


@pytest.mark.parametrize("preset", RULES)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_chat_completions_go_round(strict: tuple[Providers, AsyncOpenAI], preset: str, *, stream: bool) -> None:
    """The history is the SDK's own message and the tool's result."""
    providers, client = strict
    history = question(preset, chat=True)
    request = {"model": "small" if stream else "large", "tools": [CHAT_TOOL], "max_tokens": 500}
    asked = await completed(client, stream=stream, messages=history, **request)
    (call,) = asked.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    thought = (asked.model_extra or {}).get("reasoning_content", "")
    assert thought == ("".join(THOUGHTS) if preset in SHOWN_AS or preset == "mistral" else "")
    history += [asked, {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}]
    answer = await completed(client, stream=stream, messages=history, **request)
    assert answer.content == ANSWER
    check_round(providers, preset)


@pytest.mark.parametrize("preset", RULES)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("continued", [False, True], ids=["sent again", "continued"])
async def test_responses_go_round(
    strict: tuple[Providers, AsyncOpenAI], preset: str, *, stream: bool, continued: bool
) -> None:
    """The history is the SDK's own output items and the tool's result, or what Millrace keeps."""
    providers, client = strict
    history = question(preset, chat=False)
    request = {"model": "small" if stream else "large", "tools": [TOOL], "max_output_tokens": 500}
    asked = await responded(client, stream=stream, input=history, **request)
    (call,) = (item for item in asked.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}
    if continued:
        answer = await responded(client, stream=stream, input=[result], previous_response_id=asked.id, **request)
    else:
        sent = [item.model_dump(exclude_unset=True, exclude={"parsed_arguments"}) for item in asked.output]
        answer = await responded(client, stream=stream, input=[*history, *sent, result], **request)
    assert answer.output_text == ANSWER
    check_round(providers, preset)


@pytest.mark.parametrize("preset", RULES)
async def test_a_provider_that_is_not_named_is_learned(preset: str) -> None:
    """Each refusal of a field or of a history mends the next request, so that `auto` goes round too."""
    async with (
        gateways([preset], provider="auto") as (providers, urls),
        AsyncOpenAI(base_url=urls[preset], api_key="x", max_retries=0) as client,
    ):
        history = question(preset, chat=True)
        request: dict[str, Any] = {"model": "small", "tools": [CHAT_TOOL], "max_tokens": 500}
        history.append({"role": "assistant", "content": None, "tool_calls": [OF_ANOTHER_MODEL]})
        history.append({"role": "tool", "tool_call_id": OF_ANOTHER_MODEL["id"], "content": "22 degrees"})
        if preset == "openrouter":  # nothing stands for what it did not give
            history[2:] = []
        else:
            await completed(client, stream=False, messages=history, **request)
            history.append({"role": "assistant", "content": "It is 22 degrees."})
            history.append({"role": "user", "content": "And now?"})
        asked = await completed(client, stream=False, messages=history, **request)
        (call,) = asked.tool_calls
        history += [asked, {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}]
        answer = await completed(client, stream=False, messages=history, **request)
        assert answer.content == ANSWER
        assert len(providers.refused[preset]) == len(set(providers.refused[preset]))  # each once


@pytest.mark.parametrize("preset", [name for name in RULES if name not in SEES])
async def test_a_picture_that_nobody_looks_at_is_refused_in_the_providers_words(
    strict: tuple[Providers, AsyncOpenAI],
) -> None:
    _, client = strict
    with pytest.raises(APIStatusError, match="unknown variant `image_url`") as raised:
        await completed(client, stream=False, model="small", messages=question("openai", chat=True), tools=[CHAT_TOOL])
    assert raised.value.status_code == 400


@pytest.mark.parametrize("preset", ["gemini", "openrouter", "deepseek", "kimi", "vllm"])
async def test_what_a_client_leaves_out_is_put_back(strict: tuple[Providers, AsyncOpenAI], preset: str) -> None:
    """Many keep only text and calls. The provider gets its own reasoning and signature, not a stand-in."""
    providers, client = strict
    history = question(preset, chat=True)
    request: dict[str, Any] = {"model": "small", "tools": [CHAT_TOOL]}
    asked = await completed(client, stream=True, messages=history, **request)
    (call,) = asked.tool_calls
    function = {"name": call.function.name, "arguments": call.function.arguments}
    calls = [{"id": call.id, "type": "function", "function": function}]
    kept = {"role": "assistant", "content": None, "tool_calls": calls}
    result = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
    answer = await completed(client, stream=True, messages=[*history, kept, result], **request)
    assert answer.content == ANSWER
    check_round(providers, preset)


async def test_nothing_is_put_into_another_conversation() -> None:
    """Two conversations may have calls of the same id; what stands before them tells them apart."""
    async with (
        gateways(["deepseek"]) as (providers, urls),
        AsyncOpenAI(base_url=urls["deepseek"], api_key="x") as client,
    ):
        request: dict[str, Any] = {"model": "small", "tools": [CHAT_TOOL]}
        history = question("deepseek", chat=True)
        asked = await completed(client, stream=False, messages=history, **request)
        (call,) = asked.model_dump()["tool_calls"]
        another = [{"role": "user", "content": "And in Rome?"}, {"role": "assistant", "tool_calls": [call]}]
        result = {"role": "tool", "tool_call_id": call["id"], "content": "21 degrees"}
        await completed(client, stream=False, messages=[*another, result], **request)
        assert providers.accepted["deepseek"][1]["messages"][1]["reasoning_content"] == " "
