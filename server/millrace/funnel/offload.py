"""Moves long work off the event loop: a few milliseconds of counting or hashing would delay every stream.

Threads share Python's lock, so what is very long is done one at a time in the process. Otherwise many large requests
would hold the lock in turn, and the loop would hardly get it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from millrace import tokens

T = TypeVar("T")

VERY_LONG = 2**20  # bytes or characters

_long = ThreadPoolExecutor(1, "millrace-long")
_very_long = ThreadPoolExecutor(1, "millrace-very-long")
_counting = ThreadPoolExecutor(1, "millrace-counting")  # takes seconds, but not Python's lock


async def in_thread(size: int, work: Callable[[], T]) -> T:
    """Return what `work` returns, from a thread. It waits its turn among others of its size, in bytes."""
    return await asyncio.get_running_loop().run_in_executor(_very_long if size > VERY_LONG else _long, work)


async def in_thread_if_long(characters: int, work: Callable[[], T]) -> T:
    """Return what `work` returns. It runs in a thread if it reads more than `tokens.LONG` characters."""
    if characters > VERY_LONG:
        return await asyncio.get_running_loop().run_in_executor(_counting, work)
    return await asyncio.to_thread(work) if characters > tokens.LONG else work()
