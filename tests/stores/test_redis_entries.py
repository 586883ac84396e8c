"""Semantic entries over a real Redis: what one replica stores is found at the other, and is as safe there."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from millrace.assembly.background import running
from millrace.caches import deletions, scopes, sharing
from millrace.caches.deletions import Deletion, Deletions
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.partition import Partition
from millrace.caches.semantic import SqliteSemanticCache
from millrace.stores.database import SqliteDatabase
from millrace.stores.redis import entries
from millrace.stores.redis.entries import SharedSemantic
from millrace.stores.redis.link import RedisLink
from millrace.types import SemanticHit, entry_id
from tests.support.logs import captured_logs
from tests.support.looks import look
from tests.support.semantic_cache import ASKED, OTHER_SCOPE, REWORDED, SCOPE, answer, cache_of, questions, stored
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at now and then is looked at often."""
    monkeypatch.setattr(entries, "CHECK_S", 0.05)
    monkeypatch.setattr(entries, "YIELD_S", 0.1)


class OtherHashing(Hashing):
    name = "another"


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Replica:
    """The semantic cache of one data_dir, and what it shares."""

    database: SqliteDatabase
    cache: SqliteSemanticCache
    deleted: Deletions
    shared: SharedSemantic

    async def finds(self, text: str = REWORDED, scope: bytes = SCOPE) -> str | None:
        """Return the answer to a question, as a request would be given it."""
        found = await self.cache.find(scope, text)
        if not isinstance(found, SemanticHit):
            return None
        covers = self.deleted.covers(found.entry_id, found.answer.stored_at, "tenant", scope)
        return None if covers else found.answer.text

    async def comes_to_find(self, wanted: str | None, text: str = REWORDED) -> None:
        await becomes(lambda: self.finds(text), wanted)

    def store(self, text: str, question: str = ASKED, scope: bytes = SCOPE) -> None:
        self.cache.store(scope, "tenant", question, answer(text))

    async def count(self) -> int:
        return len(await look(self.database, lambda connection: questions("tenant", connection)))

    async def tells_all(self) -> None:
        """Wait until the others are told of all that was stored here until now."""
        await stored(self.cache)
        await becomes(lambda: look(self.database, _untold), 0)


def _untold(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM semantic_entries WHERE untold = 1").fetchone()[0]
    return count


async def becomes(found: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Look again and again until that is found."""
    async with asyncio.timeout(PATIENCE_S):
        while await found() != wanted:  # noqa: ASYNC110 - what it looks at cannot tell us
            await asyncio.sleep(0.01)


@asynccontextmanager
async def replica(
    link: RedisLink, name: str, folder: Path | None = None, *, embedder: Hashing | None = None, **options: Any
) -> AsyncIterator[Replica]:
    database = SqliteDatabase(":memory:" if folder is None else str(folder / name))
    wall = options.setdefault("wall", Clock())
    cache = cache_of(database, embedder or Hashing(), is_shared=True, **options)
    deleted = Deletions(database, name, [cache], ttl_s=60.0, wall=wall)
    await database.ready()
    shared = SharedSemantic(link, database, cache.sharing(deleted), name, deleted.read, asyncio.get_running_loop().time)
    try:
        async with running(shared.run()):
            yield Replica(database, cache, deleted, shared)
    finally:
        await cache.close()
        await asyncio.to_thread(database.close)


async def test_what_one_stores_another_finds_in_the_same_scope_alone(link: RedisLink) -> None:
    async with replica(link, "one") as one, replica(link, "two") as two:
        one.store("Click here.")
        await two.comes_to_find("Click here.")
        assert await two.finds(scope=OTHER_SCOPE) is None
        two.store("Elsewhere.", scope=OTHER_SCOPE)
        two.store("Ask the moon.", question="Who lives in the mill?")
        await one.comes_to_find("Ask the moon.", "Who lives in the mill?")
        assert await one.finds() == "Click here."


async def test_the_newest_answer_to_a_question_is_the_one_at_all(link: RedisLink) -> None:
    """Whichever comes first."""
    async with replica(link, "one", wall=Clock(1000.0)) as one, replica(link, "two", wall=Clock(1001.0)) as two:
        two.store("newer")
        await one.comes_to_find("newer")
        one.store("older, and stored here")
        await stored(one.cache)
        one.store("else", question="What else is there to know of mills?")
        await two.comes_to_find("else", "What else is there to know of mills?")
        assert await two.finds() == "newer"


async def test_of_a_replica_whose_clock_is_far_ahead_nothing_is_taken(link: RedisLink) -> None:
    async with replica(link, "ahead", wall=Clock(1006.0)) as ahead, replica(link, "two") as two:
        with captured_logs() as logs:
            ahead.store("early")
            await until(lambda: "the clock of another replica is ahead" in logs.text)
        assert await two.count() == 0


async def test_one_whose_clock_is_a_little_ahead_has_its_entries_deleted_too(link: RedisLink) -> None:
    async with replica(link, "ahead", wall=Clock(1003.0)) as ahead, replica(link, "two") as two:
        ahead.store("early")
        await two.comes_to_find("early")
        made = Deletion(at=1000.0, entry_id=entry_id(SCOPE, ASKED))
        await two.database.commit(lambda connection: deletions.add(connection, [made]), within_s=PATIENCE_S)
        await two.deleted.read()
        assert await two.finds() is None


async def test_what_is_deleted_neither_leaves_nor_comes(link: RedisLink) -> None:
    made = Deletion(at=1000.0, entry_id=entry_id(SCOPE, ASKED))
    async with AsyncExitStack() as parts:
        one = await parts.enter_async_context(replica(link, "one"))
        await one.database.commit(lambda connection: deletions.add(connection, [made]), within_s=PATIENCE_S)
        await one.deleted.read()
        one.store("deleted")
        one.store("kept", question="Who lives in the mill?")
        two = await parts.enter_async_context(replica(link, "two"))
        await two.comes_to_find("kept", "Who lives in the mill?")
        assert await two.count() == 1
        two.store("wrong")
        two.store("right", question="Where is the mill?")
        await one.comes_to_find("right", "Where is the mill?")
        assert await one.finds() is None


async def test_entries_of_another_embedder_are_left_alone(link: RedisLink) -> None:
    async with (
        replica(link, "one", embedder=OtherHashing()) as one,
        replica(link, "two") as two,
        replica(link, "three") as three,
    ):
        one.store("of another")
        await one.tells_all()
        three.store("of the same", question="Who lives in the mill?")
        await two.comes_to_find("of the same", "Who lives in the mill?")
        assert await two.count() == 1


async def test_what_is_not_sound_is_passed_over(link: RedisLink) -> None:
    """A message that cannot be read, an id of another question, a vector that is none, an answer that is none."""
    async with replica(link, "one") as one, replica(link, "two") as two:
        one.store("sound")
        await one.tells_all()
        (sound,) = await one.shared._entries.numbered(await one.shared._entries.numbers(0.0))
        infinite = b"\x00\x7c" * (len(sound.blob) // 2)
        made = [
            sound._replace(id="sem_" + 24 * "0"),
            sound._replace(stored_at=1001.0, blob=infinite),
            sound._replace(stored_at=1001.0, blob=sound.blob[:9]),
            sound._replace(stored_at=1001.0, answer=b"{}"),
        ]
        told = [entries._encode(each) for each in made]
        await one.shared._stream.add([one.shared._message(b"entry", each) for each in (b"\xc1", *told)])
        one.store("also", question="Who lives in the mill?")
        await two.comes_to_find("also", "Who lives in the mill?")
        assert await two.finds() == "sound"
        assert await two.count() == 2


async def test_while_redis_is_away_each_goes_on_and_tells_afterwards(redis: SharedServer, link: RedisLink) -> None:
    """Also where Redis comes back empty."""
    async with replica(link, "one") as one, replica(link, "two") as two:
        one.store("before")
        await two.comes_to_find("before")
        await asyncio.to_thread(redis.kill)
        one.store("meanwhile", question="Who lives in the mill?")
        await one.comes_to_find("meanwhile", "Who lives in the mill?")
        assert await two.finds() == "before"
        await until(lambda: one.shared.lags["sent"] > 0)
        await asyncio.to_thread(redis.start)
        await two.comes_to_find("meanwhile", "Who lives in the mill?")
        await one.tells_all()
        await until(lambda: one.shared.lags["sent"] == 0)


async def test_a_new_one_gets_all_from_another_page_by_page(
    redis: SharedServer, link: RedisLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what others had stored who are gone, and what Redis has no more."""
    monkeypatch.setattr(entries, "PAGE", 4)
    monkeypatch.setattr(entries, "PAGES", 2)
    async with replica(link, "one") as one:
        async with replica(link, "gone") as gone:
            for number in range(25):
                (gone if number % 2 else one).store(str(number), question=f"How is a mill of type {number} built?")
            await becomes(one.count, 25)
        await redis.restart()
        async with replica(link, "new") as new:
            await becomes(new.count, 25)


async def test_while_indexes_are_far_behind_no_more_comes_in_bulk(
    link: RedisLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lookup would search it row by row."""
    monkeypatch.setattr(scopes, "FEW_ROWS", 1)
    monkeypatch.setattr(sharing, "BEHIND_S", 60.0)
    gate, step = threading.Event(), Partition.step

    def held(partition: Partition) -> None:
        assert gate.wait(PATIENCE_S)
        step(partition)

    monkeypatch.setattr(Partition, "step", held)
    async with replica(link, "one", index_above=2) as one:
        for number in range(3):
            one.store("Click here.", f"Where is mill {number}?")
        await until(lambda: one.cache._scopes.is_behind)
        caught_up = asyncio.create_task(one.shared._entries.caught_up())
        assert not (await asyncio.wait([caught_up], timeout=0.2))[0]
        gate.set()
        async with asyncio.timeout(PATIENCE_S):
            await caught_up


async def test_a_gap_is_mended(link: RedisLink, tmp_path: Path) -> None:
    """A replica was away while the stream lost what it had not read; it asks for the last minutes.

    These are told by the clocks of Redis and of the replicas, which are the same here.
    """
    async with replica(link, "one", tmp_path, wall=time.time) as one:
        async with replica(link, "two", tmp_path, wall=time.time) as two:
            one.store("before")
            await two.comes_to_find("before")
            await until(lambda: two.shared.lags["received"] == 0)
        for number in range(9):
            one.store(str(number), question=f"How is a mill of type {number} built?")
        await one.tells_all()
        await link.ask(lambda client: client.xtrim(link.key("semantic1"), maxlen=1, approximate=False))
        async with replica(link, "two", tmp_path, wall=time.time) as two:
            await becomes(two.count, 10)


async def test_the_stream_keeps_within_its_bytes(link: RedisLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "BYTES", 100_000)
    async with replica(link, "one") as one:
        for number in range(400):
            one.store("y" * 1000, question=f"How is a mill of type {number} built?")
        await one.tells_all()

        async def is_small(redis: Redis) -> bool:
            return (await redis.memory_usage(link.key("semantic1")) or 0) < 130_000

        await becomes(lambda: link.ask(is_small), wanted=True)
        assert await link.ask(lambda client: client.xlen(link.key("semantic1"))) > 20


async def found_by(cache: SqliteSemanticCache) -> str | None:
    found = await cache.find(SCOPE, REWORDED)
    return found.answer.text if isinstance(found, SemanticHit) else None


async def test_other_workers_on_the_data_dir_find_what_came(link: RedisLink, tmp_path: Path) -> None:
    """However long ago it was stored: what counts is when it came."""
    wall = Clock(1000.0)
    async with replica(link, "one", wall=wall) as one, replica(link, "two", tmp_path, wall=Clock(1030.0)) as two:
        database = SqliteDatabase(str(tmp_path / "two"))
        worker = cache_of(database, Hashing(), wall=Clock(1030.0))
        two.store("its own", question="Who lives in the mill?")
        await stored(two.cache)
        assert isinstance(await worker.find(SCOPE, "Who lives in the mill?"), SemanticHit)  # it is in memory
        async with running(worker.follow()):
            one.store("came")
            await becomes(lambda: found_by(worker), "came")
        await worker.close()
        await asyncio.to_thread(database.close)
