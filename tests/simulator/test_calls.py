"""Tools, reasoning, refusals and media of the simulated provider, as an OpenAI client sees them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jsonschema_rs
import pytest

from millrace.simulator import LARGE, SMALL, Simulator
from tests.support.simulator_client import NOW, SCHEMA, Client

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "river", "description": "Of a river.", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "now"}},
]
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}


@pytest.fixture
async def small() -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session, Simulator(SMALL) as simulator:
        yield Client(session, simulator)


@pytest.fixture
async def large() -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session, Simulator(LARGE) as simulator:
        yield Client(session, simulator)


def deltas(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the chunks between opening and ending add."""
    return [choice["delta"] for chunk in chunks[1:] for choice in chunk["choices"] if choice["delta"]]


def finish(chunks: list[dict[str, Any]]) -> str | None:
    return next((choice["finish_reason"] for c in chunks for choice in c["choices"] if choice["finish_reason"]), None)


def called(completion: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and arguments of every call of a whole answer."""
    calls = completion["choices"][0]["message"].get("tool_calls", [])
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


async def test_a_call_comes_in_pieces_with_the_least_that_its_schema_accepts(small: Client) -> None:
    """Id and name first, then arguments alone; whole, it is the same call."""
    chunks = await small.chunks("[tool=river] hm", tools=TOOLS, **USAGE)
    pieces = [piece for delta in deltas(chunks) for piece in delta["tool_calls"]]
    assert pieces[0] == {
        "index": 0,
        "id": pieces[0]["id"],
        "type": "function",
        "function": {"name": "river", "arguments": ""},
    }
    assert len(pieces) > 3
    assert all(set(piece) == {"index", "function"} and set(piece["function"]) == {"arguments"} for piece in pieces[1:])
    arguments = "".join(piece["function"]["arguments"] for piece in pieces)
    jsonschema_rs.validate(SCHEMA, json.loads(arguments))
    assert finish(chunks) == "tool_calls"
    assert chunks[-1]["usage"]["completion_tokens"] == len(pieces)
    whole = await small.whole("[tool=river] hm", tools=TOOLS)
    assert called(whole) == [("river", arguments)]
    message = whole["choices"][0]["message"]
    assert (message["content"], message["tool_calls"][0]["id"]) == (None, pieces[0]["id"])
    assert whole["choices"][0]["finish_reason"] == "tool_calls"


async def test_several_calls_at_once(small: Client) -> None:
    """Numbered, each with an id of its own; one where the caller wants only one; words before them if asked for."""
    prompt = "[tool=river] [tool=now] [tokens=2] hm"
    completion = await small.whole(prompt, tools=TOOLS)
    assert [name for name, _ in called(completion)] == ["river", "now"]
    assert called(completion)[1] == ("now", "{}")
    message = completion["choices"][0]["message"]
    assert len({call["id"] for call in message["tool_calls"]}) == 2
    assert message["content"]
    indices = [
        d["tool_calls"][0]["index"] for d in deltas(await small.chunks(prompt, tools=TOOLS)) if "content" not in d
    ]
    assert indices == sorted(indices)
    assert set(indices) == {0, 1}
    alone = await small.whole(prompt, tools=TOOLS, parallel_tool_calls=False)
    assert [name for name, _ in called(alone)] == ["river"]


@pytest.mark.parametrize(
    ("prompt", "choice", "names"),
    [
        ("hm", "auto", []),
        ("hm", None, []),
        ("hm", "required", ["river"]),
        ("hm", {"type": "function", "function": {"name": "now"}}, ["now"]),
        ("[tool=now] hm", "required", ["now"]),
        ("[tool=now] hm", "none", []),
        ("[tool.small=now] [tool=river] hm", None, ["now"]),
        ("[tool.large=now] hm", None, []),
        ("[tool=unheard_of] hm", None, ["unheard_of"]),
    ],
)
async def test_who_is_called(small: Client, prompt: str, choice: Any, names: list[str]) -> None:
    """A directive goes before the choice, but none is called where the caller wants none."""
    completion = await small.whole(prompt, tools=TOOLS, tool_choice=choice)
    assert [name for name, _ in called(completion)] == names
    assert bool(completion["choices"][0]["message"]["content"]) == (not names)


@pytest.mark.parametrize(("asked", "name"), [("now", "now"), ("depth", "sea__depth"), ("sea__depth", "sea__depth")])
async def test_a_function_of_a_namespace_is_found_by_its_own_name(small: Client, asked: str, name: str) -> None:
    """One without a namespace goes before it."""
    names = ("sea__now", "sea__depth", "now")
    tools = [{"type": "function", "function": {"name": each}} for each in names]
    whole = await small.whole(f"[tool={asked}] hm", tools=tools)
    assert [called_name for called_name, _ in called(whole)] == [name]


async def test_a_call_may_come_where_nothing_was_offered(small: Client) -> None:
    """As a model may make one up."""
    assert called(await small.whole("[tool=made_up] hm")) == [("made_up", "{}")]
    assert called(await small.whole("hm", f"{NOW}; tool=a; tool=b")) == [("a", "{}"), ("b", "{}")]


async def test_a_result_is_talked_about(small: Client) -> None:
    """Whatever the question asked for, and however the tools are to be chosen."""
    question = {"role": "user", "content": "[tool=river] [tool=now] Where?"}
    call = (await small.whole(question["content"], tools=TOOLS))["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": made["id"], "content": said}
        for made, said in zip(call["tool_calls"], ("the Rhine", "noon"), strict=True)
    ]
    messages = [question, call, *results]
    completion = await small.whole("", messages=messages, tools=TOOLS, tool_choice="required")
    assert completion["choices"][0]["message"]["content"] == "Simulated: the tool said the Rhine, and noon"
    assert completion["choices"][0]["finish_reason"] == "stop"
    again = await small.whole("", messages=[*messages, {"role": "user", "content": "[tool=now] again"}], tools=TOOLS)
    assert [name for name, _ in called(again)] == ["now"]
    assert again["choices"][0]["message"]["tool_calls"][0]["id"] not in {made["id"] for made in call["tool_calls"]}


async def test_weak_arguments_do_not_fit(small: Client, large: Client) -> None:
    """They lack what is required, or are no JSON; only those of the weak model."""
    ((_, lacking),) = called(await small.whole("[weak] [tool=river] hm", tools=TOOLS))
    assert not jsonschema_rs.is_valid(SCHEMA, json.loads(lacking))
    ((_, broken),) = called(await small.whole("[weak] [tool=now] hm", tools=TOOLS))
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken)
    ((_, strong),) = called(await large.whole("[weak] [tool=river] hm", tools=TOOLS))
    jsonschema_rs.validate(SCHEMA, json.loads(strong))


async def test_reasoning_comes_first_and_is_counted(small: Client) -> None:
    """As `reasoning_content`; the answer is the one it would have been, and the cap is for both together."""
    chunks = await small.chunks("[reason=7] What is 2 + 2?", **USAGE)
    said = deltas(chunks)
    assert [next(iter(delta)) for delta in said[:8]] == ["reasoning_content"] * 7 + ["content"]
    assert "".join(delta["content"] for delta in said[7:]) == "2 + 2 = 4."
    assert chunks[-1]["usage"]["completion_tokens"] == len(said)
    assert chunks[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 7}
    completion = await small.whole("[reason=7] What is 2 + 2?")
    thoughts = "".join(delta["reasoning_content"] for delta in said[:7])
    assert completion["choices"][0]["message"]["reasoning_content"] == thoughts
    assert completion["usage"]["completion_tokens_details"] == {"reasoning_tokens": 7}
    cut = await small.chunks("[reason=7] hm", max_tokens=5, **USAGE)
    assert (finish(cut), cut[-1]["usage"]["completion_tokens_details"]) == ("length", {"reasoning_tokens": 5})


async def test_a_refusal_is_marked(small: Client) -> None:
    """It stands in `refusal`, and content is empty; no function is called."""
    said = deltas(await small.chunks("[refuse] [tool=now] hm", tools=TOOLS))
    assert all(set(delta) == {"refusal"} for delta in said)
    completion = await small.whole("[refuse.small] hm")
    message, text = completion["choices"][0]["message"], "".join(delta["refusal"] for delta in said)
    assert message == {"role": "assistant", "content": None, "refusal": text}
    assert (text, completion["choices"][0]["finish_reason"]) == ("I can't help with that.", "stop")
    assert (await small.whole("[refuse.large] hm"))["choices"][0]["message"]["refusal"] is None


async def test_media_are_acknowledged_and_counted(small: Client) -> None:
    """Those of the last user message, at a fixed size."""
    kinds = ["image_url", "text", "image_url", "file", "input_audio"]
    parts = [{"type": kind, **({"text": "What is 2 + 2?"} if kind == "text" else {kind: {}})} for kind in kinds]
    completion = await small.whole("", messages=[{"role": "user", "content": parts}])
    text = completion["choices"][0]["message"]["content"]
    assert text == "2 + 2 = 4. With it came 2 images, 1 file, 1 recording."
    assert 4 * 765 < completion["usage"]["prompt_tokens"] < 4 * 765 + 20


async def test_tools_are_counted_and_cached_as_the_opening(small: Client) -> None:
    """Other tools are another opening."""
    messages = [{"role": "system", "content": "x" * 4800}, {"role": "user", "content": "hm"}]
    bare = (await small.whole("", messages=messages))["usage"]
    first, second = [(await small.whole("", messages=messages, tools=TOOLS))["usage"] for _ in range(2)]
    assert first["prompt_tokens"] > bare["prompt_tokens"]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["prompt_tokens_details"]["cached_tokens"] >= 1152


CALL = {"id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}
ASKED = {"role": "user", "content": "hm"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [ASKED, {"role": "tool", "tool_call_id": "c", "content": "x"}]}, "messages"),
        ({"messages": [ASKED, {"role": "assistant", "tool_calls": [CALL]}]}, "messages"),
        ({"messages": [ASKED, {"role": "assistant", "tool_calls": [CALL]}, ASKED]}, "messages"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools"),
        (
            {
                "tools": [{"function": {"name": "f", "parameters": {"required": 3, "properties": {}}}}],
                "tool_choice": "required",
            },
            "tools",
        ),
    ],
)
async def test_what_openai_refuses_is_refused(small: Client, fields: dict[str, Any], param: str) -> None:
    """With the parameter at fault."""
    error = await small.error({"messages": [ASKED]} | fields)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    ("directive", "named"),
    [
        ("tool=", "bad name ''"),
        ("tool=a b", "bad name 'a b'"),
        ("reason=many", "bad number 'many'"),
        ("refuse=1", "bad number"),
    ],
)
async def test_bad_directives_are_named(small: Client, directive: str, named: str) -> None:
    """Those of tools, reasoning and refusals too."""
    assert named in (await small.error({"messages": [ASKED]}, directive))["message"]
