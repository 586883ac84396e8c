"""Streams in Redis that each replica adds to and all of them read, and work on them that goes on whatever fails."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from millrace import log
from millrace.stores.redis.link import RedisAwayError, RedisLink

AGAIN_S = 1.0
WAIT_S = 5.0  # for which a read waits for something new
CALL_S = 5.0
START = "0-0"  # before all that was added

Message = tuple[str, dict[bytes, bytes]]  # its id and its fields


class Standing(Enum):
    """What has become of a stream since it was read."""

    WHOLE = "whole"
    EMPTIED = "emptied"  # or an older one is in its place
    TRIMMED = "trimmed"  # of what was not read yet


class Stream:
    """One stream of a service. `form` names it, and the form of what is in it."""

    def __init__(self, link: RedisLink, form: str, most: int) -> None:
        """Keep the last `most` messages, about."""
        self.key = link.key(form)
        self._link = link
        self._most = most

    async def add(self, messages: Sequence[dict[Any, Any]]) -> None:
        """Add messages in their order. Raises `RedisAwayError`: some of them may have been added."""

        async def add(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipe:
                for fields in messages:
                    pipe.xadd(self.key, fields, maxlen=self._most, approximate=True)
                await pipe.execute()

        await self._link.ask(add, within_s=CALL_S)

    async def read(self, after: str, count: int, wait_s: float = WAIT_S) -> list[Message]:
        """Return the next messages, at most `count`; none if none comes within `wait_s`. Raises `RedisAwayError`."""
        block = int(1000 * wait_s) or None  # 0 would wait for ever
        found: Any = await self._link.ask(
            lambda redis: redis.xread({self.key: after}, count=count, block=block), within_s=CALL_S + wait_s
        )
        return [(number.decode(), fields) for _, messages in found or () for number, fields in messages]

    async def standing(self, seen: str) -> Standing:
        """Return what has become of it since it was read to `seen`. Raises `RedisAwayError`."""
        last, trimmed = await self.ends()
        if last < place(seen):
            return Standing.EMPTIED
        return Standing.TRIMMED if trimmed > place(seen) else Standing.WHOLE

    async def ends(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the places of the last message, and of the last one that was trimmed."""
        info = await self._link.ask(self._info, within_s=CALL_S)
        return place(info.get("last-generated-id", START)), place(info.get("max-deleted-entry-id", START))

    async def _info(self, redis: Redis) -> dict[str, Any]:
        try:
            info: dict[str, Any] = await redis.xinfo_stream(self.key)
        except ResponseError:  # there is none yet
            return {}
        return info


def place(number: bytes | str) -> tuple[int, int]:
    """Return what the id of a message says: the Unix time in milliseconds by the clock of Redis, and a count."""
    text = number.decode() if isinstance(number, bytes) else number
    milliseconds, _, count = text.partition("-")
    return int(milliseconds), int(count or 0)


async def until_done(work: Callable[[], Awaitable[None]], what: str) -> None:
    """Do it, again and again while Redis or the disk fail. `what` was not done is logged."""
    while True:
        try:
            return await work()
        except RedisAwayError:
            pass  # the link has told
        except (sqlite3.Error, TimeoutError, ResponseError) as error:
            log.get().error(f"{what} were not shared", exc_info=error)
        await asyncio.sleep(AGAIN_S)


async def repeat(work: Callable[[], Awaitable[None]], what: str) -> None:
    """Do it over and over, until cancelled."""
    while True:
        await until_done(work, what)
