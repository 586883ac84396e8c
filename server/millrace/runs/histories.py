"""What clients leave out of their histories, though the provider wants it back: reasoning, and fields of its own.

Many clients keep only the text and the calls of an answer. While Millrace keeps the answer itself, it puts the rest
back: if the tool call, the text and all before it are the same, which one conversation has and no other.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from millrace.runs.run import Run
from millrace.types import Message, ToolCall


def completed(messages: tuple[Message, ...], find: Callable[[str], Run | None]) -> tuple[Message, ...]:
    """Return the messages with what was left out. `find` returns the kept response that made the call of an id."""
    whole = messages
    for at, message in enumerate(messages):
        if not message.calls or has_extras(message):
            continue
        run = find(message.calls[0].id)
        if run is None:
            continue
        answer = run.response.message()
        if _is_same(answer, message) and _are_same(run.request.prompt.messages, messages[:at]):
            extras = {call.id: call.extras for call in answer.calls}
            calls = tuple(replace(call, extras=extras[call.id]) for call in message.calls)
            reasoning = message.reasoning or answer.reasoning
            turn = replace(message, reasoning=reasoning, extras=answer.extras, calls=calls)
            whole = (*whole[:at], turn, *whole[at + 1 :])
    return whole


def has_extras(message: Message) -> bool:
    """Whether a provider's own fields came with a message or with one of its calls."""
    return bool(message.extras) or any(call.extras for call in message.calls)


def _are_same(some: Sequence[Message], others: Sequence[Message]) -> bool:
    return len(some) == len(others) and all(map(_is_same, some, others))


def _is_same(one: Message, other: Message) -> bool:
    """Whether two messages are the same, whatever was left out of one of them."""
    return _kept_by_all(one) == _kept_by_all(other) and all(map(_is_same_call, one.calls, other.calls))


def _kept_by_all(message: Message) -> tuple[object, ...]:
    calls = [(call.id, call.name) for call in message.calls]
    return message.role, message.parts, calls, message.call_id, message.refusal, message.name


def _is_same_call(one: ToolCall, other: ToolCall) -> bool:
    """Whether two calls have the same arguments; some clients write them anew."""
    if one.arguments == other.arguments:
        return True
    try:
        return bool(msgspec.json.decode(one.arguments) == msgspec.json.decode(other.arguments))
    except (msgspec.DecodeError, RecursionError):
        return False
