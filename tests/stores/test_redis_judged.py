"""What one replica has found of semantic hits the others go by: over a real Redis, into real semantic caches."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from millrace.assembly.background import running
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.semantic import SqliteSemanticCache
from millrace.evidence.evidence import Evidence, Shares
from millrace.evidence.judging import Panel
from millrace.evidence.trust import Trust
from millrace.stores.database import SqliteDatabase
from millrace.stores.redis import judged as module
from millrace.stores.redis.judged import SharedEvidence
from millrace.stores.redis.link import RedisLink
from millrace.types import Change, Request, SemanticHit, Steering, Strategy, entry_id
from tests.support.judged import judged
from tests.support.semantic_cache import ASKED, OTHER_SCOPE, REWORDED, SCOPE, answer, cache_of, stored
from tests.support.shared_servers import SharedServer
from tests.support.streams import MemoryStore
from tests.support.waiting import PATIENCE_S, until

FAR = "How can I get back into an account whose secret word is lost?"  # nothing finds the stored one by it
OFF = Change(at=5.0, tenant="acme", scope=SCOPE, steering=Steering(is_off=True), reason="off")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_S", 0.05)


@dataclass
class Replica:
    """The semantic cache of one process, with a question in it, and what it learns."""

    cache: SqliteSemanticCache
    store: MemoryStore
    evidence: Evidence

    async def finds(self, text: str, scope: bytes = SCOPE) -> bool:
        return isinstance(await self.cache.find(scope, text, "acme"), SemanticHit)

    async def comes_to(self, finds: bool, text: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.finds(text) is not finds:  # noqa: ASYNC110 - the cache cannot tell us
                await asyncio.sleep(0.01)


@asynccontextmanager
async def replica(link: RedisLink, name: str, store: MemoryStore | None = None) -> AsyncIterator[Replica]:
    database = SqliteDatabase(":memory:")
    cache = cache_of(database, Hashing())
    for scope in (SCOPE, OTHER_SCOPE):
        cache.store(scope, "acme", ASKED, answer("Click here."))
    await stored(cache)
    store = store or MemoryStore()

    async def ask(request: Request, strategy: Strategy | None = None) -> str | None:
        return None

    async def remove(tenant: str, entry_ids: Sequence[str]) -> None:
        """Leave them."""

    trust = Trust(cache, limit=0.01, needed=1.0)
    shares = Shares(hits=0.0, small=0.0, large=0.0)
    evidence = Evidence(store, Panel([], 0.0), trust, ask, remove, shares, wall=lambda: 50.0)
    await evidence.begin(0.0)
    shared = SharedEvidence(link, name, evidence.heed, store.steered)
    evidence.tell = shared.tell
    try:
        async with running(shared.run()):
            yield Replica(cache, store, evidence)
    finally:
        await cache.close()
        await asyncio.to_thread(database.close)


async def test_what_is_known_to_be_the_same_at_one_is_served_at_all(link: RedisLink) -> None:
    """In its scope alone. It is kept there too, and learned once."""
    ids = entry_id(SCOPE, ASKED), entry_id(SCOPE, FAR)
    found = judged("1", "same same", scope=SCOPE, entry_id=ids[0], asked_id=ids[1])
    async with replica(link, "one") as one, replica(link, "two") as two:
        assert not await two.finds(FAR)
        one.evidence.tell([found], ())
        await two.comes_to(True, FAR)
        assert not await two.finds(FAR, OTHER_SCOPE)
        assert two.store.rows == [found]
        one.evidence.tell([found], [OFF])
        await two.comes_to(False, FAR)
        assert two.store.rows == [found]


async def test_a_scope_that_is_off_at_one_is_off_at_all(link: RedisLink) -> None:
    """Until a later change; an earlier one, which comes afterwards, changes nothing."""
    async with replica(link, "one") as one, replica(link, "two") as two:
        assert await two.finds(REWORDED)
        one.evidence.tell((), [OFF])
        await two.comes_to(False, REWORDED)
        assert await two.finds(REWORDED, OTHER_SCOPE)
        earlier = Change(at=4.0, tenant="acme", scope=SCOPE, steering=Steering(), reason="earlier")
        marker = Change(at=9.0, tenant="acme", scope=b"x", steering=Steering(), reason="marker")
        one.evidence.tell((), [earlier, marker])
        await until(lambda: marker in two.store.changes)
        assert not await two.finds(REWORDED)
        one.evidence.tell((), [Change(at=6.0, tenant="acme", scope=SCOPE, steering=Steering(), reason="later")])
        await two.comes_to(True, REWORDED)


@pytest.mark.parametrize("lost", ["Redis was emptied", "the stream was trimmed"])
async def test_a_new_one_steers_as_the_others_do(link: RedisLink, lost: str) -> None:
    store = MemoryStore()
    await store.add((), [OFF])
    stream = link.key("judged1")
    async with replica(link, "one", store) as one:
        one.evidence.tell((), [Change(at=1.0, tenant="acme", scope=b"x", steering=Steering(), reason="one")])
        async with asyncio.timeout(PATIENCE_S):
            while not await link.ask(lambda client: client.xlen(stream)):  # noqa: ASYNC110 - it cannot tell us
                await asyncio.sleep(0.01)
        if lost == "Redis was emptied":
            await link.ask(lambda client: client.flushdb())
        else:
            await link.ask(lambda client: client.xtrim(stream, maxlen=0, approximate=False))
        async with replica(link, "two") as two:
            await two.comes_to(False, REWORDED)


async def _added(stream: bytes, fields: dict[Any, Any], redis: Redis) -> None:
    await redis.xadd(stream, fields)


async def test_what_cannot_be_read_is_passed_over(link: RedisLink) -> None:
    async with replica(link, "one") as one, replica(link, "two") as two:
        stream = link.key("judged1")
        for fields in ({b"judged": b"\xc1"}, {b"change": b"\x80"}, {b"another": b""}):
            await link.ask(partial(_added, stream, fields))
        one.evidence.tell([judged("1", probability=1e-12, scope=SCOPE)], [OFF])
        await two.comes_to(False, REWORDED)
        assert two.store.rows == []


async def test_what_is_found_while_redis_is_away_is_told_afterwards(redis: SharedServer, link: RedisLink) -> None:
    async with replica(link, "one") as one, replica(link, "two") as two:
        await asyncio.to_thread(redis.kill)
        one.evidence.tell((), [OFF])
        await until(lambda: link.is_away)
        await asyncio.to_thread(redis.start)
        await two.comes_to(False, REWORDED)
