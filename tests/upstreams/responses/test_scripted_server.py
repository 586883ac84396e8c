"""The scripted server speaks as the real one does: the stock openai-python reads every event and every item of it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from tests.support import responses_wire as wire
from tests.support.responses_server import ResponsesServer, always, responding

ITEMS = (
    wire.reasoning("**Looking**\n\nIt shows a town.", "So I ask."),
    wire.web_search("weather"),
    wire.message("I look ", "it up."),
    wire.function_call("get_weather", '{"city": "Paris"}'),
    wire.custom_call("apply_patch", "*** Begin Patch\n*** End Patch"),
    wire.message(refusal="I can't help with that."),
)


@pytest.fixture
async def asked() -> AsyncIterator[tuple[ResponsesServer, AsyncOpenAI]]:
    async with (
        responding(always(*ITEMS)) as server,
        AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0, _strict_response_validation=True) as client,
    ):
        yield server, client


async def test_a_stream_is_put_together_as_it_ends(asked: tuple[ResponsesServer, AsyncOpenAI]) -> None:
    """The SDK accumulates the deltas itself, and would raise where an event does not fit."""
    _, client = asked
    async with client.responses.stream(model="m", input="Hi") as stream:
        kinds = [event.type async for event in stream]
        response = await stream.get_final_response()
    text = [item for item in response.output if item.type == "message"]
    assert response.output_text == "I look it up."
    assert [part.type for part in text[1].content] == ["refusal"]
    assert response.output[0].model_dump()["encrypted_content"] == ITEMS[0]["encrypted_content"]
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens == 5
    assert {
        "response.reasoning_summary_text.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.refusal.delta",
        "response.web_search_call.searching",
    } <= {*kinds}
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


async def test_a_whole_answer_is_the_same(asked: tuple[ResponsesServer, AsyncOpenAI]) -> None:
    _, client = asked
    response = await client.responses.create(model="m", input="Hi")
    assert [item.type for item in response.output] == [item["type"] for item in ITEMS]
    assert response.output_text == "I look it up."


async def test_what_it_has_said_may_come_back(asked: tuple[ResponsesServer, AsyncOpenAI]) -> None:
    """As the SDK's own items, with the results of the calls."""
    server, client = asked
    response = await client.responses.create(model="m", input="Hi", store=True)
    calls = [item for item in response.output if item.type in ("function_call", "custom_tool_call")]
    results = [{"type": f"{call.type}_output", "call_id": call.call_id, "output": "ok"} for call in calls]
    history: Any = [{"role": "user", "content": "Hi"}, *response.output, *results]
    await client.responses.create(model="m", input=history, store=True)
    assert (len(server.asked), server.refused) == (2, [])


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a field that is not known": ({"extra_body": {"seed": 1}}, BadRequestError, "Unknown parameter: 'seed'"),
    "a cap that is too low": ({"max_output_tokens": 5}, BadRequestError, "Expected a value >= 16"),
    "an id that is not stored": ({"input": [ITEMS[0]], "store": False}, NotFoundError, "not persisted"),
    "another's reasoning": (
        {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "gAAAx"}], "store": False},
        BadRequestError,
        "could not be verified",
    ),
    "a call without its result": ({"input": [ITEMS[3]]}, BadRequestError, "No tool output found for function call"),
    "a result without its call": (
        {"input": [{"type": "custom_tool_call_output", "call_id": "c", "output": ""}]},
        BadRequestError,
        "No tool call found for custom tool call output",
    ),
    "a picture of the assistant's": (
        {"input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": "data:"}]}]},
        BadRequestError,
        "Invalid value: 'input_image'",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_it_refuses_what_the_real_one_refuses(asked: tuple[ResponsesServer, AsyncOpenAI], why: str) -> None:
    _, client = asked
    fields, kind, words = REFUSED[why]
    with pytest.raises(kind, match=words):
        await client.responses.create(**{"model": "m", "input": "Hi"} | fields)


@pytest.mark.parametrize("status", ["incomplete", "failed"])
async def test_other_ends_are_what_the_sdk_knows(status: str) -> None:
    reason = (
        {"reason": "content_filter"} if status == "incomplete" else {"error": {"code": "server_error", "message": "no"}}
    )
    async with (
        responding(always(wire.message("Hel"), status=status, **reason)) as server,
        AsyncOpenAI(base_url=server.url, api_key="k", _strict_response_validation=True) as client,
    ):
        response = await client.responses.create(model="m", input="Hi")
        events = [event async for event in await client.responses.create(model="m", input="Hi", stream=True)]
    assert response.status == status
    assert events[-1].type == f"response.{status}"
