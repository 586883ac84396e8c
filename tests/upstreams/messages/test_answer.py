"""Answers of the Messages API: read whole or in pieces, over both clients, and never whole unless they are."""

import asyncio
import dataclasses
import json
import re
import time
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.errors import UpstreamError
from millrace.types import (
    Api,
    Call,
    CallPiece,
    Finish,
    FinishReason,
    Prompt,
    Sealed,
    Thought,
    Tool,
    Usage,
    calls_of,
    reasoning_of,
)
from millrace.upstreams.asides import Placed
from millrace.upstreams.bodies import BodyReader
from millrace.upstreams.messages.answer import MessagesReader
from millrace.upstreams.messages.api import MESSAGES
from millrace.upstreams.refusals import Refusals
from tests.support import messages_wire as wire
from tests.support.messages_wire import Answer, sse
from tests.support.provider import CALL, END, HEAD, Script, answer, body, says, scripted_provider, stay
from tests.support.waiting import until

HOSTED = Sealed(api=Api.MESSAGES, fields={"type": "web_search_20250305", "name": "web_search"})
TOOLS = (
    Tool(name="f"),
    Tool(name="apply_patch", is_custom=True),
    Tool(name="wait", namespace="clock"),
    Tool(name="web_search", hosted=HOSTED),
)
OFFERED = Call(model=CALL.model, prompt=Prompt(messages=CALL.prompt.messages, tools=TOOLS))
STOP = Finish(reason=FinishReason.STOP)
USAGE = Usage(input_tokens=25, output_tokens=15)


def read(raw: bytes, size: int = 10**6, call: Call = OFFERED) -> tuple[str, list[Any], Finish, MessagesReader]:
    """Return the text, the asides and the end of a body that comes in pieces of so many bytes."""
    reader = MESSAGES.reader(call, Refusals("m", None, lambda: 0.0))
    splitter, deltas, placed = BodyReader("m"), list[str](), list[Placed]()
    events = [event for at in range(0, len(raw), size) for event in splitter.feed(raw[at : at + size])]
    for event in [*events, *splitter.end()]:
        if not reader.is_terminated:
            reader.take(event, deltas, placed)
    finish = reader.end(deltas, placed)
    return "".join(deltas), [aside for _, aside in placed], finish, reader


def stream(*content: Any, **fields: Any) -> bytes:
    return b"".join(Answer(content=content, **fields).stream())


def whole(*content: Any, **fields: Any) -> bytes:
    return json.dumps(Answer(content=content, **fields).whole({})).encode()


SEARCH, FOUND = wire.server_tool_use("web_search", {"query": "rivers"})
CITED = wire.text("It is wet.", {"type": "char_location", "cited_text": "wet", "document_index": 0})
EVERYTHING = (
    wire.thinking("Hm ö, let me see."),
    wire.redacted(),
    wire.text("I look it up: "),
    SEARCH,
    FOUND,
    CITED,
    wire.tool_use("f", {"city": "Zürich"}, "toolu_1"),
    wire.tool_use("f", {}, "toolu_2"),
)


@pytest.mark.parametrize("size", [1, 3, 10**6])
@pytest.mark.parametrize("written", [stream, whole])
def test_every_block_at_its_place(written: Any, size: int) -> None:
    """What only this API understands comes whole, after what it shows of itself."""
    text, asides, finish, reader = read(written(*EVERYTHING, stop_reason="tool_use"), size)
    assert text == "I look it up: It is wet."
    assert reasoning_of(asides) == "Hm ö, let me see."
    sealed = [aside.fields for aside in asides if isinstance(aside, Sealed)]
    assert sealed == [EVERYTHING[0], EVERYTHING[1], SEARCH, FOUND, CITED]
    first, second = calls_of(asides)
    assert (first.id, first.name, json.loads(first.arguments)) == ("toolu_1", "f", {"city": "Zürich"})
    assert (second.id, second.arguments) == ("toolu_2", "{}")
    assert finish.reason is FinishReason.TOOL_CALLS
    assert finish.stop is not None
    assert (finish.stop.api, finish.stop.reason) == (Api.MESSAGES, "tool_use")
    assert reader.usage == USAGE
    assert reader.service_tier == "standard"


def test_a_server_need_not_say_of_which_kind_a_piece_is() -> None:
    """That is known from its block."""
    raw = stream(wire.thinking("Hm."), wire.text("It is wet."))
    assert b'"type": "text_delta", ' in raw
    text, asides, _, _ = read(re.sub(rb'"type": "(text|thinking)_delta", ', b"", raw))
    assert (text, reasoning_of(asides)) == ("It is wet.", "Hm.")


STOPS: list[tuple[str, FinishReason, str]] = [
    ("end_turn", FinishReason.STOP, ""),
    ("stop_sequence", FinishReason.STOP, ""),
    ("pause_turn", FinishReason.STOP, ""),
    ("max_tokens", FinishReason.LENGTH, ""),
    ("model_context_window_exceeded", FinishReason.LENGTH, ""),
    ("refusal", FinishReason.CONTENT_FILTER, ""),
    ("tool_use", FinishReason.STOP, ""),  # and none is called
    ("of_tomorrow", FinishReason.STOP, "of_tomorrow"),
]


@pytest.mark.parametrize(("reason", "means", "word"), STOPS)
def test_why_the_model_stopped(reason: str, means: FinishReason, word: str) -> None:
    """In words of every API, and in its own."""
    sequence = "END" if reason == "stop_sequence" else None
    _, _, finish, _ = read(stream(wire.text("Hi"), stop_reason=reason, stop_sequence=sequence))
    assert (finish.reason, finish.word, finish.refused) == (means, word, reason == "refusal")
    assert finish.stop is not None
    assert (finish.stop.reason, finish.stop.sequence) == (reason, sequence)


def test_calls_of_tools_that_are_no_functions_come_whole() -> None:
    """As calls of the tools that were offered."""
    patch = wire.tool_use("apply_patch", {"input": 'say "ö"\n'}, "toolu_1")
    wait = wire.tool_use("clock__wait", {"s": 1}, "toolu_2")
    _, asides, _, _ = read(stream(patch, wait, stop_reason="tool_use"), 1)
    first, second = calls_of(asides)
    assert (first.name, first.arguments, first.is_custom) == ("apply_patch", 'say "ö"\n', True)
    assert (second.namespace, second.name, second.arguments) == ("clock", "wait", '{"s": 1}')


CARELESS: dict[str, tuple[Any, ...]] = {
    "a call whole at its beginning": (
        {"type": "content_block_start", "index": 0, "content_block": wire.tool_use("f", {"a": 1}, "t")},
        {"type": "content_block_stop", "index": 0},
    ),
    "no end of the block": (
        {"type": "content_block_start", "index": 0, "content_block": wire.tool_use("f", {"a": 1}, "t")},
    ),
    "own fields": (
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": wire.tool_use("f", {"a": 1}, "t") | {"caller": {"type": "direct"}},
        },
        {"type": "content_block_stop", "index": 0},
    ),
}


@pytest.mark.parametrize("name", CARELESS)
def test_calls_of_careless_servers(name: str) -> None:
    events = [*CARELESS[name], *Answer(stop_reason="tool_use").events({})]
    _, asides, finish, _ = read(b"".join(map(sse, events)))
    (call,) = calls_of(asides)
    assert (call.name, json.loads(call.arguments), finish.reason) == ("f", {"a": 1}, FinishReason.TOOL_CALLS)
    assert call.own_fields == ({"caller": {"type": "direct"}} if name == "own fields" else {})


ODD: dict[str, bytes] = {
    "an event of tomorrow": sse({"type": "moon", "index": 0}),
    "a delta of tomorrow": sse({"type": "content_block_delta", "index": 0, "delta": {"type": "moon", "moon": 1}}),
    "an index that is none": sse({"type": "content_block_delta", "index": [], "delta": {"type": "text_delta"}}),
    "a delta that is none": sse({"type": "content_block_delta", "index": 0, "delta": "moon"}),
    "a delta of no block": sse(
        {"type": "content_block_delta", "index": 7, "delta": {"type": "input_json_delta", "partial_json": "{"}}
    ),
    "an end of no block": sse({"type": "content_block_stop", "index": 7}),
    "a usage that is none": sse({"type": "message_delta", "delta": {"stop_reason": None}, "usage": []}),
    "the end of chat completions": b"data: [DONE]\n\n",
    "a comment": b": still there\n\n",
}


@pytest.mark.parametrize("name", ODD)
def test_what_the_answer_does_not_need_costs_no_answer(name: str) -> None:
    """However odd it is, and wherever it comes."""
    events = Answer(content=(wire.text("Hello."),)).stream()
    for at in range(len(events)):
        text, _, finish, reader = read(b"".join((*events[:at], ODD[name], *events[at:])))
        assert (text, finish, reader.usage) == ("Hello.", STOP, USAGE)


def test_thinking_that_is_not_signed_is_shown_and_not_sealed() -> None:
    """Nobody could check it."""
    block = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    _, asides, _, _ = read(stream(block, wire.text("Hi")))
    assert [*map(type, asides)] == [Thought]


def test_thinking_that_is_not_shown_is_sealed() -> None:
    _, asides, _, _ = read(stream(wire.thinking(""), wire.text("Hi")))
    assert asides == [Sealed(api=Api.MESSAGES, fields=wire.thinking(""))]


def test_a_block_of_tomorrow_is_put_together_and_sealed() -> None:
    """By the names of its deltas' fields; texts are joined."""
    begun = {"type": "content_block_start", "index": 0, "content_block": {"type": "compaction", "content": None}}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "compaction_delta", "content": piece}}
        for piece in ("Short", "er.")
    ]
    end = {"type": "content_block_stop", "index": 0}
    _, asides, _, _ = read(b"".join(map(sse, (begun, *deltas, end, *Answer(content=()).events({})))))
    assert asides == [Sealed(api=Api.MESSAGES, fields={"type": "compaction", "content": "Shorter."})]


def test_a_character_in_two_halves() -> None:
    """Of text, of a thought, and of a signed thought, which must not change."""
    raw = stream(wire.thinking("a🌊b"), wire.text("c🌊d"))
    assert b"\\ud83c\\udf0a" in raw
    cut = raw.replace(b"\\ud83c\\udf0a", b'\\ud83c"}}\n\ndata: @\\udf0a')
    begin = b'{"type":"content_block_delta","index":%d,"delta":{"type":"%b_delta","%b":"'
    cut = cut.replace(b"@", begin % (0, b"thinking", b"thinking"), 1).replace(b"@", begin % (1, b"text", b"text"), 1)
    text, asides, _, _ = read(cut)
    assert (text, reasoning_of(asides)) == ("c🌊d", "a🌊b")
    assert asides[-1] == Sealed(api=Api.MESSAGES, fields=wire.thinking("a🌊b"))


def test_what_came_from_the_cache_and_went_there_is_counted() -> None:
    """Beside the input; the output comes last. The input is known from the beginning."""
    usage = {"input_tokens": 5, "cache_read_input_tokens": 700, "cache_creation_input_tokens": 30, "output_tokens": 9}
    usage |= {"ephemeral_1h_input_tokens": 10}
    counted = Usage(
        input_tokens=735, cached_input_tokens=700, cache_write_tokens=30, cache_write_1h_tokens=10, output_tokens=9
    )
    events = Answer(content=(wire.text("Hi"),), usage=usage).stream()
    assert read(b"".join(events))[3].usage == counted
    reader = MESSAGES.reader(CALL, Refusals("m", None, lambda: 0.0))
    reader.take(events[0].split(b"data: ")[1], [], [])
    assert reader.usage is None
    assert reader.input_usage == replace(counted, output_tokens=1)


BEGUN = Answer(content=(wire.text("Hello, world"),)).stream()
FAULTS: dict[str, tuple[Script, str, bool, str]] = {  # script, code, billable, words
    "end of the body": (says(HEAD + body(*BEGUN[:3]) + END), "upstream_truncated", True, "without finishing"),
    "no message_stop": (says(HEAD + body(*BEGUN[:-1]) + END), "upstream_truncated", True, "without finishing"),
    "a close": (says(HEAD + body(*BEGUN[:3])), "upstream_truncated", True, "broke in mid-answer"),
    "a close after the reason": (says(HEAD + body(*BEGUN[:-1])), "upstream_truncated", True, "broke in mid-answer"),
    "no JSON": (says(HEAD + body(BEGUN[0], b"data: {\n\n"), then=stay), "upstream_error", True, "cannot be read"),
    "nothing": (says(HEAD + body(sse({"type": "message_stop"})) + END), "upstream_truncated", True, "without"),
    "overloaded at once": (
        says(HEAD + body(sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}))),
        "upstream_overloaded",
        False,
        "Overloaded",
    ),
    "overloaded in mid-stream": (
        says(HEAD + body(*BEGUN[:3], sse({"type": "error", "error": {"type": "overloaded_error", "message": "Over"}}))),
        "upstream_overloaded",
        True,
        "failed in mid-stream: Over",
    ),
    "an error": (
        says(HEAD + body(*BEGUN[:3], sse({"type": "error", "error": {"type": "api_error", "message": "Oh"}}))),
        "upstream_error",
        True,
        "Oh",
    ),
    "an error by name": (
        says(HEAD + body(*BEGUN[:3], b'event: error\ndata: {"message": "Oh"}\n\n')),
        "upstream_error",
        True,
        "Oh",
    ),
    "a call that nobody offered": (
        says(HEAD + body(*Answer(content=(wire.tool_use("f", {}),)).stream())),
        "upstream_error",
        True,
        "nobody offered",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_what_is_no_answer_is_an_error_of_its_kind(name: str) -> None:
    """What was counted before counts: the input, as it was reported."""
    script, code, billable, words = FAULTS[name]
    async with scripted_provider(script, api=MESSAGES) as provider:
        attempt = provider.upstream.open(CALL)
        with pytest.raises(UpstreamError) as raised:
            await attempt.done
    assert (raised.value.code, raised.value.billable) == (code, billable)
    assert words in raised.value.message
    assert attempt.usage == (USAGE if "no message_stop" in name or "after the reason" in name else None)
    if "mid-stream" in name:
        assert attempt.input_usage == Usage(input_tokens=25, output_tokens=1)


@pytest.mark.parametrize("size", [1, 7, 10**6])
async def test_an_answer_over_a_socket(size: int) -> None:
    """In one read, or byte by byte; the connection is used again."""
    raw = HEAD + body(*Answer(content=EVERYTHING, stop_reason="tool_use").stream()) + END
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    attempt, finish = await answer(says(*pieces, then=stay), OFFERED, MESSAGES)
    assert ("".join(attempt.parts), finish.reason) == ("I look it up: It is wet.", FinishReason.TOOL_CALLS)
    assert attempt.usage == USAGE
    assert [*map(type, attempt.asides)].count(Sealed) == 5


@pytest.mark.parametrize("tools", [(), TOOLS])
async def test_an_answer_an_event_a_read(tools: tuple[Tool, ...]) -> None:
    """As it comes from a model: what is not parsed is not lost, also not for citations."""
    words = wire.text("The river is deep, and it is wide, and it is wet, say those who know.")
    content = (words, wire.thinking("Hm."), words, CITED, words)
    events = Answer(content=content).stream()
    call = Call(
        model=replace(CALL.model, max_output_tokens=None),
        prompt=dataclasses.replace(CALL.prompt, tools=tools),
        room=1000,
    )
    attempt, _ = await answer(says(HEAD, *map(body, events), END, then=stay), call, MESSAGES)
    assert "".join(attempt.parts) == words["text"] * 2 + "It is wet." + words["text"]
    sealed = [aside.fields for aside in attempt.asides if isinstance(aside, Sealed)]
    assert sealed == [content[1], *([CITED] if tools else [])]


async def test_a_whole_message_is_an_answer() -> None:
    raw = whole(wire.thinking("Hm."), wire.text("Hi"))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(raw)
    attempt, finish = await answer(says(head + raw), CALL, MESSAGES)
    assert (attempt.parts, finish, attempt.usage) == (["Hi"], STOP, USAGE)


async def test_pings_keep_a_thinking_model_alive_and_no_other() -> None:
    """One that thinks without showing it says nothing for minutes; one that is to say something is silent then."""
    events = Answer(content=(wire.thinking("Hm."), wire.text("Hi")), pings=False).stream()
    ping = sse(wire.PING)
    more = asyncio.Event()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + body(*events[:2]))
        await more.wait()
        writer.write(body(ping))
        await writer.drain()

    async with scripted_provider(script, api=MESSAGES) as provider:
        attempt = provider.upstream.open(CALL)
        await until(lambda: attempt._answer.heard > 0)
        provider.now += 59
        more.set()
        await until(lambda: attempt.last_event_at == provider.now)
        provider.now += 59
        provider.upstream.sweep(provider.now)
        assert not attempt.done.done()
        provider.now += 2
        provider.upstream.sweep(provider.now)
        with pytest.raises(UpstreamError, match="sent no first token within 60 s"):
            await attempt.done


@pytest.mark.parametrize(("said", "seconds"), [(1, 61), (-3, 31)])
async def test_pings_are_silence_where_words_are_to_come(said: int, seconds: int) -> None:
    """Before the first block, and within a text."""
    events = Answer(content=(wire.text("Hi"),), pings=False).stream()[:said]
    async with scripted_provider(says(HEAD + body(*events, sse(wire.PING)), then=stay), api=MESSAGES) as provider:
        attempt = provider.upstream.open(CALL)
        await until(lambda: attempt.input_usage is not None and (said == 1 or attempt.parts == ["Hi"]))
        provider.now += seconds
        provider.upstream.sweep(provider.now)
        with pytest.raises(UpstreamError, match=f"sent n.* {seconds - 1} s"):
            await attempt.done


async def test_a_paused_call_is_not_read_and_goes_on_when_resumed() -> None:
    """The provider's writes get stuck; neither a pause nor the pings in it are taken for silence; no word is lost."""
    start, begun, *_, end, delta, stop = Answer(content=(wire.text("a"),), pings=False).stream()
    word = sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 1000}})
    more = asyncio.Event()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + body(start, begun, word))
        await more.wait()
        writer.write(body(sse(wire.PING), word) * 10_000 + body(end, delta, stop) + END)

    unbounded = dataclasses.replace(CALL, model=replace(CALL.model, max_output_tokens=10**7, context_window=10**7))
    async with scripted_provider(script, api=MESSAGES) as provider:
        attempt = provider.upstream.open(unbounded)
        await until(lambda: len(attempt.parts) == 1)
        attempt.pause()
        more.set()
        stuck = [0]
        while not (stuck[-1] and stuck[-20:] == [stuck[-1]] * 20):  # the same for 100 ms
            await asyncio.sleep(0.005)
            stuck.append(provider.lines[0].transport.get_write_buffer_size())
        assert len("".join(attempt.parts)) < 2_000_000
        provider.now += 3600
        provider.upstream.sweep(provider.now)
        attempt.resume()
        provider.upstream.sweep(provider.now)
        assert (await attempt.done, len("".join(attempt.parts))) == (STOP, 10_001_000)


CUT = stream(*EVERYTHING, stop_reason="tool_use")
LAST = CUT.index(b"event: message_stop")


@pytest.mark.untraced
def test_a_stream_that_is_cut_anywhere_is_never_whole() -> None:
    """At every byte up to that which ends its last event."""
    end = CUT.index(b"}", LAST) + 1
    for at in range(end):
        with pytest.raises(UpstreamError) as raised:
            read(CUT[:at])
        assert raised.value.code in ("upstream_truncated", "upstream_error")
    assert read(CUT[:end])[2].reason is FinishReason.TOOL_CALLS


STREAMS = 500


def written_at_random(random: Random) -> bytes:
    """Return a stream of blocks of every kind, ended in any way."""
    kinds = (
        lambda: [wire.text("Wörter 🌊 " * random.randint(1, 9))],
        lambda: [wire.thinking("Hm ö. " * random.randint(0, 9))],
        lambda: [wire.redacted()],
        lambda: [wire.tool_use("f", {"city": "Zürich " * random.randint(0, 5)})],
        lambda: [*wire.server_tool_use("web_search", {"query": "rivers"})],
        lambda: [CITED],
    )
    content = [block for _ in range(random.randint(1, 5)) for block in random.choice(kinds)()]
    return stream(*content, stop_reason=random.choice(STOPS)[0], pings=random.random() < 0.5)


@pytest.mark.untraced
def test_hundreds_of_streams_that_are_cut_anywhere_are_never_whole() -> None:
    """At some bytes each, and at the end of every event; and whole ones are."""
    for seed in range(STREAMS):
        random = Random(seed)
        raw = written_at_random(random)
        end = raw.rindex(b"}") + 1
        ends = [at for at in range(end) if raw.startswith(b"\n\n", at)]
        for at in (*random.sample(ends, min(8, len(ends))), *(random.randrange(end) for _ in range(4))):
            with pytest.raises(UpstreamError):
                read(raw[:at])
        assert read(raw, random.choice([5, 100, 10**6]))[2].stop is not None


async def test_a_socket_that_is_cut_says_so() -> None:
    """In a body with chunks and in one without a length, wherever it is."""
    for at in (*range(1, len(CUT), 211), LAST - 1, LAST, LAST + 30):
        for head, written in ((HEAD, body(CUT[:at])), (b"HTTP/1.0 200 OK\r\n\r\n", CUT[:at])):
            with pytest.raises(UpstreamError) as raised:
                await answer(says(head + written), OFFERED, MESSAGES)
            assert raised.value.code == "upstream_truncated"


def test_what_is_plain_text_is_known_from_what_is_not() -> None:
    """So that events that differ from it in their text alone need not be parsed; but citations repeat a text."""
    start, begun, delta, *_ = Answer(content=(wire.text("Hello"),), pings=False).stream()
    thought = sse({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hello"}})
    for call, is_plain in ((CALL, True), (OFFERED, False)):
        reader = MESSAGES.reader(call, Refusals("m", None, lambda: 0.0))
        for event in (start, begun, delta):
            reader.take(event.split(b"data: ")[1], [], [])
        assert reader.is_plain(delta.split(b"data: ")[1], "Hello") is is_plain
        assert not reader.is_plain(thought.split(b"data: ")[1], "Hello")
        assert not reader.is_plain(begun.split(b"data: ")[1], "Hello")


def test_pieces_of_a_call_are_passed_on_as_they_come() -> None:
    """Those of a plain function."""
    _, asides, _, _ = read(stream(wire.tool_use("f", {"city": "Paris"}, "toolu_1"), stop_reason="tool_use"))
    assert asides[0] == CallPiece(index=0, id="toolu_1", name="f")
    assert len(asides) == 4


@pytest.mark.untraced
def test_many_deltas_take_no_longer_than_their_bytes() -> None:
    """Those of a kind that is not known, and citations: joined one by one they would take minutes."""
    many = 100_000
    new = {"type": "content_block_start", "index": 0, "content_block": {"type": "new", "text_of_it": "x" * 100}}
    more = {"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta", "text_of_it": "y" * 100}}
    cited = {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "It is."}}
    cite = {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {"n": 1}}}
    ends = [sse({"type": "content_block_stop", "index": index}) for index in (0, 1)]
    raw = b"".join([sse(new), sse(more) * many, ends[0], sse(cited), sse(cite) * many, ends[1]])
    started = time.process_time()
    _, asides, _, _ = read(raw + stream())
    assert time.process_time() - started < 20
    first, second = (aside.fields for aside in asides if isinstance(aside, Sealed))
    assert first["text_of_it"] == "x" * 100 + "y" * 100 * many
    assert len(second["citations"]) == many
