"""Let the model call a tool through the Messages API, whole and as a stream, and send it the result, and a failure."""

import anthropic

WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "cache_control": {"type": "ephemeral"},
}
OPTIONS = {"model": "auto", "max_tokens": 1024, "tools": [WEATHER]}

client = anthropic.Anthropic(max_retries=0)
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
asked = client.messages.create(messages=messages, tool_choice={"type": "any"}, **OPTIONS)
call = asked.content[-1]
assert (asked.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "get_weather"), asked
assert "city" in call.input, call

with client.messages.stream(
    messages=messages, tool_choice={"type": "tool", "name": "get_weather"}, **OPTIONS
) as stream:
    pieces = [event.partial_json for event in stream if event.type == "input_json"]
    streamed = stream.get_final_message().content[-1]
assert (streamed.name, streamed.input) == (call.name, call.input), streamed
assert pieces

messages.append({"role": "assistant", "content": asked.content})
for result in (
    {"content": "21 degrees, clear"},
    {"content": [{"type": "text", "text": "no network"}], "is_error": True},
):
    results = [{"type": "tool_result", "tool_use_id": call.id, **result}]
    answered = client.messages.create(messages=[*messages, {"role": "user", "content": results}], **OPTIONS)
    assert (answered.stop_reason, answered.content[0].type) == ("end_turn", "text"), answered
