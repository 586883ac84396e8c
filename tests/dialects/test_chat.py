"""Chat completions made of the facts of a response: what is shown when, and how each end looks."""

import dataclasses
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace, replace as fact_with
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageFunctionToolCall

from millrace.dialects.chat import CompletionProjection, completion_of
from millrace.dialects.event_log import EventLog
from millrace.errors import MillraceError
from millrace.funnel.facts import Committed, Ended, Revised, Routed
from millrace.funnel.response_log import ResponseLog
from millrace.types import (
    Api,
    Aside,
    CallPiece,
    Charge,
    Delivery,
    Message,
    Outcome,
    Prompt,
    Refusal,
    Sealed,
    Statement,
    Status,
    Strategy,
    Thought,
    Tier,
    Usage,
)
from millrace.wire import carried
from millrace.wire.chunks import DONE, CallOfCompletion, ChatCodec, Chunk, Completion
from tests.support import bills, facts
from tests.support.facts import CALL, OTHER_CALL, REVISED

USAGE = Usage(input_tokens=10, output_tokens=5, cached_input_tokens=4, reasoning_tokens=2)
CHARGE = Charge(model="small-model", tier=Tier.SMALL, usage=USAGE, cost=Decimal("0.25"), outcome=Outcome.ANSWERED)
STATEMENT = Statement(usage=USAGE, cost=Decimal("0.25"), saved=Decimal("0.5"), charges=(CHARGE,))
REQUEST = replace(
    bills.REQUEST, prompt=Prompt(messages=(Message(role="user", parts=("?",)),)), metadata={"app": "test"}
)
DONE_WELL = fact_with(facts.DONE_WELL, statement=STATEMENT)


class Stream:
    """A listener who is always ready: what it has taken is what a client would read."""

    def __init__(self, event_log: EventLog) -> None:
        self.ready, self.congested = True, False
        self.codec = ChatCodec()
        self.written: list[bytes] = []
        self.event_log = event_log
        event_log.join(self)

    def fail(self) -> None: ...

    def show(self, deltas: list[str], number: int) -> bool:
        return False

    def notify(self, size: int) -> None:
        self.written += self.event_log.frames(len(self.written), self.codec, 2**30)

    @property
    def done(self) -> bool:
        return b"".join(self.written).endswith(DONE)

    def chunks(self) -> list[dict[str, Any]]:
        lines = b"".join(self.written).removesuffix(DONE).split(b"\n\n")
        assert lines.pop() == b""
        return [json.loads(line.removeprefix(b"data: ")) for line in lines]

    def deltas(self) -> list[dict[str, Any]]:
        return [chunk["choices"][0]["delta"] for chunk in self.chunks() if chunk.get("choices")]


Said = str | Aside | Revised | Committed
ROUTED = Routed(strategy=Strategy.CASCADE, model="small-model", reason="easy")


def shown_by(
    *said: Said, delivery: Delivery = Delivery.PREFIX, include_usage: bool = False
) -> tuple[ResponseLog, Stream]:
    """Return a response to which this has happened, and what its client has got."""
    response = ResponseLog(replace(REQUEST, delivery=delivery), clock=lambda: 0.0)
    projection = CompletionProjection(response, 7, include_usage=include_usage)
    stream = Stream(projection.event_log)
    response.subscribe(projection)
    response.start()
    response.route(ROUTED)
    tell(response, *said)
    return response, stream


def tell(response: ResponseLog, *said: Said) -> None:
    for fact in said:
        match fact:
            case str():
                response.write([fact])
            case Revised():
                response.revise(fact)
            case Committed():
                response.commit()
            case aside:
                response.say(aside)


def test_a_stream_from_role_to_done() -> None:
    """Every chunk is of one answer; the last has the metadata, and `[DONE]` comes after it."""
    response, stream = shown_by(Committed(), "Hel", "lo")
    response.end(DONE_WELL)
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "small-model"}
    marks = {"millrace.cache": "miss", "millrace.route": "small", "millrace.check": "passed"}
    none = {"finish_reason": None, "index": 0, "logprobs": None}
    assert stream.chunks() == [
        head | {"choices": [none | {"delta": {"role": "assistant", "content": ""}}]},
        head | {"choices": [none | {"delta": {"content": "Hel"}}]},
        head | {"choices": [none | {"delta": {"content": "lo"}}]},
        head | {"choices": [none | {"delta": {}, "finish_reason": "stop"}], "metadata": {"app": "test"} | marks},
    ]
    assert stream.done
    for chunk in stream.chunks():
        msgspec.convert(chunk, Chunk)


def test_usage_comes_when_asked_for() -> None:
    """In a last chunk without choices, money beside tokens."""
    response, stream = shown_by(Committed(), "Hi", include_usage=True)
    response.end(DONE_WELL)
    *_, finish, last = stream.chunks()
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert {"usage", "metadata"}.isdisjoint(finish)
    assert last["choices"] == []
    assert last["metadata"]["millrace.route"] == "small"
    assert last["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
        "cost_usd": 0.25,
        "saved_usd": 0.5,
        "attempts": [
            {"model": "small-model", "tokens": 15, "cost_usd": 0.25, "outcome": "answered", "estimated": False}
        ],
        "estimated": False,
    }
    assert stream.done


@pytest.mark.parametrize("delivery", list(Delivery))
def test_nothing_is_shown_before_it_stands(delivery: Delivery) -> None:
    """Neither words nor reasoning, refusal or calls; what is revised is never seen, in no mode."""
    response, stream = shown_by("weak", Thought("Hm."), Refusal("No."), *CALL, delivery=delivery)
    assert stream.written == []
    tell(response, REVISED, "str", "ong")
    assert stream.written == []
    response.commit()
    shown = [{"role": "assistant", "content": ""}, {"content": "strong"}]
    assert stream.deltas() == ([] if delivery is Delivery.FINAL else shown)
    tell(response, "er")
    response.end(fact_with(DONE_WELL, model="large-model"))
    last = [{"content": "stronger"}] if delivery is Delivery.FINAL else [{"content": "strong"}, {"content": "er"}]
    assert stream.deltas() == [shown[0], *last, {}]
    assert {chunk["model"] for chunk in stream.chunks()} == {"large-model"}


def test_what_is_no_text_keeps_its_place() -> None:
    """Reasoning, refusals and, once accepted, tool calls, each in its own field; a call's name comes once."""
    response, stream = shown_by(Committed(), Thought("Hm."), "a", *CALL, OTHER_CALL, Refusal("No."))
    response.end(DONE_WELL)
    _, *deltas, finish = stream.deltas()
    assert deltas == [
        {"reasoning_content": "Hm."},
        {"content": "a"},
        {"refusal": "No."},
        {
            "tool_calls": [
                {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}},
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        {"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
    ]
    assert finish == {}
    assert stream.chunks()[-1]["choices"][0]["finish_reason"] == "tool_calls"


ENDS: list[tuple[Ended, tuple[Said, ...], str]] = [
    (DONE_WELL, ("a",), "stop"),
    (DONE_WELL, (), "stop"),
    (DONE_WELL, CALL, "tool_calls"),
    (fact_with(DONE_WELL, status=Status.INCOMPLETE, reason="max_output_tokens"), ("a",), "length"),
    (fact_with(DONE_WELL, status=Status.INCOMPLETE, reason="max_output_tokens"), CALL, "length"),
    (fact_with(DONE_WELL, status=Status.INCOMPLETE, reason="content_filter"), ("a",), "content_filter"),
]


@pytest.mark.parametrize(("ended", "said", "finish"), ENDS)
@pytest.mark.parametrize("delivery", list(Delivery))
def test_why_it_ended(ended: Ended, said: tuple[Said, ...], finish: str, delivery: Delivery) -> None:
    """The same in a stream and in a whole completion, and in every mode."""
    response, stream = shown_by(*said, delivery=delivery)
    response.end(ended)
    assert stream.deltas()[0] == {"role": "assistant", "content": ""}
    assert stream.chunks()[-1]["choices"][0]["finish_reason"] == finish
    assert stream.done
    assert completion_of(response, 7).choices[0].finish_reason == finish


BROKEN = fact_with(DONE_WELL, status=Status.FAILED, error=MillraceError("upstream_truncated", "it broke off"))
HALTED = fact_with(
    DONE_WELL, status=Status.INCOMPLETE, reason="deadline", error=MillraceError("deadline_exceeded", "too late")
)
CANCELLED = fact_with(DONE_WELL, status=Status.CANCELLED, reason="cancelled")


@pytest.mark.parametrize(
    ("ended", "code"), [(BROKEN, "upstream_truncated"), (HALTED, "deadline_exceeded"), (CANCELLED, "cancelled")]
)
@pytest.mark.parametrize("said", [(), ("a",), (Committed(), "a")])
def test_what_breaks_off_is_an_error(ended: Ended, code: str, said: tuple[Said, ...]) -> None:
    """The last that comes is the error, without `[DONE]`; what was held back is not shown; a whole one is refused.

    Where nothing was shown nothing comes at all: the error is one of HTTP then.
    """
    response, stream = shown_by(*said)
    before = len(stream.written)
    response.end(ended)
    errors = stream.chunks()[before:]
    assert [error["error"]["code"] for error in errors] == ([code] if before else [])
    assert all(error["error"]["message"] for error in errors)
    assert not stream.done
    with pytest.raises(MillraceError) as raised:
        completion_of(response, 7)
    assert raised.value.code == code


def test_a_whole_completion() -> None:
    """Made of the words that stand, with all that is beside them."""
    response, _ = shown_by("weak", Thought("?"), REVISED, Thought("Hm."), "str", "ong", *CALL, OTHER_CALL)
    response.end(DONE_WELL)
    completion = completion_of(response, 7)
    written = json.loads(msgspec.json.encode(completion))
    assert written["choices"] == [
        {
            "message": {
                "role": "assistant",
                "content": "strong",
                "refusal": None,
                "reasoning_content": "Hm.",
                "tool_calls": [
                    {"id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}, "type": "function"},
                    {"id": "c2", "function": {"name": "g", "arguments": "{}"}, "type": "function"},
                ],
            },
            "finish_reason": "tool_calls",
            "index": 0,
            "logprobs": None,
        }
    ]
    assert (written["id"], written["object"], written["created"]) == ("chatcmpl-1", "chat.completion", 7)
    assert written["usage"]["cost_usd"] == 0.25
    assert written["metadata"]["app"] == "test"
    assert msgspec.to_builtins(msgspec.convert(written, Completion)) == written


@pytest.mark.parametrize(
    ("said", "content", "refusal"), [((), "", None), ((Refusal("No."),), None, "No."), (CALL, None, None)]
)
def test_a_completion_without_words(said: tuple[Said, ...], content: str | None, refusal: str | None) -> None:
    """Null where something else is the answer, empty where nothing is."""
    response, _ = shown_by(*said)
    response.end(DONE_WELL)
    message = completion_of(response, 7).choices[0].message
    assert (message.content, message.refusal) == (content, refusal)


SEALED = Sealed(api=Api.RESPONSES, fields={"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA"})


def test_what_only_one_api_understands_comes_as_one_word_at_the_end() -> None:
    """A client sends it back as it came, streamed or whole. What was taken back is not in it."""
    taken_back = dataclasses.replace(SEALED, fields={"type": "reasoning", "id": "rs_0"})
    said: tuple[Said, ...] = (taken_back, "No.", REVISED, Thought("Hm."), SEALED, "Yes.")
    response, stream = shown_by(*said)
    response.end(DONE_WELL)
    (word,) = (delta["encrypted_content"] for delta in stream.deltas() if "encrypted_content" in delta)
    assert [(one.api, one.fields) for one in carried.read(word).blocks] == [(SEALED.api, SEALED.fields)]
    whole = json.loads(msgspec.json.encode(completion_of(response, 0)))
    assert whole["choices"][0]["message"]["encrypted_content"] == word


def test_the_stock_client_reads_it() -> None:
    """By its own types: chunks, the usage chunk, a whole completion."""
    response, stream = shown_by(Committed(), Thought("Hm."), "a", *CALL, Refusal("No."), include_usage=True)
    response.end(DONE_WELL)
    read = [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in stream.chunks()]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in read[:-1]) == "a"
    assert read[-1].usage is not None
    assert read[-1].usage.total_tokens == 15
    completion = ChatCompletion.model_validate_json(msgspec.json.encode(completion_of(response, 7)), strict=True)
    (call,) = completion.choices[0].message.tool_calls or []
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert (call.id, call.function.name, call.function.arguments) == ("c1", "f", '{"a":1}')
    assert completion.choices[0].message.content == "a"


def test_it_is_behind_when_its_track_is() -> None:
    """So that the models are read no further."""
    projection = CompletionProjection(ResponseLog(REQUEST, clock=lambda: 0.0), 7, include_usage=False)
    stream = Stream(projection.event_log)
    assert not projection.congested
    stream.congested = True
    assert projection.congested


def test_words_need_escaping() -> None:
    """Whatever a model says stays within its event."""
    text = 'a\n\ndata: [DONE]\n\n"\\\u2028\u0000é😀'
    response, stream = shown_by(Committed(), text)
    response.end(DONE_WELL)
    assert stream.deltas()[1] == {"content": text}


SAID: st.SearchStrategy[Said] = st.one_of(
    st.text(min_size=1, max_size=4),
    st.builds(Thought, st.text(min_size=1, max_size=3)),
    st.builds(Refusal, st.text(min_size=1, max_size=3)),
    st.builds(CallPiece, index=st.integers(0, 2), arguments=st.text(max_size=3)),
)


@given(st.lists(st.lists(SAID, max_size=5), min_size=1, max_size=3), st.integers(0, 5), st.sampled_from(Delivery))
def test_a_stream_adds_up_to_the_whole(attempts: list[list[Said]], at: int, delivery: Delivery) -> None:
    """Whatever was said, taken back and when it was committed: the chunks make the completion."""
    *weak, last = attempts
    taken_back = [fact for attempt in weak for fact in (*attempt, REVISED)]
    response, stream = shown_by(*taken_back, *last[:at], Committed(), *last[at:], delivery=delivery)
    response.end(DONE_WELL)
    message = completion_of(response, 7).choices[0].message
    deltas = stream.deltas()
    assert sum("role" in delta for delta in deltas) == 1
    assert added(deltas, "content") == (message.content or "")
    assert added(deltas, "refusal") == (message.refusal or "")
    assert added(deltas, "reasoning_content") == (message.reasoning_content or "")
    calls = sorted({call["index"] for delta in deltas for call in delta.get("tool_calls", [])})
    arguments = [
        "".join(
            call["function"].get("arguments", "")
            for delta in deltas
            for call in delta.get("tool_calls", [])
            if call["index"] == index
        )
        for index in calls
    ]
    called = [call for call in message.tool_calls or [] if isinstance(call, CallOfCompletion)]
    assert arguments == [call.function.arguments for call in called]


def added(deltas: list[dict[str, Any]], name: str) -> str:
    return "".join(delta.get(name) or "" for delta in deltas)
