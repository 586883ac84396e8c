"""What leaves the event loop because of its size: a few milliseconds of counting or hashing hold up every stream."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from millrace import tokens

T = TypeVar("T")


async def by_size(characters: int, work: Callable[[], T]) -> T:
    """Return what `work` returns; it runs in a thread if it is to go through more than `tokens.LONG` characters."""
    return await asyncio.to_thread(work) if characters > tokens.LONG else work()
