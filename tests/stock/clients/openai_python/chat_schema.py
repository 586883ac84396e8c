"""Get a pydantic model of an answer through the chat completions API."""

from openai import OpenAI
from pydantic import BaseModel


class Meeting(BaseModel):
    """What is asked for."""

    name: str
    day: int
    guests: list[str]


completion = OpenAI().chat.completions.parse(
    model="auto",
    messages=[{"role": "user", "content": "Alice and Bob meet on the 5th."}],
    response_format=Meeting,
)
assert isinstance(completion.choices[0].message.parsed, Meeting), completion
assert completion.usage.cost_usd > 0
