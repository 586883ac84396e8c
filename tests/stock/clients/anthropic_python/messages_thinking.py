"""What a model thinks is shown in blocks of its own, and goes back as it came."""

import anthropic

QUESTION = {"role": "user", "content": "Why do rivers bend? [reason=8]"}
OPTIONS = {"model": "auto", "max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 1024}}

client = anthropic.Anthropic(max_retries=0)
whole = client.messages.create(messages=[QUESTION], **OPTIONS)
thought, text = whole.content
assert (thought.type, text.type) == ("thinking", "text"), whole
assert thought.thinking
assert thought.signature

with client.messages.stream(messages=[QUESTION], **OPTIONS) as stream:
    kinds = {event.type for event in stream}
    streamed = stream.get_final_message()
assert {"thinking", "signature", "text"} <= kinds, kinds
assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content], streamed

more = {"role": "user", "content": "And lakes?"}
again = client.messages.create(messages=[QUESTION, {"role": "assistant", "content": whole.content}, more], **OPTIONS)
assert again.content[-1].type == "text", again
