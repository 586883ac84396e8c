"""The simulated provider, as an OpenAI client sees it."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from itertools import islice, pairwise
from typing import Any

import aiohttp
import jsonschema_rs
import pytest

from millrace.simulator import EASY, HARD, LARGE, PROFILES, SMALL, Profile, Simulator
from millrace.simulator.script import Pace
from tests.support.simulator_client import NOW, SCHEMA, Client
from tests.support.waiting import within


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


@pytest.fixture
async def small(session: aiohttp.ClientSession) -> AsyncIterator[Client]:
    async with Simulator(SMALL) as simulator:
        yield Client(session, simulator)


@pytest.fixture
async def large(session: aiohttp.ClientSession) -> AsyncIterator[Client]:
    async with Simulator(LARGE) as simulator:
        yield Client(session, simulator)


def spoken(chunks: list[dict[str, Any]]) -> list[str]:
    """The tokens of a stream, without the empty opening."""
    return [choice["delta"]["content"] for chunk in chunks[1:] for choice in chunk["choices"] if choice["delta"]]


# --- the wire


async def test_stream_has_the_shape_of_openai(small: Client) -> None:
    chunks = await small.chunks("What is the capital of France?", stream_options={"include_usage": True})
    opening, *tokens, ending, usage = chunks
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["delta"] for chunk in tokens] == [{"content": token} for token in spoken(chunks)]
    assert "".join(spoken(chunks)) == "The capital of France is Paris."
    assert all(spoken(chunks))
    assert (ending["choices"][0]["delta"], ending["choices"][0]["finish_reason"]) == ({}, "stop")
    assert usage["choices"] == []
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert {(chunk["object"], chunk["model"]) for chunk in chunks} == {("chat.completion.chunk", SMALL.model)}
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_usage_counts_the_tokens_that_were_sent(small: Client) -> None:
    prompt = "[tokens=37] a prompt"
    chunks = await small.chunks(prompt, stream_options={"include_usage": True})
    expected_prompt = math.ceil(len(prompt) / 4) + 4
    assert len(spoken(chunks)) == 37
    assert chunks[-1]["usage"] == {
        "prompt_tokens": expected_prompt,
        "completion_tokens": 37,
        "total_tokens": expected_prompt + 37,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert small.simulator.stats.tokens_sent == 37
    assert small.simulator.stats.input_tokens == expected_prompt


async def test_usage_is_not_told_unasked(small: Client) -> None:
    chunks = await small.chunks("Hello")
    assert all("usage" not in chunk for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_whole_answer_is_the_stream_put_together(small: Client) -> None:
    chunks = await small.chunks("tell me of rivers")
    completion = await small.whole("tell me of rivers")
    assert completion["object"] == "chat.completion"
    assert completion["choices"][0]["message"]["role"] == "assistant"
    assert completion["choices"][0]["message"]["content"] == "".join(spoken(chunks))
    assert completion["choices"][0]["finish_reason"] == "stop"
    assert completion["usage"]["completion_tokens"] == len(spoken(chunks))


@pytest.mark.parametrize("limit", [{"max_tokens": 5}, {"max_completion_tokens": 5, "max_tokens": 9}])
async def test_limit_cuts_the_answer(small: Client, limit: dict[str, Any]) -> None:
    chunks = await small.chunks("[tokens=20]", stream_options={"include_usage": True}, **limit)
    assert len(spoken(chunks)) == 5
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 5


async def test_limit_that_is_not_reached_has_no_effect(small: Client) -> None:
    chunks = await small.chunks("[tokens=20]", max_tokens=20)
    assert len(spoken(chunks)) == 20
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_models_and_health(small: Client) -> None:
    async with small.session.get(f"{small.simulator.base_url}/models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == [SMALL.model]
    async with small.session.get(f"http://127.0.0.1:{small.simulator.port}/healthz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})


async def test_calls_keep_the_body_but_not_the_credentials(small: Client) -> None:
    small.session.headers["Authorization"] = "Bearer sk-secret"
    await small.whole("Hello", temperature=0.5)
    del small.session.headers["Authorization"]
    await small.whole("Hello")
    first, second = small.simulator.calls
    assert first.body == {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0.5}
    assert (first.authorized, second.authorized) == (True, False)
    assert "sk-secret" not in repr(small.simulator.calls)


async def test_a_stopped_simulator_starts_again(session: aiohttp.ClientSession) -> None:
    simulator = Simulator(SMALL)
    for _ in range(2):
        await simulator.start()
        assert await Client(session, simulator).text("What is 2 + 2?") == "2 + 2 = 4."
        await simulator.stop()
    await simulator.stop()
    with pytest.raises(RuntimeError, match="not started"):
        _ = simulator.base_url


# --- what is answered


async def test_easy_questions_are_answered_alike_by_both(small: Client, large: Client) -> None:
    answers = {question: await small.text(question) for question in EASY}
    assert answers == {question: await large.text(question) for question in EASY}
    assert all("simulated" not in answers[question] for question in EASY if question not in {"Hello", "Who are you?"})


async def test_hard_questions_tell_weak_from_strong(small: Client, large: Client) -> None:
    weak = [await small.text(question) for question in HARD]
    strong = [await large.text(question) for question in HARD]
    assert all(not text or text.startswith(("I'm not sure", "I don't know", "I can't help")) for text in weak)
    assert "" in weak
    assert "I can't help with that." in weak
    assert all(len(text) > 150 and "simulated" not in text for text in strong)


def test_the_lists_suggest_enough() -> None:
    assert len(HARD) == 12
    assert 25 <= len(EASY) <= 35
    assert {"What is the capital of France?", "What is a millrace?"} <= set(EASY)
    assert {"Prove that the square root of 2 is irrational.", "Why is the sky dark at night?"} <= set(HARD)
    assert {"small": SMALL, "large": LARGE} == PROFILES


@pytest.mark.parametrize(
    "prompt",
    [
        "what is the CAPITAL of france",
        "  What is\n the capital of France ?! ",
        "[rate=0] “What is the capital of France?”",
    ],
)
async def test_known_questions_are_recognised(small: Client, prompt: str) -> None:
    assert await small.text(prompt) == "The capital of France is Paris."


async def test_the_last_user_message_is_the_question(small: Client) -> None:
    messages = [
        {"role": "user", "content": "[fault=error] Hello"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "What is 2 + 2?"}, {"type": "image_url"}]},
        {"role": "assistant", "content": "Let me think."},
    ]
    assert await small.text("", messages=messages) == "2 + 2 = 4. With it came 1 image."


async def test_unknown_questions_get_seeded_text(session: aiohttp.ClientSession, small: Client) -> None:
    texts = {await small.text(f"unheard of, number {number}") for number in range(20)}
    assert len(texts) == 20
    assert all("simulated" in text.lower() and 20 <= len(text.split()) <= 80 for text in texts)
    async with Simulator(SMALL) as twin:
        assert {await Client(session, twin).text(f"unheard of, number {number}") for number in range(20)} == texts


async def test_seeded_text_depends_on_all_that_should_matter(session: aiohttp.ClientSession, small: Client) -> None:
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hm"}]
    async with Simulator(SMALL, seed=1) as reseeded, Simulator(Profile("other", "m", 0, 0)) as other:
        texts = [
            await small.text("hm"),
            await small.text("", messages=history),
            await Client(session, reseeded).text("hm"),
            await Client(session, other).text("hm"),
        ]
    assert len(set(texts)) == 4
    assert await small.text("[ttft=0] hm [rate=0]", simulate="") == texts[0]


async def test_weak_on_request_is_only_for_the_weak(small: Client, large: Client) -> None:
    assert await small.text("[weak] hm") in {
        "I'm not sure.",
        "I don't know the answer to that.",
        "I can't help with that.",
    }
    assert await large.text("[weak] hm") == await large.text("hm")
    assert await small.text("[weak.large] hm") == await small.text("hm")


async def test_json_object_carries_the_text(small: Client) -> None:
    document = json.loads(await small.text("a river", response_format={"type": "json_object"}))
    assert document["answer"] == await small.text("a river")


async def test_json_schema_is_satisfied_with_the_least(small: Client) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "river", "schema": SCHEMA}}
    document = json.loads(await small.text("a river", response_format=form))
    jsonschema_rs.validate(SCHEMA, document)
    assert set(document) == set(SCHEMA["required"])


async def test_weak_json_breaks_the_schema(small: Client, large: Client) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "river", "schema": SCHEMA}}
    assert not jsonschema_rs.is_valid(SCHEMA, json.loads(await small.text("[weak] a river", response_format=form)))
    assert jsonschema_rs.is_valid(SCHEMA, json.loads(await large.text("[weak] a river", response_format=form)))
    with pytest.raises(json.JSONDecodeError):
        json.loads(await small.text("[weak] a river", response_format={"type": "json_object"}))


# --- refusals of bad requests


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"\xff", None),
        (b"[]", None),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hm"}, "messages"),
        ({"messages": [{"content": "hm"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages"),
        ({"messages": [{"role": "user"}], "max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "user"}], "stream": "yes"}, "stream"),
        ({"messages": [{"role": "user"}], "response_format": {"type": "json_schema"}}, "response_format"),
        (
            {
                "messages": [{"role": "user"}],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"type": "object", "required": 3}},
                },
            },
            "response_format",
        ),
    ],
)
async def test_bad_bodies(small: Client, body: Any, param: str | None) -> None:
    error = await small.error(body)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"]
    assert small.simulator.stats.started == 0


@pytest.mark.parametrize(
    ("directive", "named"),
    [
        ("fault=boom", "unknown fault 'boom'"),
        ("fault.large=boom", "unknown fault 'boom'"),
        ("fault=hangup@x", "bad number 'x' in fault 'hangup@x'"),
        ("fault=429@2", "'429' takes no @N"),
        ("rate=fast", "bad number 'fast' in directive 'rate=fast'"),
        ("ttft=-1", "bad number '-1'"),
        ("ttft=inf", "bad number 'inf'"),
        ("tokens=1.5", "bad number '1.5'"),
        ("tokens=100001", "bad number '100001'"),
    ],
)
async def test_bad_directives_are_named(small: Client, directive: str, named: str) -> None:
    in_prompt = await small.error({"messages": [{"role": "user", "content": f"[{directive}]"}]})
    in_header = await small.error({"messages": [{"role": "user", "content": "hm"}]}, directive)
    assert named in in_prompt["message"]
    assert named in in_header["message"]


async def test_an_unknown_directive_is_an_error_in_the_header_and_text_in_a_prompt(small: Client) -> None:
    error = await small.error({"messages": [{"role": "user", "content": "hm"}]}, "speed=3")
    assert "'speed=3'" in error["message"]
    assert await small.text("[speed=3] hm") != await small.text("hm")


# --- directives and pace


@pytest.mark.parametrize(
    ("prompt", "header", "tokens"),
    [
        ("[tokens=3]", NOW, 3),
        ("[tokens=3]", f"{NOW}; tokens=4", 4),
        ("[tokens.small=3]", f"{NOW}; tokens=4;", 4),
        ("[tokens.small=5] [tokens=3]", NOW, 5),
        ("[tokens=3] [tokens.large=5]", NOW, 3),
        ("[TOKENS = 3 ]", NOW, 3),
        ("[tokens=0]", NOW, 0),
    ],
)
async def test_which_directive_goes_first(small: Client, prompt: str, header: str, tokens: int) -> None:
    assert len(spoken(await small.chunks(prompt, header))) == tokens


def test_a_schedule_never_drifts() -> None:
    pace = Pace(ttft_s=0.5, tokens_per_s=10, jitter=0.2, seed="")
    offsets = list(islice(pace.offsets(), 1000))
    assert offsets == list(islice(pace.offsets(), 1000))
    assert offsets[0] == 0.5
    assert all(0.5 + index / 10 <= offset <= 0.5 + (index + 0.2) / 10 for index, offset in enumerate(offsets))
    assert len({round(later - earlier, 9) for earlier, later in pairwise(offsets)}) > 900


async def test_a_stream_keeps_its_schedule(small: Client) -> None:
    start = time.monotonic()
    async with within(1.2):
        await small.chunks("[tokens=41]", "ttft=0.2; rate=100")
    assert time.monotonic() - start >= 0.6


async def test_a_whole_answer_takes_as_long_as_its_stream(small: Client) -> None:
    start = time.monotonic()
    async with within(0.9):
        await small.whole("[tokens=20]", "ttft=0.1; rate=100")
    assert time.monotonic() - start >= 0.29


async def test_a_profile_has_its_own_pace(small: Client) -> None:
    start = time.monotonic()
    async with within(1.0):
        await small.chunks("[tokens=17]", "")
    assert time.monotonic() - start >= 0.15 * 0.9 + 16 / 80


async def test_without_pace_nothing_waits(small: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    naps = []
    sleep = asyncio.sleep

    async def watched(delay: float, result: Any = None) -> Any:
        naps.append(delay)
        return await sleep(delay, result)

    monkeypatch.setattr(asyncio, "sleep", watched)
    assert len(spoken(await small.chunks("[tokens=500]"))) == 500
    assert set(naps) == {0}


async def test_many_streams_at_once(small: Client) -> None:
    streams = await asyncio.gather(*(small.chunks(f"[tokens={n}]", "ttft=0.05; rate=200") for n in range(1, 51)))
    assert [len(spoken(chunks)) for chunks in streams] == list(range(1, 51))
    assert small.simulator.stats.finished == 50


# --- the prompt cache


async def cached(client: Client, messages: list[dict[str, Any]], **fields: Any) -> int:
    usage = (await client.whole("", messages=messages, **fields))["usage"]
    return int(usage["prompt_tokens_details"]["cached_tokens"])


async def test_what_two_prompts_begin_with_is_cached_in_steps_of_128_tokens(small: Client) -> None:
    """However much follows, whose turn it is in, and where it differs within a message."""
    system = {"role": "system", "content": "x" * 4800}
    turns = [system, {"role": "user", "content": "one"}]
    found = [await cached(small, turns)]
    turns = [*turns, {"role": "assistant", "content": "y" * 800}, {"role": "user", "content": "two"}]
    found += [await cached(small, turns), await cached(small, [*turns, {"role": "user", "content": "three"}])]
    found.append(await cached(small, [system | {"content": "x" * 4500 + "other"}]))
    assert found == [0, 9 * 128, 11 * 128, 8 * 128]


async def test_a_short_beginning_is_never_cached(small: Client) -> None:
    """Of less than 1024 tokens."""
    for chars, expected in ((4096 - 16, 1024), (4096 - 17 - 512, 0)):
        turns = [{"role": "system", "content": "x" * chars}, {"role": "user", "content": "hm" * 300}]
        assert await cached(small, turns) == 0
        other = [turns[0], {"role": "user", "content": "other"}]
        assert await cached(small, other) == expected


async def test_requests_with_other_keys_share_nothing(small: Client) -> None:
    """The key says which of them are sent to the same place."""
    messages = [{"role": "system", "content": "x" * 4800}, {"role": "user", "content": "hm"}]
    keys = ("", "a", "a", "b", "")
    assert [await cached(small, messages, prompt_cache_key=key) for key in keys] == [0, 0, 1152, 0, 1152]


async def test_a_whole_prompt_is_never_cached(small: Client) -> None:
    """The same again is read up to the last step."""
    messages = [{"role": "user", "content": "x" * (4 * 1276)}]
    assert [await cached(small, messages) for _ in range(2)] == [0, 9 * 128]


async def test_the_cache_forgets_the_oldest(small: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of ten steps takes ten places."""
    monkeypatch.setattr("millrace.simulator.prompt_cache.CAPACITY", 20)
    prompts = [[{"role": "system", "content": letter * 5200}] for letter in "abca"]
    assert [await cached(small, messages) for messages in prompts] == [0, 0, 0, 0]


@pytest.mark.parametrize("packed", [False, True])
async def test_embeddings_are_the_same_each_time(
    session: aiohttp.ClientSession, small: Client, *, packed: bool
) -> None:
    """Of unit length, and counted."""
    url = f"{small.simulator.base_url}/embeddings"
    asked = {"model": "e", "input": ["the mill", "the mill", "a race"], "dimensions": 16}
    answers = []
    for _ in range(2):
        async with session.post(url, json=asked | ({"encoding_format": "base64"} if packed else {})) as answer:
            assert answer.status == 200
            answers.append(await answer.json())
    assert answers[0] == answers[1]
    first, again, other = (each["embedding"] for each in answers[0]["data"])
    assert first == again != other
    if not packed:
        assert math.hypot(*first) == pytest.approx(1)
        assert len(first) == 16
    assert answers[0]["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert small.simulator.stats.input_tokens == 12


@pytest.mark.parametrize("wrong", [{}, {"input": []}, {"input": ""}, {"input": {}}, {"input": "x", "dimensions": 0}])
async def test_embeddings_of_nothing_are_refused(
    session: aiohttp.ClientSession, small: Client, wrong: dict[str, Any]
) -> None:
    async with session.post(f"{small.simulator.base_url}/embeddings", json=wrong) as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (400, "invalid_request_error")
