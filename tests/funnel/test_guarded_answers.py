"""What becomes of an answer that holds what a guard forbids: nobody sees it, and nobody keeps it."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from millrace.caches.exact import SqliteExactCache
from millrace.dialects.responses import body_of
from millrace.errors import UpstreamError
from millrace.types import CacheOutcome, CallPiece, Delivery, Finish, FinishReason, Message, Status, Strategy, Tool
from tests.support.planted import guards_with
from tests.support.pooled_models import pooled_funnel
from tests.support.scripted_models import CALLED, STOP, request, scripted_funnel

KEY = "AKIAABCDEFGHIJKLMNOP"
SAYS_IT = ("The", " key", " is", " AK", "IAABCDEFG", "HIJKLMNOP", ",", " and", " more", STOP)
SAYS_IT_NOT = ("Keys", " are", " kept", " elsewhere", ".", STOP)
SECRETS = guards_with(secrets=True)
FIRST = "AKIA"


def shown(response: Any) -> str:
    """Return all that a plain client is shown in the end."""
    return str(body_of(response, 0).output)


@pytest.mark.parametrize("delivery", [Delivery.COMMIT, Delivery.FINAL, Delivery.SPECULATE])
async def test_a_small_answer_that_may_be_taken_back_is_and_the_large_model_is_asked(delivery: Delivery) -> None:
    async with scripted_funnel(SAYS_IT, SAYS_IT_NOT, guards=SECRETS) as funnel:
        response = await funnel.ask(request(delivery=delivery))
    assert response.ended is not None
    assert (response.ended.status, response.ended.check) == (Status.COMPLETED, "guard")
    assert response.message().text == "Keys are kept elsewhere."
    assert funnel.small.attempts[0].aborted
    assert FIRST not in shown(response)


async def test_under_prefix_the_answer_ends_before_it() -> None:
    """A plain client has seen words that stand, so nothing can take their place."""
    async with scripted_funnel(SAYS_IT, guards=SECRETS) as funnel:
        response = await funnel.ask(request(delivery=Delivery.PREFIX))
    ended = response.ended
    assert ended is not None
    assert (ended.status, ended.reason, ended.check) == (Status.INCOMPLETE, "content_filter", "guard")
    assert response.message().text == "The key is "
    assert funnel.large.attempts == []
    assert ended.statement.usage.output_tokens > 0


@pytest.mark.parametrize("strategy", [Strategy.SMALL, Strategy.LARGE])
@pytest.mark.parametrize("delivery", [Delivery.SPECULATE, Delivery.PREFIX, Delivery.COMMIT])
async def test_where_no_other_model_is_left_the_answer_ends_before_it(strategy: Strategy, delivery: Delivery) -> None:
    async with scripted_funnel(SAYS_IT, SAYS_IT, guards=SECRETS) as funnel:
        response = await funnel.ask(request(strategy=strategy, delivery=delivery))
    assert response.ended is not None
    assert (response.ended.reason, response.ended.check) == ("content_filter", "guard")
    assert response.message().text == "The key is "
    assert not any(FIRST in fact for fact in response.facts if isinstance(fact, str))


async def test_the_large_model_is_watched_too_after_a_small_answer_was_taken_back() -> None:
    async with scripted_funnel(("I", " don't", " know", ".", STOP), SAYS_IT, guards=SECRETS) as funnel:
        response = await funnel.ask(request(delivery=Delivery.SPECULATE))
    assert response.ended is not None
    assert (response.ended.reason, response.ended.check) == ("content_filter", "guard")
    assert response.message().text == "The key is "


async def test_without_money_for_the_large_model_nothing_of_it_stands() -> None:
    async with scripted_funnel(SAYS_IT, guards=SECRETS) as funnel:
        response = await funnel.ask(request(delivery=Delivery.SPECULATE, max_cost=Decimal("0.00001")))
    assert response.ended is not None
    assert response.ended.error is not None
    assert response.message().text == ""
    assert FIRST not in shown(response)


async def test_where_the_large_model_fails_nothing_of_it_stands() -> None:
    async with scripted_funnel(SAYS_IT, (UpstreamError("upstream_error", "it broke"),), guards=SECRETS) as funnel:
        response = await funnel.ask(request(delivery=Delivery.SPECULATE))
    assert response.ended is not None
    assert response.ended.status is Status.FAILED
    assert FIRST not in shown(response)


async def test_a_call_with_it_is_never_shown() -> None:
    """Also not in the end, when what a model has called becomes visible."""
    steps = (
        "Let me look.",
        CallPiece(index=0, id="call_1", name="look", arguments='{"key": "AKIAABC'),
        CallPiece(index=0, arguments='DEFGHIJKLMNOP"}'),
        CALLED,
    )
    tool = Tool(name="look", parameters={"type": "object"})
    async with scripted_funnel(steps, steps, guards=SECRETS) as funnel:
        response = await funnel.ask(request(strategy=Strategy.LARGE, tools=(tool,)))
    assert response.ended is not None
    assert response.ended.reason == "content_filter"
    assert FIRST not in shown(response)
    assert response.message().calls == ()


async def test_it_is_not_stored_and_stored_answers_of_other_guards_are_not_served() -> None:
    words = guards_with(words=("elsewhere",))

    def exact(of: Any) -> SqliteExactCache:
        return SqliteExactCache(of, memory_bytes=10**6, disk_bytes=10**6, ttl_s=100.0, wall=lambda: 1_700_000_000.0)

    async with scripted_funnel(SAYS_IT_NOT, exact=exact) as funnel:
        for cache in (CacheOutcome.MISS, CacheOutcome.EXACT):
            response = await funnel.ask(request())
            assert response.cache is cache
        keys = [await funnel.funnel._recall.keys(request())]
    async with scripted_funnel(SAYS_IT_NOT, guards=words) as funnel:
        keys.append(await funnel.funnel._recall.keys(request()))
    assert keys[0].exact != keys[1].exact


async def test_whoever_joined_is_shown_as_little() -> None:
    async with scripted_funnel(SAYS_IT, guards=SECRETS) as funnel:
        asked = [request(delivery=Delivery.PREFIX, id=f"resp_{at}") for at in range(3)]
        responses = await asyncio.gather(*map(funnel.ask, asked))
    assert len(funnel.small.attempts) == 1
    assert {response.message().text for response in responses} == {"The key is "}


@pytest.mark.parametrize("reason", [FinishReason.STOP, FinishReason.LENGTH])
async def test_a_clean_answer_is_what_it_was(reason: FinishReason) -> None:
    steps = (*SAYS_IT_NOT[:-1], Finish(reason=reason))
    async with scripted_funnel(steps, steps, guards=SECRETS) as funnel:
        response = await funnel.ask(request(Message(role="user", parts=("Where?",)), strategy=Strategy.SMALL))
    assert response.message().text == "Keys are kept elsewhere."


DOWN = UpstreamError("upstream_error", "it broke", billable=False)


async def test_an_answer_of_another_deployment_is_watched_to_its_end() -> None:
    """What is held back to the end of it passes on then."""
    mail = guards_with(addresses=True)
    async with pooled_funnel([DOWN], ("It", " is", " kept", " elsewhere", STOP), guards=mail) as pooled:
        response = await pooled.ask(request(delivery=Delivery.PREFIX))
        assert pooled.calls("small") == [1, 1]
    assert response.message().text == "It is kept elsewhere"
    whole = ("Write", " to", " me", "@example.co", STOP)
    async with pooled_funnel([DOWN], whole, large=[SAYS_IT_NOT], guards=mail) as pooled:
        response = await pooled.ask(request(delivery=Delivery.SPECULATE))
    assert response.message().text == "Keys are kept elsewhere."


@pytest.mark.parametrize("delivery", [Delivery.SPECULATE, Delivery.COMMIT])
async def test_an_answer_in_place_of_one_that_broke_off_is_watched_too(delivery: Delivery) -> None:
    async with pooled_funnel(["The", " key", DOWN], SAYS_IT, large=[SAYS_IT_NOT], guards=SECRETS) as pooled:
        response = await pooled.ask(request(delivery=delivery))
        assert pooled.calls("small") == [1, 1]
    assert response.ended is not None
    assert (response.ended.status, response.ended.check) == (Status.COMPLETED, "guard")
    assert response.message().text == "Keys are kept elsewhere."
    assert not any("AKIAABC" in fact for fact in response.facts if isinstance(fact, str))
