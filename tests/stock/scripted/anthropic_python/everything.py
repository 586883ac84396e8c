"""Every block that an answer may have: whole, and put together by the SDK from a stream, which is the same."""

import json

import anthropic

QUESTION = {"model": "everything", "max_tokens": 1024, "messages": [{"role": "user", "content": "Hi"}]}

client = anthropic.Anthropic(max_retries=0, _strict_response_validation=True)
whole = client.messages.create(**QUESTION)
with client.messages.stream(**QUESTION) as stream:
    kinds = {event.type for event in stream}
    streamed = stream.get_final_message()

assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content], streamed
assert [block.type for block in whole.content] == [
    "thinking",
    "redacted_thinking",
    "text",
    "server_tool_use",
    "web_search_tool_result",
    "text",
    "tool_use",
    "tool_use",
], whole
assert whole.content[6].input == {"city": "Zürich"}, whole.content[6]
assert whole.content[7].input == {}, whole.content[7]
assert whole.content[5].citations[0].cited_text == "wet"
assert (whole.stop_reason, streamed.stop_reason) == ("tool_use", "tool_use")
assert json.loads(whole.usage.to_json()) == json.loads(streamed.usage.to_json()), (whole.usage, streamed.usage)
assert {"thinking", "signature", "text", "citation", "input_json", "content_block_stop", "message_stop"} <= kinds, kinds
