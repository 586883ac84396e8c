"""The options of a request over real HTTP, real SQLite and the real caches."""

import time
from typing import Any

import pytest

from millrace.funnel.funnel import Funnel
from millrace.funnel.response_log import ResponseLog
from millrace.types import CacheOutcome, Message, Source, Status
from tests.support.real_funnel import real_funnel
from tests.support.scripted_models import request

ASKED = "How do I reset my router?"
SAME = "How can I reset my router?"


async def ask(funnel: Funnel, question: str, **fields: Any) -> ResponseLog:
    response = ResponseLog(request(Message(role="user", parts=(question,)), **fields), time.monotonic)
    await funnel.answer(response)
    assert response.ended is not None
    assert response.ended.status is Status.COMPLETED
    return response


@pytest.mark.parametrize(("again", "cache"), [(ASKED, CacheOutcome.EXACT), (SAME, CacheOutcome.SEMANTIC)])
async def test_a_cache_scope_is_one_more_wall(again: str, cache: CacheOutcome) -> None:
    """Within it answers are found, across it never, by neither cache."""
    async with real_funnel() as (funnel, _, __):
        await ask(funnel, ASKED, cache_scope="ward 3")
        assert (await ask(funnel, again)).cache is CacheOutcome.MISS
        assert (await ask(funnel, again, cache_scope="ward 4")).cache is CacheOutcome.MISS
        assert (await ask(funnel, again, cache_scope="ward 3")).cache is cache


async def test_a_context_version_lets_questions_over_chunks_hit() -> None:
    """Other chunks of the same state of knowledge; of another state, or without one, they are another world."""
    async with real_funnel() as (funnel, _, __):
        await ask(funnel, ASKED, context=("Hold the button.",), context_version="7")
        assert (await ask(funnel, SAME, context=("Press it.",), context_version="8")).cache is CacheOutcome.MISS
        assert (await ask(funnel, SAME, context=("Press it.",))).cache is CacheOutcome.MISS
        hit = await ask(funnel, SAME, context=("Press it.",), context_version="7")
        assert hit.cache is CacheOutcome.SEMANTIC


async def test_chosen_checks_choose_who_answers() -> None:
    """A weak answer passes where nobody asks for its weakness, and each choice has its own cache."""
    async with real_funnel() as (funnel, small, large):
        lax = await ask(funnel, "[weak] x", checks=("cut_off",))
        assert (lax.ended and lax.ended.source, lax.ended and lax.ended.check) == (Source.SMALL, "passed")
        strict = await ask(funnel, "[weak] x")
        assert (strict.ended and strict.ended.source, strict.cache) == (Source.LARGE, CacheOutcome.MISS)
        assert (small.stats.started, large.stats.started) == (2, 1)


async def test_a_schema_of_the_askers_own_is_not_sent() -> None:
    """Text is not JSON after it, so both models are asked, and told nothing of it."""
    async with real_funnel() as (funnel, small, large):
        response = await ask(funnel, "talk", check_schema={"type": "object"})
        assert response.ended is not None
        assert response.ended.check == "form"
        plain = small.stats.input_tokens
        await ask(funnel, "talk", cache_scope="another")
        assert small.stats.input_tokens == 2 * plain
        assert large.stats.started == 1


async def test_concise_reaches_the_model_and_the_bill() -> None:
    """The line is sent as input, so the provider counts it, and so do we."""
    async with real_funnel() as (funnel, small, _):
        plain = await ask(funnel, ASKED)
        sent = small.stats.input_tokens
        brief = await ask(funnel, ASKED, concise=True)
        assert brief.cache is CacheOutcome.MISS
        assert small.stats.input_tokens - sent > sent
        assert brief.request.input_tokens > 2 * plain.request.input_tokens
