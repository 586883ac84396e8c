"""Look up a model and what a response was made from, and go on from its items by their ids."""

from openai import NotFoundError, OpenAI

client = OpenAI()

assert client.models.retrieve("large").id == "large"
assert "large" in [model.id for model in client.models.list()]
try:
    client.models.retrieve("no/such/model")
except NotFoundError as error:
    assert error.code == "model_not_found", error
else:
    raise AssertionError("there is no such model")

first = client.responses.create(model="small", input="What is the capital of France?")
(question,) = client.responses.input_items.list(first.id)
assert question.content[0].text == "What is the capital of France?"

named = [{"type": "item_reference", "id": item.id} for item in (question, *first.output)]
second = client.responses.create(model="small", input=[*named, {"role": "user", "content": "And of Spain?"}])
assert second.status == "completed", second
items = list(client.responses.input_items.list(second.id, order="asc", limit=1))
assert [item.role for item in items] == ["user", "assistant", "user"], items
