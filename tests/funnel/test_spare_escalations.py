"""Where the money of a day pays for no escalations, small answers are given as they are, but for those of no use."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from millrace.caches.exact import SqliteExactCache
from millrace.errors import UpstreamError
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.routing.promises import Promised, Promises
from millrace.funnel.routing.router import Router
from millrace.stores.database import MEMORY, SqliteDatabase
from millrace.types import Source, Strategy, Tier
from tests.support.scripted_models import STOP, ScriptedFunnel, ScriptedUpstream, Step, request

UNSURE = ("I don't know.", STOP)
PLACE = ("anonymous", "auto")


def router(dollars: str) -> Router:
    """Return a router that has spent five dollars of so many today, and knows what requests cost."""
    promises = Promises(Promised(spend_per_day=Decimal(dollars)), time.time)
    for _ in range(50):
        promises.spent(PLACE, Tier.SMALL, Decimal("0.04"), alone=Decimal("0.01"))
        promises.spent(PLACE, Tier.LARGE, Decimal("0.06"))
    return Router(time.time, promises)


@asynccontextmanager
async def funnel(dollars: str, *small: Sequence[Step]) -> AsyncIterator[ScriptedFunnel]:
    database = SqliteDatabase(MEMORY)
    exact = SqliteExactCache(database, ttl_s=60, memory_bytes=10**6, disk_bytes=10**6, wall=time.time)
    models = ScriptedUpstream(*small), ScriptedUpstream(("Two metres.", STOP))
    try:
        yield ScriptedFunnel(*models, database, exact, router=router(dollars))
    finally:
        await asyncio.to_thread(database.close)


def source(response: ResponseLog) -> Source | None:
    assert response.ended is not None
    return response.ended.source


async def test_an_unsure_answer_is_given_and_not_stored_and_the_route_says_why() -> None:
    async with funnel("5", UNSURE) as cheap:
        first = await cheap.ask(request(strategy=Strategy.AUTO))
        assert source(first) is Source.SMALL
        assert "the rest pays for no escalations but those of hard checks" in str(first.reason)
        await cheap.ask(request(strategy=Strategy.AUTO, id="resp_2"))
        assert (len(cheap.small.attempts), len(cheap.large.attempts)) == (2, 0)


async def test_with_money_it_is_escalated() -> None:
    async with funnel("5000", UNSURE) as rich:
        assert source(await rich.ask(request(strategy=Strategy.AUTO))) is Source.LARGE


@pytest.mark.parametrize(
    "answer", [(STOP,), (UpstreamError("upstream_error", "It is down."),)], ids=["empty", "failed"]
)
async def test_an_answer_that_is_none_is_escalated_all_the_same(answer: Sequence[Step]) -> None:
    async with funnel("5", answer) as cheap:
        assert source(await cheap.ask(request(strategy=Strategy.AUTO))) is Source.LARGE


async def test_who_asks_for_small_first_by_name_gets_every_check() -> None:
    """The promise is one of `auto`."""
    async with funnel("5", UNSURE) as cheap:
        assert source(await cheap.ask(request(strategy=Strategy.CASCADE))) is Source.LARGE


async def test_what_hard_checks_alone_let_pass_teaches_nothing() -> None:
    async with funnel("5", UNSURE) as cheap:
        await cheap.ask(request(strategy=Strategy.AUTO))
        assert cheap.funnel.sampling.router.learning.waiting == 0
    async with funnel("5000", UNSURE) as rich:
        await rich.ask(request(strategy=Strategy.AUTO))
        assert rich.funnel.sampling.router.learning.waiting == 1
