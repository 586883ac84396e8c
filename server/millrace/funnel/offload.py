"""Moves long work off the event loop: a few milliseconds of counting or hashing would delay every stream."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from millrace import tokens

T = TypeVar("T")


async def in_thread_if_long(characters: int, work: Callable[[], T]) -> T:
    """Return what `work` returns. It runs in a thread if it reads more than `tokens.LONG` characters."""
    return await asyncio.to_thread(work) if characters > tokens.LONG else work()
