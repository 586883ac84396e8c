"""What a provider says beside the text: reasoning, refusals and tool calls, read in order and untouched."""

import dataclasses
import json
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from millrace.errors import UpstreamError
from millrace.simulator import SMALL, Simulator
from millrace.types import (
    Aside,
    Call,
    CallPiece,
    Finish,
    FinishReason,
    Media,
    Message,
    Prompt,
    Refusal,
    Thought,
    Tool,
    ToolCall,
    calls_of,
    reasoning_of,
    refusal_of,
)
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams import asides
from millrace.upstreams.attempt import HttpAttempt, HttpUpstream
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.connections import Connections
from millrace.upstreams.endpoint import UpstreamEndpoint
from tests.support.provider import CALL, DONE, END, HEAD, PATIENCE, answer, body, event, says, scripted_provider, stay
from tests.support.server import without_delays
from tests.support.waiting import until

TOOLS = (
    Tool(name="weather", parameters={"type": "object", "properties": {"town": {}}, "required": ["town"]}),
    Tool(name="now"),
)
OFFERED = dataclasses.replace(CALL, prompt=dataclasses.replace(CALL.prompt, tools=TOOLS))
CALLED = Finish(reason=FinishReason.TOOL_CALLS)


def delta(finish: str | None = None, **fields: Any) -> bytes:
    """Return one event of a stream whose delta has these fields."""
    return b"data: " + orjson.dumps({"choices": [{"delta": fields, "finish_reason": finish}]}) + b"\n\n"


def piece(index: int | None, arguments: Any = None, name: str | None = None, id_: str | None = None) -> dict[str, Any]:
    """Return one entry of `tool_calls`; what is None is left out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    given = {"index": index, "id": id_, "function": function or None}
    return {key: value for key, value in given.items() if value is not None}


def calls(*pieces: dict[str, Any]) -> bytes:
    return delta(tool_calls=list(pieces))


STREAM = b"".join(
    (
        delta(role="assistant", content="", reasoning_content=None, tool_calls=[]),
        delta(reasoning_content="Let me "),
        delta(reasoning_content="thínk."),
        delta(content="I "),
        delta(content="look."),
        delta(reasoning="Hm."),
        calls(piece(0, "", "weather", "c1")),
        calls(piece(0, '{"town":')),
        calls(piece(1, "", "now", "c2"), piece(0, ' "Köln"')),
        calls(piece(0, "} ")),
        calls(piece(1, "{}")),
        delta(refusal="N"),
        delta(refusal="o."),
        delta("tool_calls"),
        DONE,
    )
)
WEATHER, NOW = (
    ToolCall(id="c1", name="weather", arguments='{"town": "Köln"} '),
    ToolCall(id="c2", name="now", arguments="{}"),
)


async def heard(stream: bytes, size: int, call: Call = OFFERED) -> tuple[list[str | Aside], HttpAttempt, Finish]:
    """Return everything that a stream says in pieces of so many bytes, in the order in which it was told."""
    said: list[str | Aside] = []
    async with scripted_provider(
        says(HEAD, *(body(stream[at : at + size]) for at in range(0, len(stream), size)), END)
    ) as p:
        attempt = p.upstream.open(call)
        attempt.sink = said.extend
        attempt.aside = said.append
        finish = await attempt.done
        await attempt.task
    return said, attempt, finish


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
async def test_everything_is_told_in_order_however_it_is_cut(size: int) -> None:
    """Text to the sink, all else to the aside; kept, and put together again, it is what was said."""
    said, attempt, finish = await heard(STREAM, size)
    assert finish == Finish(reason=FinishReason.TOOL_CALLS, refused=True)
    assert [one for one in said if isinstance(one, str)] == attempt.parts
    assert [one for one in said if not isinstance(one, str)] == attempt.asides
    assert "".join(attempt.parts) == "I look."
    assert reasoning_of(attempt.asides) == "Let me thínk.Hm."
    assert refusal_of(attempt.asides) == "No."
    assert calls_of(attempt.asides) == (WEATHER, NOW)
    kinds = [type(one) for one in said]
    order = [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] is not kind]
    assert order == [Thought, str, Thought, CallPiece, Refusal, CallPiece]


async def test_what_follows_each_other_in_one_read_is_told_as_one() -> None:
    """Thoughts, a refusal, and the arguments of one call."""
    said, _, _ = await heard(STREAM, 10_000)
    assert said == [
        Thought("Let me thínk."),
        "I ",
        "look.",
        Thought("Hm."),
        CallPiece(index=0, id="c1", name="weather", arguments='{"town":'),
        CallPiece(index=1, id="c2", name="now"),
        CallPiece(index=0, arguments=' "Köln"} '),
        Refusal("No."),
        CallPiece(index=1, arguments="{}"),  # some servers send {} before the arguments, so it waits for the end
    ]


def test_runs_of_text_are_not_cut_by_what_does_not_stand_between() -> None:
    """One list for the sink between two asides; thoughts that text parts stay two."""
    one, two = Thought("1"), Thought("2")
    assert list(asides.in_order(["a", "b", "c"], [(0, one), (2, one), (2, two), (3, two)])) == [
        one,
        ["a", "b"],
        Thought("12"),
        ["c"],
        two,
    ]


async def test_thoughts_go_before_and_calls_after_the_text_of_their_chunk() -> None:
    """Some servers send them together; a reasoning that is no text is not read."""
    stream = delta(content="a", reasoning="t", tool_calls=[piece(0, "{}", "now", "c2")])
    said, _, _ = await heard(stream + delta("tool_calls", reasoning={"summary": []}), 10_000)
    assert said == [
        Thought("t"),
        "a",
        CallPiece(index=0, id="c2", name="now"),
        CallPiece(index=0, arguments="{}"),
    ]


WAYS: dict[str, tuple[bytes, ...]] = {  # what servers do, each time the same two calls
    "whole calls in one chunk": (calls(piece(0, WEATHER.arguments, "weather", "c1"), piece(1, "{}", "now", "c2")),),
    "no index": (calls(piece(None, WEATHER.arguments, "weather", "c1")), calls(piece(None, "{}", "now", "c2"))),
    "no index, in pieces": (
        calls(piece(None, '{"town":', "weather", "c1")),
        calls(piece(None, ' "Köln"} ')),
        calls(piece(None, "{", "now", "c2")),
        calls(piece(None, "}")),
    ),
    "no index, and the id every time": (
        calls(piece(None, '{"town":', "weather", "c1"), piece(None, "{", "now", "c2")),
        calls(piece(None, ' "Köln"} ', id_="c1"), piece(None, "}", id_="c2")),
    ),
    "id and name every time": (
        calls(piece(0, '{"town":', "weather", "c1"), piece(1, "{", "now", "c2")),
        calls(piece(0, ' "Köln"} ', "weather", "c1"), piece(1, "}", "now", "c2")),
    ),
    "empty ids and names": (
        calls(piece(0, '{"town":', "weather", "c1"), piece(1, "{", "now", "c2")),
        calls(piece(0, ' "Köln"} ', "", ""), piece(1, "}", "", ""), piece(1, "")),
    ),
    "0 for every index": (
        calls(piece(0, WEATHER.arguments, "weather", "c1")),
        calls(piece(0, "{", "now", "c2")),
        calls(piece(0, "}")),
    ),
    "0 for every index, no ids, in pieces": (
        calls(piece(0, "", "weather", "")),
        calls(piece(0, '{"town":')),
        calls(piece(0, ' "Köln"} ')),
        calls(piece(0, "", "now", "")),
        calls(piece(0, "{}")),
    ),
    "an index for every piece": (
        calls(piece(0, '{"town":', "weather", "c1")),
        calls(piece(1, ' "Köln"} ')),
        calls(piece(2, "{", "now", "c2")),
        calls(piece(3, "}")),
    ),
    "an id for every piece": (
        calls(piece(0, '{"town":', "weather", "c1")),
        calls(piece(0, ' "Köln"} ', "weather", "c9")),
        calls(piece(1, "{", "now", "c2")),
        calls(piece(1, "}", "now", "c8")),
    ),
    "the name late": (
        calls(piece(0, '{"town":', None, "c1")),
        calls(piece(0, ' "Köln"} ', "weather")),
        calls(piece(1, None, None, "c2")),
        calls(piece(1, "{}", "now")),
    ),
    "the name in pieces": (
        calls(piece(0, None, "wea", "c1")),
        calls(piece(0, WEATHER.arguments, "ther")),
        calls(piece(1, "{}", "n", "c2"), piece(1, None, "ow")),
    ),
    "{} before the arguments": (
        calls(piece(0, "{}", "weather", "c1")),
        calls(piece(0, WEATHER.arguments)),
        calls(piece(1, "{}", "now", "c2")),
    ),
    "no arguments": (
        calls(piece(0, WEATHER.arguments, "weather", "c1")),
        calls(piece(1, None, "now", "c2")),
    ),
    "null for arguments, and blanks": (
        calls(piece(0, " ", "weather", "c1")),
        calls(piece(0, WEATHER.arguments)),
        calls(piece(1, "null", "now", "c2")),
    ),
    "digits in quotes, an object for arguments": (
        calls(piece(0, WEATHER.arguments, "weather", "c1") | {"index": "0"}),
        calls(piece(1, {}, "now", "c2") | {"index": "1.0"}),
    ),
    "the whole call once more": (
        calls(piece(0, '{"town":', "weather", "c1")),
        calls(piece(0, ' "Köln"} ')),
        calls(piece(0, WEATHER.arguments, "weather", "c1")),
        calls(piece(1, "{}", "now", "c2")),
    ),
    "counting from 1, with holes": (
        calls(piece(1, WEATHER.arguments, "weather", "c1")),
        calls(piece(5, "{}", "now", "c2")),
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("finish", ["tool_calls", "function_call", "stop"])
async def test_calls_are_read_whatever_a_server_leaves_out_or_repeats(way: str, finish: str) -> None:
    """Each is called once, with its own arguments; `stop` after a call is an end with calls."""
    for cut in (1, 10_000):
        said, _, ended = await heard(b"".join(WAYS[way]) + delta(finish), cut)
        made = calls_of(one for one in said if not isinstance(one, str))
        if "no ids" in way:
            made = tuple(replace(call, id=f"c{at}") for at, call in enumerate(made, 1))
        assert made == (WEATHER, NOW)
        assert ended == CALLED


async def test_a_call_without_an_id_gets_one() -> None:
    """Whoever answers it needs one; arguments that come as an object are written as JSON."""
    stream = calls(piece(None, {"town": "Köln"}, "weather"), piece(None, None, "now"), piece(None, "{}", "now"))
    said, _, _ = await heard(stream + delta("tool_calls"), 10_000)
    made = calls_of(one for one in said if not isinstance(one, str))
    assert [(call.name, call.arguments) for call in made] == [
        ("weather", '{"town":"Köln"}'),
        ("now", "{}"),
        ("now", "{}"),
    ]
    assert len({call.id for call in made}) == 3
    assert all(call.id.startswith("call_") for call in made)


@pytest.mark.parametrize("place", [{}, {"index": 0}, {"id": ""}])
@pytest.mark.parametrize("arguments", ["{}", ""])
async def test_equal_calls_side_by_side_are_two(place: dict[str, Any], arguments: str) -> None:
    one = piece(None, arguments, "now") | place
    said, _, _ = await heard(calls(one, one) + delta("tool_calls") + DONE, 10_000)
    made = calls_of(each for each in said if not isinstance(each, str))
    assert [(call.name, call.arguments) for call in made] == [("now", "{}")] * 2


async def test_half_a_call_is_no_answer() -> None:
    """It has an end, and no reason for it."""
    with pytest.raises(UpstreamError) as caught:
        await heard(calls(piece(0, '{"town":"Kö', "weather", "c1")) + DONE, 10_000)
    assert caught.value.code == "upstream_truncated"


async def test_a_call_that_a_limit_cut_is_cut() -> None:
    """`length` stays what it is."""
    said, _, finish = await heard(calls(piece(0, '{"to', "weather", "c1")) + delta("length"), 10_000)
    assert (said, finish.reason) == (
        [CallPiece(index=0, id="c1", name="weather", arguments='{"to')],
        FinishReason.LENGTH,
    )


FAULTS: dict[str, tuple[bytes, Call, str]] = {
    "nobody offered it": (calls(piece(0, "{}", "now", "c")), CALL, "called a tool that nobody offered"),
    "the old way, unoffered": (delta(function_call={"name": "now"}), CALL, "called a tool that nobody offered"),
    "no function": (calls({"index": 0, "id": "c", "type": "custom"}), OFFERED, "without naming a function"),
    "no object": (delta(tool_calls=[3]), OFFERED, "cannot be read"),
    "an end with calls, without one": (delta("tool_calls"), OFFERED, "called none"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_is_no_call_is_an_error(fault: str) -> None:
    """Of the upstream, said in its words."""
    stream, call, words = FAULTS[fault]
    with pytest.raises(UpstreamError, match=words) as raised:
        await answer(says(HEAD + body(stream) + body(DONE) + END), call)
    assert raised.value.code == "upstream_error"


async def test_an_answer_in_words_is_one_whatever_its_end_is_called() -> None:
    """`tool_calls` without a call is a stop."""
    said, _, finish = await heard(event("Hi") + delta("tool_calls"), 10_000)
    assert (said, finish.reason) == (["Hi"], FinishReason.STOP)


async def test_thinking_is_speech() -> None:
    """A model that thinks aloud has not fallen silent; one that stops thinking has."""
    async with scripted_provider(says(HEAD + body(delta(reasoning_content="Hm.")), then=stay)) as provider:
        attempt = provider.upstream.open(CALL)
        await until(lambda: attempt.asides == [Thought("Hm.")])
        provider.upstream.sweep(provider.now + PATIENCE["stall_timeout_s"] - 0.1)
        assert not attempt.done.done()
        provider.upstream.sweep(provider.now + PATIENCE["stall_timeout_s"] + 0.1)
        with pytest.raises(UpstreamError, match="sent nothing in mid-stream"):
            await attempt.done


async def ask(*messages: Message, **fields: Any) -> tuple[HttpAttempt, Finish, dict[str, Any]]:
    """Ask a simulated model; return the call, its end, and the body that the model got."""
    async with Simulator(without_delays(SMALL)) as simulator, Connections() as connections:
        endpoint = UpstreamEndpoint(base_url=simulator.base_url, api_key=None, **PATIENCE)
        call = dataclasses.replace(CALL, prompt=Prompt(messages=messages, **fields))
        attempt = HttpUpstream(CHAT, connections, endpoint, lambda: 0.0).open(call)
        finish = await attempt.done
        await attempt.task
        return attempt, finish, simulator.calls[-1].body


async def test_a_tool_call_and_its_result_with_a_simulated_model() -> None:
    """Think, call two functions, hear what they said, and answer."""
    question = Message(role="user", parts=("[reason=5] [tool=weather] [tool=now] What to wear?",))
    attempt, finish, _ = await ask(question, tools=TOOLS, tool_choice=ToolChoice("auto"))
    assert (finish, attempt.parts) == (CALLED, [])
    made = calls_of(attempt.asides)
    assert [(call.name, call.arguments) for call in made] == [("weather", '{"town":"simulated"}'), ("now", "{}")]
    assert isinstance(attempt.asides[0], Thought)
    assert attempt.usage is not None
    assert attempt.usage.reasoning_tokens == 5
    turn = Message(role="assistant", calls=made, reasoning=reasoning_of(attempt.asides))
    results = [Message(role="tool", call_id=call.id, parts=(f"result {at}",)) for at, call in enumerate(made)]
    attempt, finish, sent = await ask(question, turn, *results, tools=TOOLS)
    assert "".join(attempt.parts) == "Simulated: the tool said result 0, and result 1"
    assert finish.reason is FinishReason.STOP
    arguments = [call["function"]["arguments"] for call in sent["messages"][1]["tool_calls"]]
    assert arguments == [call.arguments for call in made]


async def test_weak_arguments_pass_as_they_are() -> None:
    """Whether they fit is not for the reader to say."""
    attempt, finish, _ = await ask(
        Message(role="user", parts=("[weak] hm",)),
        tools=TOOLS,
        tool_choice=ToolChoice("function", "now"),
        parallel_tool_calls=False,
    )
    assert finish == CALLED
    (call,) = calls_of(attempt.asides)
    with pytest.raises(json.JSONDecodeError):
        json.loads(call.arguments)


async def test_a_refusal_and_media_with_a_simulated_model() -> None:
    """A refusal is no text; an image is seen."""
    attempt, finish, _ = await ask(Message(role="user", parts=("[refuse] hm",)))
    assert (attempt.parts, finish) == ([], Finish(reason=FinishReason.STOP, refused=True))
    assert refusal_of(attempt.asides) == "I can't help with that."
    image = Media(kind="image", fields={"url": "https://example.com/a.png"})
    attempt, _, _ = await ask(Message(role="user", parts=("What is 2 + 2?", image)))
    assert "".join(attempt.parts).endswith("With it came 1 image.")
