"""What a request may ask of the funnel: which checks, short answers, tools; and what becomes of what is no text."""

import time
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.caches.exact import SqliteExactCache
from millrace.errors import UpstreamError
from millrace.funnel import checks
from millrace.funnel.facts import Committed, Revised
from millrace.funnel.fingerprint import keys_of
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.routing.choice import choose, likely
from millrace.funnel.routing.router import Router
from millrace.stores.database import SqliteDatabase
from millrace.tokens import MESSAGE, REPLY
from millrace.types import (
    CacheOutcome,
    CallPiece,
    Delivery,
    Format,
    Message,
    Refusal,
    Source,
    Status,
    Strategy,
    Thought,
    Tool,
    calls_of,
)
from tests.support.scripted_models import CALLED, CATALOG, CUT, LARGE, POLICY, SMALL, STOP, request, scripted_funnel

DEPTH = Tool(name="depth", parameters={"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]})
GOOD_CALL = (CallPiece(index=0, id="call_1", name="depth", arguments='{"of":'), CallPiece(index=0, arguments='"it"}'))
BAD_CALL = (CallPiece(index=0, id="call_1", name="depth", arguments='{"of": 3}'),)


def text_of(response: ResponseLog) -> str:
    """Return the words that stand."""
    words: list[str] = []
    for fact in response.facts:
        if isinstance(fact, str):
            words.append(fact)
        elif isinstance(fact, Revised):
            words.clear()
    return "".join(words)


def facts_of(response: ResponseLog, kind: Any) -> list[Any]:
    return [fact for fact in response.facts if isinstance(fact, kind)]


def cache(database: SqliteDatabase) -> SqliteExactCache:
    return SqliteExactCache(database, ttl_s=60, memory_bytes=10**6, disk_bytes=10**6, wall=lambda: 1_700_000_000.0)


@pytest.mark.parametrize("delivery", [Delivery.PREFIX, Delivery.SPECULATE, Delivery.COMMIT])
async def test_a_good_call_of_the_small_model_stands(delivery: Delivery) -> None:
    """It completes, is judged as a whole and is not stored; nothing was committed before its end."""
    async with scripted_funnel(["Let me look. "] * 60 + [*GOOD_CALL, CALLED], exact=cache) as funnel:
        for _ in range(2):
            response = await funnel.ask(request(tools=(DEPTH,), delivery=delivery))
            assert response.ended is not None
            assert (response.ended.status, response.ended.source) == (Status.COMPLETED, Source.SMALL)
            assert response.ended.check == "passed"
            assert calls_of(facts_of(response, CallPiece))[0].arguments == '{"of":"it"}'
            (committed,) = [at for at, fact in enumerate(response.facts) if isinstance(fact, Committed)]
            assert committed > max(at for at, fact in enumerate(response.facts) if isinstance(fact, CallPiece))
        assert len(funnel.small.attempts) == 2
        assert funnel.large.attempts == []


@pytest.mark.parametrize("delivery", [Delivery.PREFIX, Delivery.SPECULATE])
async def test_a_bad_call_goes_to_the_large_model(delivery: Delivery) -> None:
    """Arguments that do not fit: the large model's call is the answer."""
    async with scripted_funnel(["I see. "] * 60 + [*BAD_CALL, CALLED], [*GOOD_CALL, CALLED]) as funnel:
        response = await funnel.ask(request(tools=(DEPTH,), delivery=delivery))
    assert response.ended is not None
    assert (response.ended.status, response.ended.source) == (Status.COMPLETED, Source.LARGE)
    (revised,) = facts_of(response, Revised)
    assert revised.reason == response.ended.check == "tool_call"
    after = response.facts[response.facts.index(revised) :]
    assert calls_of([fact for fact in after if isinstance(fact, CallPiece)])[0].arguments == '{"of":"it"}'


async def test_reasoning_is_stored_with_the_answer() -> None:
    """What a model thought is kept beside what it said."""
    kept: list[SqliteExactCache] = []

    def keeping(database: SqliteDatabase) -> SqliteExactCache:
        kept.append(cache(database))
        return kept[0]

    async with scripted_funnel([Thought("Deep "), Thought("or not?"), "Two metres.", STOP], exact=keeping) as funnel:
        await funnel.ask(asked := request())
        stored = kept[0].peek(keys_of(asked, CATALOG.models, checks.selected(asked)).exact)
    assert stored is not None
    assert (stored.text, stored.reasoning) == ("Two metres.", "Deep or not?")


@pytest.mark.parametrize("script", [[Refusal("I will not."), STOP], ["Yes.", CUT], ["  ", STOP]])
async def test_what_is_no_plain_whole_answer_is_not_stored(script: list[Any]) -> None:
    """A refusal beside the text, a cut, nothing but white space."""
    async with scripted_funnel(script, exact=cache) as funnel:
        for _ in range(2):
            await funnel.ask(request(strategy=Strategy.SMALL))
        assert len(funnel.small.attempts) == 2


async def test_a_refusal_beside_the_text_is_a_refusal() -> None:
    """The provider's mark is enough for the large model to be asked."""
    async with scripted_funnel([Refusal("No."), STOP]) as funnel:
        response = await funnel.ask(request())
    assert response.ended is not None
    assert (response.ended.source, response.ended.check) == (Source.LARGE, "refusal")


@pytest.mark.parametrize(
    ("fields", "source", "check"),
    [
        ({}, Source.LARGE, "unsure"),
        ({"checks": ("empty", "refusal")}, Source.SMALL, "passed"),
        ({"checks": ()}, Source.SMALL, None),
        ({"checks": ("unsure",)}, Source.LARGE, "unsure"),
        ({"checks": ("empty",), "check_schema": {"type": "object"}}, Source.LARGE, "form"),
        ({"checks": (), "format": Format(kind="json_object")}, Source.SMALL, None),
    ],
)
@pytest.mark.parametrize("words", [1, 60])
async def test_a_request_names_its_checks(fields: Any, source: Source, check: str | None, words: int) -> None:
    """Only those run, on a beginning too; a schema of the asker's is looked at in any case."""
    async with scripted_funnel(["I don't know. "] * words + [STOP]) as funnel:
        response = await funnel.ask(request(**fields))
    assert response.ended is not None
    assert (response.ended.source, response.ended.check) == (source, check)


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        ([Message(role="user", parts=("Q",))], [("system", ("Be brief.",)), ("user", ("Q",))]),
        (
            [Message(role="system", parts=("S", "T")), Message(role="user", parts=("Q",))],
            [("system", ("S", "T\n\nBe brief.")), ("user", ("Q",))],
        ),
        (
            [Message(role="user", parts=("A",)), Message(role="system", parts=()), Message(role="user", parts=("Q",))],
            [("user", ("A",)), ("system", ("Be brief.",)), ("user", ("Q",))],
        ),
    ],
)
async def test_concise_is_the_last_system_text(messages: Any, sent: Any) -> None:
    """It is sent, counted and in the keys; without it the prompt is as it came."""
    asked = request(*messages)
    assert POLICY.prompt_for(asked) is asked.prompt
    async with scripted_funnel(["Two.", STOP], exact=cache) as funnel:
        plain = await funnel.ask(asked)
        brief = await funnel.ask(replace(asked, concise=True))
        assert [(message.role, message.parts) for message in funnel.small.attempts[1].call.prompt.sent] == sent
    assert brief.request.input_tokens > plain.request.input_tokens
    assert brief.cache is CacheOutcome.MISS


@pytest.mark.parametrize("strategy", [Strategy.RACE, Strategy.HEDGE])
@pytest.mark.parametrize(("fields", "word"), [({"tools": (DEPTH,)}, "tools"), ({"max_cost": 1}, "max_cost_usd")])
def test_nothing_races_with_tools_or_a_budget(strategy: Strategy, fields: Any, word: str) -> None:
    """It is led as a cascade, and the reason says so."""
    choice = choose(request(strategy=strategy, **fields), CATALOG, POLICY, Router(time.time))
    assert (choice.strategy, choice.first) == (Strategy.CASCADE, SMALL)
    assert word in choice.reason
    assert strategy.value in choice.reason
    assert choose(request(strategy=strategy), CATALOG, POLICY, Router(time.time)).strategy is strategy


async def test_a_winner_of_a_race_has_thought_before_it_spoke() -> None:
    """What it said beside the text while nobody listened comes first, then its words, then what follows live."""
    small: list[Any] = [Thought("a"), "One", Thought("b"), " two.", STOP]
    async with scripted_funnel(small, [Thought("late"), *[Thought("r")] * 50, "Large.", STOP]) as funnel:
        response = await funnel.ask(request(strategy=Strategy.RACE))
    kept = [fact for fact in response.facts if isinstance(fact, str | Thought)]
    assert kept == [Thought("a"), "One", Thought("b"), " two."]


async def test_thoughts_alone_do_not_win_a_race() -> None:
    """Meaningful is what can be seen: who only thought has said nothing."""
    small: list[Any] = [Thought("hm")] * 3 + [Refusal("No."), STOP]
    async with scripted_funnel(small, ["Large.", STOP]) as funnel:
        response = await funnel.ask(request(strategy=Strategy.RACE))
    assert text_of(response) == "Large."
    assert facts_of(response, Thought) == []
    assert facts_of(response, Revised) == []


async def test_a_failing_model_with_tools_still_escalates() -> None:
    """Whatever it had said of a call."""
    async with scripted_funnel([*GOOD_CALL, UpstreamError("upstream_truncated", "x")], [*GOOD_CALL, CALLED]) as funnel:
        response = await funnel.ask(request(tools=(DEPTH,)))
    assert response.ended is not None
    assert (response.ended.status, response.ended.source) == (Status.COMPLETED, Source.LARGE)


def test_what_is_put_aside_for_a_request() -> None:
    """Every model it may ask, at its cap; never more than its own limit. A message has more tokens than its words."""
    asked = request(max_output_tokens=100)
    prompt = 5 + MESSAGE + REPLY
    small, large = (likely(replace(asked, strategy=strategy), CATALOG) for strategy in (Strategy.SMALL, Strategy.LARGE))
    assert (small.tokens, large.tokens, likely(asked, CATALOG).tokens) == (
        100 + prompt,
        100 + prompt,
        2 * (100 + prompt),
    )
    assert likely(asked, CATALOG).cost == small.cost + large.cost
    for model, put_aside in ((SMALL, small), (LARGE, large)):
        assert put_aside.cost == (100 * model.price.output + prompt * model.price.input) / 10**6
    assert likely(replace(asked, max_cost=small.cost), CATALOG).cost == small.cost
    assert likely(replace(asked, context=("x" * 300,)), CATALOG).tokens == 2 * (100 + prompt + 100)
