"""When a process looks again at what others may have changed: all that look as often do so in the same moment.

Each look by itself would wake the loop and the thread of the lookups. Together they do it once.
"""

import asyncio


async def beat(every_s: float) -> None:
    """Wait for the next of the moments that are so many seconds apart, at least half of that and at most half more."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep((round(now / every_s) + 1) * every_s - now)
