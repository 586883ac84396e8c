"""Read an answer of LangChain's ChatOpenAI as it comes; with `responses` as an argument through the Responses API."""

import sys

from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="auto", use_responses_api="responses" in sys.argv, stream_usage=True)
chunks = list(model.stream("Why is the sky blue?"))
whole = chunks[0]
for chunk in chunks[1:]:
    whole += chunk

assert "blue" in whole.text
assert whole.usage_metadata["total_tokens"] > 0
