"""An answer in a declared form."""

import json

import anthropic

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "words": {"type": "integer"}},
    "required": ["title", "words"],
    "additionalProperties": False,
}

client = anthropic.Anthropic(max_retries=0)
answer = client.messages.create(
    model="auto",
    max_tokens=1024,
    messages=[{"role": "user", "content": "Give this a title."}],
    output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
)
made = json.loads(answer.content[0].text)
assert isinstance(made["title"], str), made
assert isinstance(made["words"], int), made
assert answer.metadata["millrace.check"] == "passed", answer.metadata
