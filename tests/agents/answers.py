"""What the scripted model says, in each of the three APIs that it is reached by."""

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from tests.support import messages_wire, responses_wire
from tests.support.chat_server import chunk
from tests.support.messages_wire import pieces

Fields = dict[str, Any]
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Call:
    """The call of an agent's tool. Of a custom tool `given` is its text."""

    name: str
    given: Fields | str
    namespace: str = ""

    @property
    def as_function(self) -> tuple[str, Fields]:
        """Its name and arguments where there are only functions, and no namespaces."""
        name = f"{self.namespace}__{self.name}" if self.namespace else self.name
        return name, {"input": self.given} if isinstance(self.given, str) else self.given


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an answer has used; `read` of the input were in the model's cache, `written` went there."""

    input: int
    output: int
    read: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer."""

    thought: str = ""
    text: str = ""
    calls: tuple[Call, ...] = ()
    id: int = field(default_factory=lambda: next(_numbers))


def chunks(said: Said, tokens: Tokens) -> list[Fields]:
    """Return an answer as chunks of chat completions."""
    deltas: list[Fields] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in pieces(said.thought)]
    deltas += [{"content": piece} for piece in pieces(said.text)]
    for index, call in enumerate(said.calls):
        name, given = call.as_function
        opening = {"index": index, "id": f"call_{said.id}_{index}", "type": "function"}
        deltas.append({"tool_calls": [opening | {"function": {"name": name, "arguments": ""}}]})
        written = pieces(json.dumps(given))
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in written]
    usage = {"prompt_tokens": tokens.input, "completion_tokens": tokens.output}
    usage |= {"total_tokens": tokens.input + tokens.output}
    details = {"prompt_tokens_details": {"cached_tokens": tokens.read}}
    finish = "tool_calls" if said.calls else "stop"
    return [*(chunk(**delta) for delta in deltas), chunk(finish, usage | details)]


def response(said: Said, tokens: Tokens) -> responses_wire.Answer:
    """Return an answer as the Responses API has it. Each begins with a reasoning item, shown or not."""
    items = [responses_wire.reasoning(*([said.thought] if said.thought else []))]
    items += [responses_wire.message(said.text)] if said.text else []
    for call in said.calls:
        if isinstance(call.given, str):
            items.append(responses_wire.custom_call(call.name, call.given, namespace=call.namespace))
        else:
            written = json.dumps(call.given)
            items.append(responses_wire.function_call(call.name, written, namespace=call.namespace))
    usage: Fields = {"input_tokens": tokens.input, "output_tokens": tokens.output}
    usage |= {"total_tokens": tokens.input + tokens.output}
    usage |= {"input_tokens_details": {"cached_tokens": tokens.read}, "output_tokens_details": {"reasoning_tokens": 1}}
    return responses_wire.Answer(items=tuple(items), usage=usage)


def message(said: Said) -> messages_wire.Answer:
    """Return an answer as the Messages API has it, whose server counts. Each begins with a thought, shown or not."""
    is_redacted = not said.thought and said.id % 2
    blocks = [messages_wire.redacted(f"Emw{said.id:09}==") if is_redacted else messages_wire.thinking(said.thought)]
    blocks += [messages_wire.text(said.text)] if said.text else []
    blocks += [messages_wire.tool_use(*call.as_function) for call in said.calls]
    return messages_wire.Answer(content=tuple(blocks), stop_reason="tool_use" if said.calls else "end_turn")
