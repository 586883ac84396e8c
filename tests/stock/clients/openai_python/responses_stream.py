"""Ask one question through the Responses API, and read the answer as it comes."""

from openai import OpenAI

text = ""
numbers = []
for event in OpenAI().responses.create(model="auto", input="Why is the sky blue?", stream=True):
    numbers.append(event.sequence_number)
    if event.type == "response.output_text.delta":
        text += event.delta

assert event.type == "response.completed", event
assert "blue" in text
assert text == event.response.output_text
assert numbers == list(range(len(numbers)))
assert event.response.usage.cost_usd > 0
