"""Let the model call a function through the chat completions API, whole and as a stream, and send it the result."""

import json

from openai import OpenAI

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}

client = OpenAI()
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
asked = client.chat.completions.create(model="auto", messages=messages, tools=[WEATHER], tool_choice="required")
assert asked.choices[0].finish_reason == "tool_calls", asked
(call,) = asked.choices[0].message.tool_calls
assert call.function.name == "get_weather"
assert "city" in json.loads(call.function.arguments)

result = {"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 21, "sky": "clear"}'}
messages += [asked.choices[0].message, result]
answered = client.chat.completions.create(model="auto", messages=messages, tools=[WEATHER])
assert answered.choices[0].finish_reason == "stop", answered
assert answered.choices[0].message.content
assert not answered.choices[0].message.tool_calls

with client.chat.completions.stream(
    model="auto", messages=messages[:1], tools=[WEATHER], tool_choice="required"
) as stream:
    events = list(stream)
    (streamed,) = stream.get_final_completion().choices[0].message.tool_calls
pieces = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
assert streamed.function.name == "get_weather"
assert streamed.function.arguments == "".join(pieces)
assert "city" in json.loads(streamed.function.arguments)

assert asked.usage.cost_usd > 0
assert answered.usage.cost_usd > 0
