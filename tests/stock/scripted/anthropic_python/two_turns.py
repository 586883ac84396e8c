"""Ask, run the tool that is called, and go on with the thoughts as they came; the second turn is read from cache."""

import anthropic

TOOL = {
    "name": "get_weather",
    "description": "Get the current weather of a city. " * 10,
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
OPTIONS = {
    "model": "two_turns",
    "max_tokens": 2048,
    "thinking": {"type": "adaptive"},
    "tools": [TOOL],
    "system": [{"type": "text", "text": "Be brief. " * 20, "cache_control": {"type": "ephemeral"}}],
}

client = anthropic.Anthropic(max_retries=0, _strict_response_validation=True)
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
first = client.messages.create(messages=messages, **OPTIONS)
assert first.usage.cache_creation_input_tokens > 0 == first.usage.cache_read_input_tokens, first.usage
assert first.stop_reason == "tool_use", first
call = first.content[-1]
messages += [
    {"role": "assistant", "content": first.content},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees"}]},
]
second = client.messages.create(messages=messages, **OPTIONS)
assert second.content[0].text == "It is warm.", second
assert second.usage.cache_read_input_tokens == first.usage.cache_creation_input_tokens, second.usage

first.content[0].thinking += "!"
try:
    client.messages.create(messages=messages, **OPTIONS)
except anthropic.BadRequestError as error:
    assert "signature" in str(error), error
else:
    raise AssertionError("a thought that has changed was taken")
