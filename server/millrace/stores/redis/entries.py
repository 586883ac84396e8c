"""Entries of the semantic cache, carried between the disk of this replica and a stream in Redis.

What is stored here waits on the disk, as a row that is still to be told, and goes into the stream. What others store is
read from it, and becomes a row here. So Redis may be away for as long as it likes: nothing waits in memory, and each
goes on with what it has.

The stream keeps the last entries alone. A replica that lacks earlier ones (it is new, was away for long, or Redis was
emptied) asks for them, in the stream too. One of those that have them sends them, a page at a time, through a list of
its own in Redis, with the newest first. Texts travel with their entry, so a hit asks nobody.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from redis.asyncio import Redis

from millrace import log
from millrace.ports import Clock, Database, SharedEntries, SharedEntry
from millrace.stores.redis.link import RedisAwayError, RedisLink
from millrace.stores.redis.stream import CALL_S, START, Message, Standing, Stream, place, repeat, until_done

POLL_S = 0.1  # between two looks at what was stored here
CHECK_S = 5.0  # between two looks whether the stream is still the one that was read
COMMIT_S = 10.0
PAGE = 100  # messages that are read at once
MOST = 100_000  # messages that the stream keeps, if its bytes allow it
BYTES = 64 << 20  # of the stream
KEPT_S = 86_400  # for which Redis keeps the stream of a service that has gone
MARGIN_S = 60.0  # that is asked for, and told, once more beyond what may be missing
PAGES = 8  # sent ahead to a replica that asks
LISTED_S = 60  # for which Redis keeps pages that nobody takes
TAKEN_S = 5.0  # for somebody to begin to send, and for the next page to come, or to be taken
YIELD_S = 1.0  # by which one that lacks entries itself leaves the task to others
TRIES, PAUSE_S = 5, 30.0  # of asking: afterwards nobody is there who has more

_TABLE = """
CREATE TABLE IF NOT EXISTS semantic_shared (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seen TEXT NOT NULL,      -- the id of the last message that was read
    lacks_since REAL         -- Unix seconds: of what came since then some may be missing; NULL: nothing is
) STRICT
"""
_BEGIN = f"INSERT OR IGNORE INTO semantic_shared VALUES (1, '{START}', 0)"  # noqa: S608
_PLACE = "SELECT seen, lacks_since FROM semantic_shared"
_SEEN = "UPDATE semantic_shared SET seen = ?, lacks_since = ?"
_WHAT = "entries of the semantic cache"

_encode, _entry, _page = (
    msgspec.msgpack.encode,
    msgspec.msgpack.Decoder(SharedEntry),
    msgspec.msgpack.Decoder(list[SharedEntry]),
)


class SharedSemantic:
    """Carries entries both ways. `own` is the id of the data_dir."""

    def __init__(
        self,
        link: RedisLink,
        database: Database,
        entries: SharedEntries,
        own: str,
        heeded: Callable[[], Awaitable[None]],  # returns once all that others have deleted is heeded here
        clock: Clock,
    ) -> None:
        self._link = link
        self._database = database
        self._entries = entries
        self._own = own.encode()
        self._made_by = entries.made_by.encode()
        self._heeded = heeded
        self._clock = clock
        self._stream = Stream(link, "semantic1", MOST)
        self._seen = START
        self._lacks_since: float | None = None
        self._tries = 0
        self._ask_at = 0.0
        self._told_at = self._read_at = 0.0  # when nothing was left to tell, and to read
        self._is_told = self._is_read = True  # until this process carries
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def lags(self) -> dict[str, float]:
        """For how many seconds the others have not known all of this replica, and this one not all of the others."""
        now = self._clock()
        return {
            "sent": 0.0 if self._is_told else now - self._told_at,
            "received": 0.0 if self._is_read and self._lacks_since is None else now - self._read_at,
        }

    async def run(self) -> None:
        """Carry, until cancelled."""
        self._told_at = self._read_at = self._clock()
        self._is_told = self._is_read = False
        try:
            for first in (self._begin, self._heeded, self._look):
                await until_done(first, _WHAT)
            works = (self._tell, self._read, self._check, self._fill)
            await asyncio.gather(*(repeat(work, _WHAT) for work in works))
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def _begin(self) -> None:
        def begin(connection: sqlite3.Connection) -> tuple[str, float | None]:
            connection.execute(_TABLE)
            connection.execute(_BEGIN)
            found: tuple[str, float | None] = connection.execute(_PLACE).fetchone()
            return found

        self._seen, self._lacks_since = await self._database.commit(begin, within_s=COMMIT_S)

    async def _tell(self) -> None:
        """Tell the others of what was stored here."""
        found = [] if self._link.is_away else await self._entries.untold()
        if not found:
            self._is_told = not self._link.is_away
            self._told_at = self._clock() if self._is_told else self._told_at
            await asyncio.sleep(POLL_S)
            return
        self._is_told = False
        await self._stream.add([self._message(b"entry", _encode(each)) for each in found])
        await self._entries.told(found)

    async def _read(self) -> None:
        """Keep what others have told."""
        try:
            messages = await self._stream.read(self._seen, PAGE)
            if messages:
                await self._take(messages)
        except BaseException:
            self._is_read = False
            raise
        self._is_read = len(messages) < PAGE
        if self._is_read and self._lacks_since is None:
            self._read_at = self._clock()

    async def _take(self, messages: Sequence[Message]) -> None:
        entries = []
        for number, fields in messages:
            if fields.get(b"from") == self._own or fields.get(b"made_by") != self._made_by:
                continue
            with suppress(msgspec.DecodeError):  # of a version that tells more
                if b"entry" in fields:
                    entries.append(_entry.decode(fields[b"entry"]))
                elif b"asks" in fields:
                    self._send_soon(_asked.decode(fields[b"asks"]), number)
        if entries:
            await self._entries.keep(entries)
        self._note(messages[-1][0], self._lacks_since)

    def _note(self, seen: str, lacks_since: float | None) -> None:
        """Note how far the stream was read, and what is missing. Written behind what was kept."""
        self._seen, self._lacks_since = seen, lacks_since
        self._database.write(lambda connection: connection.execute(_SEEN, (seen, lacks_since)))

    async def _check(self) -> None:
        """See how the stream stands, and keep it within its bytes."""
        await self._look()
        await self._link.ask(self._trim, within_s=CALL_S)
        await asyncio.sleep(CHECK_S)

    async def _look(self) -> None:
        """See whether the stream has lost what was in it, or what was not read yet."""
        standing = await self._stream.standing(self._seen)
        known_until = place(self._seen)[0] / 1000 - MARGIN_S
        if standing is Standing.ANEW:
            await self._entries.tell_again(known_until)
            self._lacks(START, known_until)
        elif standing is Standing.TRIMMED:
            self._lacks(self._seen, known_until)

    def _lacks(self, seen: str, since: float) -> None:
        since = since if self._lacks_since is None else min(since, self._lacks_since)
        self._tries = 0
        self._ask_at = 0.0
        self._note(seen, since)

    async def _trim(self, redis: Redis) -> None:
        size = await redis.memory_usage(self._stream.key) or 0
        if size > BYTES:
            count = await redis.xlen(self._stream.key)
            await redis.xtrim(self._stream.key, maxlen=int(0.9 * count * BYTES / size), approximate=True)
        await redis.expire(self._stream.key, KEPT_S)

    async def _fill(self) -> None:
        """Ask for what is missing, and keep it. Where nobody has more, this replica has all there is."""
        since = self._lacks_since
        if since is None or self._clock() < self._ask_at:
            await asyncio.sleep(POLL_S)
            return
        name = secrets.token_hex(8)
        await self._stream.add([self._message(b"asks", _encode(_Asked(name, since)))])
        came, page = 0, await self._next(name, TAKEN_S)
        while page:
            await self._entries.keep(await asyncio.to_thread(_page.decode, page))
            await self._entries.caught_up()
            came += 1
            page = await self._next(name, TAKEN_S)
        # Where Redis goes away meanwhile, or whoever sends does, it asks again at once.
        self._ask_at = self._clock() + (0.0 if came else PAUSE_S)
        self._tries += 1
        is_whole = page is not None
        if is_whole:
            log.get().info("another replica has sent entries of the semantic cache", pages=came)
        is_alone = not came and self._tries >= TRIES
        if (is_whole or is_alone) and self._lacks_since == since:  # else more was lost meanwhile
            self._note(self._seen, None)

    def _pages(self, name: str) -> bytes:
        """Return the key of the list where the pages of a name go."""
        return self._link.key("semantic1", "pages", name)

    async def _next(self, name: str, within_s: float) -> bytes | None:
        """Return the next page; an empty one is the end. None: nobody sends any, or no more."""
        pages = self._pages(name)
        found: Any = await self._link.ask(
            lambda redis: redis.blpop([pages], timeout=within_s), within_s=CALL_S + within_s
        )
        return None if found is None else bytes(found[1])

    def _send_soon(self, asked: "_Asked", number: str) -> None:
        task = asyncio.get_running_loop().create_task(self._send(asked, number))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, asked: "_Asked", number: str) -> None:
        """Send what another replica asks for, if no other one does."""
        try:
            if self._lacks_since is not None:
                await asyncio.sleep(YIELD_S)
            if await self._has_taken(asked, number):
                await self._send_pages(asked)
        except (sqlite3.Error, TimeoutError) as error:
            log.get().warning("another replica was not sent what it asks for", exc_info=error)

    async def _has_taken(self, asked: "_Asked", number: str) -> bool:
        """Whether this replica has taken the task. Redis may be away for a moment; who asks waits as long."""
        gives_up_at = self._clock() + TAKEN_S
        while self._clock() < gives_up_at:
            with suppress(RedisAwayError):
                return await self._link.ask(lambda redis: self._is_mine(redis, asked, number))
            await asyncio.sleep(POLL_S)
        return False

    async def _is_mine(self, redis: Redis, asked: "_Asked", number: str) -> bool:
        """Whether this replica has taken the task."""
        now_s, _ = await redis.time()
        if now_s - place(number)[0] / 1000 > TAKEN_S:  # whoever asked does not wait any more
            return False
        return bool(await redis.set(self._pages(asked.name) + b":by", self._own, nx=True, ex=LISTED_S))

    async def _send_pages(self, asked: "_Asked") -> None:
        pages, numbers = self._pages(asked.name), await self._entries.numbers(asked.since)
        for at in range(0, len(numbers), PAGE):
            page = await self._entries.numbered(numbers[at : at + PAGE])
            if page and not await self._sent(pages, await asyncio.to_thread(_encode, page)):
                return
        await self._sent(pages, b"")

    async def _sent(self, pages: bytes, page: bytes) -> bool:
        """Send a page once there is room; False if nobody takes any."""

        async def send(redis: Redis) -> int:
            async with redis.pipeline(transaction=False) as pipe:
                pipe.rpush(pages, page)
                pipe.expire(pages, LISTED_S)
                length, _ = await pipe.execute()
            return int(length)

        gives_up_at = self._clock() + TAKEN_S
        command: Callable[[Redis], Awaitable[int]] = send
        while self._clock() < gives_up_at:
            with suppress(RedisAwayError):  # for a moment, perhaps: a page that comes twice changes nothing
                if await self._link.ask(command, within_s=CALL_S) < PAGES:
                    return True
                command = partial(_length, pages)
            await asyncio.sleep(POLL_S / 10)
        return False

    def _message(self, kind: bytes, what: bytes) -> dict[Any, Any]:
        return {b"from": self._own, b"made_by": self._made_by, kind: what}


class _Asked(msgspec.Struct, frozen=True, array_like=True):
    """That somebody lacks what came since then (Unix seconds), and the name by which the pages are to go."""

    name: str
    since: float


_asked = msgspec.msgpack.Decoder(_Asked)


async def _length(key: bytes, redis: Redis) -> int:
    found: Any = redis.llen(key)
    return int(await found)
