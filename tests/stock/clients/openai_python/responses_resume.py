"""Lose a stream in the middle, and read the rest of it from another connection."""

from openai import OpenAI

client = OpenAI()
before = []
with client.responses.create(
    model="small",
    input="Tell me a story about a mill. [tokens=60] [rate=60]",
    metadata={"millrace.on_disconnect": "detach"},
    stream=True,
) as stream:
    for event in stream:
        before.append(event)
        if sum(event.type == "response.output_text.delta" for event in before) == 5:
            break  # leaving the block closes the connection

rest = list(client.responses.retrieve(before[0].response.id, stream=True, starting_after=before[-1].sequence_number))
events = [*before, *rest]
assert [event.sequence_number for event in events] == list(range(len(events)))
text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
assert rest[-1].type == "response.completed", rest[-1]
assert text == rest[-1].response.output_text
