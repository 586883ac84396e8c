"""What a stream in Redis says of itself: whether anything is missing that was added to it."""

import asyncio

import pytest

from millrace.caches.deletions import Deletions, add_of_others
from millrace.stores.database import SqliteDatabase
from millrace.stores.redis.deletions import SKEW_S, SharedDeletions
from millrace.stores.redis.link import RedisLink
from millrace.stores.redis.stream import START, Standing, Stream
from tests.support.waiting import PATIENCE_S


async def added(stream: Stream, count: int = 1) -> str:
    """Add messages; return the id of the last one that is there."""
    await stream.add([{b"n": number} for number in range(count)])
    return (await stream.read(START, 1000, 0.0))[-1][0]


async def trimmed(link: RedisLink, stream: Stream, left: int) -> None:
    await link.ask(lambda client: client.xtrim(stream.key, maxlen=left, approximate=False))


async def test_one_that_has_all_is_whole(link: RedisLink) -> None:
    stream = Stream(link, "stream", 100)
    assert await stream.standing(START) is Standing.WHOLE
    seen = await added(stream)
    await added(stream, 3)
    assert await stream.standing(seen) is Standing.WHOLE
    assert await stream.standing(START) is Standing.WHOLE
    assert await stream.trimmed_until() == 0


async def test_one_that_lost_what_was_read_is_whole(link: RedisLink) -> None:
    stream = Stream(link, "stream", 100)
    seen = await added(stream, 3)
    await trimmed(link, stream, 1)
    assert await stream.standing(seen) is Standing.WHOLE
    await trimmed(link, stream, 0)
    assert await stream.standing(seen) is Standing.WHOLE
    assert await stream.trimmed_until() == int(seen.partition("-")[0]) / 1000


@pytest.mark.parametrize("left", [0, 1])
async def test_one_that_lost_what_was_not_read_is_trimmed(link: RedisLink, left: int) -> None:
    stream = Stream(link, f"stream{left}", 100)
    seen = await added(stream)
    await added(stream, 3)
    await trimmed(link, stream, left)
    assert await stream.standing(seen) is Standing.TRIMMED


async def test_one_of_a_redis_that_was_emptied_began_anew(link: RedisLink) -> None:
    """Also where others have added to it since, and what they have added was read."""
    stream = Stream(link, "stream", 100)
    seen = await added(stream, 3)
    assert await stream.standing(seen) is Standing.WHOLE
    await link.ask(lambda client: client.flushdb())
    assert await Stream(link, "stream", 100).standing(seen) is Standing.ANEW
    later = await added(stream)
    assert await stream.standing(later) is Standing.ANEW
    assert await stream.standing(later) is Standing.WHOLE
    assert await Stream(link, "stream", 100).standing(seen) is Standing.TRIMMED


async def test_whoever_can_learn_no_more_of_a_deletion_forgets_all(link: RedisLink) -> None:
    """What comes to a new replica from others may have been deleted before that."""
    stream = Stream(link, "deletions1", 100)
    kept = await added(stream, 3)
    await trimmed(link, stream, 1)
    until = int(kept.partition("-")[0]) / 1000 + SKEW_S
    database = SqliteDatabase(":memory:")
    deleted = Deletions(database, "epoch", (), ttl_s=60.0, wall=lambda: until)
    await link.ask(lambda client: client.xtrim(stream.key, maxlen=0, approximate=False))
    shared = SharedDeletions(link, database, "own", add_of_others, lambda: until)
    carrying = asyncio.create_task(shared.run())
    async with asyncio.timeout(PATIENCE_S):
        await shared.known.wait()
    await deleted.read()
    assert deleted.covers("entry", until, "tenant")
    assert not deleted.covers("entry", until + 1, "tenant")
    carrying.cancel()
    await asyncio.gather(carrying, return_exceptions=True)
    await asyncio.to_thread(database.close)
