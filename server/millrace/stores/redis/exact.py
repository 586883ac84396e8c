"""The exact cache of all replicas: answers of this one in its own cache, those of the others in Redis.

What is found in Redis stays in memory here. Answers are sent there behind the requests, as far as there is room for
what waits: one that does not arrive is missed by the others, no more.

For an answer that is on its way there is a lease in its place: the name of the replica that leads its flight, as long
as that renews it. Both are looked up at once.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec
from redis.asyncio import Redis

from millrace.ports import Clock, ExactCache
from millrace.ports.flights import Lease
from millrace.ports.replicas import PLACE
from millrace.stores.redis.link import SOON_S, RedisAwayError, RedisLink
from millrace.types import Answer, StoredAnswer

FORM = b"exact1"  # of what is kept; another form gets another name
FLIGHT = b"flight1"  # the same, of leases
LEASE_S = 5.0  # after its last renewal a lease is free
RENEW_S = 1.5
LEASE_BYTES = 500  # that wait to be sent, about
LOOKUP_S = SOON_S  # for Redis to answer; a model says its first word after about twice that time
SEND_S = 5.0
MOST = 1 << 20  # bytes of an answer that others are told
WAITING = 8 << 20  # bytes of answers that wait to be sent
AT_ONCE = 100  # answers

# Keys: an answer, the lease of its flight. Takes the lease if there is neither.
_FIND_OR_LEAD = """
local found = redis.call('GET', KEYS[1])
if found then return {found, false} end
local led = redis.call('GET', KEYS[2])
if led then return {false, led} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {false, ARGV[1]}
"""
# Keys: a lease. What the same replica has taken in the meantime, after Redis was emptied, gives way.
_RENEW = """
local led = redis.call('GET', KEYS[1])
if not led or led:match('^%S+') == ARGV[1]:match('^%S+') then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
_TAKE_OVER = """
local led = redis.call('GET', KEYS[1])
if not led or led == ARGV[3] then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
"""
_LEASE_MS = str(int(LEASE_S * 1000))

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
    """What is to be sent: it adds commands to a pipeline."""

    size: int  # bytes
    add: Callable[[Any], object]


class SharedExactCache:
    """An exact cache in front of Redis. `epoch` is that of this process, which others reach at `address`."""

    def __init__(self, own: OwnExactCache, link: RedisLink, wall: Clock, epoch: str, address: str) -> None:
        self.place = epoch[:PLACE]
        self._address = address
        self._led: dict[bytes, Lease] = {}  # by the flight
        self._looks: dict[bytes, asyncio.Task[StoredAnswer | Lease | None]] = {}  # that are under way, by the flight
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
            row: Any = await self._link.ask(lambda redis: redis.get(self._key(key)), within_s=LOOKUP_S)
        except RedisAwayError:
            return None
        return None if row is None else self._adopted(key, row)

    async def find_or_lead(self, key: bytes, flight: bytes) -> StoredAnswer | Lease | None:
        """Look as `find` does; return who leads the flight of an answer that is missed, from now on this replica."""
        found = await self._own.find(key)
        if found is not None or self._link.is_away:
            return found
        if (look := self._looks.get(flight)) is None:  # one is enough for all who ask at once
            look = self._looks[flight] = asyncio.get_running_loop().create_task(self._look(key, flight))
            look.add_done_callback(lambda _: self._looks.pop(flight))
        await asyncio.wait((look,))
        return look.result()

    async def _look(self, key: bytes, flight: bytes) -> StoredAnswer | Lease | None:
        own = Lease(flight, self.place, secrets.token_hex(16), self._address)
        names = self._key(key), self._flight(own)

        async def look(redis: Redis) -> list[bytes | None]:
            looked: Any = await redis.eval(_FIND_OR_LEAD, 2, *names, _value(own), _LEASE_MS)
            return list(looked)

        try:
            row, led = await self._link.ask(look, within_s=LOOKUP_S)
        except RedisAwayError:
            return None
        lease = None if led is None else _lease(flight, led)
        if (here := self._own.peek(key)) is not None:  # it was stored meanwhile
            if lease == own:
                self.release(own)
            return here
        return lease if row is None else self._adopted(key, row)

    def keep(self, lease: Lease) -> None:
        """Hold a lease until it is released: it is renewed, also in a Redis that was emptied."""
        self._led[lease.flight] = lease

    def release(self, lease: Lease) -> None:
        """Hold a lease no longer, once the others find what was stored before."""
        if self._led.get(lease.flight) == lease:
            del self._led[lease.flight]
        self._send(LEASE_BYTES, lambda pipe: pipe.eval(_RELEASE, 1, self._flight(lease), _value(lease)))

    def take_over(self, lease: Lease) -> Lease:
        """Return a lease of this replica in place of one whose holder is gone; another one may be faster."""
        own = Lease(lease.flight, self.place, secrets.token_hex(16), self._address)
        values = _value(own), _LEASE_MS, _value(lease)
        self._send(LEASE_BYTES, lambda pipe: pipe.eval(_TAKE_OVER, 1, self._flight(own), *values))
        return own

    def _adopted(self, key: bytes, row: bytes) -> StoredAnswer | None:
        """Return an answer from Redis, and keep it here; None if it is too old or cannot be read."""
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
        if len(row) <= MOST:
            lifetime_ms = max(1, int(self._own.ttl_s * 1000))
            self._send(len(row), lambda pipe: pipe.set(self._key(key), row, px=lifetime_ms))

    def _send(self, size: int, add: Callable[[Any], object]) -> None:
        if self._bytes + size <= WAITING and not self._link.is_away:
            self._waiting.append(_Waiting(size, add))
            self._bytes += size
            self._is_due.set()

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                self._bytes -= sum(each.size for each in batch)
                try:
                    await self._link.ask(partial(_sent, batch), within_s=SEND_S)
                except RedisAwayError:
                    self._waiting.clear()
                    self._bytes = 0

    async def renew(self) -> None:
        """Renew the leases that are held, until cancelled."""
        while True:
            await asyncio.sleep(RENEW_S)
            for lease in self._led.values():
                values = _value(lease), _LEASE_MS
                self._send(LEASE_BYTES, partial(_renewed, self._flight(lease), values))

    def _key(self, key: bytes) -> bytes:
        return self._link.key(FORM, key)

    def _flight(self, lease: Lease) -> bytes:
        return self._link.key(FLIGHT, lease.flight)


async def _sent(batch: list[_Waiting], redis: Redis) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for each in batch:
            each.add(pipe)
        await pipe.execute()


def _renewed(name: bytes, values: tuple[str, str], pipe: Any) -> None:
    pipe.eval(_RENEW, 1, name, *values)


def _value(lease: Lease) -> str:
    """Return a lease as Redis has it. Its first word is the place, as `_RENEW` knows."""
    return f"{lease.place} {lease.token} {lease.address}"


def _lease(flight: bytes, value: bytes) -> Lease | None:
    """Return a lease as it is in Redis; None if it cannot be read."""
    place, _, rest = value.decode("utf-8", "replace").partition(" ")
    token, _, address = rest.partition(" ")
    return Lease(flight, place, token, address) if address else None
