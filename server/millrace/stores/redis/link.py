"""The connections of one process to Redis: every call has a deadline, and none is begun while Redis is away.

Redis counts as away from the first call that fails or is late until it answers soon again, so a Redis that hangs or is
slow delays one call of each kind, and not each request.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from millrace import log

T = TypeVar("T")

CONNECTIONS = 64  # at once; a call waits for one until its deadline
CALL_S = 0.25  # for a call that a request waits for: above this, asking a model is as fast
CONNECT_S = 1.0
PROBE_EVERY_S = 0.25  # while it is away
PROBE_S = 1.0
TRIES = 3
SOON_S = 0.1  # the shortest deadline of any call: with one that takes longer, Redis would be away again at once

# What it answers where it takes no commands, or none that write: the next ones would fail, too.
_UNFIT = re.compile(
    r"\b(READONLY|OOM|MISCONF|NOREPLICAS|LOADING|MASTERDOWN|CLUSTERDOWN|MOVED|ASK|TRYAGAIN|BUSY|UNKILLABLE)\b"
)
_COMMAND = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)  # it may hold what is secret


class RedisAwayError(OSError):
    """Redis does not answer, did not in time, or refuses. What was asked may or may not have been done."""


class RedisLink:
    """Calls Redis. `name` begins all keys, so that services can share one Redis."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.address = _shown(url)
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=CALL_S,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=None,  # each call has a deadline; by default a read that blocks longer would be an error
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Redis = Redis(connection_pool=self._pool)
        self._is_away = asyncio.Event()
        self._on_return: list[Callable[[], object]] = []

    @property
    def is_away(self) -> bool:
        """Whether Redis did not answer when it was last asked."""
        return self._is_away.is_set()

    def key(self, *parts: str | bytes) -> bytes:
        """Return the key of what is called by these parts."""
        return b":".join([self.name.encode(), *(part.encode() if isinstance(part, str) else part for part in parts)])

    def on_return(self, tell: Callable[[], object]) -> None:
        """Have `tell` called each time that Redis answers again, and may have lost all that it had."""
        self._on_return.append(tell)

    async def ask(self, command: Callable[[Redis], Awaitable[T]], *, within_s: float = CALL_S) -> T:
        """Run commands; return what they return. Raises `RedisAwayError`, at once while Redis is away.

        A command that Redis refuses fails alone: its user may not call it, or something else has its key.
        """
        if self.is_away:
            raise RedisAwayError(f"Redis at {self.address} is away")
        task = asyncio.current_task()
        assert task is not None
        cancels = task.cancelling()
        try:
            async with _patience(within_s):
                return await command(self._redis)
        except ResponseError as error:  # its cause would show what was sent
            raise (self._away(error) if is_unfit(error) else self._refused(error)) from None
        except (RedisError, OSError) as error:  # OSError: also TimeoutError
            raise self._away(error) from error
        finally:
            if task.cancelling() > cancels:  # `asyncio.wait_for`, which redis-py uses, loses some in Python 3.11
                raise asyncio.CancelledError

    async def run(self) -> None:
        """Find out when Redis answers again, for as long as the process lives."""
        while True:
            await self._is_away.wait()
            await asyncio.sleep(PROBE_EVERY_S)
            try:
                async with asyncio.timeout(PROBE_S):
                    await self._probe(self._redis)  # it may have to connect first
                if not await self._answers_soon():
                    continue
            except (RedisError, OSError):
                continue
            self._is_away.clear()
            log.get().info("Redis is back", address=self.address)
            for tell in self._on_return:
                tell()
            await self._see_policy()

    async def _answers_soon(self) -> bool:
        """Whether one of a few calls is in time: where this process itself is late, another one may be."""
        for _ in range(TRIES):
            with suppress(TimeoutError):
                async with asyncio.timeout(SOON_S):
                    await self._probe(self._redis)
                return True
        return False

    async def look(self) -> None:
        """Find out whether Redis answers."""
        with suppress(RedisAwayError):  # it was logged
            await self.ask(self._probe, within_s=CONNECT_S)
            await self._see_policy()

    async def _see_policy(self) -> None:
        """Warn where Redis may evict anything: what has no lifetime there, or the longest, must stay."""

        async def memory(redis: Redis) -> dict[str, Any]:
            with suppress(ResponseError):  # not everyone may ask
                return dict(await redis.info("memory"))
            return {}

        with suppress(RedisAwayError):
            found = await self.ask(memory, within_s=CONNECT_S)
            policy = str(found.get("maxmemory_policy", ""))
            if found.get("maxmemory") and policy.startswith("allkeys-"):
                log.get().warning(
                    "Redis may evict what budgets and deletions need; set its maxmemory-policy to volatile-ttl",
                    address=self.address,
                    policy=policy,
                )

    async def _probe(self, redis: Redis) -> None:
        await redis.set(self.key("probe"), b"1", ex=60)  # a replica of Redis that only reads is no help

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()
        await self._pool.disconnect()

    def _away(self, error: BaseException) -> RedisAwayError:
        if not self.is_away:
            self._is_away.set()
            log.get().warning(
                "Redis is away; each replica goes on with what it has", address=self.address, error=_of(error)
            )
        return RedisAwayError(f"Redis at {self.address} is away: {_of(error)}")

    def _refused(self, error: ResponseError) -> RedisAwayError:
        log.get().error("Redis refuses a command; what it is for is not shared", address=self.address, error=_of(error))
        return RedisAwayError(f"Redis at {self.address} refuses: {_of(error)}")


@asynccontextmanager
async def linked(url: str, name: str) -> AsyncIterator[RedisLink]:
    """Connect to Redis. One that is away is found out here, and no error."""
    link = RedisLink(url, name)
    watching = asyncio.get_running_loop().create_task(link.run())
    try:
        await link.look()
        yield link
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await link.close()


@asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` after so many seconds, of which a turn of the loop takes a quarter at most.

    An answer that waits in the socket while the loop is busy is not late.
    """
    loop = asyncio.get_running_loop()

    def wait(quarters: int) -> None:
        if quarters:
            timers[0] = loop.call_later(seconds / 4, wait, quarters - 1)
        else:
            timeout.reschedule(loop.time())

    timers = [loop.call_later(seconds / 4, wait, 3)]
    async with asyncio.timeout(None) as timeout:
        try:
            yield
        finally:
            timers[0].cancel()


def _shown(url: str) -> str:
    """Return the address in a URL, without user and password."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"


def is_unfit(error: ResponseError) -> bool:
    """Whether it is the whole of Redis that takes no commands, or nothing new."""
    return _UNFIT.search(f"{error.status_code} {_text(error)}") is not None


def _text(error: BaseException) -> str:
    return _COMMAND.sub("", str(error))


def _of(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    text = _text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
