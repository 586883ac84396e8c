"""Moves long work off the event loop: a few milliseconds of counting or hashing would delay every stream.

Threads share Python's lock, so what is very long is done one at a time in the process. Otherwise many large requests
would hold the lock in turn, and the loop would hardly get it. Tenants take turns, so that nobody waits for all that
another one has sent.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar
from weakref import WeakKeyDictionary

from millrace import tokens

T = TypeVar("T")

VERY_LONG = 2**20  # bytes or characters


class Turns:
    """A thread that does one thing at a time, each in a turn of its tenant. What waits is kept by whoever waits."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # by tenant; the next one first
        self._is_busy = False

    async def run(self, tenant: str, work: Callable[[], T]) -> T:
        """Return what `work` returns, from the thread. Work that has begun goes on if its caller is cancelled."""
        loop = asyncio.get_running_loop()
        if self._is_busy:
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.setdefault(tenant, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._give_turn()
                raise
        self._is_busy = True
        done = self._thread.submit(work)
        done.add_done_callback(lambda _: self._soon(loop))
        return await asyncio.wrap_future(done)

    def _soon(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._give_turn)

    def _give_turn(self) -> None:
        while self._waiting:
            tenant, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[tenant] = turns  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self._is_busy = False


_long = ThreadPoolExecutor(1, "millrace-long")
_very_long = ThreadPoolExecutor(1, "millrace-very-long")
_counting = ThreadPoolExecutor(1, "millrace-counting")  # takes seconds, but not Python's lock
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[ThreadPoolExecutor, Turns]] = WeakKeyDictionary()


async def in_thread(tenant: str, size: int, work: Callable[[], T]) -> T:
    """Return what `work` returns, from a thread. It waits its turn among others of its size, in bytes."""
    return await _turns_on(_very_long if size > VERY_LONG else _long).run(tenant, work)


async def in_thread_if_long(tenant: str, characters: int, work: Callable[[], T]) -> T:
    """Return what `work` returns. It runs in a thread if it reads more than `tokens.LONG` characters."""
    if characters > VERY_LONG:
        return await _turns_on(_counting).run(tenant, work)
    return await asyncio.to_thread(work) if characters > tokens.LONG else work()


async def in_thread_if_over(limit: int, characters: int, work: Callable[[], T]) -> T:
    """Return what `work` returns. It runs in a thread if it reads more than `limit` characters. It must be bounded."""
    return await asyncio.to_thread(work) if characters > limit else work()


def _turns_on(thread: ThreadPoolExecutor) -> Turns:
    of_loop = _turns.setdefault(asyncio.get_running_loop(), {})
    return of_loop.setdefault(thread, Turns(thread))
