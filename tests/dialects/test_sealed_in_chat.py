"""Blocks that only their own API understands, in chat completions: beside the message, whole and streamed."""

import json
from typing import Any

import msgspec
import pytest

from millrace.dialects.chat import CompletionProjection, completion_of
from millrace.funnel.response_log import ResponseLog
from millrace.types import Api, Aside, CallPiece, Message, Sealed, Thought
from millrace.wire.completions import read_completion
from tests.support.facts import DONE_WELL
from tests.support.scripted_models import request

THINKING = Sealed(api=Api.MESSAGES, fields={"type": "thinking", "thinking": "Hm.", "signature": "sig=="})
REASONING = Sealed(api=Api.RESPONSES, fields={"type": "reasoning", "summary": [], "encrypted_content": "gAAA"})
CALL = CallPiece(index=0, id="c1", name="f", arguments="{}")


def answered(*facts: Aside | str) -> tuple[Message, list[dict[str, Any]]]:
    """Return an answer of these facts, and the messages that clients see: whole, and put together from a stream."""
    response = ResponseLog(request(), lambda: 0.0)
    projection = CompletionProjection(response, 0, include_usage=False)
    response.subscribe(projection)
    response.start()
    response.commit()
    for fact in facts:
        response.write([fact]) if isinstance(fact, str) else response.say(fact)
    response.end(DONE_WELL)
    whole = json.loads(msgspec.json.encode(completion_of(response, 0)))["choices"][0]["message"]
    written = (*projection.event_log.written, *projection.event_log._waiting)
    events = [json.loads(msgspec.json.encode(event)) for event in written if isinstance(event, msgspec.Struct)]
    streamed: dict[str, Any] = {"role": "assistant", "content": whole["content"]}
    for choice in (choice for event in events for choice in event["choices"]):
        streamed |= {name: value for name, value in choice["delta"].items() if name not in streamed}
    return response.message(), [whole, streamed]


@pytest.mark.parametrize(
    "facts",
    [
        (Thought("Hm."), THINKING, "The answer"),
        (REASONING, "The answer", THINKING, "goes on"),
        (THINKING, CALL, REASONING),
    ],
)
def test_they_come_back_with_the_message(facts: tuple[Any, ...]) -> None:
    answer, messages = answered(*facts)
    for message in messages:
        assert message["thinking_blocks"] == [THINKING.fields]
        results = [{"role": "tool", "tool_call_id": "c1", "content": "4"}] if CALL in facts else []
        asked = {"messages": [{"role": "user", "content": "?"}, message, *results]}
        _, came, *_ = read_completion(asked, ()).prompt.messages
        assert (came.sealed, came.own_fields) == (answer.sealed, {})


def test_an_answer_without_them_has_no_such_fields() -> None:
    _, messages = answered("The answer")
    assert all(not {"thinking_blocks", "millrace_sealed"} & message.keys() for message in messages)


def test_thinking_blocks_of_a_gateway_go_back_to_it() -> None:
    """They were no blocks of the Messages API when they came."""
    block = {"type": "thinking", "thinking": "Hm.", "signature": "s", "index": 0}
    asked = {
        "messages": [
            {"role": "assistant", "content": "a", "thinking_blocks": [block]},
            {"role": "user", "content": "?"},
        ]
    }
    came, _ = read_completion(asked, ()).prompt.messages
    assert (came.sealed, came.own_fields) == ((), {"thinking_blocks": [block]})
