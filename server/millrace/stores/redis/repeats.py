"""Which replica has taken a request with an idempotency key. Whoever gets it again passes it on to that one."""

import hashlib
from typing import Any

from redis.asyncio import Redis

from millrace.ports.replicas import Taken
from millrace.stores.redis.link import RedisAwayError, RedisLink
from millrace.stores.redis.replicas import KEY, LIVES_S

FORM = "repeat1"
KEPT_S = 3600  # after which it may run again elsewhere; who has it keeps it for ten minutes after its end

# Keys: the request, the replicas that live. Takes what nobody has who lives; returns who has it otherwise.
_TAKE = """
local taken = redis.call('GET', KEYS[1])
if taken and taken:sub(1, #ARGV[2]) ~= ARGV[2] then
    local holder = redis.call('HGET', KEYS[2], taken:sub(6, 13)) -- "resp_", then its place
    local now = tonumber(redis.call('TIME')[1])
    if holder and cjson.decode(holder).at >= now - tonumber(ARGV[4]) then return taken end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return false
"""


class RedisRepeats:
    """The requests of all replicas that have an idempotency key, by a digest of whose key it is."""

    def __init__(self, link: RedisLink, place: str) -> None:
        self._link = link
        self._prefix = f"resp_{place}"  # of the ids of this replica

    async def take(self, name: tuple[str, ...], digest: bytes, response_id: str) -> Taken | None:
        """Take a request, unless another replica that lives has it. None: it is this one's, or that cannot be known."""
        key = self._link.key(FORM, hashlib.sha256("\0".join(name).encode()).digest())
        said = f"{response_id} {digest.hex()}", self._prefix, str(KEPT_S), str(LIVES_S)

        async def take(redis: Redis) -> Any:
            return await redis.eval(_TAKE, 2, key, self._link.key(KEY), *said)

        try:
            taken = await self._link.ask(take)
        except RedisAwayError:
            return None
        if taken is None:
            return None
        holder, _, hexadecimal = taken.decode().partition(" ")
        return Taken(holder, bytes.fromhex(hexadecimal))
