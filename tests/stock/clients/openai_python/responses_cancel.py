"""Stop a response while it is streamed; what it cost until then is on its last event."""

from openai import OpenAI

client = OpenAI()
deltas = 0
for event in client.responses.create(model="small", input="Tell me a long story. [tokens=400] [rate=40]", stream=True):
    if event.type == "response.created":
        response_id = event.response.id
    elif event.type == "response.output_text.delta":
        deltas += 1
        if deltas == 5:
            client.responses.cancel(response_id)

assert event.type == "response.incomplete", event
assert event.response.status == "cancelled"
assert event.response.incomplete_details.reason == "cancelled"
assert event.response.usage.cost_usd > 0
assert deltas < 200
