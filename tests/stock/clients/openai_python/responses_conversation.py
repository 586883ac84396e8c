"""Go on with a conversation by the id of its last response; look it up, and delete it."""

from openai import NotFoundError, OpenAI

client = OpenAI()
first = client.responses.create(model="auto", input="What is a millrace?")
second = client.responses.create(model="auto", input="Who wrote Hamlet?", previous_response_id=first.id)
assert second.previous_response_id == first.id
assert "Shakespeare" in second.output_text
assert second.usage.input_tokens > first.usage.input_tokens  # the first turn was sent again

assert client.responses.retrieve(first.id).output_text == first.output_text

client.responses.delete(first.id)
try:
    client.responses.retrieve(first.id)
except NotFoundError as error:
    assert error.code == "response_not_found", error
else:
    raise AssertionError("it is still there")
