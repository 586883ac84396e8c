"""Count the tokens of a request, and look up models."""

import anthropic

client = anthropic.Anthropic(max_retries=0)
question = {"model": "auto", "messages": [{"role": "user", "content": "How deep is the river?"}]}
tool = {"name": "depth", "input_schema": {"type": "object"}}
counted = client.messages.count_tokens(**question)
assert counted.input_tokens > 0
assert client.messages.count_tokens(system="Be brief.", tools=[tool], **question).input_tokens > counted.input_tokens

models = list(client.models.list(limit=2))
assert {"auto", "small", "large"} <= {model.id for model in models}, models
assert all(model.type == "model" for model in models)
assert client.models.retrieve("auto").id == "auto"
