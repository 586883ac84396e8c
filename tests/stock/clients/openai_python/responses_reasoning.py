"""Read the reasoning of a model as its summary, and send it back with the next question."""

from openai import OpenAI

client = OpenAI()
words = ""
with client.responses.stream(model="small", input="Why? [reason=9]", reasoning={"summary": "auto"}) as stream:
    for event in stream:
        if event.type == "response.reasoning_summary_text.delta":
            words += event.delta
    response = stream.get_final_response()

reasoning, message = response.output
assert words, "nothing of the reasoning was shown"
assert [part.text for part in reasoning.summary] == [words]
assert message.type == "message"

history = [{"role": "user", "content": "Why?"}, *response.output, {"role": "user", "content": "And then?"}]
assert client.responses.create(model="small", input=history, include=["reasoning.encrypted_content"]).output_text
