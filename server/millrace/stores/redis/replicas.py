"""Who lives: each replica says so in Redis every few seconds, and reads who else does."""

import asyncio
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis

from millrace.ports import Clock
from millrace.ports.replicas import PLACE
from millrace.stores.redis.link import CALL_S, RedisAwayError, RedisLink

KEY = "replicas1"  # the form of what each says
BEAT_S = 5.0
LIVES_S = 15.0  # after its last word a replica counts as dead
LOOK_S = 0.25  # between two looks for one that is not known

# Says that one lives, by the clock of Redis; forgets those that have not said so for long; returns whether this one
# was known, and the others.
_BEAT = """
local now = tonumber(redis.call('TIME')[1])
local known = redis.call('HEXISTS', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode({address = ARGV[2], at = now}))
redis.call('EXPIRE', KEYS[1], 3600)
local found = {known}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    local one = cjson.decode(all[i + 1])
    if one.at < now - tonumber(ARGV[3]) then
        redis.call('HDEL', KEYS[1], all[i])
    elseif all[i] ~= ARGV[1] then
        found[#found + 1] = all[i]
        found[#found + 1] = one.address
    end
end
return found
"""


class RedisReplicas:
    """The replicas that are known to this one, which others reach at `address`."""

    def __init__(self, link: RedisLink, epoch: str, address: str, clock: Clock) -> None:
        self.place = epoch[:PLACE]
        self._link = link
        self._address = address
        self._clock = clock
        self._key = link.key(KEY)
        self._known: dict[str, str] = {}
        self._is_known = False  # the last look has succeeded
        self._is_told = False  # Redis has been told of this one
        self._lost_at = -LIVES_S  # when Redis had lost it
        self._looked_at = -LOOK_S
        self._turn = asyncio.Lock()

    @property
    def others(self) -> list[str]:
        """The URLs of the others that serve, as far as they are known."""
        return [*self._known.values()]

    @property
    def is_away(self) -> bool:
        """Whether Redis is."""
        return self._link.is_away

    def where(self, place: str) -> str | None:
        """Return where a client finds what that replica has."""
        address = self._known.get(place)
        return None if address is None else f"another replica has this response: resume it there, at {address}"

    async def find(self, place: str) -> str | None:
        """Return the URL of another replica, and look for it where it is not known.

        None for this one, or if no such one lives. Raises `LookupError` if Redis does not say.
        """
        if place == self.place or place in self._known:
            return self._known.get(place)
        asked_at = self._clock()
        async with self._turn:  # one look is enough for all who asked before it
            if place not in self._known and self._looked_at <= asked_at:
                await asyncio.sleep(self._looked_at + LOOK_S - self._clock())
                await self.beat()
        if place not in self._known and not self._is_known:
            raise LookupError("who else lives is not known now")
        return self._known.get(place)

    async def beat(self) -> None:
        """Say that this one lives, and read who else does. While Redis is away, those count that were known."""
        self._looked_at = self._clock()
        try:
            found = await self._link.ask(self._said, within_s=CALL_S)
        except RedisAwayError:
            self._is_known = False
            return
        self._is_known = True
        was_known, *texts = found
        if self._is_told and not was_known:  # it was emptied, and the others tell it again within a beat
            self._lost_at = self._clock()
        self._is_told = True
        kept = self._known if self._clock() < self._lost_at + LIVES_S else {}
        names = [text.decode() for text in texts]
        self._known = kept | dict(zip(names[::2], names[1::2], strict=True))

    async def run(self) -> None:
        """Say it again and again until cancelled, then that this one has gone."""
        try:
            while True:
                await self.beat()
                await asyncio.sleep(BEAT_S)
        finally:
            with suppress(RedisAwayError):
                await self._link.ask(self._gone, within_s=CALL_S)

    async def _said(self, redis: Redis) -> list[Any]:
        found: Any = await redis.eval(_BEAT, 1, self._key, self.place, self._address, str(LIVES_S))
        return list(found)

    async def _gone(self, redis: Redis) -> Any:
        return await redis.hdel(self._key, self.place)
