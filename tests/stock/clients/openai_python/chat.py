"""Ask one question through the chat completions API."""

from openai import OpenAI

completion = OpenAI().chat.completions.create(
    model="auto",
    messages=[
        {"role": "system", "content": "Answer in one sentence."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    max_completion_tokens=200,
)

(choice,) = completion.choices
assert completion.object == "chat.completion"
assert choice.finish_reason == "stop"
assert choice.message.role == "assistant"
assert "Paris" in choice.message.content
assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
assert completion.usage.cost_usd > 0
