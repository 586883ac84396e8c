"""Ask about a picture, run the tool that is called, and go on, in LangChain; with `responses` through that API."""

import json
import os
import sys

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def get_weather(city: str) -> str:
    """Get the current weather of a city."""
    return f"{city}: 21 degrees, clear"


def said(model, messages, *, stream):
    if not stream:
        return model.invoke(messages)
    whole = None
    for chunk in model.stream(messages):
        whole = chunk if whole is None else whole + chunk
    return whole


def two_turns(provider, name, *, stream):
    options = {"use_responses_api": True, "store": False} if "responses" in sys.argv else {}
    model = ChatOpenAI(model=name, base_url=provider["url"], max_retries=0, **options).bind_tools([get_weather])
    question = [{"type": "text", "text": "What is the weather here?"}]
    if provider["sees"]:
        question.append({"type": "image_url", "image_url": {"url": provider["picture"]}})
    messages = [SystemMessage("Be brief."), HumanMessage(question)]
    messages.append(said(model, messages, stream=stream))
    (call,) = messages[-1].tool_calls
    assert call["args"] == {"city": "Paris"}, call
    messages.append(get_weather.invoke(call))
    answer = said(model, messages, stream=stream)
    assert answer.text == provider["answer"], answer


failed = {}
for preset, provider in json.loads(os.environ["PROVIDERS"]).items():
    for name in ("small", "large"):
        for stream in (False, True):
            try:
                two_turns(provider, name, stream=stream)
            except Exception as error:
                failed[f"{preset}, {name}, {'streamed' if stream else 'whole'}"] = f"{type(error).__name__}: {error}"
assert not failed, failed
