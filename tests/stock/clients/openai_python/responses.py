"""Ask one question through the Responses API."""

from openai import OpenAI

response = OpenAI().responses.create(
    model="auto",
    instructions="Answer in one sentence.",
    input="What is the capital of France?",
    max_output_tokens=200,
    metadata={"from": "a stock client"},
)

assert response.status == "completed", response
assert "Paris" in response.output_text
assert response.instructions == "Answer in one sentence."
assert response.metadata["from"] == "a stock client"
assert response.metadata["millrace.route"] in ("small", "large", "cache")
assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
assert response.usage.cost_usd > 0
