"""An answer of the Responses API, read from its stream: in order, untouched, and whatever a server leaves out."""

import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from millrace.types import (
    Api,
    Aside,
    CallPiece,
    Finish,
    FinishReason,
    OwnFields,
    Refusal,
    Sealed,
    Thought,
    Tool,
    ToolCall,
    Usage,
    calls_of,
    reasoning_of,
    refusal_of,
)
from millrace.types.scored import scores_of
from millrace.upstreams.attempt import HttpAttempt
from millrace.upstreams.responses.api import RESPONSES
from tests.support import responses_wire as wire
from tests.support.provider import CALL, DONE, END, HEAD, answer, body, says, scripted_provider
from tests.support.responses_wire import Answer, Fields, sse

TOOLS = (
    Tool(name="weather", parameters={"type": "object", "properties": {"town": {}}, "required": ["town"]}),
    Tool(name="now"),
    Tool(name="patch", is_custom=True, namespace="files"),
    Tool(name="web_search", hosted=Sealed(api=Api.RESPONSES, fields={"type": "web_search"})),
)
OFFERED = replace(CALL, prompt=replace(CALL.prompt, tools=TOOLS))
STOP, CALLED = Finish(reason=FinishReason.STOP), Finish(reason=FinishReason.TOOL_CALLS)
USED = Usage(input_tokens=40, output_tokens=20, cached_input_tokens=30, reasoning_tokens=5)

REASONED = wire.reasoning("**Köln**\n\nLet me think.", "And look.", encrypted="gAAAAAB=")
SEARCHED = wire.web_search("weather in Köln")
SAID = wire.message("I look up the weather in Köln. 😀")
WEATHER = wire.function_call("weather", '{"town": "Köln"}', call_id="c1")
NOW = wire.function_call("now", "{}", call_id="c2")
PATCHED = wire.custom_call("patch", "*** Begin Patch\n+ü\n*** End Patch", namespace="files", call_id="c3")
ITEMS = (REASONED, SEARCHED, SAID, WEATHER, NOW, PATCHED)
CALLS = (
    ToolCall(id="c1", name="weather", arguments='{"town": "Köln"}'),
    ToolCall(id="c2", name="now", arguments="{}"),
    ToolCall(id="c3", name="patch", arguments="*** Begin Patch\n+ü\n*** End Patch", namespace="files", is_custom=True),
)
THOUGHT = "**Köln**\n\nLet me think.\n\nAnd look."


def streamed(events: Iterable[Fields], *more: bytes) -> tuple[bytes, ...]:
    return (HEAD, *(body(sse(event)) for event in events), *map(body, more), END)


async def heard(stream: bytes, size: int) -> tuple[list[str | Aside], HttpAttempt, Finish]:
    """Return all that a stream says in pieces of so many bytes, in the order in which it was told."""
    said: list[str | Aside] = []
    pieces = (body(stream[at : at + size]) for at in range(0, len(stream), size))
    async with scripted_provider(says(HEAD, *pieces, END), api=RESPONSES) as provider:
        attempt = provider.upstream.open(OFFERED)
        attempt.sink = said.extend
        attempt.aside = said.append
        finish = await attempt.done
        await attempt.task
    return said, attempt, finish


@pytest.mark.parametrize("size", [1, 7, 64, 10**6])
async def test_everything_is_told_in_order_however_it_is_cut(size: int) -> None:
    """Text to the sink, all else to the aside. What only this API understands comes at its place, as it was sent."""
    said, attempt, finish = await heard(b"".join(Answer(items=ITEMS).stream()), size)
    assert (finish, attempt.usage, attempt.notes) == (CALLED, USED, ())
    assert "".join(attempt.parts) == "I look up the weather in Köln. 😀"
    assert reasoning_of(attempt.asides) == THOUGHT
    assert calls_of(attempt.asides) == CALLS
    kinds = [type(one) for one in said]
    order = [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] is not kind]
    assert order == [Thought, Sealed, str, CallPiece]
    assert [one.fields for one in said if isinstance(one, Sealed)] == [REASONED, SEARCHED]


async def test_a_refusal_is_no_text() -> None:
    attempt, finish = await answer(
        says(*streamed(Answer(items=(wire.message(refusal="I can't."),)).events())), CALL, RESPONSES
    )
    assert (finish, attempt.parts) == (Finish(reason=FinishReason.STOP, refused=True), [])
    assert refusal_of(attempt.asides) == "I can't."
    assert all(isinstance(aside, Refusal) for aside in attempt.asides)


ENDS: dict[str, tuple[dict[str, Any], Finish]] = {
    "cut at its cap": ({"status": "incomplete", "reason": "max_output_tokens"}, Finish(reason=FinishReason.LENGTH)),
    "filtered": ({"status": "incomplete", "reason": "content_filter"}, Finish(reason=FinishReason.CONTENT_FILTER)),
    "another reason": ({"status": "incomplete", "reason": "max_messages"}, Finish(reason=FinishReason.LENGTH)),
    "no reason": ({"status": "incomplete"}, Finish(reason=FinishReason.LENGTH)),
}


@pytest.mark.parametrize("end", ENDS)
async def test_an_incomplete_answer_says_why(end: str) -> None:
    """It is never taken for a whole one, whatever the reason is called."""
    fields, finish = ENDS[end]
    events = Answer(items=(wire.message("Hel"),), **fields).events()
    attempt, ended = await answer(says(*streamed(events)), CALL, RESPONSES)
    assert (ended, attempt.parts, attempt.usage) == (finish, ["Hel"], USED)
    assert ended.word == ("max_messages" if end == "another reason" else "")


Change = Callable[[list[Fields]], list[Fields]]


ENDINGS = ("completed", "incomplete")


def without(*endings: str) -> Change:
    return lambda events: [event for event in events if not event["type"].endswith(endings)]


def only(*types: str) -> Change:
    return lambda events: [event for event in events if event["type"].removeprefix("response.") in (*types, *ENDINGS)]


def each(change: Callable[[Fields], object]) -> Change:
    def changed(events: list[Fields]) -> list[Fields]:
        for event in events:
            change(event)
        return events

    return changed


def no_output(event: Fields) -> None:
    if event["type"].removeprefix("response.") in ENDINGS:
        event["response"]["output"] = []


def another_id(event: Fields) -> None:
    """As Copilot's: an item has another id in each event."""
    if "item_id" in event:
        event["item_id"] = f"x{event['sequence_number']}"
    if "item" in event:
        event["item"]["id"] = f"y{event['sequence_number']}"


def bare(event: Fields) -> None:
    for name in ("output_index", "content_index", "sequence_number"):
        event.pop(name, None)


SERVERS: dict[str, Change] = {
    "no deltas": without(".delta"),
    "no events within items": only("created", "output_item.added", "output_item.done"),
    "whole items alone": only("output_item.done"),
    "all at the end": only("created", "in_progress"),
    "the end alone": only(),
    "an end without output": each(no_output),
    "no items when they are done, and none at the end": lambda events: each(no_output)(
        [
            event
            for event in events
            if event["type"] != "response.output_item.done" or event["item"]["type"] in ("reasoning", "web_search_call")
        ]
    ),
    "other ids": each(another_id),
    "no indexes": each(bare),
    "no beginnings": without(".added", "created", "in_progress"),
    "events that nobody knows": lambda events: [
        {"type": "keepalive"},
        {"type": "response.new.delta", "delta": "x"},
        *events,
    ],
    "everything twice but the deltas": lambda events: [
        copy.deepcopy(event) for event in events for _ in range(1 + event["type"].endswith(".done"))
    ],
}


@pytest.mark.parametrize("server", SERVERS)
async def test_what_a_server_leaves_out_is_taken_from_elsewhere(server: str) -> None:
    """Nothing is lost, and nothing is said twice."""
    events = SERVERS[server](copy.deepcopy([*Answer(items=ITEMS).events()]))
    attempt, finish = await answer(says(*streamed(events, DONE)), OFFERED, RESPONSES)
    assert (finish, attempt.usage) == (CALLED, USED)
    assert "".join(attempt.parts) == "I look up the weather in Köln. 😀"
    assert reasoning_of(attempt.asides) == THOUGHT
    assert calls_of(attempt.asides) == CALLS
    assert [one.fields["type"] for one in attempt.asides if isinstance(one, Sealed)] == ["reasoning", "web_search_call"]


async def test_a_whole_response_is_an_answer() -> None:
    """Where a server does not stream."""
    raw = json.dumps(Answer(items=ITEMS).whole()).encode()
    said = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(raw), raw)
    attempt, finish = await answer(says(said), OFFERED, RESPONSES)
    assert (finish, "".join(attempt.parts)) == (CALLED, "I look up the weather in Köln. 😀")
    assert calls_of(attempt.asides) == CALLS
    assert attempt.usage == USED


async def test_the_text_of_open_reasoning_is_shown_and_goes_back() -> None:
    """Of models whose reasoning is no secret. A summary beside it is not shown too."""
    item = wire.open_reasoning("Hm, so.") | {"summary": [{"type": "summary_text", "text": "He thinks."}]}
    events = [*Answer(items=(item, wire.message("Yes."))).events()]
    events.sort(key=lambda event: "reasoning_summary" in event["type"])  # what comes first is shown
    attempt, _ = await answer(says(*streamed(events)), CALL, RESPONSES)
    assert reasoning_of(attempt.asides) == "Hm, so."
    assert [one.fields for one in attempt.asides if isinstance(one, Sealed)] == [item]


async def test_two_reasoning_items_are_two_paragraphs() -> None:
    items = (wire.reasoning("One."), wire.web_search("x"), wire.reasoning("Two."), wire.message("Yes."))
    attempt, _ = await answer(says(*streamed(Answer(items=items).events())), CALL, RESPONSES)
    assert reasoning_of(attempt.asides) == "One.\n\nTwo."


async def test_log_probabilities_come_with_their_text() -> None:
    """Where they are asked for."""
    scores = [
        {"token": text, "logprob": -0.5, "bytes": [], "top_logprobs": []} for text in wire.pieces("Hello, my world")
    ]
    events = [*Answer(items=(wire.message("Hello, my world", logprobs=scores),)).events()]
    asked = replace(CALL, prompt=replace(CALL.prompt, extras={"logprobs": True}))
    for sent in (events, [event for event in events if not event["type"].endswith(".delta")]):
        attempt, _ = await answer(says(*streamed(sent)), asked, RESPONSES)
        assert [json.loads(b"[%b]" % scores_of(part)) for part in attempt.parts] in (
            [[one] for one in scores],
            [scores],
        )
        assert attempt.notes == ()
    attempt, _ = await answer(says(*streamed(Answer(items=(wire.message("Hi"),)).events())), asked, RESPONSES)
    assert attempt.notes == ("without logprobs",)


async def test_citations_are_left_out_and_the_notes_say_so() -> None:
    """There is no place for them in an answer's text."""
    cited = wire.message("Rain.", annotations=[{"type": "url_citation", "url": "https://a.test"}])
    attempt, _ = await answer(says(*streamed(Answer(items=(cited,)).events())), CALL, RESPONSES)
    assert attempt.notes == ("without annotations",)


async def test_half_characters_become_one() -> None:
    """A surrogate pair whose halves come in two deltas, of text, of thoughts and of a custom tool's input."""
    items = (wire.reasoning("a😀b"), wire.message("a😀b"), wire.custom_call("patch", "a😀b", namespace="files"))
    events = [*Answer(items=items).events()]
    deltas = [event for event in events if event["type"].endswith(".delta")]
    for event in deltas:
        at = events.index(event)
        events[at : at + 1] = [event | {"delta": "a\ud83d"}, event | {"delta": "\ude00b"}]
    attempt, _ = await answer(says(*streamed(events)), OFFERED, RESPONSES)
    (call,) = calls_of(attempt.asides)
    assert ("".join(attempt.parts), reasoning_of(attempt.asides), call.arguments) == ("a😀b",) * 3


@pytest.mark.parametrize("nothing", ["", "null", " \n"])
async def test_a_function_that_requires_nothing_may_be_called_with_nothing(nothing: str) -> None:
    events = Answer(items=(wire.function_call("now", nothing, call_id="c"),)).events()
    attempt, finish = await answer(says(*streamed(events)), OFFERED, RESPONSES)
    assert (finish, calls_of(attempt.asides)) == (CALLED, (ToolCall(id="c", name="now", arguments="{}"),))


async def test_arguments_are_not_made_up_for_a_call_that_was_cut_off() -> None:
    """It may have been about to say more."""
    cut = Answer(items=(wire.function_call("now", "", call_id="c"),), status="incomplete", reason="max_output_tokens")
    attempt, finish = await answer(says(*streamed(cut.events())), OFFERED, RESPONSES)
    assert (finish.reason, calls_of(attempt.asides)) == (
        FinishReason.LENGTH,
        (ToolCall(id="c", name="now", arguments=""),),
    )


async def test_what_stands_beside_a_call_is_kept_with_it() -> None:
    """It goes back with the call: which program made it, or that it may be answered later."""
    caller = {"type": "program", "caller_id": "prog_1"}
    item = wire.function_call("now", "{}", call_id="c") | {"caller": caller, "async": True}
    attempt, _ = await answer(says(*streamed(Answer(items=(item,)).events())), OFFERED, RESPONSES)
    assert [call.own_fields for call in calls_of(attempt.asides)] == [{"caller": caller, "async": True}]


async def test_the_phase_of_a_message_is_kept() -> None:
    item = wire.message("I look.") | {"phase": "commentary"}
    attempt, _ = await answer(says(*streamed(Answer(items=(item,)).events())), CALL, RESPONSES)
    assert attempt.asides == [OwnFields({"phase": "commentary"})]


@pytest.mark.parametrize("tier", ["flex", "priority"])
async def test_the_tier_is_the_one_that_was_used(tier: str) -> None:
    """The first event repeats what was asked."""
    attempt, _ = await answer(
        says(*streamed(Answer(items=(wire.message("Hi"),), service_tier=tier).events())), CALL, RESPONSES
    )
    assert attempt.service_tier == tier
