"""Ask for JSON after a schema over the WebSocket."""

import json

from openai import OpenAI

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}

with OpenAI() as client, client.responses.connect() as connection:
    connection.response.create(
        model="auto",
        input="Ada is 36 years old. Who is she?",
        text={"format": {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}},
    )
    for event in connection:
        if event.type in ("response.completed", "response.failed", "response.incomplete", "error"):
            break

assert event.type == "response.completed", event
person = json.loads(event.response.output_text)
assert isinstance(person["name"], str)
assert isinstance(person["age"], int)
assert event.response.metadata["millrace.check"] == "passed"
assert event.response.usage.cost_usd > 0
