"""Images by their data and their URL, documents, and marks for the provider's cache."""

import anthropic

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MARK = {"type": "ephemeral"}
CONTENT = [
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}, "cache_control": MARK},
    {"type": "image", "source": {"type": "url", "url": "https://example.com/river.png"}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Wet."}, "title": "Rivers"},
    {"type": "text", "text": "What is in these?", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
]

client = anthropic.Anthropic(max_retries=0)
answer = client.messages.create(
    model="auto",
    max_tokens=1024,
    system=[{"type": "text", "text": "Be brief.", "cache_control": MARK}],
    messages=[{"role": "user", "content": CONTENT}],
)
assert answer.content[0].text, answer
assert "millrace.notes" not in answer.metadata, answer.metadata
assert (answer.usage.cache_creation_input_tokens, answer.usage.cache_read_input_tokens) == (0, 0), answer.usage
