"""Ask through the Messages API. What it cost and who answered stand beside what the SDK knows."""

import anthropic

client = anthropic.Anthropic(max_retries=0)
answer = client.messages.create(
    model="auto",
    max_tokens=1024,
    system="Be brief.",
    messages=[{"role": "user", "content": "What is the capital of France?"}],
    metadata={"user_id": "somebody"},
    extra_body={"millrace": {"strategy": "small"}},
)
(block,) = answer.content
assert "Paris" in block.text, answer
assert (answer.type, answer.role, answer.model, answer.stop_reason) == ("message", "assistant", "auto", "end_turn")
assert answer.id.startswith("msg_")
assert answer._request_id.startswith("resp_"), answer._request_id
assert answer.usage.input_tokens > 0 < answer.usage.output_tokens
assert answer.usage.cost_usd > 0
assert answer.metadata["millrace.route"] == "small", answer.metadata

cut = client.messages.create(
    model="small", max_tokens=3, messages=[{"role": "user", "content": "Tell me a long story. [tokens=60]"}]
)
assert cut.stop_reason == "max_tokens", cut
assert cut.usage.output_tokens <= 3, cut.usage
