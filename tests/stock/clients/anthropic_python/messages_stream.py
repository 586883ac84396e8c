"""Ask through the Messages API as a stream: with the SDK's helper, and event by event."""

import anthropic

ASKED = {"role": "user", "content": "Tell me a long story. [tokens=120]"}
QUESTION = {"model": "small", "max_tokens": 1024, "messages": [ASKED]}

client = anthropic.Anthropic(max_retries=0)
with client.messages.stream(**QUESTION) as stream:
    words = list(stream.text_stream)
    whole = stream.get_final_message()
assert len(words) > 3, words
assert "".join(words) == whole.content[0].text
assert (whole.model, whole.stop_reason) == ("small", "end_turn")
assert whole.usage.input_tokens > 0 < whole.usage.output_tokens

kinds = [event.type for event in client.messages.create(stream=True, **QUESTION)]
assert (kinds[0], *kinds[-3:]) == ("message_start", "content_block_stop", "message_delta", "message_stop"), kinds
