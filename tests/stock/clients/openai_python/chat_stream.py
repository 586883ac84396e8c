"""Ask one question through the chat completions API, and read the answer as it comes."""

from openai import OpenAI

chunks = list(
    OpenAI().chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "Why is the sky blue?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
)

*answer, last = chunks
assert {chunk.id for chunk in chunks} == {last.id}
assert answer[0].choices[0].delta.role == "assistant"
assert "blue" in "".join(chunk.choices[0].delta.content or "" for chunk in answer)
assert [chunk.choices[0].finish_reason for chunk in answer if chunk.choices[0].finish_reason] == ["stop"]
assert last.choices == []
assert last.usage.total_tokens > 0
assert last.usage.cost_usd > 0
