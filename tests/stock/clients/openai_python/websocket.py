"""Ask one question over the WebSocket of the Responses API, and read the answer as it comes."""

from openai import OpenAI

with OpenAI() as client, client.responses.connect() as connection:
    connection.response.create(model="auto", input="What is the capital of France?")
    text = ""
    for event in connection:
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type in ("response.completed", "response.failed", "response.incomplete", "error"):
            break

assert event.type == "response.completed", event
assert text == event.response.output_text
assert "Paris" in text
assert event.response.usage.total_tokens > 0
assert event.response.usage.cost_usd > 0
assert event.response.metadata["millrace.route"] == "small"
