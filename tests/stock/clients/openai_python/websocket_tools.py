"""Let the model call a function over the WebSocket, and send it the result on the same connection."""

import json

from openai import OpenAI
from openai.types.responses import Response

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

with OpenAI() as client, client.responses.connect() as connection:

    def ask(**body: object) -> tuple[Response, str]:
        """Return the response, and the arguments of its calls as they were streamed."""
        connection.response.create(model="auto", tools=[WEATHER], **body)
        arguments = ""
        for event in connection:
            if event.type == "response.function_call_arguments.delta":
                arguments += event.delta
            elif event.type == "response.completed":
                return event.response, arguments
            else:
                assert event.type not in ("response.failed", "response.incomplete", "error"), event
        raise AssertionError("the connection was closed")

    asked, arguments = ask(input="What is the weather in Paris?", tool_choice="required")
    (call,) = (item for item in asked.output if item.type == "function_call")
    assert call.name == "get_weather"
    assert call.arguments == arguments
    assert "city" in json.loads(arguments)

    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"celsius": 21, "sky": "clear"}'}
    answered, _ = ask(input=[result], previous_response_id=asked.id)

assert answered.output_text
assert not any(item.type == "function_call" for item in answered.output)
assert answered.previous_response_id == asked.id
assert answered.usage.cost_usd > 0
