"""Get a pydantic model of an answer in LangChain; with `responses` as an argument through the Responses API."""

import sys

from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Meeting(BaseModel):
    """What is asked for."""

    name: str
    day: int
    guests: list[str]


model = ChatOpenAI(model="auto", use_responses_api="responses" in sys.argv)
for method in ("json_schema", "function_calling"):
    meeting = model.with_structured_output(Meeting, method=method).invoke("Alice and Bob meet on the 5th.")
    assert isinstance(meeting, Meeting), (method, meeting)
