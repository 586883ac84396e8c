"""Tokens are counted as they are charged."""

import anthropic

client = anthropic.Anthropic(max_retries=0, _strict_response_validation=True)
question = {"model": "everything", "messages": [{"role": "user", "content": "How deep is the river?"}]}
counted = client.messages.count_tokens(**question)
answer = client.messages.create(max_tokens=1024, **question)
assert counted.input_tokens == answer.usage.input_tokens > 0, (counted, answer.usage)
