"""The unused tickets of all replicas. Redis gives each to one of them."""

import asyncio
from typing import Any

from redis.asyncio import Redis

from millrace.stores.redis.link import RedisAwayError, RedisLink

FORM = "ticket1"
MOST_OWED = 10_000  # tickets


class RedisTickets:
    """Tickets by their hash, for as long as they are valid."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._owed: dict[bytes, None] = {}  # redeemed here while Redis was away, and so to be removed from it
        self._removing: asyncio.Task[None] | None = None
        link.on_return(self._returned)

    async def put(self, key: bytes, value: bytes, seconds: float) -> bool:
        """Keep a ticket for so long; return whether all replicas can take it now."""
        try:
            await self._link.ask(lambda redis: redis.set(self._key(key), value, px=int(seconds * 1000)))
        except RedisAwayError:
            return False
        return True

    async def take(self, key: bytes) -> bytes | None:
        """Return a ticket and keep it no more; None if there is none. Raises `RedisAwayError`."""
        try:
            found: Any = await self._link.ask(lambda redis: redis.getdel(self._key(key)))
        except RedisAwayError:
            if len(self._owed) < MOST_OWED:
                self._owed[key] = None
            raise
        return None if found is None else bytes(found)

    def _returned(self) -> None:
        if self._owed and self._removing is None:
            self._removing = asyncio.get_running_loop().create_task(self._remove())

    async def _remove(self) -> None:
        owed = [self._key(key) for key in self._owed]

        async def delete(redis: Redis) -> None:
            await redis.delete(*owed)

        try:
            await self._link.ask(delete)
            self._owed.clear()
        except RedisAwayError:  # then once it is back
            pass
        finally:
            self._removing = None

    def _key(self, key: bytes) -> bytes:
        return self._link.key(FORM, key)
