"""The exact cache of all replicas: answers of this one in its own cache, those of the others in Redis.

What is found in Redis stays in memory here. Answers are sent there behind the requests, as far as there is room for
what waits: one that does not arrive is missed by the others, no more.
"""

import asyncio
from collections import deque
from functools import partial
from typing import NamedTuple, Protocol

import msgspec
from redis.asyncio import Redis

from millrace.ports import Clock, ExactCache
from millrace.stores.redis.link import SOON_S, RedisAwayError, RedisLink
from millrace.types import Answer, StoredAnswer

FORM = b"exact1"  # of what is kept; another form gets another name
LOOKUP_S = SOON_S  # for Redis to answer; a model says its first word after about twice that time
SEND_S = 5.0
MOST = 1 << 20  # bytes of an answer that others are told
WAITING = 8 << 20  # bytes of answers that wait to be sent
AT_ONCE = 100  # answers

_encode, _decoder = msgspec.json.encode, msgspec.json.Decoder(StoredAnswer)


class OwnExactCache(ExactCache, Protocol):
    """The exact cache of this replica."""

    ttl_s: float  # may change at any time

    def put(self, key: bytes, tenant: str, stored: StoredAnswer, row: bytes) -> None:
        """Store an answer as `store` does; `row` is its JSON."""
        ...

    def adopt(self, key: bytes, answer: StoredAnswer, size: int) -> None:
        """Keep an answer in memory that is stored elsewhere; its JSON has so many bytes."""
        ...


class _Waiting(NamedTuple):
    key: bytes
    row: bytes


class SharedExactCache:
    """An exact cache in front of Redis."""

    def __init__(self, own: OwnExactCache, link: RedisLink, wall: Clock) -> None:
        self._own = own
        self._link = link
        self._wall = wall
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._is_due = asyncio.Event()

    @property
    def bytes_used(self) -> int:
        """Bytes of answers that wait to be sent."""
        return self._bytes

    def peek(self, key: bytes) -> StoredAnswer | None:
        """Look in the memory of this replica."""
        return self._own.peek(key)

    async def find(self, key: bytes) -> StoredAnswer | None:
        """Look on the disk of this replica, then in Redis. An error there is a miss, and so is a late answer."""
        found = await self._own.find(key)
        if found is not None or self._link.is_away:
            return found
        try:
            row = await self._link.ask(lambda redis: redis.get(self._key(key)), within_s=LOOKUP_S)
        except RedisAwayError:
            return None
        if row is None:
            return None
        try:
            answer = _decoder.decode(row)
        except msgspec.DecodeError:  # damaged, or of a version that keeps more
            return None
        if answer.stored_at <= self._wall() - self._own.ttl_s:
            return None
        self._own.adopt(key, answer, len(row))
        return answer

    def store(self, key: bytes, tenant: str, answer: Answer) -> None:
        """Store in the cache of this replica, and have the others know. Never waits."""
        stored = answer.stored(self._wall())
        row = _encode(stored)
        self._own.put(key, tenant, stored, row)
        if len(row) <= MOST and self._bytes + len(row) <= WAITING and not self._link.is_away:
            self._waiting.append(_Waiting(key, row))
            self._bytes += len(row)
            self._is_due.set()

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                self._bytes -= sum(len(each.row) for each in batch)
                try:
                    await self._link.ask(partial(self._send, batch), within_s=SEND_S)
                except RedisAwayError:
                    self._waiting.clear()
                    self._bytes = 0

    async def _send(self, batch: list[_Waiting], redis: Redis) -> None:
        async with redis.pipeline(transaction=False) as pipe:
            for each in batch:
                pipe.set(self._key(each.key), each.row, px=max(1, int(self._own.ttl_s * 1000)))
            await pipe.execute()

    def _key(self, key: bytes) -> bytes:
        return self._link.key(FORM, key)
