"""Get a pydantic model of an answer through the Responses API, whole and as a stream."""

from openai import OpenAI
from pydantic import BaseModel


class Meeting(BaseModel):
    """What is asked for."""

    name: str
    day: int
    guests: list[str]


client = OpenAI()
response = client.responses.parse(model="auto", input="Alice and Bob meet on the 5th.", text_format=Meeting)
assert isinstance(response.output_parsed, Meeting), response
assert response.metadata["millrace.check"] == "passed"
assert response.usage.cost_usd > 0

with client.responses.stream(model="auto", input="Carol and Dan meet on the 6th.", text_format=Meeting) as stream:
    text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    final = stream.get_final_response()
assert isinstance(final.output_parsed, Meeting), final
assert Meeting.model_validate_json(text) == final.output_parsed
