"""Streams in Redis that each replica adds to and all of them read, and work on them that goes on whatever fails."""

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
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
    ANEW = "anew"  # Redis was emptied, or has started or failed over since: what was added may be lost
    TRIMMED = "trimmed"  # of what was not read yet


class Stream:
    """One stream of a service. `form` names it, and the form of what is in it."""

    def __init__(self, link: RedisLink, form: str, most: int) -> None:
        """Keep the last `most` messages, about."""
        self.key = link.key(form)
        self._link = link
        self._most = most
        self._identity: bytes | None = None

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
        """Return what has become of it since it was read to `seen`. Raises `RedisAwayError`.

        Ask before the first read, too: what is read from a stream that began anew looks like any other.
        """
        before = self._identity
        info, self._identity = await self._link.ask(self._look, within_s=CALL_S)
        read, last = place(seen), place(info.get("last-generated-id", START))
        if last < read or before not in (None, self._identity):
            return Standing.ANEW
        # It has lost the one that was read last, and later ones came: there may have been others in between.
        return Standing.TRIMMED if place(START) < read < last and not _begins(info) <= read else Standing.WHOLE

    async def trimmed_until(self) -> float:
        """Return when the first message came that it has (Unix seconds); 0 if it has all that ever came."""
        info, _ = await self._link.ask(self._look, within_s=CALL_S)
        if info.get("entries-added", 0) == info.get("length", 0):
            return 0.0
        first, last = _begins(info), place(info["last-generated-id"])
        return min(first, last)[0] / 1000

    async def _look(self, redis: Redis) -> tuple[dict[str, Any], bytes]:
        """Return what Redis says of the stream, and what is another one once Redis has begun anew."""
        async with redis.pipeline(transaction=False) as pipe:
            pipe.set(self.key + b":since", secrets.token_bytes(8), nx=True)  # it goes where the stream goes
            pipe.get(self.key + b":since")
            _, since = await pipe.execute()
        info: dict[str, Any] = {}
        with suppress(ResponseError):  # there is none yet
            info = await redis.xinfo_stream(self.key)
        with suppress(ResponseError):  # not everyone may ask
            since += str((await redis.info("server")).get("run_id")).encode()
        return info, since


def _begins(info: dict[str, Any]) -> tuple[int, int]:
    """Return the place of the first message; after all others if there is none."""
    first = info.get("first-entry")
    return (sys.maxsize, 0) if first is None else place(first[0])


def place(number: bytes | str) -> tuple[int, int]:
    """Return what the id of a message says: the Unix time in milliseconds by the clock of Redis, and a count."""
    text = number.decode() if isinstance(number, bytes) else number
    milliseconds, _, count = text.partition("-")
    return int(milliseconds), int(count or 0)


async def until_done(work: Callable[[], Awaitable[None]], what: str) -> None:
    """Do it, again and again while that fails. `what` was not done is logged."""
    while True:
        try:
            return await work()
        except RedisAwayError:
            pass  # the link has told
        except Exception as error:  # also a message that cannot be read: it goes on once the stream has begun anew
            log.get().error(f"{what} were not shared", exc_info=error)
        await asyncio.sleep(AGAIN_S)


async def repeat(work: Callable[[], Awaitable[None]], what: str) -> None:
    """Do it over and over, until cancelled."""
    while True:
        await until_done(work, what)
