"""What is judged of semantic hits, and how scopes are steered, carried between replicas through a stream in Redis.

Each process tells what it has found once that is on its disk, and heeds what others tell. What waits while Redis is
away is bounded. The stream keeps the last samples. Of the steering the last change of each scope counts, and it is told
once more where somebody may have missed it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from millrace.stores.evidence import is_whole
from millrace.stores.redis.link import RedisLink
from millrace.stores.redis.stream import START, Message, Standing, Stream, repeat, until_done
from millrace.types import Change, Judged

MOST = 5000  # messages that the stream keeps, and that wait here: samples of some 2 kB
PAGE = 200  # messages at once
STEERED = 1000  # changes that are told once more
CHECK_S = 5.0
_WHAT = "what was judged of semantic hits"

_encode = msgspec.msgpack.encode
_judged, _change = msgspec.msgpack.Decoder(Judged), msgspec.msgpack.Decoder(Change)


class SharedEvidence:
    """Carries both ways. `own` is the epoch of this process."""

    def __init__(
        self,
        link: RedisLink,
        own: str,
        heed: Callable[[Sequence[Judged], Sequence[Change]], Awaitable[None]],  # what is known changes nothing
        steered: Callable[[], Awaitable[list[Change]]],  # returns all changes that are kept, the oldest first
    ) -> None:
        self._own = own.encode()
        self._heed = heed
        self._steered = steered
        self._stream = Stream(link, "judged1", MOST)
        self._seen = START
        self._waiting: deque[dict[Any, Any]] = deque(maxlen=MOST)
        self._is_due = asyncio.Event()

    def tell(self, judged: Sequence[Judged], changes: Sequence[Change]) -> None:
        """Tell the others soon. Never waits."""
        told = [(b"judged", _encode(each)) for each in judged if each.sample.is_of_questions]
        told += [(b"change", _encode(each)) for each in changes]
        self._waiting.extend({b"from": self._own, kind: what} for kind, what in told)
        self._is_due.set()

    async def run(self) -> None:
        """Carry, until cancelled. What others tell is heeded from the first message on that the stream has."""
        await until_done(self._begin, _WHAT)
        await asyncio.gather(*(repeat(work, _WHAT) for work in (self._send, self._receive, self._check)))

    async def _begin(self) -> None:
        await self._stream.standing(self._seen)
        if await self._stream.trimmed_until():
            await self._ask()

    async def _ask(self) -> None:
        """Have the others tell how they steer."""
        await self._stream.add([{b"from": self._own, b"asks": b""}])

    async def _send(self) -> None:
        await self._is_due.wait()
        self._is_due.clear()
        while self._waiting:
            page = [self._waiting.popleft() for _ in range(min(PAGE, len(self._waiting)))]
            try:
                await self._stream.add(page)
            except BaseException:
                self._waiting.extendleft(reversed(page))  # a message that comes twice changes nothing
                self._is_due.set()
                raise

    async def _receive(self) -> None:
        messages = await self._stream.read(self._seen, PAGE)
        if messages:
            await self._take(messages)
            self._seen = messages[-1][0]

    async def _take(self, messages: Sequence[Message]) -> None:
        judged: list[Judged] = []
        changes: list[Change] = []
        others = [fields for _, fields in messages if fields.get(b"from") != self._own]
        for fields in others:
            with suppress(msgspec.DecodeError):  # of a version that tells more
                judged += [_judged.decode(fields[b"judged"])] if b"judged" in fields else []
                changes += [_change.decode(fields[b"change"])] if b"change" in fields else []
        if any(b"asks" in fields for fields in others):
            await self._tell_steering()
        await self._heed([each for each in judged if is_whole(each)], changes)

    async def _tell_steering(self) -> None:
        """Tell once more how scopes are steered."""
        last = {(each.tenant, each.scope): each for each in await self._steered()}
        self.tell((), [*last.values()][-STEERED:])

    async def _check(self) -> None:
        """See whether something was lost."""
        standing = await self._stream.standing(self._seen)
        if standing is Standing.ANEW:
            self._seen = START
            await self._tell_steering()
        elif standing is Standing.TRIMMED:
            await self._ask()
        await asyncio.sleep(CHECK_S)
