"""Let a model call a function in LangChain; with `responses` as an argument through the Responses API."""

import sys

from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def get_weather(city: str) -> str:
    """Get the current weather of a city."""
    return f"{city}: 21 degrees, clear"


model = ChatOpenAI(model="auto", use_responses_api="responses" in sys.argv).bind_tools([get_weather])
messages = [HumanMessage("What is the weather in Paris? [tool=get_weather]")]
messages.append(model.invoke(messages))
(call,) = messages[-1].tool_calls
assert call["name"] == "get_weather", call
assert "city" in call["args"], call

messages.append(get_weather.invoke(call))
answer = model.invoke(messages)
assert answer.text, answer
assert not answer.tool_calls, answer

whole = AIMessageChunk(content="")
for chunk in model.stream(messages[:1]):
    whole += chunk
(streamed,) = whole.tool_calls
assert (streamed["name"], streamed["args"]) == (call["name"], call["args"])
