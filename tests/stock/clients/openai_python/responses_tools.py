"""Let the model call a function through the Responses API, whole and as a stream, and send it the result."""

import json

from openai import OpenAI

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
QUESTION = {"role": "user", "content": "What is the weather in Paris?"}

client = OpenAI()
asked = client.responses.create(model="auto", input=[QUESTION], tools=[WEATHER], tool_choice="required")
(call,) = (item for item in asked.output if item.type == "function_call")
assert call.name == "get_weather"
assert "city" in json.loads(call.arguments)
assert asked.usage.cost_usd > 0

# Send the whole conversation again ...
result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"celsius": 21, "sky": "clear"}'}
answered = client.responses.create(model="auto", input=[QUESTION, *asked.output, result], tools=[WEATHER])
assert answered.output_text, answered

# ... or only what is new.
answered = client.responses.create(model="auto", input=[result], tools=[WEATHER], previous_response_id=asked.id)
assert answered.output_text, answered

arguments = ""
with client.responses.stream(model="auto", input=[QUESTION], tools=[WEATHER], tool_choice="required") as stream:
    for event in stream:
        if event.type == "response.function_call_arguments.delta":
            arguments += event.delta
    (call,) = stream.get_final_response().output
assert call.name == "get_weather"
assert call.arguments == arguments
