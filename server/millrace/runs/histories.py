"""What clients leave out of their histories, though the provider wants it back: reasoning, and fields of its own.

Many clients keep only the text and the calls of an answer. While Millrace keeps the answer itself, it puts the rest
back: if the tool call, the text and all before it are the same, which one conversation has and no other.
"""

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from millrace.runs.run import Run
from millrace.types import Message, ToolCall


class Found(Struct, frozen=True):
    """An answer that may be the one at a place in a history, and all that was before it."""

    at: int
    answer: Message
    before: tuple[Message, ...]


def found(messages: Sequence[Message], find: Callable[[str, Message], Run | None]) -> list[Found]:
    """Return the kept answers that have more than their messages.

    `find` returns the response that made the call of an id after a message.
    """
    answers: list[Found] = []
    for at, message in enumerate(messages):
        if at == 0 or not message.calls or has_own_fields(message):
            continue
        if (run := find(message.calls[0].id, messages[at - 1])) is not None:
            answer = run.response.message()
            if has_own_fields(answer) or not message.reasoning:
                answers.append(Found(at, answer, run.request.prompt.messages))
    return answers


def completed(messages: tuple[Message, ...], answers: Sequence[Found]) -> tuple[Message, ...]:
    """Return the messages with what was left out of those that are the same as the answers."""
    whole = [*messages]
    for one in answers:
        message = messages[one.at]
        if _is_same(one.answer, message) and _are_same(one.before, messages[: one.at]):
            own_fields = {call.id: call.own_fields for call in one.answer.calls}
            calls = tuple(replace(call, own_fields=own_fields[call.id]) for call in message.calls)
            reasoning = message.reasoning or one.answer.reasoning
            whole[one.at] = replace(
                message,
                reasoning=reasoning,
                own_fields=one.answer.own_fields,
                calls=calls,
                sealed=message.sealed or one.answer.sealed,
            )
    return tuple(whole)


def has_own_fields(message: Message) -> bool:
    """Whether something that its provider wants back came with a message or with one of its calls."""
    return bool(message.own_fields or message.sealed) or any(call.own_fields for call in message.calls)


def _are_same(some: Sequence[Message], others: Sequence[Message]) -> bool:
    return len(some) == len(others) and all(map(_is_same, some, others))


def _is_same(one: Message, other: Message) -> bool:
    """Whether two messages are the same, whatever was left out of one of them."""
    return _kept_by_all(one) == _kept_by_all(other) and all(map(_is_same_call, one.calls, other.calls))


def _kept_by_all(message: Message) -> tuple[object, ...]:
    calls = [(call.id, call.tool, call.is_custom) for call in message.calls]
    return message.role, message.parts, calls, message.call_id, message.refusal, message.name


def _is_same_call(one: ToolCall, other: ToolCall) -> bool:
    """Whether two calls have the same arguments; some clients write them anew."""
    if one.arguments == other.arguments:
        return True
    try:
        return bool(msgspec.json.decode(one.arguments) == msgspec.json.decode(other.arguments))
    except (msgspec.DecodeError, RecursionError):
        return False
