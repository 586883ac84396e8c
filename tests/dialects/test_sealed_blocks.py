"""Blocks that only their own API understands, in the Responses dialect: shown, carried, and read back as they came."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from millrace.dialects.responses import ResponsesProjection
from millrace.funnel.facts import Fact
from millrace.funnel.response_log import ResponseLog
from millrace.types import Api, CallPiece, Delivery, Message, Sealed, Thought
from millrace.wire import responses as wire
from millrace.wire.requests import read_create
from tests.support.facts import DONE_WELL, REVISED
from tests.support.scripted_models import request

THINKING = Sealed(api=Api.MESSAGES, fields={"type": "thinking", "thinking": "Hm.", "signature": "sig=="})
REASONING = Sealed(
    api=Api.RESPONSES,
    fields={"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "gAAA"},
)
SEARCH = Sealed(api=Api.RESPONSES, fields={"type": "web_search_call", "id": "ws_1", "action": None, "status": "done"})
CALL = CallPiece(index=0, id="c1", name="f", arguments="{}")
PATCH = CallPiece(index=1, id="c2", name="patch", arguments="*{", namespace="sea", is_custom=True)


def answered(*facts: Fact | str, commit: bool = True) -> tuple[Message, list[dict[str, Any]]]:
    """Return an answer of these facts, and the events in which a client sees it."""
    response = ResponseLog(request(delivery=Delivery.SPECULATE), lambda: 0.0)
    projection = ResponsesProjection(response, 0, negotiated=True)
    response.subscribe(projection)
    response.start()
    if commit:
        response.commit()
    for fact in facts:
        if isinstance(fact, str):
            response.write([fact])
        elif fact is REVISED:
            response.revise(REVISED)
        else:
            response.say(fact)  # type: ignore[arg-type]  # all others are asides
    response.end(DONE_WELL)
    log = projection.event_log
    events = [event for event in (*log.written, *log._waiting) if isinstance(event, wire.Event)]
    return response.message(), [json.loads(msgspec.json.encode(event)) for event in events]


def read_back(events: list[dict[str, Any]]) -> Message:
    """Return the answer as it comes back in a history, after JSON."""
    output = events[-1]["response"]["output"]
    results = [
        {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "4"}
        for item in output
        if "call_id" in item
    ]
    _, answer, *_ = read_create({"input": [{"role": "user", "content": "?"}, *output, *results]}, ()).prompt.messages
    return answer


def test_what_the_api_has_itself_is_an_item_and_the_rest_is_carried() -> None:
    _, events = answered(Thought("Hm."), THINKING, SEARCH, "The ", "answer")
    reasoning, search, message = events[-1]["response"]["output"]
    assert (search, message["content"][0]["text"]) == (SEARCH.fields, "The answer")
    assert (reasoning["type"], reasoning["content"][0]["text"]) == ("reasoning", "Hm.")
    shown = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert shown == [reasoning, search, message]
    assert "sig==" not in json.dumps(events)  # opaque


FACTS = st.lists(st.sampled_from([THINKING, REASONING, SEARCH, "text", CALL, PATCH, Thought("Hm.")]), max_size=8)


def _sensible(facts: list[Any]) -> Iterator[Any]:
    """Each call and each item once, and the calls in order."""
    once = [CALL, PATCH, SEARCH]
    for fact in facts:
        if fact is PATCH and CALL in once:
            continue
        if fact in once or fact not in (CALL, PATCH, SEARCH):
            yield fact
        once = [one for one in once if one is not fact]


@given(FACTS)
def test_blocks_come_back_as_they_were_at_their_places(facts: list[Any]) -> None:
    """Text between them is one part for a client, so only what stands before and after all of it is certain."""
    facts = [*_sensible([THINKING, *facts, "text"])]  # models think before they speak
    answer, events = answered(*facts)
    came = read_back(events)
    assert [(one.api, one.fields) for one in came.sealed] == [(one.api, one.fields) for one in answer.sealed]
    assert [one.calls_before for one in came.sealed] == [one.calls_before for one in answer.sealed]
    assert [min(one.parts_before, 1) for one in came.sealed] == [min(one.parts_before, 1) for one in answer.sealed]
    assert (came.text, came.calls) == (answer.text, answer.calls)


def test_the_model_that_made_a_block_comes_back_with_it() -> None:
    _, events = answered(THINKING, "a")
    assert [one.maker for one in read_back(events).sealed] == ["small-model"]


def test_what_was_taken_back_is_neither_shown_nor_carried() -> None:
    """An item could not be taken back, so none is shown before the answer stands."""
    answer, events = answered(THINKING, SEARCH, "weak", REVISED, "good", commit=False)
    assert answer.sealed == ()
    assert not [event for event in events if event.get("item", {}).get("type") == "web_search_call"]
    assert read_back(events).sealed == ()


@pytest.mark.parametrize("lost", ["ws_1", "rs_of_millrace"])
def test_an_item_that_a_client_leaves_out_is_left_out(lost: str) -> None:
    """The others keep their order."""
    _, events = answered(THINKING, SEARCH, REASONING, "a")
    output = events[-1]["response"]["output"]
    kept = [item for item in output if item["id"] != lost and (lost == "ws_1" or item["type"] != "reasoning")]
    (answer,) = read_create({"input": [*kept, {"role": "user", "content": "?"}]}, ()).prompt.messages[:-1]
    kinds = [one.kind for one in answer.sealed]
    assert kinds == (["thinking", "reasoning"] if lost == "ws_1" else ["web_search_call"])
