"""Trimming and counting: never over budget, nothing cut that must stay, exact counts without a network."""

import contextlib
import threading
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from millrace import tokens
from millrace.errors import MillraceError
from millrace.funnel.catalog import Ruler
from millrace.funnel.prompt import HEADING, Trimmed, trim, trimmed
from millrace.types import Media, Message, Prompt, Strategy, Tool, ToolCall
from tests.support.scripted_models import CATALOG, request
from tests.support.server import Running, Start
from tests.support.wire_client import check_response, wire_client

WORDS = st.text(alphabet="abc déf,.\n", min_size=0, max_size=60)
ROLES = st.sampled_from(["user", "assistant", "system"])
MESSAGES = st.lists(st.builds(lambda role, text: Message(role=role, parts=(text,)), ROLES, WORDS), max_size=9)


def ask(*messages: tuple[str, str]) -> Prompt:
    return Prompt(messages=tuple(Message(role=role, parts=(text,)) for role, text in messages))


def room(limit: int, *encodings: str) -> list[Ruler]:
    """Return rulers of so many tokens."""
    return [
        Ruler(encoding=name, limit=limit, takes=lambda: f"the model takes {limit}")
        for name in encodings or (tokens.O200K,)
    ]


def count(messages: tuple[Message, ...]) -> int:
    return sum(tokens.count_message(message) for message in messages)


@given(MESSAGES, WORDS, st.lists(WORDS, max_size=6), st.integers(0, 80))
@settings(max_examples=300)
def test_what_holds_of_every_trim(history: list[Message], question: str, context: list[str], budget: int) -> None:
    """Budget, room, order, what must stay, what goes first."""
    prompt = Prompt(messages=(*history, Message(role="user", parts=(question,))))
    trimmed = trim(prompt, tuple(context), budget, [Ruler()])
    kept = trimmed.prompt.messages
    # the system prompts and the question are whole, the question last
    assert [m for m in kept if m.role == "system"] == [m for m in history if m.role == "system"]
    assert (kept[-1].role, kept[-1].text) == ("user", question)
    # what could be cut is within the budget
    block = trimmed.prompt.context
    assert trimmed.prompt.sent[-1].text == block + question
    rest = tuple(m for m in kept[:-1] if m.role != "system")
    assert tokens.count(block) + count(rest) <= budget
    # the chunks that are kept are the most relevant ones, in their order
    blocks = ["", *("\n\n".join((HEADING, *context[:chunks])) + "\n\n" for chunks in range(1, len(context) + 1))]
    assert block in blocks
    chunks = blocks.index(block)
    # the history that is kept is the newest, whole turns, in its order
    client = [m for m in history if m.role != "system"]
    assert list(rest) == client[len(client) - len(rest) :]
    assert not rest or rest[0].role == "user" or len(rest) == len(client)
    # the counts are the counts
    assert trimmed.counted[tokens.O200K] == count(trimmed.prompt.sent) + tokens.REPLY
    lost = client[: len(client) - len(rest)]
    assert trimmed.cut_tokens == count(tuple(lost)) + sum(map(tokens.count, context[chunks:]))


def test_history_is_cut_oldest_first_and_a_turn_stays_together() -> None:
    """A user's message and everything that answered it go together."""
    prompt = ask(
        ("system", "s"),
        ("user", "one " * 20),
        ("assistant", "call"),
        ("assistant", "result"),
        ("user", "two"),
        ("assistant", "fine"),
        ("user", "three"),
    )
    trimmed = trim(prompt, (), 10, [Ruler()])
    assert [message.text for message in trimmed.prompt.messages] == ["s", "two", "fine", "three"]
    assert trimmed.cut_tokens == count(prompt.messages[1:4])


def test_context_goes_before_history() -> None:
    """It is what the question is about; what is left of the budget is for the newest turns."""
    prompt = ask(("user", "old"), ("assistant", "answer"), ("user", "now"))
    trimmed = trim(prompt, ("relevant " * 5, "less " * 50), 15 + 2 * tokens.MESSAGE, [Ruler()])
    texts = [message.text for message in trimmed.prompt.sent]
    assert texts[-1].endswith("now")
    assert "relevant" in texts[-1]
    assert "less" not in texts[-1]
    assert trimmed.cut_tokens == tokens.count("less " * 50)
    assert trimmed.prompt.messages[:2] == prompt.messages[:2]


def test_without_a_budget_only_the_room_counts() -> None:
    """And where not even the system prompt and the question fit, that is said with the numbers."""
    prompt = ask(("user", "x " * 50), ("assistant", "y " * 50), ("user", "question"))
    assert trim(prompt, (), None, [Ruler()]).cut_tokens == 0
    assert trim(prompt, (), None, room(50)).prompt.messages == prompt.messages[2:]
    with pytest.raises(MillraceError) as error:
        trim(ask(("system", "s " * 40), ("user", "q " * 40)), (), None, room(50))
    assert (error.value.code, error.value.param) == ("context_too_long", "input")
    assert "50" in error.value.message


def called(*ids: str) -> Message:
    return Message(role="assistant", calls=tuple(ToolCall(id=id_, name="f", arguments='{"a": 1}') for id_ in ids))


def result(id_: str, text: str = "result") -> Message:
    return Message(role="tool", call_id=id_, parts=(text,))


def said(role: str, text: str) -> Message:
    return Message(role=role, parts=(text,))


CALLED_AND_ANSWERED = {
    "the newest are results": [said("user", "q"), called("1", "2"), result("1"), result("2")],
    "after several rounds": [
        said("user", "q"),
        called("1"),
        result("1"),
        said("assistant", "a"),
        called("2"),
        result("2"),
    ],
    "nobody asked": [called("1"), result("1")],
    "a user who breaks in": [said("user", "q"), called("1"), said("user", "wait"), result("1")],
    "results in another order": [said("user", "q"), called("1", "2"), said("user", "wait"), result("2"), result("1")],
}


@pytest.mark.parametrize("turn", CALLED_AND_ANSWERED)
def test_what_is_asked_now_is_never_cut(turn: str) -> None:
    """The question, and the calls and results that followed it, stand together whatever the budget."""
    old = [said("user", "old " * 20), called("0"), result("0"), said("assistant", "fine")]
    now = CALLED_AND_ANSWERED[turn]
    prompt = Prompt(messages=(*(old if now[0].role == "user" else ()), said("system", "s"), *now))
    trimmed = trim(prompt, (), 0, [Ruler()])
    assert trimmed.prompt.messages == (said("system", "s"), *now)
    assert (trimmed.cut_tokens > 0) == (now[0].role == "user")


@given(st.lists(st.sampled_from(["user", "assistant", "call", "result", "system"]), max_size=14), st.integers(0, 60))
@settings(max_examples=300)
def test_a_call_is_never_parted_from_its_result(kinds: list[str], budget: int) -> None:
    """Wherever the results stand, also behind later questions."""
    due: list[str] = []
    messages = []
    for at, kind in enumerate(kinds):
        if kind == "call":
            due.append(str(at))
            messages.append(called(str(at)))
        elif kind != "result":
            messages.append(said(kind, f"words of {at}"))
        elif due:
            messages.append(result(due.pop(0)))
    prompt = Prompt(messages=tuple(messages))
    kept = trim(prompt, (), budget, [Ruler()]).prompt.messages
    results = {message.call_id for message in messages if message.role == "tool"}
    made = {call.id for message in kept for call in message.calls}
    answered = {message.call_id for message in kept if message.role == "tool"}
    assert answered == made & results
    client = [message for message in messages if message.role != "system"]
    rest = [message for message in kept if message.role != "system"]
    assert rest == client[len(client) - len(rest) :]


def test_everything_that_is_sent_counts() -> None:
    """Calls, results, reasoning and refusals by their words, tools by their schema, media at a fixed size."""
    schema = {"type": "object", "properties": {"town": {"type": "string"}}}
    tool = Tool(name="weather", description="Of a town.", parameters=schema)
    turn = Message(
        role="assistant",
        reasoning="hello world",
        refusal="hello world",
        calls=(ToolCall(id="c", name="weather", arguments='{"town": "Bonn"}'),),
    )
    image = Media(kind="image", fields={"url": "data:" + "x" * 10_000})
    messages = (Message(role="user", parts=("hello world", image)), turn, result("c", "hello world"))
    prompt = Prompt(messages=messages, tools=(tool, Tool(name="weather")))
    declared = """namespace functions {

// Of a town.
type weather = (_: {
town?: string,
}) => any;

type weather = () => any;

} // namespace functions"""
    said = 4 * tokens.count("hello world") + tokens.MEDIA + sum(map(tokens.count, ("weather", '{"town": "Bonn"}')))
    counted = said + 3 * tokens.MESSAGE + 3 + tokens.count(declared) + 9 + tokens.REPLY
    assert trim(prompt, (), None, [Ruler()]).counted == {tokens.O200K: counted}
    texts = ['{"town": "Bonn"}', "Of a town.", '{"type":"object","properties":{"town":{"type":"string"}}}']
    characters = 4 * len("hello world") + 3 * len("weather") + sum(map(len, texts))
    assert characters <= prompt.size < characters + 20  # the schema may be counted with its spaces
    wanted = f"the tools and the question have {counted} tokens in o200k_base; the model takes {counted - 1}; shorten"
    with pytest.raises(MillraceError, match=wanted):
        trim(prompt, (), None, room(counted - 1))


def test_a_prompt_that_is_far_too_long_is_not_counted_to_its_end() -> None:
    """The error says so; up to twice what is taken it has the exact number."""
    long = ask(("system", "hello world " * 100), ("user", "hello world " * 5000))
    exact = tokens.count_prompt(long)
    with pytest.raises(MillraceError, match=r"have at least (\d+) tokens in o200k_base; the model takes 100;") as far:
        trim(long, (), None, room(100))
    assert 200 < int(str(far.value).split("at least ")[1].split()[0]) < exact
    with pytest.raises(MillraceError, match=f"have {exact} tokens in o200k_base; the model takes {exact - 1};"):
        trim(long, (), None, room(exact - 1))


def test_a_prompt_fits_each_of_several_encodings() -> None:
    """What one of them has no room for is cut for all, and all counts are exact afterwards."""
    turns = [(role, f"東京 {at} " * 30) for at in range(20) for role in ("user", "assistant")]
    prompt = ask(("system", "s"), *turns, ("user", "q"))
    alone = {by: trim(prompt, ("fact " * 9,), None, room(1500, by)) for by in tokens.NAMES}
    both = trim(prompt, ("fact " * 9,), None, room(1500, *tokens.NAMES))
    assert len({len(one.prompt.messages) for one in alone.values()}) == 2
    assert len(both.prompt.messages) == min(len(one.prompt.messages) for one in alone.values())
    assert both.counted == {by: tokens.count_prompt(both.prompt, by=by) for by in tokens.NAMES}
    without = trim(prompt, (), None, room(1500, *tokens.NAMES))
    assert without.counted == {by: tokens.count_prompt(without.prompt, by=by) for by in tokens.NAMES}


@pytest.mark.parametrize(("size", "is_on_the_loop"), [(1_000, True), (20_000, False), (2_000_000, False)])
async def test_a_long_prompt_is_counted_off_the_loop(
    monkeypatch: pytest.MonkeyPatch, size: int, *, is_on_the_loop: bool
) -> None:
    """Where it would hold up everybody else; a short one takes less time than the way to a thread."""
    threads: set[threading.Thread] = set()
    whole = tokens.count_message

    def counted(*given_: Any, **named: Any) -> int:
        threads.add(threading.current_thread())
        return whole(*given_, **named)

    monkeypatch.setattr(tokens, "count_message", counted)
    asked = request(Message(role="user", parts=("mill " * (size // 5),)), strategy=Strategy.LARGE)
    with contextlib.suppress(MillraceError):  # the longest is longer than the model takes
        await trimmed(asked, asked.prompt, None, CATALOG)
    assert len(threads) == 1
    assert (threads == {threading.current_thread()}) is is_on_the_loop


CHUNKS = [f"Fact {number}: " + "the mill grinds corn " * 10 for number in range(20)]


async def test_context_over_the_wire(millrace: Running) -> None:
    """Chunks come as texts or objects; what fits is sent before the question, what was cut is in the saving."""
    async with wire_client(millrace.ws_url) as client:
        options: dict[str, Any] = {"context": [*CHUNKS[:10], *({"text": c, "id": "x"} for c in CHUNKS[10:])]}
        response = check_response(await client.ask("What?", millrace=options | {"context_budget": 300}))
        sent = millrace.small.calls[-1].body["messages"]
        assert tokens.count(sent[0]["content"].removesuffix("What?")) <= 300
        assert CHUNKS[0] in sent[0]["content"]
        assert CHUNKS[19] not in sent[0]["content"]
        again = check_response(await client.ask("What?", millrace=options | {"context_budget": 300}))
        assert again["metadata"]["millrace.cache"] == "exact"
        whole = check_response(await client.ask("What?", millrace=options | {"context_budget": 100_000}))
    assert CHUNKS[19] in millrace.small.calls[-1].body["messages"][0]["content"]
    assert int(response["metadata"]["millrace.trimmed_tokens"]) > 300
    assert "millrace.trimmed_tokens" not in whole["metadata"]
    assert response["usage"]["saved_usd"] > whole["usage"]["saved_usd"] * 0.5


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"context": "text"}, "millrace.context"),
        ({"context": [1]}, "millrace.context[0]"),
        ({"context": ["a", {"id": 1}]}, "millrace.context[1].text"),
        ({"context_budget": -1}, "millrace.context_budget"),
        ({"context_budget": "many"}, "millrace.context_budget"),
        ({"grace_ms": 1.5}, "millrace.grace_ms"),
        ({"hedge_ms": True}, "millrace.hedge_ms"),
    ],
)
async def test_bad_options_are_named(millrace: Running, options: dict[str, Any], param: str) -> None:
    """With their path."""
    async with wire_client(millrace.ws_url) as client:
        error = (await client.ask("x", millrace=options))[-1]["error"]
    assert (error["code"], error["param"]) == ("invalid_request", param)


async def test_numbers_may_be_strings_in_metadata(millrace: Running) -> None:
    """SDKs allow nothing else there; chunks come in the object only."""
    async with wire_client(millrace.ws_url) as client:
        check_response(await client.ask("x", metadata={"millrace.context_budget": "10"}))
        error = (await client.ask("x", metadata={"millrace.context": "[]"}))[-1]["error"]
    assert error["param"] == 'metadata["millrace.context"]'


def test_trimmed_is_a_value() -> None:
    """Two equal trims are equal, so that a key made of one is stable."""
    one, two = (trim(ask(("user", "q")), ("a", "b"), 50, [Ruler()]) for _ in range(2))
    assert isinstance(one, Trimmed)
    assert one == two


def narrow(configuration: dict[str, Any]) -> None:
    configuration["models"]["small"] |= {"context_window": 600, "max_output_tokens": 100}


async def test_what_only_the_large_model_can_take_goes_there(start: Start) -> None:
    """Under `auto` a prompt past the small window goes there; under `cascade` it is refused with the numbers."""
    long = "the mill grinds corn " * 200
    async with start(narrow) as running, wire_client(running.ws_url, negotiated=True) as client:
        events = await client.ask(long)
        assert check_response(events, negotiated=True)["metadata"]["millrace.route"] == "large"
        route = next(event for event in events if event["type"] == "millrace.route")
        assert "tokens do not fit small-model" in route["reason"]
        assert running.small.stats.started == 0
        refused = check_response(await client.ask(long, millrace={"strategy": "cascade"}), negotiated=True)
    assert refused["error"]["code"] == "context_too_long"
    assert refused["error"]["param"] == "input"


@pytest.mark.parametrize("tools", [[], [{"type": "function", "name": "f", "parameters": {"type": "object"}}]])
async def test_a_long_prompt_is_no_hard_one(millrace: Running, tools: list[Any]) -> None:
    """What fits the small model is asked of it first, with tools too, and what it says is checked."""
    long = "the mill grinds corn " * 5000
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask(long, tools=tools)
        assert check_response(events, negotiated=True)["metadata"]["millrace.check"] == "passed"
        weak = check_response(await client.ask(f"{long} [weak] [tokens=0]", tools=tools), negotiated=True)
    route = next(event for event in events if event["type"] == "millrace.route")
    assert (route["tier"], route["reason"].partition(";")[0]) == ("small", "small first: nothing is promised")
    assert (weak["metadata"]["millrace.check"], weak["metadata"]["millrace.route"]) == ("empty", "large")


def test_without_a_user_the_context_is_a_turn_of_its_own() -> None:
    """It never goes into a system prompt, nor twice where a message stands twice."""
    alone = trim(ask(("system", "s")), ("fact",), 50, [Ruler()]).prompt
    assert [message.role for message in alone.sent] == ["system", "user"]
    twice = ask(("user", "same"), ("assistant", "yes"), ("user", "same"))
    sent = trim(twice, ("fact",), 50, [Ruler()]).prompt.sent
    assert [message.text.startswith(HEADING) for message in sent] == [False, False, True]
