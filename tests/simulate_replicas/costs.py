"""What the parts of replicas cost on this machine, measured with the real ones: Redis, PostgreSQL, a server, an index.

Times are processor time where a part computes, which other programs of the machine hardly change, and time on the clock
where it waits for another one: then the least of several.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from millrace.caches.exact import SqliteExactCache
from millrace.caches.segment import Segment
from millrace.stores.database import MEMORY, SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.stores.postgres import migrations
from millrace.stores.postgres.connection import Connection
from millrace.stores.postgres.database import PostgresDatabase
from millrace.stores.postgres.shipper import PAGE, Shipper
from millrace.stores.redis.exact import FORM, SharedExactCache
from millrace.stores.redis.link import RedisLink, linked
from millrace.stores.redis.replicas import RedisReplicas
from millrace.types import Answer, Model, Price, Tier, Usage
from tests.support import many_rows
from tests.support.processes import ServerProcess, server_process
from tests.support.shared_servers import SharedServer, postgres_server, redis_server

LOOKUPS, AT_ONCE = 16, 32  # at once; requests
PATIENCE_S = 30.0
ONES, PAGES = 20, 4  # pages of one row, and whole ones
MANY = 100  # replicas that are known
ANSWER = "A millrace leads water to a wheel. " * 40  # 1.4 kB
QUESTION = "Tell me about mill {}. [tokens=150]"
DIMENSIONS = 384
ENTRY_BYTES = 2 * DIMENSIONS + len(ANSWER) + 300  # of a semantic entry in a stream: a vector in float16, the texts
NOW = 1_796_000_000.0
LOADING_S = 0.05  # some clocks of a process's time step by 10 ms
ANSWERED_S = aiohttp.ClientTimeout(total=60)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds and bytes."""

    redis_find_s: float  # of Redis: a lookup that finds an answer
    redis_store_s: float  # an answer that is stored, among others in a pipeline
    redis_beat_s: float  # a replica says that it lives
    redis_beat_each_s: float  # more of it for each replica that lives
    redis_add_s: float  # an entry comes into a stream
    redis_tail_s: float  # it is read by one replica
    find_bytes: float  # over the network of Redis, both ways
    store_bytes: float
    entry_bytes: float  # of an entry in the stream, once
    find_s: float  # of a replica: a lookup in Redis
    store_s: float
    answer_s: float  # of a replica: a request that a model answers
    hit_s: float  # one that its own cache answers
    ship_s: float  # a row that is sent to PostgreSQL
    insert_s: float  # a semantic entry that comes into the index
    page_s: float  # under the lock of PostgreSQL: a page of rows, beside its rows and its sync
    row_s: float  # each row of it
    sync_s: float  # until the disk has it
    row_bytes: float  # in PostgreSQL, with its indexes
    log_bytes: float  # of a row in its write-ahead log
    index_bytes: float  # in memory, of an entry in the index
    load_s: float  # until an entry of a saved index is loaded


def on_cpu_s(pid: int) -> float:
    """Return the processor time of a process with all its threads, to the nanosecond."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text("ascii").split()[0]) for thread in threads) / 1e9


def measured(count: int, tell: Callable[[str], object] = lambda _: None) -> Costs:
    """Measure all of it, with so many operations of each kind. `tell` is told what is measured next."""
    found: dict[str, float] = {}
    tell("Redis")
    with redis_server() as redis:
        found |= asyncio.run(of_redis(redis, count))
    tell("PostgreSQL")
    with postgres_server() as postgres, tempfile.TemporaryDirectory(prefix="millrace-costs-") as folder:
        found |= asyncio.run(of_postgres(postgres, Path(folder), count))
    tell("a server")
    with tempfile.TemporaryDirectory(prefix="millrace-costs-") as folder:
        found |= asyncio.run(of_a_server(Path(folder), max(AT_ONCE, count // 8)))
    tell("an index")
    return Costs(**found, **of_an_index(2 * count))


async def of_redis(redis: SharedServer, count: int) -> dict[str, float]:
    """Measure what `stores/redis` does."""
    assert redis.process is not None
    pid = redis.process.pid
    async with _cache(redis) as (link, cache):
        keys = [number.to_bytes(32, "big") for number in range(count)]
        price = Price(input=Decimal(1), output=Decimal(2))
        model = Model(tier=Tier.SMALL, address="http://127.0.0.1:9001/v1", id="small", price=price, context_window=8000)
        answer = Answer(text=ANSWER, model=model, usage=Usage(input_tokens=20, output_tokens=300), check=None)

        async def store() -> None:
            for key in keys:
                cache.store(key, "acme", answer)
                await asyncio.sleep(0)
            while not await link.ask(lambda redis: redis.exists(link.key(FORM, keys[-1])), within_s=5):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # they are sent in order

        sending = asyncio.get_running_loop().create_task(cache.run())
        storing = await _counted(link, pid, store)
        sending.cancel()
        async with _cache(redis) as (_, other):  # another replica, which has none of them

            async def found(key: bytes) -> None:
                async with asyncio.timeout(PATIENCE_S):
                    while await other.find(key) is None:  # noqa: ASYNC110 - a busy machine answers too late
                        await asyncio.sleep(0.1)

            async def find() -> None:
                for first in range(0, count, LOOKUPS):
                    await asyncio.gather(*(found(key) for key in keys[first : first + LOOKUPS]))

            finding = await _counted(link, pid, find)
        beat_s, more_s = await _beats(link, pid)
        entry = {b"entry": os.urandom(ENTRY_BYTES)}

        async def add(redis: Any) -> None:
            async with redis.pipeline(transaction=False) as pipe:
                for _ in range(count):
                    pipe.xadd(b"entries", entry)
                await pipe.execute()

        adding = await _counted(link, pid, lambda: link.ask(add, within_s=60))

        async def tail() -> None:
            seen = b"0-0"
            while found := await link.ask(partial(_after, seen), within_s=60):
                seen = found[0][1][-1][0]

        tailing = await _counted(link, pid, tail)
    return {
        "redis_find_s": finding.redis_s / count,
        "redis_store_s": storing.redis_s / count,
        "redis_beat_s": beat_s,
        "redis_beat_each_s": more_s,
        "redis_add_s": adding.redis_s / count,
        "redis_tail_s": tailing.redis_s / count,
        "find_bytes": finding.bytes / count,
        "store_bytes": storing.bytes / count,
        "entry_bytes": tailing.bytes / count,
        "find_s": finding.own_s / count,
        "store_s": storing.own_s / count,
    }


async def _after(seen: bytes, redis: Any) -> Any:
    return await redis.xread({b"entries": seen}, count=PAGE)


@asynccontextmanager
async def _cache(redis: SharedServer) -> AsyncIterator[tuple[RedisLink, SharedExactCache]]:
    """The exact cache of one replica, with nothing in it."""
    database = SqliteDatabase(MEMORY)
    try:
        own = SqliteExactCache(database, ttl_s=3600, memory_bytes=2**28, disk_bytes=2**28, wall=time.time)
        async with linked(redis.url, "millrace") as link:
            yield link, SharedExactCache(own, link, time.time, "0" * 16, "http://127.0.0.1:1")
    finally:
        await asyncio.to_thread(database.close)


@dataclass(frozen=True, slots=True)
class _Counted:
    """What something cost."""

    redis_s: float
    own_s: float
    bytes: int


async def _counted(link: RedisLink, pid: int, work: Callable[[], Awaitable[object]]) -> _Counted:
    async def passed() -> int:
        stats = await link.ask(lambda redis: redis.info("stats"), within_s=5)
        return int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"])

    bytes_, redis_s, own_s = await passed(), on_cpu_s(pid), time.process_time()
    await work()
    own_s, redis_s = time.process_time() - own_s, on_cpu_s(pid) - redis_s
    return _Counted(redis_s, own_s, await passed() - bytes_)


async def _beats(link: RedisLink, pid: int) -> tuple[float, float]:
    """Return what a beat costs Redis with nobody else, and how much more with each other replica."""
    replicas = [
        RedisReplicas(link, f"{number:016x}"[::-1], "http://10.0.0.1:8000", time.monotonic) for number in range(MANY)
    ]

    async def beats(beating: list[RedisReplicas]) -> float:
        began = on_cpu_s(pid)
        for replica in beating:
            await replica.beat()
        return (on_cpu_s(pid) - began) / len(beating)

    alone = await beats([replicas[0]] * MANY)
    await beats(replicas)
    assert len(replicas[0].others) in (0, MANY - 1)
    return alone, max(0.0, await beats(replicas) - alone) / MANY


class _Timed(PostgresDatabase):
    """Takes note of how long each transaction took."""

    def __init__(self, url: str, schema: str) -> None:
        super().__init__(url, schema)
        self.took_s: list[float] = []

    async def commit(self, operation: Callable[[Any], Any], *, within_s: float) -> Any:
        began = time.perf_counter()
        result = await super().commit(operation, within_s=within_s)
        self.took_s.append(time.perf_counter() - began)
        return result


async def of_postgres(postgres: SharedServer, folder: Path, count: int, page: int = PAGE) -> dict[str, float]:
    """Measure what the shipper does: pages of one row, and of so many."""
    schema = "millrace"
    connection = await asyncio.to_thread(Connection, postgres.url, schema)
    migrations.upgrade(connection, schema)
    local, remote = SqliteDatabase(str(folder)), _Timed(postgres.url, schema)
    try:
        ledger, shipper = SqliteLedger(local, "epoch1"), Shipper(local, remote, "spool", lambda: NOW)
        rows = many_rows.rows(1 + ONES + PAGES * page, seed=1, since=NOW - 3600, until=NOW)

        async def shipped(number: int) -> tuple[float, float]:
            """Send so many rows; return the time under the lock, and the processor time of this process."""
            for _ in range(number):
                ledger.settled(next(rows))
            await local.ready()
            own_s = time.process_time()
            while await shipper.send():
                pass
            return remote.took_s[-1], time.process_time() - own_s

        await shipped(1)
        ones = [(await shipped(1))[0] for _ in range(min(ONES, count))]
        ((log_before,),) = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchall()
        pages = [await shipped(page) for _ in range(PAGES)]
        ((log_after,),) = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchall()
        ((on_disk, number),) = connection.execute(
            "SELECT sum(pg_total_relation_size(inhrelid)), (SELECT count(*) FROM entries) FROM pg_inherits"
            " WHERE inhparent = 'entries'::regclass"
        ).fetchall()
    finally:
        await asyncio.to_thread(local.close)
        await asyncio.to_thread(remote.close)
        connection.close()
    one_s, page_s = min(ones), min(took for took, _ in pages)
    row_s = max(0.0, page_s - one_s) / (page - 1)
    return {
        "page_s": max(0.0, one_s - row_s),
        "row_s": row_s,
        "sync_s": _sync_s(folder),
        "ship_s": min(own for _, own in pages) / page,
        "row_bytes": on_disk / number,
        "log_bytes": (log_after - log_before) / (PAGES * page),
    }


def _sync_s(folder: Path) -> float:
    """Return how long the disk takes to keep 64 kB: PostgreSQL does not wait for it in tests."""
    took = []
    with (folder / "sync").open("wb") as file:
        for _ in range(9):
            file.write(os.urandom(65_536))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took)


async def of_a_server(folder: Path, count: int) -> dict[str, float]:
    """Measure `millrace serve`: streams of 150 tokens over HTTP, then the same requests from its exact cache."""
    async with server_process(folder, 5.0) as server, aiohttp.ClientSession(timeout=ANSWERED_S) as http:
        assert server.process.stderr is not None
        logged = asyncio.create_task(asyncio.to_thread(server.process.stderr.read))  # a pipe that is full stops it
        await _asked(server, http, range(-AT_ONCE, 0))
        answer_s = await _asked(server, http, range(count))
        hit_s = min([await _asked(server, http, range(count)) for _ in range(2)])
        server.stop()
        await server.exited()
        await logged
    return {"answer_s": answer_s, "hit_s": hit_s}


async def _asked(server: ServerProcess, http: aiohttp.ClientSession, numbers: range) -> float:
    """Ask, so many at once; return the processor time for each."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(number: int) -> None:
        body = {"model": "small", "input": QUESTION.format(number), "stream": True}
        async with slots, http.post(f"{server.url}/v1/responses", json=body) as answer:
            assert "response.completed" in await answer.text()

    began = on_cpu_s(server.process.pid)
    await asyncio.gather(*(ask(number) for number in numbers))
    return (on_cpu_s(server.process.pid) - began) / len(numbers)


def of_an_index(count: int) -> dict[str, float]:
    """Measure a segment of the semantic cache: made vectors go in, are looked for, are saved and loaded."""
    random = np.random.default_rng(1)
    vectors = random.standard_normal((count, DIMENSIONS), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    segment = Segment(DIMENSIONS, count)
    began = time.process_time()
    for number, vector in enumerate(vectors):
        segment.add(f"sem_{number:012x}", vector)
    while segment.indexed < segment.rows:
        segment.index_step()
    while segment.needs_check:
        segment.check_step()
    insert_s = (time.process_time() - began) / count
    state, ids, lost = segment.state(), list(segment.ids), list(segment.lost)
    began, loaded, load_s = time.process_time(), 0, 0.0
    while load_s < LOADING_S:
        restored = Segment.restored(state, ids, lost, DIMENSIONS)
        loaded, load_s = loaded + count, time.process_time() - began
    assert restored.nearest(vectors[7])
    return {"insert_s": insert_s, "load_s": load_s / loaded, "index_bytes": restored.size / count}
