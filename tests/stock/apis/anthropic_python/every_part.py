"""All that the SDK asks of a message, whichever API the model behind Millrace has."""

import asyncio
import json
import os

import anthropic

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MARK = {"type": "ephemeral"}
WEATHER = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "cache_control": MARK,
}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
ASKED = {
    "role": "user",
    "content": [
        IMAGE,
        {"type": "text", "text": "How warm is it here? [reason=5] [tool=get_weather]", "cache_control": MARK},
    ],
}
OPTIONS = {
    "model": "large",
    "max_tokens": 4096,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": MARK}],
    "thinking": {"type": "adaptive"},
    "tools": [WEATHER],
}


def asked(client, stream, **fields):
    if not stream:
        return client.messages.create(**OPTIONS | fields)
    with client.messages.stream(**OPTIONS | fields) as events:
        kinds = {event.type for event in events}
        assert {"message_start", "content_block_stop", "message_delta", "message_stop"} <= kinds, kinds
        return events.get_final_message()


def two_turns(client, stream):
    """Let it call a tool, and send back all that it has answered with the result."""
    first = asked(client, stream, messages=[ASKED])
    assert first.stop_reason == "tool_use", first
    thought, call = first.content[0], first.content[-1]
    assert (thought.type, call.type, call.name) == ("thinking", "tool_use", "get_weather"), first
    assert thought.thinking
    assert thought.signature
    assert "city" in call.input, call
    results = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees"}]}
    second = asked(client, stream, messages=[ASKED, {"role": "assistant", "content": first.content}, results])
    assert second.stop_reason == "end_turn", second
    assert second.content[-1].text, second
    assert (second.model, second.role) == ("large", "assistant")
    assert second.usage.input_tokens > 0 < second.usage.output_tokens
    assert stream or second.usage.cost_usd > 0, second.usage  # the SDK puts only what it knows together


def refusals(client):
    for fields, kind in (
        ({"model": "no-such-model"}, anthropic.NotFoundError),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, anthropic.BadRequestError),
    ):
        try:
            client.messages.create(**OPTIONS | {"messages": [ASKED]} | fields)
        except kind as error:
            assert error.body["type"] == "error", error.body
        else:
            raise AssertionError(f"taken: {fields}")


async def left(url):
    """Leave a stream at its first event; ask again."""
    async with anthropic.AsyncAnthropic(base_url=url, max_retries=0) as client:
        async with client.messages.stream(messages=[ASKED], **OPTIONS) as events:
            async for _ in events:
                break
        answer = await client.messages.create(messages=[ASKED], **OPTIONS)
        assert answer.content, answer


for url in json.loads(os.environ["APIS"]).values():
    client = anthropic.Anthropic(base_url=url, max_retries=0)
    counted = {name: OPTIONS[name] for name in ("model", "system", "tools")}
    assert client.messages.count_tokens(messages=[ASKED], **counted).input_tokens > 0
    two_turns(client, stream=False)
    two_turns(client, stream=True)
    refusals(client)
    asyncio.run(left(url))
