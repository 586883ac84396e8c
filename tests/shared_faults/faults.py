"""What fails, and how it is mended. Each is struck while clients ask, and mended while they go on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from random import Random

from redis.asyncio import Redis

from tests.shared_faults.place import Place
from tests.support.proxy import Proxy
from tests.support.waiting import PATIENCE_S

SLOW_S = 0.3  # from Redis to a replica
OLD_S = 1.0  # by which the other Redis is behind, when it takes over
CLOCKS = (0.0, 240.0, -240.0)  # of replicas
Strike = Callable[[Place, Random], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: it lasts while the context of `strike` is open."""

    strike: Strike
    clocks: tuple[float, ...] = ()  # of the replicas, from the start
    kills: bool = False  # a replica dies, so not everything has an end for its client


@asynccontextmanager
async def nothing(place: Place, chance: Random) -> AsyncIterator[None]:
    """Have no fault."""
    yield


@asynccontextmanager
async def redis_slow(place: Place, chance: Random) -> AsyncIterator[None]:
    """Redis answers late."""
    for replica in place.replicas:
        replica.redis.to_client.latency_s = SLOW_S
    yield
    for replica in place.replicas:
        replica.redis.calm()


@asynccontextmanager
async def redis_gone(place: Place, chance: Random) -> AsyncIterator[None]:
    """Redis is killed, and comes back empty."""
    await asyncio.to_thread(place.redis.kill)
    yield
    await asyncio.to_thread(place.redis.start)


@asynccontextmanager
async def redis_hung(place: Place, chance: Random) -> AsyncIterator[None]:
    """Redis says nothing, with its sockets open."""
    place.redis.hang()
    yield
    place.redis.go_on()


@asynccontextmanager
async def redis_flushed(place: Place, chance: Random) -> AsyncIterator[None]:
    """Redis is emptied."""
    async with Redis.from_url(place.redis.url) as client:
        await client.flushall()
    yield


@asynccontextmanager
async def redis_failed_over(place: Place, chance: Random) -> AsyncIterator[None]:
    """Another Redis takes over at the same address, which lacks the last second."""
    async with Redis.from_url(place.spare.url) as spare:
        await spare.replicaof("127.0.0.1", place.redis.url.rpartition(":")[2].removesuffix("/0"))
        async with asyncio.timeout(PATIENCE_S):
            while (await spare.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110 - it cannot tell us
                await asyncio.sleep(0.05)
        await spare.replicaof("NO", "ONE")
    await asyncio.sleep(OLD_S)
    _lead(place, place.spare.url)
    yield


@asynccontextmanager
async def redis_replaced(place: Place, chance: Random) -> AsyncIterator[None]:
    """Another Redis is at the same address, and knows nothing."""
    _lead(place, place.spare.url)
    yield


def _lead(place: Place, url: str) -> None:
    for replica in place.replicas:
        replica.redis.target = url
        replica.redis.cut()


@asynccontextmanager
async def postgres_gone(place: Place, chance: Random) -> AsyncIterator[None]:
    """PostgreSQL is killed, and comes back with what it had written."""
    await asyncio.to_thread(place.postgres.kill)
    yield
    await asyncio.to_thread(place.postgres.start)


@asynccontextmanager
async def postgres_hung(place: Place, chance: Random) -> AsyncIterator[None]:
    """PostgreSQL says nothing, with its sockets open."""
    place.postgres.hang()
    yield
    place.postgres.go_on()


@asynccontextmanager
async def replicas_apart(place: Place, chance: Random) -> AsyncIterator[None]:
    """Replicas do not reach each other; they do reach Redis and PostgreSQL."""
    async with _lost([replica.peers for replica in place.replicas]):
        yield


@asynccontextmanager
async def one_without_redis(place: Place, chance: Random) -> AsyncIterator[None]:
    """One replica does not reach Redis."""
    async with _lost([chance.choice(place.replicas).redis]):
        yield


@asynccontextmanager
async def one_without_postgres(place: Place, chance: Random) -> AsyncIterator[None]:
    """One replica does not reach PostgreSQL."""
    async with _lost([chance.choice(place.replicas).postgres]):
        yield


@asynccontextmanager
async def one_alone(place: Place, chance: Random) -> AsyncIterator[None]:
    """One replica reaches clients and models, and nothing else."""
    one = chance.choice(place.replicas)
    async with _lost([one.redis, one.postgres, one.peers]):
        yield


@asynccontextmanager
async def _lost(proxies: list[Proxy]) -> AsyncIterator[None]:
    """Have nothing pass either way, with all sockets open."""
    for proxy in proxies:
        proxy.to_server.hold()
        proxy.to_client.hold()
    yield
    for proxy in proxies:
        proxy.calm()


@asynccontextmanager
async def replica_killed(place: Place, chance: Random) -> AsyncIterator[None]:
    """One replica is killed (-9), and started again."""
    one = chance.choice(place.replicas)
    await one.program.kill()
    yield
    await one.program.start()


FAULTS: dict[str, Fault] = {
    "none": Fault(nothing),
    "redis-slow": Fault(redis_slow),
    "redis-gone": Fault(redis_gone),
    "redis-hung": Fault(redis_hung),
    "redis-flushed": Fault(redis_flushed),
    "redis-failed-over": Fault(redis_failed_over),
    "redis-replaced": Fault(redis_replaced),
    "postgres-gone": Fault(postgres_gone),
    "postgres-hung": Fault(postgres_hung),
    "clocks": Fault(nothing, clocks=CLOCKS),
    "replicas-apart": Fault(replicas_apart),
    "one-without-redis": Fault(one_without_redis),
    "one-without-postgres": Fault(one_without_postgres),
    "one-alone": Fault(one_alone),
    "replica-killed": Fault(replica_killed, kills=True),
}
