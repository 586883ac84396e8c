"""Messages made of the facts of a response: what is shown when, in which blocks, and how each end looks."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace, replace as fact_with

from millrace.dialects.event_log import EventLog
from millrace.dialects.messages import MessagesProjection, message_of
from millrace.errors import MillraceError
from millrace.funnel.facts import Committed, Ended, Revised, Routed
from millrace.funnel.response_log import ResponseLog
from millrace.types import (
    Api,
    Aside,
    CallPiece,
    Charge,
    Delivery,
    Outcome,
    OwnFields,
    Refusal,
    Sealed,
    Statement,
    Status,
    Stop,
    Strategy,
    Thought,
    Tier,
    Usage,
)
from millrace.wire import carried
from millrace.wire.message_events import Event, MessagesCodec
from tests.support import bills, facts
from tests.support.facts import CALL, OTHER_CALL, REVISED

Said = str | Aside | Revised | Committed
USAGE = Usage(
    input_tokens=100, output_tokens=5, cached_input_tokens=40, cache_write_tokens=30, cache_write_1h_tokens=10
)
CHARGE = Charge(model="small-model", tier=Tier.SMALL, usage=USAGE, cost=Decimal("0.25"), outcome=Outcome.ANSWERED)
STATEMENT = Statement(usage=USAGE, cost=Decimal("0.25"), saved=Decimal("0.5"), charges=(CHARGE,))
REQUEST = replace(bills.REQUEST, metadata={"app": "test"}, input_tokens=90)
DONE_WELL = fact_with(facts.DONE_WELL, statement=STATEMENT)
EMPTY = carried.write({}, {})


def sealed(kind: str, api: Api = Api.MESSAGES, **fields: Any) -> Sealed:
    return Sealed(api=api, fields={"type": kind, **fields})


def thinking(thought: str, signature: str = "ErUB==") -> dict[str, Any]:
    return {"type": "thinking", "thinking": thought, "signature": signature}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(id_: str = "c1", name: str = "f", **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": name, "input": given}


class Stream:
    """A listener who is always ready: what it has taken is what a client would read."""

    def __init__(self, event_log: EventLog) -> None:
        self.ready, self.congested = True, False
        self.codec = MessagesCodec("resp_1")
        self.written: list[bytes] = []
        self.event_log = event_log
        event_log.join(self)

    def fail(self) -> None: ...

    def show(self, deltas: list[str], number: int) -> bool:
        return False

    def notify(self, size: int) -> None:
        self.written += self.event_log.frames(len(self.written), self.codec, 2**30)

    def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        for frame in self.written:
            name, data, rest = frame.decode().split("\n", 2)
            assert rest == "\n"
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
        return events

    def deltas(self) -> list[dict[str, Any]]:
        return [event["delta"] for event in self.events() if event["type"] == "content_block_delta"]


def shown_by(*said: Said, delivery: Delivery = Delivery.PREFIX) -> tuple[ResponseLog, Stream]:
    """Return a response to which this has happened, and what its client has got."""
    response = ResponseLog(replace(REQUEST, delivery=delivery), clock=lambda: 0.0)
    projection = MessagesProjection(response, 7, model="claude")
    stream = Stream(projection.event_log)
    response.subscribe(projection)
    response.start()
    response.route(Routed(strategy=Strategy.CASCADE, model="small-model", reason="easy"))
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


def put_together(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the content, as a client makes it of the events."""
    blocks: list[dict[str, Any]] = []
    arguments: list[str] = []
    is_open = False
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(blocks)
                blocks.append(event["content_block"])
                arguments, is_open = [], True
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(blocks) - 1
                block, delta = blocks[-1], event["delta"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "signature_delta":
                        block["signature"] = delta["signature"]
                    case "citations_delta":
                        block.setdefault("citations", []).append(delta["citation"])
                    case "input_json_delta":
                        arguments.append(delta["partial_json"])
            case "content_block_stop":
                assert event["index"] == len(blocks) - 1
                if arguments:
                    blocks[-1]["input"] = _object("".join(arguments))
                is_open = False
    assert not is_open
    return blocks


def _object(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def whole(response: ResponseLog) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(msgspec.json.encode(message_of(response, "claude")))
    return written


def test_a_stream_from_its_start_to_its_stop() -> None:
    response, stream = shown_by(Committed(), "Hel", "lo")
    response.end(DONE_WELL)
    start, *blocks, delta, stop = stream.events()
    assert start == {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 90,
                "output_tokens": 0,
                "cache_read_input_tokens": 0,
                "cache_creation_input_tokens": 0,
            },
        },
    }
    assert blocks == [
        {"type": "content_block_start", "index": 0, "content_block": text("")},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
    ]
    assert delta == {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": whole(response)["usage"],
        "metadata": {"app": "test", "millrace.cache": "miss", "millrace.route": "small", "millrace.check": "passed"},
    }
    assert stop == {"type": "message_stop"}
    for event in stream.events():
        msgspec.convert(event, Event)


def test_the_usage_counts_as_the_api_does() -> None:
    """What was read from a cache, or written to one, is not among the input tokens; money stands beside."""
    response, _ = shown_by("Hi")
    response.end(DONE_WELL)
    assert whole(response)["usage"] == {
        "input_tokens": 30,
        "cache_read_input_tokens": 40,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
        "output_tokens": 5,
        "cost_usd": 0.25,
        "saved_usd": 0.5,
        "attempts": [
            {"model": "small-model", "tokens": 105, "cost_usd": 0.25, "outcome": "answered", "estimated": False}
        ],
        "estimated": False,
    }


@pytest.mark.parametrize("delivery", list(Delivery))
def test_nothing_is_shown_before_it_stands(delivery: Delivery) -> None:
    """Neither words nor thoughts nor calls; what is revised is never seen, in no mode."""
    response, stream = shown_by("weak", Thought("Hm."), Refusal("No."), *CALL, delivery=delivery)
    assert stream.written == []
    tell(response, REVISED, "str", "ong")
    assert stream.written == []
    response.commit()
    tell(response, Thought("So."), *CALL, "er")
    assert not any(event.get("content_block", {}).get("type") == "tool_use" for event in stream.events())
    response.end(fact_with(DONE_WELL, model="large-model"))
    assert [(block["type"], block.get("text")) for block in put_together(stream.events())] == [
        ("text", "strong"),
        ("thinking", None),
        ("text", "er"),
        ("tool_use", None),
    ]
    assert stream.events()[0]["message"]["model"] == "claude"


SIGNED = sealed("thinking", thinking="Hm.", signature="ErUB==")
SEARCH = sealed("server_tool_use", id="s1", name="web_search", input={"query": "q"})
FOUND = sealed("web_search_tool_result", tool_use_id="s1", content=[{"url": "u"}])
ITEM = sealed("reasoning", Api.RESPONSES, encrypted_content="E")
CONTENT: list[tuple[tuple[Said, ...], list[dict[str, Any]]]] = [
    ((), []),
    ((Thought("H"), Thought("m."), SIGNED, "a"), [thinking("Hm."), text("a")]),
    ((SIGNED,), [thinking("Hm.")]),
    ((Thought("Other."), SIGNED), [thinking("Other.", EMPTY), thinking("Hm.")]),
    ((sealed("thinking", thinking="", signature="s"), "a"), [thinking("", "s"), text("a")]),
    ((sealed("redacted_thinking", data="E"), "a"), [{"type": "redacted_thinking", "data": "E"}, text("a")]),
    ((Thought("Hm."), "a", Thought("So.")), [thinking("Hm.", EMPTY), text("a"), thinking("So.", EMPTY)]),
    ((Thought("Hm."), ITEM, "a"), [thinking("Hm.", carried.write({}, {}, [ITEM])), text("a")]),
    ((ITEM, "a"), [thinking("", carried.write({}, {}, [ITEM])), text("a")]),
    (("a", SEARCH, FOUND, "b"), [text("a"), SEARCH.fields, FOUND.fields, text("b")]),
    (("a", *CALL, OTHER_CALL), [text("a"), use(a=1), use("c2", "g")]),
    ((*CALL, "a"), [text("a"), use(a=1)]),
    (
        (Thought("Hm."), SIGNED, *CALL, Thought("So."), OTHER_CALL),
        [thinking("Hm."), use(a=1), thinking("So.", EMPTY), use("c2", "g")],
    ),
    ((OTHER_CALL, CALL[0], CALL[1]), [use("c2", "g"), use(a=1)]),
    ((CALL[0],), [use()]),
    ((CallPiece(index=0, id="c1", name="f", arguments=""),), [use()]),
    ((Refusal("I "), Refusal("will not.")), [text("I will not.")]),
    (("a", OwnFields({"x": 1})), [text("a"), thinking("", carried.write({"x": 1}, {}))]),
    (
        (Thought("Hm."), OwnFields({"x": 1}), replace(CALL[0], own_fields={"s": 2}), CALL[1]),
        [thinking("Hm.", carried.write({"x": 1}, {"c1": {"s": 2}})), use(a=1)],
    ),
    (
        ("a", sealed("text", text="a", citations=[{"n": 1}, {"n": 2}]), "b"),
        [{"type": "text", "text": "a", "citations": [{"n": 1}, {"n": 2}]}, text("b")],
    ),
]


@pytest.mark.parametrize(("said", "content"), CONTENT)
@pytest.mark.parametrize("delivery", [Delivery.PREFIX, Delivery.COMMIT, Delivery.FINAL])
def test_every_kind_of_block(said: tuple[Said, ...], content: list[dict[str, Any]], delivery: Delivery) -> None:
    """The same whole, streamed as it comes, and streamed at once."""
    response, stream = shown_by(Committed(), *said, delivery=delivery)
    response.end(DONE_WELL)
    assert whole(response)["content"] == content
    assert put_together(stream.events()) == content


def test_the_input_of_a_call_is_as_the_model_wrote_it() -> None:
    """No number is rounded, no key moved."""
    arguments = '{"b":1.0,"a":12345678901234567890123}'
    response, _ = shown_by(CallPiece(index=0, id="c1", name="f", arguments=arguments))
    response.end(DONE_WELL)
    assert arguments.encode() in msgspec.json.encode(message_of(response, "claude"))


def stopped(word: str, sequence: str | None = None, **fields: Any) -> Ended:
    return fact_with(DONE_WELL, stop=Stop(api=Api.MESSAGES, reason=word, sequence=sequence), **fields)


CUT: dict[str, Any] = {"status": Status.INCOMPLETE, "reason": "max_output_tokens"}
ENDS: list[tuple[Ended, tuple[Said, ...], tuple[str, str | None]]] = [
    (DONE_WELL, ("a",), ("end_turn", None)),
    (DONE_WELL, (), ("end_turn", None)),
    (DONE_WELL, CALL, ("tool_use", None)),
    (DONE_WELL, (Refusal("No."),), ("refusal", None)),
    (fact_with(DONE_WELL, **CUT), ("a",), ("max_tokens", None)),
    (fact_with(DONE_WELL, **CUT), CALL, ("max_tokens", None)),
    (fact_with(DONE_WELL, **CUT | {"reason": "budget_exceeded"}), ("a",), ("max_tokens", None)),
    (fact_with(DONE_WELL, **CUT | {"reason": "content_filter"}), ("a",), ("refusal", None)),
    (stopped("stop_sequence", "END"), ("a",), ("stop_sequence", "END")),
    (stopped("pause_turn"), ("a",), ("pause_turn", None)),
    (stopped("model_context_window_exceeded", **CUT), ("a",), ("model_context_window_exceeded", None)),
    (fact_with(DONE_WELL, stop=Stop(api=Api.CHAT, reason="eos")), ("a",), ("end_turn", None)),
]


@pytest.mark.parametrize(("ended", "said", "stop"), ENDS)
@pytest.mark.parametrize("delivery", list(Delivery))
def test_why_it_ended(ended: Ended, said: tuple[Said, ...], stop: tuple[str, str | None], delivery: Delivery) -> None:
    """The same in a stream and in a whole message, and in every mode."""
    response, stream = shown_by(*said, delivery=delivery)
    response.end(ended)
    *_, delta, last = stream.events()
    assert (delta["delta"]["stop_reason"], delta["delta"]["stop_sequence"]) == stop
    assert last == {"type": "message_stop"}
    message = whole(response)
    assert (message["stop_reason"], message["stop_sequence"]) == stop


def test_what_the_api_says_beside_its_end_is_told() -> None:
    """Whole, and in the last delta of a stream."""
    details, container = {"type": "refusal"}, {"id": "c1"}
    edits: dict[str, Any] = {"applied_edits": []}
    beside = {"stop_details": details, "container": container, "context_management": edits}
    response, stream = shown_by("a")
    response.end(fact_with(DONE_WELL, stop=Stop(api=Api.MESSAGES, reason="refusal", beside=beside)))
    assert beside.items() <= whole(response).items()
    delta = stream.events()[-2]
    assert (delta["delta"]["stop_details"], delta["delta"]["container"]) == (details, container)
    assert delta["context_management"] == edits


BROKEN = fact_with(DONE_WELL, status=Status.FAILED, error=MillraceError("upstream_truncated", "it broke off"))
HALTED = fact_with(
    DONE_WELL, status=Status.INCOMPLETE, reason="deadline", error=MillraceError("deadline_exceeded", "too late")
)
CANCELLED = fact_with(DONE_WELL, status=Status.CANCELLED, reason="cancelled")
FAILS = [(BROKEN, "api_error", "upstream_truncated"), (HALTED, "timeout_error", "deadline_exceeded")]
FAILS += [(CANCELLED, "invalid_request_error", "cancelled")]


@pytest.mark.parametrize(("ended", "kind", "code"), FAILS)
@pytest.mark.parametrize("said", [(), ("a",), (Committed(), "a"), (Committed(), Thought("a"), *CALL)])
def test_what_breaks_off_is_an_error(ended: Ended, kind: str, code: str, said: tuple[Said, ...]) -> None:
    """The last that comes is the error, with what it cost; what was held back is not shown; a whole one is refused.

    Where nothing was shown nothing comes at all: the error is one of HTTP then.
    """
    response, stream = shown_by(*said)
    before = len(stream.written)
    response.end(ended)
    errors = stream.events()[before:]
    assert [(error["error"]["type"], error["error"]["code"]) for error in errors] == ([(kind, code)] if before else [])
    assert all(error["request_id"] == "resp_1" and error["usage"]["cost_usd"] == 0.25 for error in errors)
    assert not any(event["type"] == "message_stop" for event in stream.events())
    with pytest.raises(MillraceError) as raised:
        message_of(response, "claude")
    assert raised.value.code == code


def test_words_need_escaping() -> None:
    """Whatever a model says stays within its event."""
    words = 'a\n\nevent: message_stop\ndata: {}\n\n"\\\u2028\u0000é😀'
    response, stream = shown_by(Committed(), words)
    response.end(DONE_WELL)
    assert stream.deltas() == [{"type": "text_delta", "text": words}]


def test_it_is_behind_when_its_track_is() -> None:
    """So that the models are read no further."""
    projection = MessagesProjection(ResponseLog(REQUEST, clock=lambda: 0.0), 7, model="claude")
    stream = Stream(projection.event_log)
    assert not projection.congested
    stream.congested = True
    assert projection.congested


SAID: st.SearchStrategy[Said] = st.one_of(
    st.text(min_size=1, max_size=4),
    st.builds(Thought, st.text(min_size=1, max_size=3)),
    st.builds(Refusal, st.text(min_size=1, max_size=3)),
    st.builds(CallPiece, index=st.integers(0, 2), id=st.just("c"), arguments=st.text(max_size=3)),
    st.builds(OwnFields, st.just({"x": 1})),
    st.sampled_from([SIGNED, SEARCH, FOUND, ITEM, sealed("redacted_thinking", data="E")]),
)


@given(st.lists(st.lists(SAID, max_size=6), min_size=1, max_size=3), st.integers(0, 6), st.sampled_from(Delivery))
def test_a_stream_adds_up_to_the_whole(attempts: list[list[Said]], at: int, delivery: Delivery) -> None:
    """Whatever was said, taken back and when it was committed: the events make the message, with all that was said."""
    *weak, last = attempts
    taken_back = [fact for attempt in weak for fact in (*attempt, REVISED)]
    response, stream = shown_by(*taken_back, *last[:at], Committed(), *last[at:], delivery=delivery)
    response.end(DONE_WELL)
    content = put_together(stream.events())
    assert whole(response)["content"] == content
    words = "".join(fact if isinstance(fact, str) else fact.text for fact in last if isinstance(fact, str | Refusal))
    assert "".join(block["text"] for block in content if block["type"] == "text") == words
    assert sum(block == {"type": "redacted_thinking", "data": "E"} for block in content) == sum(
        isinstance(fact, Sealed) and fact.fields["type"] == "redacted_thinking" for fact in last
    )
