"""Ask LangChain's ChatOpenAI one question; with `responses` as an argument through the Responses API."""

import sys

from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="auto", use_responses_api="responses" in sys.argv)
message = model.invoke([("system", "Answer in one sentence."), ("human", "What is the capital of France?")])

assert "Paris" in message.text
assert message.usage_metadata["total_tokens"] > 0
if model.use_responses_api:
    assert message.response_metadata["metadata"]["millrace.route"] == "small"
else:
    assert message.response_metadata["token_usage"]["cost_usd"] > 0
